"""The memory that `tailmark train --plan` states, beside what a rank of a real training takes on this machine's CPU (Linux).

    python benchmarks/memory.py --shape smollm2-135m --ranks 2

For each ZeRO stage the ranks train a few steps on random weights and tokens, in fp32. Measured is resident memory beyond what a rank had
before it loaded the model, so libraries do not count: the most while the steps ran, and the most while the model was loaded and DeepSpeed
was set up.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from train_setup import SHAPES, our_loop, random_documents, random_model, run_steps, write_project

from tailmark.config import Train
from tailmark.layout import Layout
from tailmark.packs import PackReader
from tailmark.provenance import code_version, hardware
from tailmark.train.engine import init_ranks
from tailmark.train.memory import activations, count_parameters, empty_model, gradient_buffers, model_states

GIB = 2**30
STEPS = 2
RETURNED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 17)}
"""For glibc: what is freed goes back to the system at once, so that resident memory is memory in use."""


def highest() -> float:
    """The most memory this process had resident since `forget`, in GiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


def forget() -> None:
    """Begin to look for the most memory anew."""
    Path("/proc/self/clear_refs").write_text("5")


def measure(given: argparse.Namespace) -> None:
    """One rank: train, and write down what it took."""
    torch.set_num_threads(1)
    init_ranks()
    rank, project = dist.get_rank(), given.scratch / "project"
    if rank == 0:
        write_project(project, random_documents(given.rows), given.rows, given.pack_length)
    dist.barrier()
    forget()
    before = highest()
    options = {"precision": "fp32", "threads": 1, "zero_stage": given.stage}
    loop = our_loop(Layout(project), given.scratch / "model", options, given.pack_length)
    loading = highest() - before
    run_steps(loop, 1)
    forget()
    for _ in range(STEPS):
        run_steps(loop, 1)
    told = {"loading": loading, "steps": highest() - before}
    (given.scratch / f"told-{rank}.json").write_text(json.dumps(told))


def planned(model: Path, stage: int, ranks: int, packs: Path) -> tuple[float, float, float]:
    """GiB of weights, gradients and optimizer, by DeepSpeed's estimators; of gradients' buffers; of the activations of the longest pack."""
    options = Train(precision="fp32", zero_stage=stage)
    reader = PackReader(packs)
    longest = max((reader[number] for number in range(len(reader))), key=lambda pack: len(pack.input_ids))
    size = count_parameters(empty_model(model, options))
    states, buffers = model_states(options, stage, ranks, size), gradient_buffers(options, stage, size, overlapped=False)
    buffers = min(buffers, 4 * size.trained)  # what is never written takes no memory on a CPU
    return states / GIB, buffers / GIB, activations(model, options, len(longest.input_ids), longest.supervised) / GIB


def run(given: argparse.Namespace, stage: int, scratch: Path) -> list[dict[str, float]]:
    """What the ranks of one training told."""
    arguments = ["--rows", str(given.rows), "--pack-length", str(given.pack_length), "--stage", str(stage), "--scratch", str(scratch)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(given.ranks)]
    done = subprocess.run([*launcher, __file__, *arguments], env=os.environ | RETURNED, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return [json.loads(path.read_text()) for path in sorted(scratch.glob("told-*.json"))]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--pack-length", type=int, default=512)
    parser.add_argument("--stage", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        measure(given)
        return
    machine, code = hardware(), code_version(Path(__file__).parent)
    print(f"{machine['processor']}, fp32; commit {code['commit']}{' with changes' if code['dirty'] else ''}")
    print(f"{given.shape}, {given.ranks} ranks, GiB of each: planned (states + buffers + activations), in {STEPS} steps, in loading")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        model = random_model(given.shape, scratch / "model")
        for stage in (1, 2, 3):
            told = run(given, stage, scratch)
            parts = planned(model, stage, given.ranks, Layout(scratch / "project").prepared("marked") / "train" / "epoch-000.arrow")
            steps, loading = (", ".join(f"{item[name]:.2f}" for item in told) for name in ("steps", "loading"))
            plan = f"planned {sum(parts):.2f} ({' + '.join(f'{part:.2f}' for part in parts)})"
            print(f"ZeRO {stage}: {plan}, steps {steps}, loading {loading}", flush=True)


if __name__ == "__main__":
    main()
