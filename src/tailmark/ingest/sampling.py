"""Draw a fixed number of rows so that rare values stay: nested strata, each with a floor, the rest in proportion."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")
Key = Callable[[T], Hashable]


def unit_hash(*parts: object) -> float:
    """A number in [0, 1) that depends on nothing but the parts."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def share_evenly(demands: Sequence[int], total: int, weights: Sequence[int] | None = None) -> list[int]:
    """Give each demand an equal part of `total`, none more than it asks for (max-min fair). The sum is min(total, sum of demands).

    With `weights`, parts are in proportion to them instead of equal.
    """
    weights = weights or [1] * len(demands)
    parts = [0] * len(demands)
    left, weight_left = min(total, sum(demands)), sum(weights)
    for index in sorted(range(len(demands)), key=lambda index: (demands[index] / weights[index], index)):
        parts[index] = min(demands[index], left * weights[index] // weight_left)
        left -= parts[index]
        weight_left -= weights[index]
    return parts


def share_proportionally(sizes: Sequence[int], total: int) -> list[int]:
    """Split `total` in proportion to `sizes` by largest remainder, none above its size. The sum is min(total, sum of sizes)."""
    whole = sum(sizes)
    total = min(total, whole)
    if not total:
        return [0] * len(sizes)
    parts = [size * total // whole for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda index: (-(sizes[index] * total % whole), index))
    for index in by_remainder[: total - sum(parts)]:
        parts[index] += 1
    return parts


def _groups(items: Sequence[T], key: Key[T]) -> list[list[T]]:
    found: dict[Hashable, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return [found[value] for value in sorted(found, key=str)]


def stratified(items: Sequence[T], total: int, keys: Sequence[Key[T]], floor: int, rank: Callable[[T], object]) -> list[T]:
    """`total` of the items: each value of the first key keeps `floor` of them where it has them, the rest goes in proportion to size,
    and within each value the same for the next key.

    Floors take at most half of what is shared, so that proportions stay (a tail value stays tail) also in a small subset; but every
    value of a key has a row where there are as many rows as values. Inside a stratum the items with the least `rank` are taken.
    """
    if total >= len(items):
        return list(items)
    if not keys:
        return sorted(items, key=rank)[:total]  # type: ignore[arg-type]
    groups = _groups(items, keys[0])
    floors = share_evenly([min(len(group), floor) for group in groups], max(total // 2, min(total, len(groups))))
    rest = share_proportionally([len(group) - least for group, least in zip(groups, floors, strict=True)], total - sum(floors))
    chosen: list[T] = []
    for group, least, more in zip(groups, floors, rest, strict=True):
        chosen += stratified(group, least + more, keys[1:], floor, rank)
    return chosen


def even(items: Sequence[T], total: int, keys: Sequence[Key[T]], rank: Callable[[T], object], weights: Mapping[str, int]) -> list[T]:
    """`total` of the items, shared as evenly among the values of each key in turn as their numbers allow.

    A value in `weights` counts that many times.
    """
    if total >= len(items):
        return list(items)
    if not keys:
        return sorted(items, key=rank)[:total]  # type: ignore[arg-type]
    groups = _groups(items, keys[0])
    parts = share_evenly([len(group) for group in groups], total, [weights.get(str(keys[0](group[0])), 1) for group in groups])
    return [item for group, part in zip(groups, parts, strict=True) for item in even(group, part, keys[1:], rank, weights)]
