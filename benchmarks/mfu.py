"""How much of a GPU's arithmetic training uses, by model, ZeRO stage and kernels; and the memory it takes beside the memory planned.

    python benchmarks/mfu.py                     on a GPU: SmolLM2-135M's shape and a Llama of 1.7B parameters, random weights
    python benchmarks/mfu.py --tiny              anywhere: shows that it runs

Each case is a process of its own: our loop on one rank, packs of random documents with the bench data's lengths. What is counted is what
the model needs (`tailmark.train.meter`): nothing for recomputed activations, nothing for logits of tokens that are not supervised.
Memory is what torch allocated on the GPU at most, or on the CPU what the process grew by from before the model was there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from train_setup import our_loop, random_documents, random_model, run_steps, write_project

from tailmark.config import Train
from tailmark.hardware import native_bf16
from tailmark.train.memory import activations, count_parameters, empty_model, gradient_buffers, model_states
from tailmark.train.meter import peak_memory

Case = dict[str, Any]


def cases(given: argparse.Namespace) -> list[Case]:
    """What is measured, in the order of interest, so that a short time shows the most."""
    precision = "bf16" if native_bf16() else "fp32"
    gpu = torch.cuda.is_available()
    ways: list[Case] = [
        {"zero_stage": 1, "liger": gpu, "compile": gpu},
        {"zero_stage": 1, "liger": False, "compile": gpu},
        {"zero_stage": 1, "liger": gpu, "compile": False},
        {"zero_stage": 1, "liger": False, "compile": False},
        {"zero_stage": 2, "liger": gpu, "compile": gpu},
        {"zero_stage": 3, "liger": gpu, "compile": False},
    ]
    models = ["tiny"] if given.tiny else ["llama-1.7b", "smollm2-135m"]
    unlike = [way for index, way in enumerate(ways) if way not in ways[:index]]  # without a GPU some are the same
    return [{"model": model, "train": way | {"precision": precision}} for model in models for way in unlike]


def measure(case: Case, scratch: Path, steps: int, pack_length: int) -> dict[str, Any]:
    """Tokens a second, operations a second, their share of the peak, memory in GiB: all of our loop, after three steps of warm-up."""
    documents = random_documents(4 * pack_length // 280)
    layout = write_project(scratch / "project", documents, len(documents), pack_length)
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    before = 0.0 if device.type == "cuda" else peak_memory(device)
    loop = our_loop(layout, scratch / case["model"], case["train"], pack_length)
    for _ in range(3):
        run_steps(loop, 1)
    started = time.perf_counter()
    for _ in range(steps):
        run_steps(loop, 1)  # ends with a reduction over the ranks, so the device is done
    seconds = time.perf_counter() - started
    tokens, supervised = sum(len(item.input_ids) for item in documents), sum(item.supervised for item in documents)
    assert loop.meter.arithmetic is not None
    needed = loop.meter.arithmetic.of((len(item.input_ids) for item in documents), supervised) * steps
    return {
        "tokens_per_s": tokens * steps / seconds,
        "flops": needed / seconds,
        "mfu": needed / seconds / loop.meter.peak if loop.meter.peak else None,
        "memory": (peak_memory(device) - before) / 2**30,
        "planned": _planned(scratch / case["model"], Train(**case["train"]), pack_length, supervised / tokens) / 2**30,
    }


def _planned(model: Path, options: Train, pack_length: int, supervised: float) -> int:
    size = count_parameters(empty_model(model, options))
    buffers = gradient_buffers(options, options.zero_stage, size, overlapped=torch.cuda.is_available())
    states = model_states(options, options.zero_stage, 1, size)
    return states + buffers + activations(model, options, pack_length, round(pack_length * supervised))


def show(case: Case, found: dict[str, Any] | str) -> None:
    train = case["train"]
    kernels = " + ".join(name for name in ("liger", "compile") if train[name]) or "-"
    head = f"{case['model']:<14} {train['zero_stage']:>4}  {kernels:<16}"
    if isinstance(found, str):
        print(f"{head} {found}", flush=True)
        return
    share = f"{found['mfu']:.1%}" if found["mfu"] else "-"
    memory = f"{found['memory']:>8.2f} {found['planned']:>8.2f}"
    print(f"{head} {found['tokens_per_s']:>10,.0f} {found['flops'] / 1e12:>10.3f} {share:>7} {memory}", flush=True)


def run_case(case: Case, scratch: Path, given: argparse.Namespace, left: float) -> dict[str, Any] | str:
    sizes = ["--steps", str(given.steps), "--pack-length", str(given.pack_length)]
    command = [sys.executable, __file__, "--case", json.dumps(case), "--scratch", str(scratch), *sizes]
    if left < given.reserve:
        return "not run: the time is up"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=left, check=False)
    except subprocess.TimeoutExpired:
        return "not finished: the time is up"
    if done.returncode:
        return "failed: " + (done.stderr.strip().splitlines() or ["no message"])[-1][:150]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--minutes", type=float, default=8.0, help="no case starts that would end later")
    parser.add_argument("--reserve", type=float, default=20.0, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--pack-length", type=int, default=8192)
    parser.add_argument("--output", type=Path, help="where to write the results as JSON lines")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        print(json.dumps(measure(given.case, given.scratch, given.steps, given.pack_length)))
        return
    end = time.monotonic() + 60 * given.minutes
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{device}, torch {torch.__version__}, packs of {given.pack_length:,} tokens, 4 a step")
    print(f"{'model':<14} {'ZeRO':>4}  {'kernels':<16} {'tokens/s':>10} {'TFLOP/s':>10} {'MFU':>7} {'GiB':>8} {'planned':>8}")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(given):
            random_model(case["model"], Path(folder) / case["model"])
            found = run_case(case, Path(folder), given, end - time.monotonic())
            show(case, found)
            results.append({**case, "result": found})
    if given.output:
        given.output.write_text("".join(json.dumps(item) + "\n" for item in results), encoding="utf-8")


if __name__ == "__main__":
    main()
