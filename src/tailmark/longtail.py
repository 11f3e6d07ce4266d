"""What counts as the long tail: the values that few training rows have (paper: domains below 5 %)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

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
