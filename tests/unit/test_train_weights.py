"""What each supervised token counts in the loss."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailmark.base.tiny import tiny_tokenizer
from tailmark.config import Train
from tailmark.packs import ANSWER, MARKERS
from tailmark.train.data import Batch
from tailmark.train.weights import LossWeights, ending_tokens

ENDS = torch.tensor([False, True, False, True])
tokens = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([MARKERS, ANSWER])), min_size=2, max_size=12)


def _batch(drawn: list[tuple[int, int]]) -> Batch:
    ids = torch.tensor([[token for token, _ in drawn]])
    predicting = torch.arange(len(drawn) - 1)
    kinds = torch.tensor([kind for _, kind in drawn[1:]], dtype=torch.int8)
    return Batch(ids, predicting[None], (len(drawn),), predicting, ids[0, 1:], kinds, kinds > 0)


def test_list_tokens_weigh_what_the_option_says() -> None:
    batch = _batch([(0, MARKERS), (1, MARKERS), (1, ANSWER), (2, MARKERS), (0, ANSWER)])
    assert LossWeights(marker=0.25)(batch).tolist() == [0.25, 1.0, 0.25, 1.0]
    assert LossWeights()(batch).tolist() == [1.0] * 4


@given(tokens)
def test_answer_tokens_after_an_end_weigh_more_and_no_others(drawn: list[tuple[int, int]]) -> None:
    found = LossWeights(0.2, 5.0, ENDS)(_batch(drawn)).tolist()
    places = itertools.pairwise(drawn)
    expected = [0.2 if kind == MARKERS else 5.0 if ENDS[before] else 1.0 for (before, _), (_, kind) in places]
    assert found == pytest.approx(expected)


@given(tokens, st.integers(0, 3))
def test_what_follows_does_not_change_a_weight(drawn: list[tuple[int, int]], other: int) -> None:
    batch, weights = _batch(drawn), LossWeights(0.2, 5.0, ENDS)
    changed = replace(batch, targets=torch.full_like(batch.targets, other))
    assert torch.equal(weights(batch), weights(changed))


def test_ends_are_told_by_the_tokens_own_text(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    ends = ending_tokens(tmp_path)
    assert len(ends) == len(tokenizer)
    for text, expected in ((".", True), ("\n", True), ("?", True), ("a", False), (" ", False), (",", False)):
        (token,) = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert bool(ends[token]) is expected, text


def test_the_tokenizer_is_read_only_where_it_matters(tmp_path: Path) -> None:
    assert LossWeights.of(Train(marker_loss_weight=0.3), tmp_path / "none") == LossWeights(marker=0.3)
