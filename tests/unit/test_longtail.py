"""The long tail: which values are in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailmark.longtail import frequency_bins, tail_values, value_counts

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


def test_bins_go_by_the_middle_of_a_value() -> None:
    counts = {"Code": 50, "Culture": 30, "Math": 12, "Legal": 4, "Medical": 4}
    assert frequency_bins(counts, 10) == {"Legal": 1, "Medical": 1, "Math": 2, "Culture": 4, "Code": 8}
    assert set(frequency_bins(counts, 1).values()) == {1}
    assert frequency_bins({}, 10) == {}


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 1000), min_size=1, max_size=12), st.integers(1, 20))
def test_bins_never_put_the_rarer_value_later(counts: dict[str, int], bins: int) -> None:
    found = frequency_bins(counts, bins)
    assert found.keys() == counts.keys()
    assert all(1 <= number <= bins for number in found.values())
    for one in counts:
        for other in counts:
            assert (counts[one] - counts[other]) * (found[one] - found[other]) >= 0
            if counts[one] == counts[other]:
                assert found[one] == found[other]
