"""Training with real DeepSpeed ranks, real signals and a real MLflow store, on a tiny random model."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tailmark.base import stage as base
from tailmark.config import Config
from tailmark.errors import EXIT_INTERRUPTED, EXIT_STOPPED, EXIT_USER_ERROR
from tailmark.files import sha256_file
from tailmark.layout import Layout
from tailmark.modelfolder import read_model_info
from tailmark.packs import Pack, PackReader, write_packs
from tailmark.taxonomy import load_taxonomy
from tailmark.train.data import to_batch
from tailmark.train.schedule import learning_rate

TAXONOMY = Path(__file__).resolve().parents[2] / "src" / "tailmark" / "taxonomy" / "paper.yaml"
STEPS = 50
RARE = 700
"""A token that stands in no row but one."""


def _pack(rng: np.random.Generator, step: int, number: int, documents: int) -> Pack:
    lengths = rng.integers(9, 40, documents).astype(np.int32)
    kinds = np.concatenate([np.r_[np.zeros(4), np.ones(3), np.full(length - 7, 2)] for length in lengths]).astype(np.int8)
    ids = rng.integers(3, 90, int(lengths.sum())).astype(np.int32)
    rows = tuple(f"row-{step:03d}-{number}-{index}" for index in range(documents))
    return Pack(step, ids, kinds, lengths, rows, rng.random(documents) < 0.3)


def _write_params(root: Path, **train: Any) -> Config:
    options = {"precision": "fp32", "threads": 1, "learning_rate": 2e-3, "min_learning_rate": 1e-3, "warmup_steps": 3}
    content = {
        "taxonomy": {"file": str(TAXONOMY)},
        "base": {"source": "random:tiny"},
        "train": {**options, "heldout_every": 20, "checkpoint_every": 5, **train},
    }
    (root / "params.yaml").write_text(json.dumps(content), encoding="utf-8")
    return Config.model_validate(content)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout up to `prepare`: steps of one, two and three packs, so that ranks run short of packs."""
    root = tmp_path_factory.mktemp("project")
    layout, rng = Layout(root), np.random.default_rng(5)
    base.run(_write_params(root), layout)
    metadata = {"arm": "marked", "taxonomy": load_taxonomy(TAXONOMY).digest}
    prepared = layout.prepared("marked")
    train = [_pack(rng, step, number, 6) for step in range(STEPS) for number in range(1 + step % 3)]
    write_packs(prepared / "train" / "epoch-000.arrow", train, metadata)
    write_packs(prepared / "heldout.arrow", [_pack(rng, number, 9, 6) for number in range(3)], metadata)
    weights = shutil.ignore_patterns("*.safetensors", "config.json", "generation_config.json")
    shutil.copytree(layout.base, prepared / "tokenizer", ignore=weights)
    return root


def _copy(project: Path, to: Path) -> Path:
    shutil.copytree(project, to, dirs_exist_ok=True)
    return to


def _start(root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tailmark.cli", "train", "--arm", "marked"]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def _train(root: Path) -> str:
    process = _start(root)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, out + err
    assert err == ""
    return out


def _interrupt(root: Path, step: int, number: signal.Signals) -> tuple[int, str]:
    """Send a signal once the checkpoint of `step` is there; returns exit code and standard error."""
    process = _start(root)
    deadline = time.monotonic() + 120
    while not list((root / ".tailmark" / "scratch").glob(f"train-*/checkpoints/step-{step:06d}")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def _processes(root: Path) -> list[str]:
    """Command lines of running processes that name the checkout."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(root) in line:
            found.append(line)
    return found


def _none_left(root: Path) -> bool:
    for _ in range(50):
        if not _processes(root):
            return True
        time.sleep(0.1)
    return False


def _curve(root: Path) -> list[dict[str, str]]:
    with (Layout(root).training_report("marked") / "curve.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _numbers(root: Path, column: str) -> np.ndarray[Any, Any]:
    return np.array([float(row[column]) for row in _curve(root) if row[column]])


@pytest.fixture(scope="module")
def one_rank(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = _copy(project, tmp_path_factory.mktemp("one_rank"))
    _train(root)
    return root


@pytest.fixture(scope="module")
def two_ranks(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks at ZeRO 2, never interrupted."""
    root = _copy(project, tmp_path_factory.mktemp("two_ranks"))
    _write_params(root, ranks=2, zero_stage=2)
    _train(root)
    return root


def _same_curves(first: Path, second: Path) -> None:
    for column in ("loss", "heldout_answer_head", "heldout_answer_tail", "heldout_markers"):
        one, other = _numbers(first, column), _numbers(second, column)
        assert len(one) >= 4
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_one_rank_learns_as_plain_torch_does(one_rank: Path) -> None:
    """The loss is per supervised token of the step, and DeepSpeed's averaging does not change the gradient."""
    layout, config = Layout(one_rank), _write_params(one_rank)
    options = config.train
    model = AutoModelForCausalLM.from_pretrained(layout.base, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, betas=(0.9, 0.95), weight_decay=0.0)
    reader = PackReader(layout.prepared("marked") / "train" / "epoch-000.arrow")
    losses, norms = [], []
    for step in range(6):
        batches = [to_batch(reader[index]) for index in reader.of_step(step)]
        total = torch.zeros(())
        for batch in batches:
            start, done = 0, 0
            for length in batch.lengths:
                logits = model(batch.input_ids[:, start : start + length]).logits[0]
                here = (batch.predicting >= start) & (batch.predicting < start + length)
                positions = batch.predicting[here] - start
                total = total + torch.nn.functional.cross_entropy(logits[positions], batch.targets[here], reduction="sum")
                start, done = start + length, done + int(here.sum())
            assert done == len(batch.targets)
        loss = total / sum(len(batch.targets) for batch in batches)
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), options.gradient_clip)))
        optimizer.param_groups[0]["lr"] = learning_rate(options, step, STEPS)
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(_numbers(one_rank, "loss")[:6], losses, atol=1e-4)
    np.testing.assert_allclose(_numbers(one_rank, "gradient_norm")[:6], norms, rtol=1e-3)


def test_two_ranks_give_the_same_losses_as_one(one_rank: Path, two_ranks: Path) -> None:
    _same_curves(one_rank, two_ranks)


def test_zero_3_gives_the_same_losses(project: Path, one_rank: Path, tmp_path: Path) -> None:
    _write_params(_copy(project, tmp_path), ranks=2, zero_stage=3)
    _train(tmp_path)
    _same_curves(one_rank, tmp_path)


def test_the_model_folder_is_complete_and_learned(one_rank: Path) -> None:
    layout = Layout(one_rank)
    info = read_model_info(layout.trained("marked"), verify=True)
    assert info.arm == "marked"
    assert "domain" in info.markers
    assert str(one_rank) not in (layout.trained("marked") / "config.json").read_text(encoding="utf-8")
    trained, before = (AutoModelForCausalLM.from_pretrained(path) for path in (layout.trained("marked"), layout.base))
    assert trained.dtype == torch.bfloat16
    assert not torch.equal(trained.lm_head.weight, before.lm_head.weight)
    held_out = _numbers(one_rank, "heldout_answer")
    assert held_out[-1] < held_out[0] - 0.2
    assert not list((one_rank / ".tailmark" / "scratch").glob("*")), "scratch is removed after success"


def test_mlflow_holds_the_run(one_rank: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{one_rank / '.tailmark' / 'mlflow' / 'mlflow.db'}")
    run = client.search_runs([item.experiment_id for item in client.search_experiments()])[0]
    assert run.info.status == "FINISHED"
    losses = client.get_metric_history(run.info.run_id, "loss")
    assert sorted(metric.step for metric in losses) == list(range(1, STEPS + 1))
    assert {"tokens_per_s", "supervised_tokens_per_s", "learning_rate", "gradient_norm", "heldout/answer_tail"} <= set(run.data.metrics)


def test_killed_interrupted_and_stopped_equals_unbroken(project: Path, two_ranks: Path, tmp_path: Path) -> None:
    root = _copy(project, tmp_path)
    _write_params(root, ranks=2, zero_stage=2)
    code, _ = _interrupt(root, 5, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert _none_left(root)

    code, err = _interrupt(root, 15, signal.SIGINT)
    assert (code, "Traceback" in err) == (EXIT_INTERRUPTED, False)
    assert _none_left(root)

    code, err = _interrupt(root, 25, signal.SIGTERM)
    assert (code, "saved" in err) == (EXIT_STOPPED, True)
    assert _none_left(root)

    _write_params(root, ranks=1, zero_stage=2)
    process = _start(root)
    _, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_USER_ERROR
    assert "train.ranks back to 2" in err

    _write_params(root, ranks=2, zero_stage=2)
    assert "going on from checkpoint step-0000" in _train(root)
    for path in ("reports/train/marked/curve.csv", "reports/train/marked/metrics.json", "models/marked/model.safetensors"):
        assert sha256_file(root / path) == sha256_file(two_ranks / path), path


def _poison(root: Path) -> str:
    """Let one row's token have an embedding that is not a number; returns the row's id."""
    layout = Layout(root)
    path = layout.prepared("marked") / "train" / "epoch-000.arrow"
    reader = PackReader(path)
    packs = [reader[index] for index in range(len(reader))]
    chosen = next(index for index in reader.of_step(8))
    ids = packs[chosen].input_ids.copy()
    ids[1] = RARE
    packs[chosen] = Pack(8, ids, *(getattr(packs[chosen], name) for name in ("kinds", "lengths", "row_ids", "tail")))
    write_packs(path, packs, reader.metadata)
    model = AutoModelForCausalLM.from_pretrained(layout.base)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        model.model.embed_tokens.weight[RARE] = float("nan")
    model.save_pretrained(layout.base)
    return packs[chosen].row_ids[0]


def test_a_loss_that_is_not_finite_names_its_rows(project: Path, tmp_path: Path) -> None:
    root = _copy(project, tmp_path)
    _write_params(root, ranks=2, zero_stage=1, checkpoint_every=7)
    row = _poison(root)
    process = _start(root)
    _, err = process.communicate(timeout=120)
    assert process.returncode == EXIT_USER_ERROR
    assert err.startswith("error: The loss or a gradient is not finite at step 9")
    assert row in err
    assert "row-008-1" not in err, "the step's other packs are fine"
    assert "Traceback" not in err
    assert not Layout(root).trained("marked").exists()
    assert _none_left(root)


@pytest.fixture
def damaged(project: Path, tmp_path: Path) -> Callable[[], tuple[int, str]]:
    """Run up to two checkpoints, damage both, run again."""
    root = _copy(project, tmp_path)
    _write_params(root, keep_checkpoints=2)

    def again() -> tuple[int, str]:
        _interrupt(root, 5, signal.SIGKILL)
        for part in (root / ".tailmark" / "scratch").glob("train-*/checkpoints/step-*/*optim_states.pt"):
            with part.open("r+b") as file:
                file.seek(100)
                file.write(b"damage")
        process = _start(root)
        _, err = process.communicate(timeout=60)
        return process.returncode, err

    return again


def test_damaged_checkpoints_are_refused_with_the_way_out(damaged: Callable[[], tuple[int, str]]) -> None:
    code, err = damaged()
    assert code == EXIT_USER_ERROR
    assert "No checkpoint can be used" in err
    assert "rm -r" in err
