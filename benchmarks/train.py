"""Training speed of our loop beside transformers' Trainer (padded) and TRL's SFTTrainer (packed): same model, rows, precision, hardware.

    pip install -c constraints.txt -r requirements-bench.txt
    python benchmarks/train.py --prepared data/prepared/marked --model models/base --threads 2

Each system is a process of its own with the model loaded. All train on the same rows in turn, round after round, one at a time; the first
round is not counted. What is compared is the tokens of the rows (padding is none) a second, from the first batch to the last update. On a
machine that has other work as well take `--clock cpu --threads 1`: then processor time is counted, which waiting does not lengthen.
Without `--prepared` rows are random tokens with the bench data's lengths; without `--model` the model is `--shape` with random weights.
Three processes hold a model, its gradients and its optimizer each: 4 GB for 135M parameters in fp32.

All take AdamW (fused), clip the norm at 1 and step once in `--rows-per-step` rows (TRL: in as many packs as that makes on average, since
it packs over all rows at once). Trainer's micro-batch is `--batch` rows as they come, its default of 8 unless told otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from train_setup import SHAPES, our_loop, pack, prepared_documents, random_documents, random_model, run_steps, write_project

from tailmark.hardware import native_bf16
from tailmark.packs import Pack
from tailmark.provenance import code_version, hardware

SYSTEMS = {"tailmark": "our loop", "trainer": "transformers Trainer, padded", "trl": "TRL SFTTrainer, packed"}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
IGNORED = -100


def documents(given: argparse.Namespace) -> list[Pack]:
    if given.prepared is None:
        return random_documents(given.rows)
    return prepared_documents(given.prepared / "train" / "epoch-000.arrow", given.rows)


def serve(given: argparse.Namespace) -> None:
    """A system's process: load, then train once for each line on standard input and answer with the seconds it took."""
    torch.set_num_threads(given.threads)
    answers = os.fdopen(os.dup(1), "w")  # what libraries print must not come between
    os.dup2(2, 1)
    run = {"tailmark": _ours, "trainer": _trainer, "trl": _trl}[given.serve](given, documents(given))
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(run()), file=answers, flush=True)


def _ours(given: argparse.Namespace, rows: Sequence[Pack]) -> Callable[[], dict[str, float]]:
    layout = write_project(given.scratch / "project", rows, given.rows_per_step, given.pack_length)
    loop = our_loop(layout, given.model, {"precision": given.precision, "threads": given.threads}, given.pack_length)
    steps = -(-len(rows) // given.rows_per_step)

    def run() -> dict[str, float]:
        started = CLOCKS[given.clock]()
        run_steps(loop, steps)
        return {"seconds": CLOCKS[given.clock]() - started, "updates": steps}

    return run


def _arguments(given: argparse.Namespace) -> dict[str, Any]:
    return {
        "output_dir": str(given.scratch / given.serve),
        "num_train_epochs": 1,
        "learning_rate": 2.5e-4,
        "max_grad_norm": 1.0,
        "bf16": given.precision == "bf16",
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_strategy": "no",
        "dataloader_num_workers": 0,
    }


def _timed(trainer: Any, clock: Callable[[], float]) -> Callable[[], dict[str, float]]:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        started = seconds = updates = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            Clock.started = clock()

        def on_train_end(self, _args: Any, state: Any, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            Clock.seconds, Clock.updates = clock() - Clock.started, state.global_step

    trainer.add_callback(Clock)

    def run() -> dict[str, float]:
        trainer.train()
        return {"seconds": Clock.seconds, "updates": Clock.updates}

    return run


def _labelled(rows: Sequence[Pack]) -> list[dict[str, list[int]]]:
    return [
        {"input_ids": row.input_ids.tolist(), "labels": [int(t) if k else IGNORED for t, k in zip(row.input_ids, row.kinds, strict=True)]}
        for row in rows
    ]


def _model(given: argparse.Namespace, attention: str = "sdpa") -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32, attn_implementation=attention)


def _trainer(given: argparse.Namespace, rows: Sequence[Pack]) -> Callable[[], dict[str, float]]:
    from datasets import Dataset
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    from tailmark.base.tiny import tiny_tokenizer

    batches = {"per_device_train_batch_size": given.batch, "gradient_accumulation_steps": max(given.rows_per_step // given.batch, 1)}
    trainer = Trainer(
        model=_model(given),
        args=TrainingArguments(**_arguments(given), **batches),
        train_dataset=Dataset.from_list(_labelled(rows)),
        data_collator=DataCollatorForSeq2Seq(tiny_tokenizer(), label_pad_token_id=IGNORED),
    )
    return _timed(trainer, CLOCKS[given.clock])


def _trl(given: argparse.Namespace, rows: Sequence[Pack]) -> Callable[[], dict[str, float]]:
    from datasets import Dataset
    from transformers.utils import is_flash_attn_2_available
    from trl import SFTConfig, SFTTrainer

    from tailmark.base.tiny import tiny_tokenizer

    packs = len(pack(rows, 0, given.pack_length))
    per_step = max(round(packs * given.rows_per_step / len(rows)), 1)
    arguments = SFTConfig(
        **_arguments(given),
        packing=True,
        max_length=given.pack_length,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=per_step,
    )
    attention = "flash_attention_2" if torch.cuda.is_available() and is_flash_attn_2_available() else "sdpa"
    data = Dataset.from_list(_labelled(rows))
    trainer = SFTTrainer(model=_model(given, attention), args=arguments, train_dataset=data, processing_class=tiny_tokenizer())
    return _timed(trainer, CLOCKS[given.clock])


class System:
    """One system's process."""

    def __init__(self, name: str, arguments: Sequence[str], scratch: Path) -> None:
        self.log = scratch / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, __file__, *arguments, "--serve", name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"it ended:\n{self.log.read_text(errors='replace')[-3000:]}")
        return line

    def run(self) -> dict[str, float]:
        assert self.process.stdin is not None
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        answer: dict[str, float] = json.loads(self._answer())
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


def compare(given: argparse.Namespace, scratch: Path) -> dict[str, list[float]]:
    """Seconds of each counted round, by system."""
    model = given.model or random_model(given.shape, scratch / "model")
    arguments = [*sys.argv[1:], "--scratch", str(scratch), "--model", str(model), "--precision", given.precision]
    systems = {name: System(name, arguments, scratch) for name in given.systems}
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for number in range(given.rounds + 1):
        for name, system in systems.items():
            answer = system.run()
            if number:
                seconds[name].append(answer["seconds"])
            print(f"  round {number or 'of warm-up'}: {name:<9} {answer['seconds']:8.2f} s, {answer['updates']:.0f} updates", flush=True)
    for system in systems.values():
        system.close()
    return seconds


def report(given: argparse.Namespace, seconds: dict[str, list[float]]) -> dict[str, Any]:
    rows = documents(given)
    tokens, supervised = sum(len(row.input_ids) for row in rows), sum(row.supervised for row in rows)
    result: dict[str, Any] = {"rows": len(rows), "tokens": tokens, "supervised_tokens": supervised, "precision": given.precision}
    print(f"\n{len(rows)} rows, {tokens:,} tokens, {supervised:,} supervised")
    print(f"{given.rounds} rounds, {given.clock} time, median (least to most)")
    print(f"{'':<30} {'tokens/s':>10} {'supervised/s':>13}   our loop is faster by")
    for name, spent in seconds.items():
        ratios = [other / own for other, own in zip(spent, seconds["tailmark"], strict=True)]
        middle = statistics.median(spent)
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{SYSTEMS[name]:<30} {tokens / middle:10,.0f} {supervised / middle:13,.0f}   {spread if name != 'tailmark' else '-'}")
        result[name] = {"tokens_per_s": tokens / middle, "supervised_tokens_per_s": supervised / middle, "ratios": ratios}
    return result


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepared", type=Path, help="a folder of `tailmark prepare`, such as data/prepared/marked")
    parser.add_argument("--model", type=Path, help="a Hugging Face folder")
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m", help="without --model: its shape, with random weights")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--rows-per-step", type=int, default=16)
    parser.add_argument("--pack-length", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=8, help="rows of Trainer's micro-batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16" if native_bf16() else "fp32")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--output", type=Path, help="where to write the result as JSON")
    parser.add_argument("--serve", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = parse()
    if given.serve:
        serve(given)
        return
    machine, code = hardware(), code_version(Path(__file__).parent)
    print(f"{', '.join(machine['gpus']) or machine['processor']}, {given.threads} threads, torch {torch.__version__}, {given.precision}")
    print(f"commit {code['commit']}{' with changes' if code['dirty'] else ''}, load {os.getloadavg()[0]:.1f} on {machine['cores']} cores")
    with tempfile.TemporaryDirectory() as folder:
        result = report(given, compare(given, Path(folder)))
    if given.output:
        given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
