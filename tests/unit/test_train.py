"""Training's parts, each alone: batches, isolation of documents, schedule, checkpoints, reports."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from tailmark.base.tiny import tiny_model, tiny_tokenizer
from tailmark.config import Train
from tailmark.errors import ConfigError, DataError
from tailmark.packs import ANSWER, MARKERS, Pack, PackReader, write_packs
from tailmark.train.data import TrainingPacks, empty_pack, heldout_packs, supervised_positions, to_batch
from tailmark.train.model import GradientWatch, SupervisedModel, freeze_lower, load_model
from tailmark.train.report import curve_csv, summarize
from tailmark.train.schedule import learning_rate


def _pack(lengths: list[int], seed: int = 0, step: int = 0, prefix: str = "row") -> Pack:
    rng = np.random.default_rng(seed)
    size = sum(lengths)
    return Pack(
        step,
        rng.integers(3, 90, size).astype(np.int32),
        rng.integers(0, 3, size).astype(np.int8),
        np.array(lengths, np.int32),
        tuple(f"{prefix}{index}" for index in range(len(lengths))),
        rng.random(len(lengths)) < 0.5,
    )


packs = st.builds(_pack, st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(0, 99))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base")
    tiny_model(tiny_tokenizer(), 3).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> SupervisedModel:
    return SupervisedModel(load_model(folder, Train(precision="fp32")))


def _losses(model: SupervisedModel, pack: Pack) -> torch.Tensor:
    losses = model(to_batch(pack))
    assert isinstance(losses, torch.Tensor)
    return losses


@given(packs)
def test_a_document_never_predicts_the_next_one(pack: Pack) -> None:
    batch = to_batch(pack)
    document = np.repeat(np.arange(len(pack.lengths)), pack.lengths)
    source = batch.predicting.numpy()
    assert np.array_equal(document[source], document[source + 1])
    assert np.array_equal(batch.targets.numpy(), pack.input_ids[source + 1])
    assert np.array_equal(batch.kinds.numpy(), pack.kinds[source + 1])
    assert np.array_equal(batch.tail.numpy(), pack.tail[document[source]])
    starts = np.r_[0, np.cumsum(pack.lengths)[:-1]]
    assert np.array_equal(batch.position_ids[0].numpy(), np.arange(len(document)) - starts[document])
    assert len(supervised_positions(pack)) == np.count_nonzero(pack.kinds) - np.count_nonzero(pack.kinds[starts])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(2, 15), min_size=2, max_size=5), st.integers(0, 9))
def test_documents_do_not_see_each_other(model: SupervisedModel, lengths: list[int], seed: int) -> None:
    pack = _pack(lengths, seed)
    first = pack.input_ids.copy()
    first[: lengths[0]] = (first[: lengths[0]] * 7 + 5) % 90
    changed = Pack(0, first, pack.kinds, pack.lengths, pack.row_ids, pack.tail)
    own = int((supervised_positions(pack) < lengths[0]).sum())
    with torch.no_grad():
        assert torch.equal(_losses(model, pack)[own:], _losses(model, changed)[own:])


def test_losses_are_those_of_each_document_alone(folder: Path, model: SupervisedModel) -> None:
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    pack = _pack([9, 4, 17, 2], 8)
    expected, start = [], 0
    with torch.no_grad():
        for length in pack.lengths:
            ids = torch.from_numpy(pack.input_ids[start : start + length].astype(np.int64))
            scores = torch.log_softmax(plain(ids[None]).logits[0], -1)
            expected += [-scores[at - 1, ids[at]] for at in range(1, length) if pack.kinds[start + at]]
            start += int(length)
        torch.testing.assert_close(_losses(model, pack), torch.stack(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sliced", [False, True])
def test_an_empty_pack_gives_zero_gradients(folder: Path, sliced: bool) -> None:
    model = SupervisedModel(load_model(folder, Train(precision="fp32")), sliced=sliced)
    losses = _losses(model, empty_pack())
    assert losses.shape == (0,)
    losses.sum().backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


def test_trainable_layers_freezes_the_rest(folder: Path) -> None:
    model = load_model(folder, Train(precision="fp32", trainable_layers=1))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if name.startswith(("model.layers.1.", "model.norm."))}
    with pytest.raises(ConfigError, match="has 2 layers"):
        freeze_lower(model, 3)


def test_checkpointed_activations_give_the_same_gradient(folder: Path) -> None:
    gradients = []
    for flag in (False, True):
        model = SupervisedModel(load_model(folder, Train(precision="fp32", gradient_checkpointing=flag))).train()
        _losses(model, _pack([5, 8])).sum().backward()
        gradients.append(model.model.model.layers[0].mlp.up_proj.weight.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_the_watch_sees_a_gradient_that_is_not_finite(value: float) -> None:
    layer = torch.nn.Linear(3, 2)
    watch = GradientWatch(layer)
    layer(torch.ones(3)).sum().backward()
    assert watch.finite()
    (layer(torch.ones(3)) * torch.tensor([1.0, value])).sum().backward()
    assert not watch.finite()
    layer(torch.ones(3)).sum().backward()
    assert watch.finite()


def test_the_schedule_is_the_papers() -> None:
    options = Train(learning_rate=2.5e-4, min_learning_rate=1.25e-4, warmup_steps=10)
    rates = [learning_rate(options, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([2.5e-5 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(2.5e-4)
    assert rates[-1] == pytest.approx(1.25e-4)
    assert all(before >= after for before, after in itertools.pairwise(rates[9:]))


@given(st.integers(1, 60), st.integers(0, 70))
def test_the_schedule_stays_in_its_bounds(steps: int, warmup: int) -> None:
    options = Train(learning_rate=1e-3, min_learning_rate=1e-4, warmup_steps=warmup)
    assert all(0 < learning_rate(options, step, steps) <= 1e-3 + 1e-12 for step in range(steps))


def test_epochs_follow_each_other(tmp_path: Path) -> None:
    for epoch in range(2):
        write_packs(tmp_path / f"epoch-{epoch:03d}.arrow", [_pack([4], epoch, step, f"e{epoch}s{step}-") for step in (0, 1, 1)], {})
    training = TrainingPacks(tmp_path, 2)
    assert training.steps == 4
    assert [[pack.row_ids[0] for pack in training.of_step(step)] for step in range(4)] == [
        ["e0s0-0"], ["e0s1-0", "e0s1-0"], ["e1s0-0"], ["e1s1-0", "e1s1-0"],
    ]  # fmt: skip


def test_a_step_without_packs_is_an_error(tmp_path: Path) -> None:
    write_packs(tmp_path / "epoch-000.arrow", [_pack([4], step=0), _pack([4], step=2)], {})
    with pytest.raises(DataError, match="Step 1 has no packs"):
        TrainingPacks(tmp_path, 1)


def test_both_arms_measure_the_same_heldout_rows(tmp_path: Path) -> None:
    names = [f"{(index * 37) % 50:02d}" for index in range(20)]
    chosen = []
    for size in (1, 4):
        groups = [names[start : start + size] for start in range(0, len(names), size)]
        made = []
        for number, group in enumerate(groups):
            pack = _pack([6] * len(group), number, number)
            made.append(Pack(number, pack.input_ids, pack.kinds, pack.lengths, tuple(group), pack.tail))
        path = tmp_path / f"{size}.arrow"
        write_packs(path, made, {})
        chosen.append([row for pack in heldout_packs(PackReader(path), 7) for row in pack.row_ids])
    assert chosen[0] == chosen[1] == sorted(names)[:7]


def test_the_report_holds_both_ends_and_the_curve() -> None:
    curve = [{"step": 0, "heldout_answer": 2.0}] + [{"step": step, "loss": 3.0 - step / 10, "learning_rate": 1e-4} for step in range(1, 21)]
    curve[-1]["heldout_answer"] = 1.0
    metrics = summarize({"step": 20, "tokens": 7, "curve": curve}, curve)
    assert (metrics["steps"], metrics["tokens"]) == (20, 7)
    assert (metrics["heldout_first"], metrics["heldout_last"]) == ({"answer": 2.0}, {"answer": 1.0})
    assert (metrics["loss_first"], metrics["loss_last"]) == (2.45, 1.45)
    lines = curve_csv(curve).splitlines()
    assert lines[0] == "step,loss,learning_rate,gradient_norm,heldout_answer"
    assert lines[1] == "0,,,,2.0"
    assert len(lines) == 22


def test_the_kinds_are_those_of_the_packs() -> None:
    batch = to_batch(_pack([30], 4))
    assert set(batch.kinds.tolist()) == {MARKERS, ANSWER}
