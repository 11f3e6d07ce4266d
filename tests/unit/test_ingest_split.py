from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tailmark.config import Config
from tailmark.ingest.facts import Column, Facts, collect, group_of, joined, marker_names
from tailmark.ingest.near import Edge
from tailmark.ingest.sampling import unit_hash
from tailmark.ingest.split import Flags, families, split, subset
from tailmark.records import Record


def row(number: int, domain: str, group: str | None = None) -> Record:
    metadata = {"marker.domain": domain} | ({"group": group} if group else {})
    return {
        "id": f"{number:032x}",
        "prompt": [{"role": "user", "content": f"question {number // 2}"}],
        "completion": "yes",
        "source_name": "mine",
        "license": "MIT",
        "metadata": metadata,
    }


def mixed(head: int = 1_000, tail: int = 30) -> list[Record]:
    return [row(number, "Code") for number in range(head)] + [row(head + number, "Legal") for number in range(tail)]


def facts_of(rows: Sequence[Record], seed: int = 17, links: Sequence[tuple[int, str]] = (), **options: Any) -> Facts:
    config = Config.model_validate({"ingest": options})
    return collect(rows, marker_names(config), seed, links)


def held_out(facts: Facts, fraction: float = 0.1, edges: Sequence[Edge] = ()) -> Flags:
    return split(families(facts, list(edges)), facts.marker("domain").codes, facts.heldout, fraction)


def test_no_group_straddles_the_split_and_every_tail_value_has_held_out_rows() -> None:
    rows = mixed()
    held = held_out(facts_of(rows))
    sides: dict[str, set[bool]] = {}
    for item, out in zip(rows, held.tolist(), strict=True):
        sides.setdefault(group_of(item), set()).add(out)
    assert all(len(side) == 1 for side in sides.values())
    counts = Counter(item["metadata"]["marker.domain"] for item, out in zip(rows, held, strict=True) if out)
    assert counts["Code"] == 100
    assert 3 <= counts["Legal"] <= 4


def by_hand(rows: Sequence[Record], fraction: float, seed: int) -> set[str]:
    """The same split, group after group: the ids of what is held out."""
    groups: dict[str, list[Record]] = {}
    for item in rows:
        groups.setdefault(group_of(item), []).append(item)
    by_value: dict[str, list[str]] = {}
    for group, members in groups.items():
        by_value.setdefault(members[0]["metadata"]["marker.domain"], []).append(group)
    out: set[str] = set()
    for names in by_value.values():
        wanted, held = fraction * sum(len(groups[name]) for name in names), 0
        for name in sorted(names, key=lambda name: unit_hash(seed, "heldout", name))[:-1]:
            if held < wanted:
                out |= {item["id"] for item in groups[name]}
                held += len(groups[name])
    return out


PURE = st.lists(st.tuples(st.integers(0, 12), st.sampled_from("abc")), min_size=1, max_size=60)


@given(PURE, st.floats(0.05, 0.6), st.integers(0, 5))
@settings(deadline=None)
def test_groups_of_one_value_are_split_as_by_hand(given: list[tuple[int, str]], fraction: float, seed: int) -> None:
    rows = [row(number, value, f"{value} {group}") for number, (group, value) in enumerate(given)]
    held = held_out(facts_of(rows, seed), fraction)
    assert {item["id"] for item, out in zip(rows, held, strict=True) if out} == by_hand(rows, fraction, seed)


@given(PURE, st.floats(0.01, 0.6))
@settings(deadline=None)
def test_every_value_with_two_groups_of_its_own_has_rows_on_both_sides(given: list[tuple[int, str]], fraction: float) -> None:
    rows = [row(number, value, f"{value} {group}") for number, (group, value) in enumerate(given)]
    held = held_out(facts_of(rows), fraction)
    for value in {value for _, value in given}:
        groups = {group for group, other in given if other == value}
        sides = {bool(out) for item, out in zip(rows, held, strict=True) if item["metadata"]["marker.domain"] == value}
        assert sides == ({True, False} if len(groups) > 1 else {False})


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abcd")), min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=8),
    st.lists(st.tuples(st.integers(0, 39), st.integers(0, 9)), max_size=4),
)
@settings(deadline=None)
def test_families_of_several_values_never_straddle(
    given: list[tuple[int, str]], near: list[tuple[int, int]], equal: list[tuple[int, int]]
) -> None:
    rows = [row(number, value, f"group {group}") for number, (group, value) in enumerate(given)]
    edges = [Edge(some, other, 1.0) for some, other in near if max(some, other) < len(rows)]
    links = [(number, f"group {group}") for number, group in equal if number < len(rows)]
    facts = facts_of(rows, links=links)
    family, held = families(facts, edges), held_out(facts, 0.2, edges)
    for edge in edges:
        assert held[edge.row] == held[edge.other]
    for number, group in links:
        assert {bool(held[other]) for other, item in enumerate(rows) if group_of(item) == group} <= {bool(held[number])}
    for name in set(family.tolist()):
        assert len(set(held[family == name].tolist())) == 1
    _assert_nothing_more_could_be_held_out(np.array([item["metadata"]["marker.domain"] for item in rows]), family, held)


def _assert_nothing_more_could_be_held_out(values: Any, family: Any, held: Any) -> None:
    """A value without held-out rows has no family that could leave training without being some value's last one there."""
    for value in set(values[~held]) - set(values[held]):
        for name in set(family[values == value]):
            carried = set(values[family == name])
            assert any(set(family[(values == other) & ~held]) == {name} for other in carried)


def test_the_split_depends_on_the_seed_and_on_nothing_else() -> None:
    def held(seed: int, rows: list[Record]) -> set[str]:
        return {item["id"] for item, out in zip(rows, held_out(facts_of(rows, seed)), strict=True) if out}

    assert held(1, mixed()) == held(1, list(reversed(mixed()))) != held(2, mixed())


def test_a_value_with_a_single_group_stays_in_training() -> None:
    assert not held_out(facts_of([row(number, "Legal", group="only") for number in range(5)]), 0.5).any()


def test_a_profile_subset_keeps_both_splits_and_every_value() -> None:
    rows = mixed(2_000, 40)
    config = Config.model_validate({"ingest": {"rows": 100, "stratify": ["domain"], "floor": 4}})
    facts = facts_of(rows)
    held = held_out(facts)
    chosen = subset(facts, np.ones(len(rows), np.bool_), held, config)
    assert Counter(held[chosen].tolist()) == {False: 90, True: 10}
    for side in (False, True):
        taken = np.flatnonzero(chosen & (held == side)).tolist()
        assert {rows[number]["metadata"]["marker.domain"] for number in taken} == {"Code", "Legal"}


def test_without_a_number_of_rows_all_that_are_alive_are_kept() -> None:
    facts = facts_of(mixed(10, 2))
    alive = np.arange(12) != 3
    assert (subset(facts, alive, np.zeros(12, np.bool_), Config()) == alive).all()


def test_only_admits_rows_with_the_values_named() -> None:
    rows = mixed(10, 4)
    everything, nothing = np.ones(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
    config = Config.model_validate({"ingest": {"only": {"domain": ["Legal"]}}})
    chosen = subset(facts_of(rows), everything, nothing, config)
    assert [rows[number]["metadata"]["marker.domain"] for number in np.flatnonzero(chosen)] == ["Legal"] * 4
    config = Config.model_validate({"ingest": {"only": {"domain": ["Medical"]}, "rows": 3}})
    assert not subset(facts_of(rows), everything, nothing, config).any()


@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=6), min_size=1, max_size=6))
@settings(deadline=None)
def test_joined_columns_say_of_each_row_what_the_parts_said(parts: list[list[str]]) -> None:
    whole = Column.joined([Column.of(part) for part in parts])
    assert [whole.values[code] for code in whole.codes] == [text for part in parts for text in part]


def test_joined_facts_number_links_on() -> None:
    parts = [facts_of(mixed(4, 0)), facts_of([row(9, "Legal")], links=[(0, "elsewhere")])]
    whole = joined(parts)
    assert len(whole) == 5
    assert whole.links[0].tolist() == [4]
