"""Training with real DeepSpeed ranks, real signals and a real MLflow store, on a tiny random model."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tailmark.errors import EXIT_INTERRUPTED, EXIT_STOPPED, EXIT_USER_ERROR
from tailmark.layout import Layout
from tailmark.modelfolder import read_model_info
from tailmark.packs import Pack, PackReader, write_packs
from tailmark.train.data import to_batch
from tailmark.train.schedule import learning_rate
from tests.trainings import (
    STEPS,
    at_step,
    checkpoint_at,
    copy_project,
    interrupt,
    make_project,
    none_left,
    numbers,
    rank_process,
    same_curves,
    same_results,
    start,
    train,
    wait_for,
    write_params,
)

RARE = 700
"""A token that stands in no row but one."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def one_rank(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = copy_project(project, tmp_path_factory.mktemp("one_rank"))
    train(root)
    return root


@pytest.fixture(scope="module")
def two_ranks(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks at ZeRO 2, never interrupted."""
    root = copy_project(project, tmp_path_factory.mktemp("two_ranks"), ranks=2, zero_stage=2)
    train(root)
    return root


def test_one_rank_learns_as_plain_torch_does(one_rank: Path) -> None:
    """The loss is per supervised token of the step, and DeepSpeed's averaging does not change the gradient."""
    layout, config = Layout(one_rank), write_params(one_rank)
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
    np.testing.assert_allclose(numbers(one_rank, "loss")[:6], losses, atol=1e-4)
    np.testing.assert_allclose(numbers(one_rank, "gradient_norm")[:6], norms, rtol=1e-3)


def test_two_ranks_give_the_same_losses_as_one(one_rank: Path, two_ranks: Path) -> None:
    same_curves(one_rank, two_ranks)


def test_the_model_folder_is_complete_and_learned(one_rank: Path) -> None:
    layout = Layout(one_rank)
    info = read_model_info(layout.trained("marked"), verify=True)
    assert info.arm == "marked"
    assert (info.markers, info.dataset_dropout) == (("lang",), 0.5), "as the packs say that were trained on"
    assert str(one_rank) not in (layout.trained("marked") / "config.json").read_text(encoding="utf-8")
    trained, before = (AutoModelForCausalLM.from_pretrained(path) for path in (layout.trained("marked"), layout.base))
    assert trained.dtype == torch.bfloat16
    assert not torch.equal(trained.lm_head.weight, before.lm_head.weight)
    held_out = numbers(one_rank, "heldout_answer")
    assert held_out[-1] < held_out[0] - 0.2
    assert not list((one_rank / ".tailmark" / "scratch").glob("*")), "scratch is removed after success"


def test_mlflow_holds_the_run(one_rank: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{one_rank / '.tailmark' / 'mlflow' / 'mlflow.db'}")
    run = client.search_runs([item.experiment_id for item in client.search_experiments()])[0]
    assert run.info.status == "FINISHED"
    losses = client.get_metric_history(run.info.run_id, "loss")
    assert sorted(metric.step for metric in losses) == list(range(1, STEPS + 1))
    assert {"learning_rate", "gradient_norm", "heldout/answer_head", "heldout/answer_tail"} <= set(run.data.metrics)
    assert {"tokens_per_s", "supervised_tokens_per_s", "padding_share", "memory_gib"} <= set(run.data.metrics)


def _half_written(root: Path) -> bool:
    """A rank's part of a checkpoint is on disk and the checkpoint is not complete."""
    return bool(list((root / ".tailmark" / "scratch").glob("train-*/checkpoints/.step-*/*_optim_states.pt")))


def test_killed_and_stopped_equals_unbroken(project: Path, two_ranks: Path, tmp_path: Path) -> None:
    root = copy_project(project, tmp_path, ranks=2, zero_stage=2)
    process = start(root)
    wait_for(lambda: _half_written(root), process)
    os.kill(rank_process(root, 1), signal.SIGKILL)
    killed = time.monotonic()
    _, err = process.communicate(timeout=120)
    assert time.monotonic() - killed < 60
    assert process.returncode == EXIT_USER_ERROR
    assert err.startswith("error: Rank 1 was ended by SIGKILL"), err
    assert none_left(root)

    code, _ = interrupt(root, 10, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert none_left(root)

    code, err = interrupt(root, 20, signal.SIGTERM)
    assert (code, "saved" in err) == (EXIT_STOPPED, True)
    assert none_left(root)

    process = start(root)
    wait_for(at_step(root, 30), process)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in err) == (EXIT_INTERRUPTED, False)
    assert none_left(root)

    assert "going on from checkpoint step-0000" in train(root)
    same_results(root, two_ranks)


def test_after_ctrl_c_another_number_of_ranks_goes_on(project: Path, two_ranks: Path, tmp_path: Path) -> None:
    root = copy_project(project, tmp_path, ranks=2, zero_stage=2, checkpoint_every=7)
    process = start(root)
    wait_for(checkpoint_at(root, 7), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, "saved after step" in err) == (EXIT_STOPPED, True), err
    assert "Ctrl-C again ends it at once" in out

    write_params(root, ranks=1, zero_stage=1)
    out = train(root)
    assert "converting checkpoint step-0000" in out
    assert "steps, 0 of them done" not in out
    same_curves(root, two_ranks)


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
    root = copy_project(project, tmp_path, ranks=2, zero_stage=1, checkpoint_every=7)
    row = _poison(root)
    process = start(root)
    _, err = process.communicate(timeout=120)
    assert process.returncode == EXIT_USER_ERROR
    assert err.startswith("error: The loss or a gradient is not finite at step 9")
    assert row in err
    assert "row-008-1" not in err, "the step's other packs are fine"
    assert "Traceback" not in err
    assert not Layout(root).trained("marked").exists()
    assert none_left(root)


@pytest.fixture
def damaged(project: Path, tmp_path: Path) -> Callable[[], tuple[int, str]]:
    """Run up to two checkpoints, damage both, run again."""
    root = copy_project(project, tmp_path, keep_checkpoints=2)

    def again() -> tuple[int, str]:
        interrupt(root, 5, signal.SIGKILL)
        for part in (root / ".tailmark" / "scratch").glob("train-*/checkpoints/step-*/*optim_states.pt"):
            with part.open("r+b") as file:
                file.seek(100)
                file.write(b"damage")
        process = start(root)
        _, err = process.communicate(timeout=60)
        return process.returncode, err

    return again


def test_damaged_checkpoints_are_refused_with_the_way_out(damaged: Callable[[], tuple[int, str]]) -> None:
    code, err = damaged()
    assert code == EXIT_USER_ERROR
    assert "No checkpoint can be used" in err
    assert "rm -r" in err
