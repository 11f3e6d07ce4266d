"""One job of rows with the same head of their ids: sorted, without duplicates and contaminated rows, with what is known of the others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tailmark.ingest.decontaminate import Hit, Index, find_hits
from tailmark.ingest.facts import Facts, collect, group_of
from tailmark.ingest.spill import Spilled, in_order
from tailmark.ingest.store import to_stream
from tailmark.records import Record

DUPLICATE, CONTAMINATED, NEAR_DUPLICATE = "duplicate", "contaminated", "near_duplicate"


class Left(NamedTuple):
    """A row that leaves, as the quarantine takes it."""

    id: str
    source_name: str
    where: str
    reason: str
    detail: str
    row: str


@dataclass(frozen=True)
class Settled:
    """What became of a job's rows.

    Attributes:
        rows: those that stay, as an Arrow stream of schema `STORED`, by id.
        facts: of the same rows.
        left: duplicates and contaminated rows.
        hits: what the contaminated rows share with evaluation sets; `row` is the number in `left`.
    """

    rows: bytes
    facts: Facts
    left: list[Left]
    hits: list[Hit]


@dataclass(frozen=True)
class Work:
    """What every worker needs: the seed, the markers whose values are counted, and what to look for."""

    seed: int
    markers: tuple[str, ...]
    index: Index | None


_work: Work | None = None


def prepare_worker(work: Work) -> None:
    """Give this process its `Work`."""
    global _work
    _work = work


def settle(lines: bytes) -> Settled:
    """Sort one job out. Called in a worker that `prepare_worker` was called in."""
    assert _work is not None, "the pool was made without its initializer"
    rows, left, links = _distinct(lines)
    hits = _hits(_work.index, [row.record for row in rows]) if _work.index else []
    out: dict[int, list[Hit]] = {}
    for hit in sorted(hits):
        out.setdefault(hit.row, []).append(hit)
    numbers = {row: len(left) + place for place, row in enumerate(out)}
    left += [_contaminated(rows[row], shared) for row, shared in out.items()]
    stay = [row for row in range(len(rows)) if row not in out]
    place = {row: new for new, row in enumerate(stay)}
    records = [rows[row].record for row in stay]
    kept_links = [(place[row], group) for row, group in links if row in place]
    return Settled(
        rows=to_stream([(rows[row].record, rows[row].where) for row in stay]),
        facts=collect(records, _work.markers, _work.seed, kept_links),
        left=left,
        hits=[hit._replace(row=numbers[hit.row]) for hit in hits],
    )


def _distinct(lines: bytes) -> tuple[list[Spilled], list[Left], list[tuple[int, str]]]:
    """The first row of each id, the others, and (place, group) of the others whose group is not the first one's."""
    rows: list[Spilled] = []
    left: list[Left] = []
    links: list[tuple[int, str]] = []
    for row in in_order(lines):
        if not rows or rows[-1].id != row.id:
            rows.append(row)
            continue
        first = rows[-1].record
        detail = f"the same prompt and completion as a row of {first['source_name']}"
        left.append(leaving(row.record, row.where, DUPLICATE, detail))
        if group_of(row.record) != group_of(first):
            links.append((len(rows) - 1, group_of(row.record)))
    return rows, left, links


def leaving(record: Record, where: str, reason: str, detail: str) -> Left:
    """A record that leaves."""
    text = json.dumps(record, ensure_ascii=False, sort_keys=True)
    return Left(record["id"], record["source_name"], where, reason, detail, text)


def _contaminated(row: Spilled, hits: Sequence[Hit]) -> Left:
    shared = "; ".join(f"{hit.name}: {hit.ngram}" for hit in hits)
    return leaving(row.record, row.where, CONTAMINATED, f"shares a run of words with an evaluation set: {shared}")


def _hits(index: Index, records: Sequence[Record]) -> list[Hit]:
    """What the rows' messages and completions share with evaluation sets."""
    said = [[*(message["content"] for message in record["prompt"]), record["completion"]] for record in records]
    flat = [text for texts in said for text in texts]
    return find_hits(index, flat, np.repeat(np.arange(len(said)), [len(texts) for texts in said]))
