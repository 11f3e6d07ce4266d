"""The long tail: which values are in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailmark.longtail import tail_values, value_counts

rows = st.lists(st.sampled_from(["Code", "Legal", "Medical", "Unspecified", None]), max_size=60)


def test_fewer_than_the_threshold_is_tail_and_the_threshold_itself_is_not() -> None:
    values = ["Code"] * 91 + ["Legal"] * 5 + ["Medical"] * 4
    assert tail_values(values, 0.05) == {"Medical"}


def test_rows_without_a_value_count_in_the_total() -> None:
    assert tail_values(["Legal"] + [None] * 99, 0.05) == {"Legal"}
    assert tail_values(["Legal"], 0.05) == frozenset()


@given(rows, st.floats(0, 1))
def test_not_knowing_is_never_tail(values: list[str | None], threshold: float) -> None:
    tail = tail_values(values, threshold)
    assert tail <= set(values) - {None, "Unspecified"}
    assert all(values.count(value) / len(values) < threshold for value in tail)


@given(rows)
def test_counts_are_ordered_and_complete(values: list[str | None]) -> None:
    counts = value_counts(values)
    assert sum(counts.values()) == len(values)
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    assert list(value_counts(reversed(values)).items()) == list(counts.items())
