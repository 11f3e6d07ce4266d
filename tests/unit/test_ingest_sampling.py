from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tailmark.ingest.sampling import even, share_evenly, share_proportionally, stratified, unit_hash

SIZES = st.lists(st.integers(0, 200), min_size=1, max_size=12)


@given(SIZES, st.integers(0, 1_000))
def test_even_parts_never_exceed_the_demand_and_use_the_whole_total(demands: list[int], total: int) -> None:
    parts = share_evenly(demands, total)
    assert sum(parts) == min(total, sum(demands))
    assert all(0 <= part <= demand for part, demand in zip(parts, demands, strict=True))
    open_parts = [part for part, demand in zip(parts, demands, strict=True) if part < demand]
    assert not open_parts or max(open_parts) - min(open_parts) <= 1


@given(SIZES, st.integers(0, 1_000))
def test_proportional_parts_are_within_one_row_of_the_exact_share(sizes: list[int], total: int) -> None:
    parts = share_proportionally(sizes, total)
    whole = sum(sizes)
    total = min(total, whole)
    assert sum(parts) == total
    assert all(abs(part - size * total / whole) < 1 for part, size in zip(parts, sizes, strict=True) if whole)


def test_weights_give_a_larger_part() -> None:
    assert share_evenly([100, 100], 40, [3, 1]) == [30, 10]
    assert share_evenly([10, 100], 40, [3, 1]) == [10, 30]


def test_even_gives_small_strata_all_they_have() -> None:
    chosen = even("a" * 50 + "b" * 3 + "c" * 50, 23, [lambda item: item], lambda item: item, {})
    assert Counter(chosen) == {"a": 10, "b": 3, "c": 10}


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("xyz"), st.integers(0, 10**6)), unique=True),
    st.integers(0, 120),
    st.integers(1, 5),
)
def test_a_stratified_subset_has_the_size_asked_for_and_no_row_twice(rows: list[tuple[str, str, int]], total: int, floor: int) -> None:
    chosen = stratified(rows, total, [lambda row: row[0], lambda row: row[1]], floor, lambda row: row)
    assert len(chosen) == len(set(chosen)) == min(total, len(rows))
    assert set(chosen) <= set(rows)
    values = {row[0] for row in rows}
    if total >= len(values):
        assert {row[0] for row in chosen} == values


def test_unit_hash_is_uniform_enough_and_fixed() -> None:
    draws = [unit_hash("seed", number) for number in range(4_000)]
    assert all(0 <= draw < 1 for draw in draws)
    assert 0.08 < sum(draw < 0.1 for draw in draws) / len(draws) < 0.12
    assert unit_hash("a", "b") != unit_hash("ab")
