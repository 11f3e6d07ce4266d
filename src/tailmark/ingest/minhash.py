"""MinHash signatures cut into bands (Broder 1997; Leskovec et al., Mining of Massive Datasets, 3.4): candidates for near-duplicates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from tailmark.config import NearDuplicates
from tailmark.engine import Run
from tailmark.ingest.store import read_stream
from tailmark.ingest.words import Hashes, HashSet, Texts, hashed, shingles, without
from tailmark.records import Record

Bands = NDArray[np.uint32]
Counts = NDArray[np.int32]

_SEED = 17
_RECALL = 0.95
"""Share of the pairs exactly at the threshold that the bands find; more of those above it."""
_SAMPLE_ROWS = 50_000
"""Rows in which common runs are counted: the first by id, which is a hash, so they are a sample of all."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class Sets(NamedTuple):
    """What is compared of each row: the runs of words of its turns but the system's, and those of its completion."""

    text: Texts
    completion: Texts

    @classmethod
    def of(cls, records: Sequence[Record], options: NearDuplicates, common: HashSet) -> Sets:
        """The runs of each row, without those in `common`."""
        parts = ([near_text(record) for record in records], [record["completion"] for record in records])
        return cls(*(without(shingles(hashed(texts), options.shingle), common) for texts in parts))


def near_text(record: Record) -> str:
    """All turns but the system's, which many rows share."""
    turns = [message["content"] for message in record["prompt"] if message["role"] != "system"]
    return "\n".join([*turns, record["completion"]])


@cache
def banding(threshold: float, permutations: int) -> tuple[int, int]:
    """Bands, and rows in each: the longest bands (fewest false candidates) that still find 95 % of the pairs at the threshold."""
    for rows in range(permutations, 0, -1):
        bands = permutations // rows
        if 1 - (1 - threshold**rows) ** bands >= _RECALL:
            return bands, rows
    return permutations, 1


class Job(NamedTuple):
    """Stored rows (an Arrow stream) to make signatures of."""

    rows: bytes
    options: NearDuplicates
    common: Hashes


def common_runs(jobs: Iterable[bytes], rows: int, options: NearDuplicates, run: Run) -> Hashes:
    """The runs that more than `options.common` of the rows have, judged by a sample.

    Args:
        jobs: the stored rows, by id.
        rows: how many there are.
    """
    if rows <= options.common or not options.common:
        return np.zeros(0, np.uint64)
    sampled = 0
    hashes: list[Hashes] = []
    counts: list[Counts] = []
    for some, count, number in run(_count, ((job, options) for job in jobs)):
        hashes.append(some)
        counts.append(count)
        sampled += number
        if sampled >= _SAMPLE_ROWS:
            break
    found, total = _summed(np.concatenate(hashes), np.concatenate(counts))
    return found[total > max(math.ceil(options.common * sampled / rows), 2)]


def _summed(hashes: Hashes, counts: Counts) -> tuple[Hashes, Counts]:
    """Each hash once, ascending, with the sum of its counts."""
    order = np.argsort(hashes)
    hashes, counts = hashes[order], counts[order]
    first = np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1]))
    return hashes[first], np.add.reduceat(counts, first)


def _count(job: tuple[bytes, NearDuplicates]) -> tuple[Hashes, Counts, int]:
    """The runs of a job's rows, how many of its rows have each, and how many rows it has. Called in a worker."""
    records = [record for record, _ in read_stream(job[0])]
    texts = shingles(hashed([near_text(record) for record in records]), job[1].shingle)
    owner = np.repeat(np.arange(len(records)), texts.lengths())
    order = np.lexsort((owner, texts.words))
    hashes, owners = texts.words[order], owner[order]
    first = np.append(True, (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1]))
    found, counts = np.unique(hashes[first], return_counts=True)
    return found, counts.astype(np.int32), len(records)


def signature_bands(jobs: Iterable[bytes], options: NearDuplicates, common: Hashes, run: Run) -> Iterable[Bands]:
    """A hash of each band of each row's signature, shape (rows, bands), job after job."""
    return run(_signatures, (Job(job, options, common) for job in jobs))


def _signatures(job: Job) -> Bands:
    """Called in a worker."""
    return bands_of(Sets.of([record for record, _ in read_stream(job.rows)], job.options, HashSet(job.common)).text, job.options)


def bands_of(texts: Texts, options: NearDuplicates) -> Bands:
    """A hash of each band of each text's signature, shape (texts, bands)."""
    bands, rows = banding(options.threshold, options.permutations)
    count = len(texts.starts) - 1
    if not count:
        return np.zeros((0, bands), np.uint32)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(texts.words, texts.starts.astype(np.uint64), options.permutations, _SEED)
    signature = np.array(matrix.to_rows(), np.uint64)[:, : bands * rows].reshape(count, bands, rows)
    found = np.zeros((count, bands), np.uint64)
    for row in range(rows):
        found = (found + signature[:, :, row]) * _MULTIPLIER
        found ^= found >> np.uint64(29)
    return (found >> np.uint64(32)).astype(np.uint32)
