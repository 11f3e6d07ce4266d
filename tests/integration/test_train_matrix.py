"""However training is run, it learns the same: ranks, packs, ZeRO stages, offload, recomputation, and all of it again with adapters."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tailmark.base.tiny import tiny_model, tiny_tokenizer
from tailmark.layout import Layout
from tailmark.packs import Pack, write_packs

STEPS, ROWS = 5, 6
GROUPS = {"one": [range(6)], "two": [range(4), range(4, 6)], "each": [[row] for row in range(6)]}
"""Which rows of a step share a pack: so one, two and six micro-batches."""

FULL = {"precision": "fp32", "threads": 1, "learning_rate": 2e-3, "min_learning_rate": 1e-3, "warmup_steps": 2}
LORA = {**FULL, "lora": {"rank": 4, "alpha": 8.0}}
SAME: dict[str, dict[str, Any]] = {
    "plain": {"ranks": [1], "packs": "one", "train": FULL},
    "six packs": {"ranks": [1], "packs": "each", "train": FULL},
    "zero 1": {"ranks": [2], "packs": "two", "train": FULL},
    "zero 2": {"ranks": [1, 2], "packs": "two", "train": {**FULL, "zero_stage": 2}},
    "zero 3": {"ranks": [1, 2], "packs": "each", "train": {**FULL, "zero_stage": 3}},
    "offload": {"ranks": [2], "packs": "one", "train": {**FULL, "zero_stage": 2, "offload_optimizer": True}},
    "recomputed": {"ranks": [1], "packs": "one", "train": {**FULL, "zero_stage": 3, "gradient_checkpointing": True}},
    "not fused": {"ranks": [1], "packs": "one", "train": {**FULL, "fused_optimizer": False}},
}
ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"ranks": [1], "packs": "one", "train": LORA},
    "lora, six packs": {"ranks": [1], "packs": "each", "train": {**LORA, "zero_stage": 2}},
    "lora, zero 3, recomputed": {"ranks": [2], "packs": "two", "train": {**LORA, "zero_stage": 3, "gradient_checkpointing": True}},
}
OTHER: dict[str, dict[str, Any]] = {
    "bf16, zero 1": {"ranks": [2], "packs": "two", "train": {**FULL, "precision": "bf16"}},
    "bf16, zero 3": {"ranks": [1], "packs": "two", "train": {**FULL, "precision": "bf16", "zero_stage": 3}},
}
POISONED = {"poisoned": {"ranks": [2], "packs": "poisoned", "base": "poisoned-base", "train": {**FULL, "zero_stage": 3}}}
RARE = 700
"""A token that stands in one row of the poisoned packs, the fifth of the third step."""


def _documents(step: int) -> list[Pack]:
    rng = np.random.default_rng(step)
    made = []
    for row, length in enumerate(rng.integers(9, 30, ROWS)):
        kinds = np.r_[np.zeros(4), np.ones(2), np.full(length - 6, 2)].astype(np.int8)
        tokens = rng.integers(3, 90, length).astype(np.int32)
        made.append(Pack(step, tokens, kinds, np.array([length], np.int32), (f"row-{step}-{row}",), np.zeros(1, np.bool_)))
    return made


def _join(parts: list[Pack]) -> Pack:
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ("input_ids", "kinds", "lengths", "tail")}
    return Pack(parts[0].step, row_ids=tuple(row for part in parts for row in part.row_ids), **joined)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("matrix")
    tiny_model(tiny_tokenizer(), 3).save_pretrained(root / "base")
    for name, groups in GROUPS.items():
        packs = [_join([_documents(step)[row] for row in rows]) for step in range(STEPS) for rows in groups]
        write_packs(Layout(root / name).prepared("marked") / "train" / "epoch-000.arrow", packs, {"arm": "marked"})
    _poison(root)
    (root / "ways.json").write_text(json.dumps(SAME | ADAPTERS | OTHER | POISONED), encoding="utf-8")
    return root


def _poison(root: Path) -> None:
    """A model whose embedding of `RARE` is not a number, and packs of which one holds that token."""
    model = AutoModelForCausalLM.from_pretrained(root / "base")
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        model.model.embed_tokens.weight[RARE] = float("nan")
    model.save_pretrained(root / "poisoned-base")
    packs = [document for step in range(STEPS) for document in _documents(step)]
    packs[2 * ROWS + 4].input_ids[1] = RARE
    write_packs(Layout(root / "poisoned").prepared("marked") / "train" / "epoch-000.arrow", packs, {"arm": "marked"})


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[int, dict[str, Any]]:
    """By number of ranks, by way."""
    script = Path(__file__).with_name("train_matrix.py")
    found = {}
    for ranks in (1, 2):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), str(script), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found[ranks] = json.loads((folder / f"result-{ranks}.json").read_text(encoding="utf-8"))
    return found


def _runs(ways: dict[str, dict[str, Any]]) -> list[tuple[str, int]]:
    """Names and numbers of ranks, without the first way, which the others are compared with."""
    return [(name, ranks) for name in list(ways)[1:] for ranks in ways[name]["ranks"]]


@pytest.mark.parametrize(("way", "ranks"), _runs(SAME))
def test_every_way_learns_as_the_plain_one(results: dict[int, dict[str, Any]], way: str, ranks: int) -> None:
    plain, other = results[1]["plain"], results[ranks][way]
    assert len(plain["losses"]) == STEPS
    assert plain["losses"][-1] < plain["losses"][0] - 0.05
    np.testing.assert_allclose(other["losses"], plain["losses"], atol=1e-4)
    np.testing.assert_allclose(other["norms"], plain["norms"], rtol=1e-3)


@pytest.mark.parametrize(("way", "ranks"), _runs(ADAPTERS))
def test_adapters_learn_alike_however_they_are_run(results: dict[int, dict[str, Any]], way: str, ranks: int) -> None:
    plain, other = results[1]["lora"], results[ranks][way]
    np.testing.assert_allclose(other["losses"], plain["losses"], atol=1e-4)
    np.testing.assert_allclose(other["norms"], plain["norms"], rtol=1e-3)
    for name, total in plain["sums"].items():
        assert other["sums"][name] == pytest.approx(total, abs=0.05), name


def test_merged_adapters_have_the_models_own_names_and_change_nothing_else(folder: Path, results: dict[int, dict[str, Any]]) -> None:
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.bfloat16)
    before = {name: float(weight.detach().double().sum()) for name, weight in base.named_parameters()}
    after = results[2]["lora, zero 3, recomputed"]["sums"]
    assert set(after) == set(before)
    changed = {name for name, total in after.items() if total != before[name]}
    assert changed
    assert all(name.endswith("_proj.weight") for name in changed)


@pytest.mark.parametrize(("way", "ranks"), [(name, way["ranks"][0]) for name, way in OTHER.items()])
def test_bf16_stays_near_fp32(results: dict[int, dict[str, Any]], way: str, ranks: int) -> None:
    np.testing.assert_allclose(results[ranks][way]["losses"], results[1]["plain"]["losses"], atol=0.03)


def test_one_ranks_bad_row_stops_all_before_the_update_and_is_named(results: dict[int, dict[str, Any]]) -> None:
    found = results[2]["poisoned"]
    assert len(found["losses"]) == 2
    assert "not finite at step 3" in found["stopped"]
    assert "row-2-4" in found["stopped"]
    assert found["stopped"].count("row-") == 1, "the rows of the other packs are fine"
    assert all(np.isfinite(total) for name, total in found["sums"].items() if name != "model.embed_tokens.weight")


def test_rank_0_tells_speed_memory_and_fill_of_every_step(results: dict[int, dict[str, Any]]) -> None:
    steps = [event for event in results[2]["zero 2"]["told"] if event["event"] == "step"]
    assert [event["step"] for event in steps] == list(range(1, STEPS + 1))
    tokens = [sum(len(document.input_ids) for document in _documents(step)) for step in range(STEPS)]
    for event, count in zip(steps, tokens, strict=True):
        assert event["padding_share"] == pytest.approx(1 - count / (2 * 256))
        assert event["tokens_per_s"] > event["supervised_tokens_per_s"] > 0
        assert event["memory_gib"] > 0.1
        assert "mfu" not in event, "nothing is known of this processor's peak"
