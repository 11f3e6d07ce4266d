"""Which rows are held out, and which make a profile's subset. Both depend on content and seed only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tailmark.config import Config
from tailmark.ingest.facts import Column, Facts
from tailmark.ingest.near import Edge, connect
from tailmark.ingest.sampling import stratified
from tailmark.ingest.words import Places

Flags = NDArray[np.bool_]


def families(facts: Facts, edges: list[Edge]) -> Places:
    """The family of each row, numbered from 0: rows of one group, near-duplicates, and what either of two equal rows belongs to."""
    linked, groups = facts.links
    known, codes = np.unique(np.concatenate((facts.group, groups)), return_inverse=True)
    some = np.concatenate((codes[linked], codes[[edge.row for edge in edges]]))
    others = np.concatenate((codes[len(facts) :], codes[[edge.other for edge in edges]]))
    labels = connect(np.arange(len(known), dtype=np.int32), some.astype(np.int64), others.astype(np.int64))
    return labels[codes[: len(facts)]].astype(np.int64)


def split(family: Places, value: NDArray[np.integer], draw: NDArray[np.float64], fraction: float) -> Flags:
    """Which rows are held out: of each value, whole families in the order of their draws until `fraction` of its rows are.

    Args:
        family: the family of each row, which never straddles the split.
        value: the code of each row's value of the long-tail marker; a family counts for the value of its first row.
        draw: a number in [0, 1) that shuffles the families; a family has its first row's.

    Every value with rows in two families or more has held-out rows, unless only families could give them that are the last
    ones of another value in training. A value in a single family stays in training.
    """
    names, first, member, sizes = np.unique(family, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, draw[first], value[first]))
    values, counts = value[first][order], sizes[order]
    starts = np.flatnonzero(np.diff(values, prepend=-1))
    lengths = np.diff(np.append(starts, len(order)))
    before = np.cumsum(counts) - counts
    within = before - np.repeat(before[starts], lengths)
    total = np.repeat(np.add.reduceat(counts, starts) if len(starts) else counts, lengths)
    last = np.arange(len(order)) == np.repeat(starts + lengths - 1, lengths)
    out = np.zeros(len(names), np.bool_)
    out[order] = (within < fraction * total) & ~last
    return _complete(out, member, value, draw[first])[member]


def _complete(out: Flags, member: Places, value: NDArray[np.integer], draw: NDArray[np.float64]) -> Flags:
    """Hold out one more family for each value that has none, where no value loses its last family in training by that."""
    pairs = np.unique(np.stack((value, member), axis=1), axis=0)
    spread = np.bincount(pairs[:, 0])
    training = np.bincount(pairs[:, 0], weights=~out[pairs[:, 1]], minlength=len(spread)).astype(np.int64)
    for wanting in np.flatnonzero((training == spread) & (spread > 1)):
        if training[wanting] < spread[wanting]:
            continue  # a family taken for an earlier value serves this one too
        for family in sorted(pairs[pairs[:, 0] == wanting, 1], key=lambda family: (draw[family], family)):
            losing = pairs[pairs[:, 1] == family, 0]
            if (training[losing] > 1).all():
                out[family] = True
                training[losing] -= 1
                break
    return out


def subset(facts: Facts, alive: Flags, heldout: Flags, config: Config) -> Flags:
    """The profile's rows among those alive: those that `ingest.only` admits, `ingest.rows` of them or all.

    Train and held-out rows are drawn apart, in the proportion of the split.
    """
    options = config.ingest
    chosen = alive.copy()
    for name, values in options.only.items():
        chosen &= _has(facts.marker(name), values)
    wanted = options.rows
    if wanted is None or wanted >= chosen.sum():
        return chosen
    keys = [_value_of(facts.marker(name)) for name in options.stratify]
    out = np.flatnonzero(chosen & heldout).tolist()
    train = np.flatnonzero(chosen & ~heldout).tolist()
    aside = min(len(out), max(round(wanted * options.heldout_fraction), 1 if out else 0))
    draw = facts.subset

    def rank(row: int) -> object:
        return draw[row], row

    taken = stratified(out, aside, keys, options.floor, rank) + stratified(train, wanted - aside, keys, options.floor, rank)
    chosen[:] = False
    chosen[taken] = True
    return chosen


def _has(column: Column, values: tuple[str, ...]) -> Flags:
    admitted = np.array([value in values for value in column.values], np.bool_)
    return admitted[column.codes]


def _value_of(column: Column) -> Callable[[int], str]:
    return lambda row: column.values[column.codes[row]]
