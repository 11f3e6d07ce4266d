from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tailmark.config import Config
from tailmark.ingest.sampling import even, share_evenly, share_proportionally, stratified, unit_hash
from tailmark.ingest.split import group_of, split, subset
from tailmark.records import HELDOUT, TRAIN, Record

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


def row(number: int, domain: str, group: str | None = None) -> Record:
    metadata = {"marker.domain": domain} | ({"group": group} if group else {})
    return {
        "id": f"{number:032x}",
        "prompt": [{"role": "user", "content": f"question {number // 2}"}],
        "split": TRAIN,
        "metadata": metadata,
    }


def mixed(head: int = 1_000, tail: int = 30) -> list[Record]:
    return [row(number, "Code") for number in range(head)] + [row(head + number, "Legal") for number in range(tail)]


def test_no_group_straddles_the_split_and_every_tail_value_has_held_out_rows() -> None:
    rows = mixed()
    split(rows, 0.1, "domain", seed=17)
    sides: dict[str, set[str]] = {}
    for item in rows:
        sides.setdefault(group_of(item), set()).add(item["split"])
    assert all(len(side) == 1 for side in sides.values())
    held = Counter(item["metadata"]["marker.domain"] for item in rows if item["split"] == HELDOUT)
    assert held["Code"] == 100
    assert 3 <= held["Legal"] <= 4


def test_the_split_depends_on_the_seed_and_on_nothing_else() -> None:
    def held(seed: int, rows: list[Record]) -> set[str]:
        split(rows, 0.1, "domain", seed)
        return {item["id"] for item in rows if item["split"] == HELDOUT}

    assert held(1, mixed()) == held(1, list(reversed(mixed()))) != held(2, mixed())


def test_a_value_with_a_single_group_stays_in_training() -> None:
    rows = [row(number, "Legal", group="only") for number in range(5)]
    split(rows, 0.5, "domain", seed=1)
    assert {item["split"] for item in rows} == {TRAIN}


def test_a_profile_subset_keeps_both_splits_and_every_value() -> None:
    rows = mixed(2_000, 40)
    split(rows, 0.1, "domain", seed=17)
    config = Config.model_validate({"ingest": {"rows": 100, "stratify": ["domain"], "floor": 4}})
    chosen = subset(rows, config)
    assert len(chosen) == 100
    assert Counter(item["split"] for item in chosen) == {TRAIN: 90, HELDOUT: 10}
    for side in (TRAIN, HELDOUT):
        assert {item["metadata"]["marker.domain"] for item in chosen if item["split"] == side} == {"Code", "Legal"}


def test_without_a_number_of_rows_all_are_kept() -> None:
    rows = mixed(10, 2)
    assert subset(rows, Config()) == rows


def test_only_admits_rows_with_the_values_named() -> None:
    rows = mixed(10, 4)
    config = Config.model_validate({"ingest": {"only": {"domain": ["Legal"]}}})
    assert [item["metadata"]["marker.domain"] for item in subset(rows, config)] == ["Legal"] * 4
    config = Config.model_validate({"ingest": {"only": {"domain": ["Medical"]}, "rows": 3}})
    assert subset(rows, config) == []
