"""Trainings to break: a prepared checkout with a tiny random model, started as a user starts it, watched through its scratch folder."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tailmark.base import stage as base
from tailmark.config import Config
from tailmark.files import sha256_file, write_json
from tailmark.layout import Layout
from tailmark.modelfolder import MARKER_USE, MarkerUse
from tailmark.packs import Pack, write_packs
from tailmark.taxonomy import load_taxonomy

TAXONOMY = Path(__file__).resolve().parents[1] / "src" / "tailmark" / "taxonomy" / "paper.yaml"
STEPS = 50
RESULTS = ("reports/train/marked/curve.csv", "reports/train/marked/metrics.json", "models/marked/model.safetensors")


def random_pack(rng: np.random.Generator, step: int, number: int, documents: int) -> Pack:
    lengths = rng.integers(9, 40, documents).astype(np.int32)
    kinds = np.concatenate([np.r_[np.zeros(4), np.ones(3), np.full(length - 7, 2)] for length in lengths]).astype(np.int8)
    ids = rng.integers(3, 90, int(lengths.sum())).astype(np.int32)
    rows = tuple(f"row-{step:03d}-{number}-{index}" for index in range(documents))
    return Pack(step, ids, kinds, lengths, rows, rng.random(documents) < 0.3)


def write_params(root: Path, **train: Any) -> Config:
    options = {"precision": "fp32", "threads": 1, "learning_rate": 2e-3, "min_learning_rate": 1e-3, "warmup_steps": 3}
    content = {
        "taxonomy": {"file": str(TAXONOMY)},
        "base": {"source": "random:tiny"},
        "train": {**options, "heldout_every": 20, "checkpoint_every": 5, **train},
    }
    (root / "params.yaml").write_text(json.dumps(content), encoding="utf-8")
    return Config.model_validate(content)


def make_project(root: Path, steps: int = STEPS) -> Path:
    """A checkout up to `prepare`: steps of one, two and three packs, so that ranks run short of packs."""
    root.mkdir(parents=True, exist_ok=True)
    layout, rng = Layout(root), np.random.default_rng(5)
    base.run(write_params(root), layout)
    metadata = {"arm": "marked", "taxonomy": load_taxonomy(TAXONOMY).digest}
    prepared = layout.prepared("marked")
    packs = [random_pack(rng, step, number, 6) for step in range(steps) for number in range(1 + step % 3)]
    write_packs(prepared / "train" / "epoch-000.arrow", packs, metadata)
    write_packs(prepared / "heldout.arrow", [random_pack(rng, number, 9, 6) for number in range(3)], metadata)
    use = MarkerUse(markers=("lang",), placement="both", dataset_dropout=0.5, sample_dropout=0.5, **metadata)
    write_json(prepared / MARKER_USE, use.model_dump(mode="json"))
    weights = shutil.ignore_patterns("*.safetensors", "config.json", "generation_config.json")
    shutil.copytree(layout.base, prepared / "tokenizer", ignore=weights)
    return root


def copy_project(project: Path, to: Path, **train: Any) -> Path:
    shutil.copytree(project, to, dirs_exist_ok=True)
    write_params(to, **train)
    return to


def start(root: Path, *, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    command = [*prefix, sys.executable, "-m", "tailmark.cli", "train", "--arm", "marked"]
    return subprocess.Popen(
        command, cwd=root, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def train(root: Path) -> str:
    """Train to the end; returns what was printed."""
    process = start(root)
    try:
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()  # where it took too long
    assert process.returncode == 0, out + err
    assert err == ""
    return out


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 300) -> None:
    """Wait until the training has come so far."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def checkpoint_at(root: Path, step: int) -> Callable[[], bool]:
    return lambda: bool(list((root / ".tailmark" / "scratch").glob(f"train-*/checkpoints/step-{step:06d}")))


def at_step(root: Path, step: int) -> Callable[[], bool]:
    """Whether rank 0 has told of this step or a later one since the last start."""
    return lambda: last_event(root, "step") >= step


def last_event(root: Path, kind: str) -> int:
    """The step of the last event of a kind; -1 where there is none."""
    lines = [line for path in (root / ".tailmark" / "scratch").glob("train-*/events.jsonl") for line in _lines(path)]
    return max((event["step"] for event in map(json.loads, lines) if event["event"] == kind), default=-1)


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    except FileNotFoundError:
        return []


def interrupt(root: Path, step: int, number: signal.Signals) -> tuple[int, str]:
    """Send a signal once the checkpoint of `step` is there; returns exit code and standard error."""
    process = start(root)
    wait_for(checkpoint_at(root, step), process)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def processes(root: Path) -> dict[int, str]:
    """Running processes that name the checkout, with their command lines."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(root) in line:
            found[int(path.parent.name)] = line
    return found


def rank_process(root: Path, rank: int) -> int:
    """The process id of a rank."""
    for process, line in processes(root).items():
        if "tailmark.train.worker" in line and "torch.distributed.run" not in line and "deepspeed.launcher" not in line:
            variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
            if f"RANK={rank}".encode() in variables:
                return process
    raise AssertionError(f"rank {rank} does not run")


def none_left(root: Path) -> bool:
    for _ in range(100):
        if not processes(root):
            return True
        time.sleep(0.1)
    return False


def numbers(root: Path, column: str) -> np.ndarray[Any, Any]:
    """A column of the curve."""
    with (Layout(root).training_report("marked") / "curve.csv").open(encoding="utf-8", newline="") as file:
        return np.array([float(row[column]) for row in csv.DictReader(file) if row[column]])


def same_curves(first: Path, second: Path) -> None:
    for column in ("loss", "heldout_answer_head", "heldout_answer_tail", "heldout_markers"):
        one, other = numbers(first, column), numbers(second, column)
        assert len(one) >= 4
        np.testing.assert_allclose(one, other, atol=1e-4)


def same_results(first: Path, second: Path) -> None:
    """Bit for bit: curve, metrics, weights."""
    for path in RESULTS:
        assert sha256_file(first / path) == sha256_file(second / path), path
