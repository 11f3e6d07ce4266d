"""Dropout, order and packing hold for every input."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tailmark.prepare.dropout import Dropout, uniform
from tailmark.prepare.packing import chunks, epoch_order, first_fit_decreasing
from tailmark.taxonomy import MarkerList

MARKERS = MarkerList({"code_type": "python", "domain": "Code", "lang": "English", "length_tokens": 60, "quality": 0.5, "task": "CodeFix"})
row_ids = st.text("0123456789abcdef", min_size=4, max_size=8)


@given(seed=st.integers(0, 100), epoch=st.integers(0, 5), row_id=row_ids, others=st.lists(row_ids, max_size=5))
def test_dropout_depends_on_seed_epoch_and_row_alone(seed: int, epoch: int, row_id: str, others: list[str]) -> None:
    expected = Dropout(seed, 0.5, 0.5)(MARKERS, epoch, row_id)
    dropout = Dropout(seed, 0.5, 0.5)
    for other in others:
        dropout(MARKERS, epoch + 1, other)
    assert dropout(MARKERS, epoch, row_id) == expected


@given(row_id=row_ids, name=st.sampled_from(sorted(MARKERS)))
def test_a_marker_more_changes_no_other_draw(row_id: str, name: str) -> None:
    dropout = Dropout(17, 0.2, 0.5)
    kept, fewer = dropout(MARKERS, 0, row_id), dropout(MARKERS.only(set(MARKERS) - {name}), 0, row_id)
    assert (kept is None) == (fewer is None)
    if kept is not None and fewer is not None:
        assert kept.only(set(MARKERS) - {name}) == fewer


@given(p=st.floats(0, 1), q=st.floats(0, 1), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_rates_are_p_and_q(p: float, q: float, seed: int) -> None:
    rows = 2000
    dropout = Dropout(seed, p, q)
    lists = [dropout(MARKERS, 0, str(row)) for row in range(rows)]
    kept = [item for item in lists if item is not None]
    # Five standard deviations of a share, at most sqrt(1/4n) each.
    assert abs(1 - len(kept) / rows - p) <= 5 * (0.25 / rows) ** 0.5
    if kept:
        removed = 1 - sum(map(len, kept)) / (len(kept) * len(MARKERS))
        assert abs(removed - q) <= 5 * (0.25 / (len(kept) * len(MARKERS))) ** 0.5


@given(p=st.sampled_from([0.0, 0.5]), share=st.floats(0, 1), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_rows_without_lists_are_drawn_apart_from_the_others(p: float, share: float, seed: int) -> None:
    rows = [str(row) for row in range(2000)]
    dropout, paper = Dropout(seed, p, 0.5, lists=share), Dropout(seed, p, 0.5)
    unlisted = [row for row in rows if dropout.unlisted(0, row)]
    assert abs(len(unlisted) / len(rows) - share) <= 5 * (0.25 / len(rows)) ** 0.5
    assert all(dropout(MARKERS, 0, row) is None for row in unlisted)
    assert all(dropout(MARKERS, 0, row) == paper(MARKERS, 0, row) for row in set(rows) - set(unlisted))


@given(rates=st.fixed_dictionaries({name: st.sampled_from([0.0, 0.25, 1.0]) for name in ("lang", "task")}), row_id=row_ids)
def test_a_marker_can_have_a_rate_of_its_own(rates: dict[str, float], row_id: str) -> None:
    kept, common = Dropout(5, 0, 0.5, rates)(MARKERS, 0, row_id), Dropout(5, 0, 0.5)(MARKERS, 0, row_id)
    assert kept is not None
    assert common is not None
    others = set(MARKERS) - set(rates)
    assert kept.only(others) == common.only(others)
    for name, rate in rates.items():
        assert (name in kept) == (uniform(5, 0, row_id, name) >= rate)


def test_the_rate_of_a_marker_is_its_own() -> None:
    lists = [Dropout(3, 0, 0.5, {"lang": 0.1, "task": 0.9})(MARKERS, 0, str(row)) for row in range(4000)]
    shares = {name: sum(name in (kept or ()) for kept in lists) / len(lists) for name in ("domain", "lang", "task")}
    assert abs(shares["domain"] - 0.5) < 0.04
    assert abs(shares["lang"] - 0.9) < 0.025
    assert abs(shares["task"] - 0.1) < 0.025


def test_the_extremes() -> None:
    for row in range(100):
        assert Dropout(1, 0, 0)(MARKERS, 0, str(row)) == MARKERS
        assert Dropout(1, 1, 0)(MARKERS, 0, str(row)) is None
        assert Dropout(1, 0, 1)(MARKERS, 0, str(row)) == MarkerList()


def test_markers_are_removed_independently() -> None:
    """Every subset of three markers is about as frequent as every other, and epochs differ."""
    three = MARKERS.only({"domain", "lang", "task"})
    found = Counter(Dropout(3, 0, 0.5)(three, 0, str(row)) for row in range(8000))
    assert len(found) == 8
    assert all(850 < count < 1150 for count in found.values())
    changed = sum(Dropout(3, 0, 0.5)(three, 0, str(row)) != Dropout(3, 0, 0.5)(three, 1, str(row)) for row in range(1000))
    assert 820 < changed < 930


def test_draws_do_not_change_between_versions() -> None:
    """A resumed or repeated run must draw what the first one drew."""
    draws = [uniform(17, epoch, "abc", what) for epoch, what in ((0, ":list"), (1, ":list"), (0, "lang"))]
    assert [round(draw, 12) for draw in draws] == [0.146768928201, 0.583068987899, 0.767734625684]


@given(ids=st.lists(row_ids, unique=True, max_size=30), seed=st.integers(0, 9), epoch=st.integers(0, 9), size=st.integers(1, 7))
def test_order_is_a_shuffle_that_ignores_the_input_order(ids: list[str], seed: int, epoch: int, size: int) -> None:
    order = [ids[index] for index in epoch_order(ids, seed, epoch)]
    assert sorted(order) == sorted(ids)
    again = sorted(ids)
    assert [again[index] for index in epoch_order(again, seed, epoch)] == order
    steps = chunks(order, size)
    assert [item for step in steps for item in step] == order
    assert all(len(step) == size for step in steps[:-1])


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    ids = [str(number) for number in range(50)]
    assert len({tuple(epoch_order(ids, seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@given(st.integers(1, 60).flatmap(lambda capacity: st.tuples(st.lists(st.integers(1, capacity), max_size=40), st.just(capacity))))
def test_bins_hold_every_item_once_within_their_capacity(case: tuple[list[int], int]) -> None:
    lengths, capacity = case
    bins = first_fit_decreasing(lengths, capacity)
    assert sorted(index for items in bins for index in items) == list(range(len(lengths)))
    sums = [sum(lengths[index] for index in items) for items in bins]
    assert all(0 < total <= capacity for total in sums)
    # First fit leaves at most one bin half empty.
    assert sum(2 * total <= capacity for total in sums) <= 1
