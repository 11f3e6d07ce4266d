"""Near-duplicates: rows that share a band of their MinHash signatures are compared exactly, so no row is taken for one that is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tailmark.config import NearDuplicates
from tailmark.console import Progress, say
from tailmark.engine import Run
from tailmark.ingest.facts import Facts
from tailmark.ingest.minhash import Bands, Sets
from tailmark.ingest.words import Hashes, HashSet, Places, Texts
from tailmark.records import Record

Labels = NDArray[np.int32]
GetRows = Callable[[Places], Iterable[Record]]
"""Gives rows by their numbers, which ascend."""

_JOB_ROWS, _MOST_ROWS = 2_000, 50_000
"""A job's rows; a cluster of more than the second number, which only a text common to them all can make, is compared in pieces."""
_MOST_COMPARED = 200
"""Rows that one row is compared with at most, so that text which half of the rows share cannot cost the square of their number."""


class Edge(NamedTuple):
    """A row, an earlier one that it nearly repeats, and their similarity."""

    row: int
    other: int
    similarity: float


@dataclass(frozen=True)
class Job:
    """Rows to compare, the first to come to stay first.

    Attributes:
        rows: their numbers.
        cluster: rows of different clusters are not compared.
        group: rows of one group are not compared, unless it is 0.
    """

    options: NearDuplicates
    rows: Places
    cluster: Labels
    group: NDArray[np.uint64]
    bands: Bands
    records: Sequence[Record]
    common: Hashes


class Compared(NamedTuple):
    """How many rows were candidates, the near-duplicates found, and how many pairs were compared."""

    rows: int
    edges: list[Edge]
    pairs: int


def candidate_clusters(bands: Bands) -> Labels:
    """The number of each row's cluster; rows that share a band's hash, directly or through others, are in one."""
    labels: Labels = np.arange(len(bands), dtype=np.int32)
    for band in range(bands.shape[1]):
        order = np.argsort(bands[:, band], kind="stable").astype(np.int32)
        same = np.flatnonzero(np.diff(bands[order, band]) == 0)
        if len(same):
            labels = connect(labels, order[same], order[same + 1])
    return labels


def connect(labels: Labels, some: NDArray[np.integer], others: NDArray[np.integer]) -> Labels:
    """The labels after the components of `some[i]` and `others[i]` have become one, for all i."""
    size = int(labels.max(initial=-1)) + 1
    graph = coo_array((np.ones(len(some), np.bool_), (labels[some], labels[others])), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1], np.int32)[labels]


@dataclass(frozen=True)
class Signed:
    """What candidates are found by: the rows' bands, and the runs of words that do not count."""

    bands: Bands
    common: Hashes


def find_near(signed: Signed, facts: Facts, rank: NDArray[np.integer], get_rows: GetRows, options: NearDuplicates, run: Run) -> Compared:
    """The near-duplicates among the rows.

    With the action `remove` every row found stands in one edge, to a row that stays. With `group` the edges connect all rows
    between which a chain of near-duplicates lies.

    Args:
        rank: of two near-duplicates the one with the lower rank stays; of equal ones the one with the lower number.
    """
    labels = candidate_clusters(signed.bands)
    sizes = np.bincount(labels, minlength=1)
    members = np.flatnonzero(sizes[labels] > 1)
    members = members[np.lexsort((members, rank[members], labels[members]))]
    group = np.where(facts.named, facts.group, np.uint64(0))
    if sizes.max() > _MOST_ROWS:
        say(f"  {sizes.max():,} rows share text; they are compared in pieces of {_MOST_ROWS:,}, so some near-duplicates may stay")
    progress = Progress("comparing", len(members))
    edges: list[Edge] = []
    pairs = 0

    def job(part: Places) -> Job:
        ascending = np.sort(part)
        found = dict(zip(ascending.tolist(), get_rows(ascending), strict=True))
        records = [found[row] for row in part.tolist()]
        return Job(options, part, labels[part], group[part], signed.bands[part], records, signed.common)

    for done in run(compare, map(job, _parts(members, labels))):
        edges += done.edges
        pairs += done.pairs
        progress.advance(done.rows)
    progress.close(f"{pairs:,} pairs, {len(edges):,} near-duplicates")
    return Compared(len(members), edges, pairs)


def _parts(members: Places, labels: Labels) -> Iterator[Places]:
    """The members in jobs: whole clusters, together until a job is large enough, alone where they are larger."""
    start = 0
    for end in [*(np.flatnonzero(np.diff(labels[members])) + 1).tolist(), len(members)]:
        if end - start >= _JOB_ROWS or end == len(members):
            yield from (members[first : min(first + _MOST_ROWS, end)] for first in range(start, end, _MOST_ROWS))
            start = end


def compare(job: Job) -> Compared:
    """Compare the rows of each cluster that share a band. Called in a worker."""
    sets = Sets.of(job.records, job.options, HashSet(job.common))
    search = _Search(job.options.threshold, remove=job.options.action == "remove")
    bands = (np.arange(job.bands.shape[1], dtype=np.uint64) << np.uint64(32)) + job.bands
    before = -1
    for place, row in enumerate(job.rows.tolist()):
        if job.cluster[place] != before:
            search.forget()
            before = int(job.cluster[place])
        known = _Known(row, int(job.group[place]), _set(sets.text, place), _set(sets.completion, place))
        search.add(known, bands[place].tolist())
    return Compared(len(job.rows), search.edges, search.pairs)


def _set(texts: Texts, place: int) -> Hashes:
    return np.unique(texts.words[texts.starts[place] : texts.starts[place + 1]])


class _Known(NamedTuple):
    row: int
    group: int
    text: Hashes
    completion: Hashes


class _Search:
    """Takes the rows of a cluster one by one and compares each with those before it that share a band."""

    def __init__(self, threshold: float, *, remove: bool) -> None:
        self._threshold, self._remove = threshold, remove
        self.edges: list[Edge] = []
        self.pairs = 0
        self.forget()

    def forget(self) -> None:
        """Another cluster begins."""
        self._buckets: dict[int, list[_Known]] = {}
        self._leader: dict[int, int] = {}

    def add(self, new: _Known, bands: Sequence[int]) -> None:
        """Compare the row and remember it, unless it leaves."""
        self._leader[new.row] = new.row
        compared: set[int] = set()
        for band in bands:
            for known in self._buckets.get(band, ()):
                if known.row in compared or self._root(known.row) == self._root(new.row):
                    continue
                if len(compared) == _MOST_COMPARED:
                    break
                compared.add(known.row)
                if self._similar(new, known) and self._remove:
                    return
        for band in bands:
            self._buckets.setdefault(band, []).append(new)

    def _similar(self, new: _Known, known: _Known) -> bool:
        if new.group and new.group == known.group:
            return False
        self.pairs += 1
        similarity = jaccard(new.text, known.text)
        if similarity < self._threshold or jaccard(new.completion, known.completion) < self._threshold:
            return False
        self.edges.append(Edge(new.row, known.row, similarity))
        self._leader[self._root(new.row)] = self._root(known.row)
        return True

    def _root(self, row: int) -> int:
        while self._leader[row] != row:
            row = self._leader[row] = self._leader[self._leader[row]]
        return row


def jaccard(some: Hashes, others: Hashes) -> float:
    """The share of all elements that both sets have; both are ascending, without repetition, and not empty."""
    if len(some) > len(others):
        some, others = others, some
    at = np.searchsorted(others, some)
    shared = int((others[np.minimum(at, len(others) - 1)] == some).sum())
    return shared / (len(some) + len(others) - shared)
