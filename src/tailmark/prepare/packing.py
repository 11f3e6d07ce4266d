"""The order of the rows, the steps they make, and the packs of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from tailmark.prepare.dropout import uniform

T = TypeVar("T")


def epoch_order(row_ids: Sequence[str], seed: int, epoch: int) -> list[int]:
    """Indices of the rows in the order of an epoch: a shuffle that depends on (seed, epoch, row id) alone."""
    return sorted(range(len(row_ids)), key=lambda index: (uniform(seed, epoch, row_ids[index], ":order"), row_ids[index]))


def chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Consecutive groups of `size`, the last one maybe smaller."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Bins of item indices: the longest item first, each into the first bin with room (at most 11/9 of the fewest bins, and one).

    Args:
        lengths: of the items, each at most `capacity`.
        capacity: of a bin.
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda item: (-lengths[item], item)):
        length = lengths[index]
        assert length <= capacity, f"an item of {length} does not fit a bin of {capacity}"
        place = next((number for number, free in enumerate(room) if free >= length), len(bins))
        if place == len(bins):
            bins.append([])
            room.append(capacity)
        bins[place].append(index)
        room[place] -= length
    return bins
