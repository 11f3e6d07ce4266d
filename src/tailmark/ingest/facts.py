"""What the split, the subset and the report need to know of each row: a few numbers, so that millions of rows fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailmark.config import Config
from tailmark.files import sha256_bytes
from tailmark.ingest.sampling import unit_hash
from tailmark.ingest.words import Hashes, Places
from tailmark.records import MARKER_METADATA, Record

COUNTED = ("domain", "task", "lang", "code_type", "format", "source")
SOURCE, LICENSE, PACKAGE = "source_name", "license", "package"
GROUP = "group"

Get = Callable[[Record], str]


def group_of(row: Record) -> str:
    """What keeps rows in one split: the source's group key, else the prompt's text."""
    group = row["metadata"].get(GROUP)
    return group or "\n".join(message["content"] for message in row["prompt"])


def group_key(group: str) -> int:
    """The group as a number of 64 bits."""
    return int(sha256_bytes(group.encode("utf-8", "surrogatepass"))[:16], 16)


@dataclass(frozen=True)
class Column:
    """A text of each row: `values[codes[row]]`; empty text where the row has none."""

    values: tuple[str, ...]
    codes: NDArray[np.int32]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Column:
        """The texts, each different one stored once."""
        known: dict[str, int] = {}
        codes = [known.setdefault(text, len(known)) for text in texts]
        return cls(tuple(known), np.array(codes, np.int32))

    @classmethod
    def joined(cls, parts: Sequence[Column]) -> Column:
        """The rows of all parts."""
        known: dict[str, int] = {}
        codes = []
        for part in parts:
            renumbered = np.array([known.setdefault(value, len(known)) for value in part.values], np.int32)
            codes.append(renumbered[part.codes] if len(part.codes) else part.codes)
        return cls(tuple(known), np.concatenate(codes))

    def counts(self, of: NDArray[np.bool_]) -> dict[str, int]:
        """Value to the number of rows among those."""
        found = np.bincount(self.codes[of], minlength=len(self.values))
        return {value: int(count) for value, count in zip(self.values, found, strict=True) if count}


@dataclass(frozen=True)
class Facts:
    """What is known of each row, by id.

    Attributes:
        columns: `source_name`, `license`, `package`, and `marker.<name>` of the markers that are counted, split or sampled by.
        group: `group_key` of the row's group.
        named: whether the source named that group.
        heldout, subset: the group's draws for the split and for the subset, in [0, 1).
        links: pairs of a row and the `group_key` of an equal row that left: what belongs to either stays together.
    """

    columns: dict[str, Column]
    group: Hashes
    named: NDArray[np.bool_]
    heldout: NDArray[np.float64]
    subset: NDArray[np.float64]
    links: tuple[Places, Hashes]

    def __len__(self) -> int:
        return len(self.group)

    def marker(self, name: str) -> Column:
        """The marker's column."""
        return self.columns[MARKER_METADATA + name]


def marker_names(config: Config) -> tuple[str, ...]:
    """The markers that are counted, split or sampled by."""
    return tuple(dict.fromkeys((*COUNTED, config.longtail.marker, *config.ingest.stratify, *config.ingest.only)))


def collect(rows: Sequence[Record], names: Sequence[str], seed: int, links: Sequence[tuple[int, str]]) -> Facts:
    """The facts of some rows.

    Args:
        links: a row's number, and the group of an equal row that left.
    """
    groups = [group_of(row) for row in rows]
    return Facts(
        columns={name: Column.of(map(get, rows)) for name, get in _getters(names).items()},
        group=np.array([group_key(group) for group in groups], np.uint64),
        named=np.array([bool(row["metadata"].get(GROUP)) for row in rows], np.bool_),
        heldout=np.array([unit_hash(seed, "heldout", group) for group in groups]),
        subset=np.array([unit_hash(seed, "subset", group) for group in groups]),
        links=(np.array([row for row, _ in links], np.int64), np.array([group_key(group) for _, group in links], np.uint64)),
    )


def _getters(names: Sequence[str]) -> dict[str, Get]:
    found: dict[str, Get] = {SOURCE: lambda row: str(row[SOURCE]), LICENSE: lambda row: str(row[LICENSE]), PACKAGE: _metadata(PACKAGE)}
    return found | {MARKER_METADATA + name: _metadata(MARKER_METADATA + name) for name in names}


def _metadata(key: str) -> Get:
    return lambda row: row["metadata"].get(key, "")


def joined(parts: Sequence[Facts]) -> Facts:
    """The facts of all parts, in their order."""
    starts = np.cumsum([0, *(len(part) for part in parts)])
    return Facts(
        columns={name: Column.joined([part.columns[name] for part in parts]) for name in parts[0].columns},
        group=np.concatenate([part.group for part in parts]),
        named=np.concatenate([part.named for part in parts]),
        heldout=np.concatenate([part.heldout for part in parts]),
        subset=np.concatenate([part.subset for part in parts]),
        links=(
            np.concatenate([part.links[0] + start for part, start in zip(parts, starts, strict=False)]),
            np.concatenate([part.links[1] for part in parts]),
        ),
    )
