"""Every source read to its end: usable rows go to the spill, the others to quarantine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tailmark.config import Config, Source
from tailmark.console import say
from tailmark.ingest.adapters import read_source, unwatched
from tailmark.ingest.candidate import Candidate, Reject
from tailmark.ingest.spill import Spill
from tailmark.ingest.starter import build
from tailmark.records import TRAIN, Quarantine, Record, record_id

_TOO_LONG = "completion_too_long"
_SAY_EVERY = 100_000


@dataclass
class Intake:
    """What came in: rows that may stay, in `spill`, and those that left.

    Attributes:
        max_chars: characters of the longest completion that may stay.
    """

    spill: Spill
    max_chars: int
    quarantine: Quarantine = field(default_factory=lambda: Quarantine("ingest"))
    rows_in: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, row: Candidate | Reject) -> None:
        """Sort one row of source `name` in."""
        self.rows_in[name] += 1
        if isinstance(row, Reject):
            self.quarantine.add(id="", source_name=name, where=row.where, reason=row.reason, detail=row.detail, row=row.row)
            return
        record = to_record(name, row)
        if len(row.completion) <= self.max_chars:
            self.spill.add(record, row.where)
            return
        detail = f"{len(row.completion):,} characters; ingest.max_completion_chars is {self.max_chars:,}"
        text = json.dumps(record, ensure_ascii=False, sort_keys=True)
        self.quarantine.add(id=record["id"], source_name=name, where=row.where, reason=_TOO_LONG, detail=detail, row=text)


def to_record(name: str, row: Candidate) -> Record:
    """A candidate in the schema `RECORD`; every row starts in the training split."""
    prompt = [{"role": role, "content": content} for role, content in row.prompt]
    return {
        "id": record_id(prompt, row.completion),
        "prompt": prompt,
        "completion": row.completion,
        "source_name": name,
        "license": row.license,
        "split": TRAIN,
        "metadata": dict(sorted(row.metadata.items())),
    }


def source_name(source: Source) -> str:
    """What the source is called in rows and reports."""
    return source.name or source.kind


def take_in(config: Config, root: Path, folder: Path) -> Intake:
    """Read every source of the config.

    Args:
        folder: where rows wait to be sorted.

    Raises:
        DataError: a source, a file, a column or a package of the starter corpus is missing.
    """
    intake = Intake(Spill(folder), config.ingest.max_completion_chars)
    for source in config.ingest.sources:
        name = source_name(source)
        say(f"ingest: reading source '{name}' ({source.kind})")
        if warning := unwatched(source, root):
            say(f"  {warning}")
        intake.rows_in[name] += 0
        for row in _rows(source, root):
            intake.add(name, row)
            if intake.rows_in[name] % _SAY_EVERY == 0:
                say(f"  {intake.rows_in[name]:,} rows read")
    return intake


def _rows(source: Source, root: Path) -> Iterator[Candidate | Reject]:
    return build() if source.kind == "starter" else read_source(source, root)
