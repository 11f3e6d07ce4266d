"""What counts as the long tail: the values that few training rows have (paper: domains below 5 %)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby

from tailmark.taxonomy.schema import UNSPECIFIED


def value_counts(values: Iterable[str | None]) -> dict[str | None, int]:
    """Rows by value, the most frequent first and equal ones by name; `None` stands for rows without a value."""
    counts = Counter(values)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0] or "")))


def tail_values(values: Iterable[str | None], threshold: float) -> frozenset[str]:
    """The values that fewer than `threshold` (a share, 0 to 1) of the rows have.

    Args:
        values: the long-tail marker of every training row; rows without one count in the total.
        threshold: `longtail.threshold` of the config.

    `Unspecified` says that the value is not known, so it is never in the tail.
    """
    counts = Counter(values)
    return tail_of(counts, counts.total(), threshold)


def tail_of(counts: Mapping[str | None, int], total: int, threshold: float) -> frozenset[str]:
    """`tail_values` from the number of training rows by value, of `total` training rows."""
    return frozenset(value for value, count in counts.items() if value not in (None, UNSPECIFIED) and count < threshold * total)


def frequency_bins(counts: Mapping[str, int], bins: int) -> dict[str, int]:
    """Value to its bin by frequency, from 1 (the rarest values) to `bins`.

    Values are put in order of their training rows, the rarest first; a value is in the n-th bin if the middle of its rows (and of those
    of values as frequent) is in the n-th part of all rows. A frequent value fills several bins, so some stay empty.
    """
    total, before = sum(counts.values()), 0
    found: dict[str, int] = {}
    for _, group in groupby(sorted(counts, key=lambda value: (counts[value], value)), key=lambda value: counts[value]):
        values = list(group)
        rows = sum(counts[value] for value in values)
        found |= dict.fromkeys(values, min(bins, int(bins * (before + rows / 2) / total) + 1))
        before += rows
    return found
