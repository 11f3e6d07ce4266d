"""Rows that share a run of words with an evaluation set (n-gram overlap; Brown et al. 2020, appendix C, takes 13 words)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tailmark.config import Decontaminate, EvaluationSet, Source
from tailmark.errors import DataError
from tailmark.ingest.adapters import read_source
from tailmark.ingest.candidate import Candidate
from tailmark.ingest.words import Hashes, HashSet, Places, Runs, hashed, is_unspaced, ngrams, whole, words

_SHORTEST = 5
"""A text of fewer words, such as `Hello there`, says nothing of where it comes from."""
_BATCH = 2_000


@dataclass(frozen=True)
class Index:
    """The runs of words of all evaluation sets.

    Attributes:
        ngram: words of a run. A text with fewer is contaminated by one that has the same words and no others. Of a text in a script
            without spaces, whose characters count as words, a run has twice as many.
        names: the evaluation sets.
        hashes: the runs, ascending; one that several sets have stands there several times.
        owners: the set each is from.
        texts, runs: of each set, how many texts it has and how many runs they gave.
        too_short: texts of each set with too few words to tell anything.
    """

    ngram: int
    names: tuple[str, ...]
    hashes: Hashes
    owners: Places
    texts: tuple[int, ...] = ()
    runs: tuple[int, ...] = ()
    too_short: tuple[int, ...] = field(default=())

    @cached_property
    def _known_hashes(self) -> HashSet:
        return HashSet(self.hashes)

    def hits(self, texts: Sequence[str]) -> Runs:
        """The runs of the texts that stand in an evaluation set, by text and place."""
        parts = [self._known(runs) for runs in telling_runs(texts, self.ngram)]
        hashes, text, place = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.lexsort((place, text))
        return Runs(hashes[order], text[order], place[order])

    def _known(self, runs: Runs) -> Runs:
        return runs.only(self._known_hashes.has(runs.hashes))

    def owners_of(self, run: np.uint64) -> list[str]:
        """The evaluation sets that have the run."""
        first, last = np.searchsorted(self.hashes, run, "left"), np.searchsorted(self.hashes, run, "right")
        return [self.names[owner] for owner in self.owners[first:last]]


class Hit(NamedTuple):
    """A row's first run that stands in one evaluation set."""

    row: int
    name: str
    ngram: str


def find_hits(index: Index, texts: Sequence[str], row: Places) -> list[Hit]:
    """Of each row and evaluation set the first run they share.

    Args:
        texts: all texts of the rows.
        row: the row each text belongs to.
    """
    found: dict[tuple[int, str], Hit] = {}
    for run, text, place in zip(*index.hits(texts), strict=True):
        for name in index.owners_of(run):
            if (int(row[text]), name) not in found:
                size = run_size(texts[text], index.ngram)
                quoted = " ".join(words(texts[text])[place : place + size])
                found[int(row[text]), name] = Hit(int(row[text]), name, quoted)
    return list(found.values())


def run_size(text: str, ngram: int) -> int:
    """Words in a run of this text: twice as many where characters stand for words."""
    return 2 * ngram if is_unspaced(text) else ngram


def telling_runs(texts: Sequence[str], ngram: int) -> list[Runs]:
    """The runs of the texts; of one that has fewer words than a run, but not too few, all of it is a run."""
    unspaced = np.array([is_unspaced(text) for text in texts], np.bool_)
    found = []
    for size, wanted in ((ngram, ~unspaced), (2 * ngram, unspaced)):
        numbers = np.flatnonzero(wanted)
        some = hashed([texts[number] for number in numbers.tolist()])
        short = whole(some, size)
        telling = some.lengths()[short.text] >= _SHORTEST
        for runs in (ngrams(some, size), short.only(telling)):
            found.append(Runs(runs.hashes, numbers[runs.text], runs.place))
    return found


def read_index(options: Decontaminate, root: Path) -> Index | None:
    """The index of the configured evaluation sets; None where there are none.

    Raises:
        DataError: a set has no text, or its file or field is missing.
    """
    if not options.sets:
        return None
    parts = [_read_set(item, options.ngram, root) for item in options.sets]
    hashes = np.concatenate([part.hashes for part in parts])
    owners = np.repeat(np.arange(len(parts)), [len(part.hashes) for part in parts])
    order = np.argsort(hashes, kind="stable")
    names, texts, too_short = (tuple(getattr(part, name) for part in parts) for name in ("name", "texts", "too_short"))
    runs = tuple(len(part.hashes) for part in parts)
    return Index(options.ngram, names, hashes[order], owners[order], texts, runs, too_short)


class _Set(NamedTuple):
    name: str
    hashes: Hashes
    texts: int
    too_short: int


def _read_set(item: EvaluationSet, ngram: int, root: Path) -> _Set:
    hashes: list[Hashes] = []
    count = too_short = 0
    for batch in _batches(_texts(item, root)):
        hashes += [runs.hashes for runs in telling_runs(batch, ngram)]
        count += len(batch)
        too_short += sum(len(words(text)) < _SHORTEST for text in batch)
    if not count:
        raise DataError(
            f"Evaluation set '{item.name}' has no text.", where=item.path, fix="correct its `path` or `fields` under `ingest.decontaminate`"
        )
    return _Set(item.name, np.unique(np.concatenate(hashes)), count, too_short)


def _texts(item: EvaluationSet, root: Path) -> Iterator[str]:
    """Every text of the set, field after field; rows without the field have none."""
    for name in item.fields:
        source = Source(kind=item.kind, name=item.name, path=item.path, subset=item.subset, split=item.split, prompt=name, completion=name)
        for row in read_source(source, root):
            if isinstance(row, Candidate):
                yield row.completion


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
