"""Sources in, canonical records out: `data/ingested`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tailmark.config import Config, Source
from tailmark.console import say
from tailmark.errors import DataError
from tailmark.files import staged_folder, write_json
from tailmark.ingest.adapters import read_source
from tailmark.ingest.candidate import Candidate, Reject
from tailmark.ingest.split import counts, split, subset
from tailmark.ingest.starter import build, versions
from tailmark.layout import Layout
from tailmark.provenance import record_start
from tailmark.records import RECORD, TRAIN, Quarantine, Record, RowIdentity, record_id, write_shards

_COUNTED = ("domain", "task", "lang", "code_type", "format", "source")
_TOO_LONG = "completion_too_long"
_DUPLICATE = "duplicate"
_SAY_EVERY = 50_000


@dataclass
class Intake:
    """What came in: rows that may stay, rows that left, and how many each source had."""

    kept: dict[str, Record] = field(default_factory=dict)
    quarantine: Quarantine = field(default_factory=lambda: Quarantine("ingest"))
    rows_in: Counter[str] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, row: Candidate | Reject, max_chars: int) -> None:
        """Sort one row of source `name` in."""
        self.rows_in[name] += 1
        if isinstance(row, Reject):
            self.quarantine.add(id="", source_name=name, where=row.where, reason=row.reason, detail=row.detail, row=row.row)
            return
        record = to_record(name, row)
        if len(row.completion) > max_chars:
            self._out(record, row.where, _TOO_LONG, f"{len(row.completion):,} characters; ingest.max_completion_chars is {max_chars:,}")
        elif record["id"] in self.kept:
            self.duplicates[name] += 1
            self._out(record, row.where, _DUPLICATE, f"the same prompt and completion as a row of {self.kept[record['id']]['source_name']}")
        else:
            self.kept[record["id"]] = record

    def _out(self, record: Record, where: str, reason: str, detail: str) -> None:
        text = json.dumps(record, ensure_ascii=False, sort_keys=True)
        self.quarantine.add(id=record["id"], source_name=record["source_name"], where=where, reason=reason, detail=detail, row=text)

    def identities(self, chosen: list[Record]) -> dict[str, RowIdentity]:
        """The row identity of each source, checked."""
        kept = Counter(row["source_name"] for row in chosen)
        whole = Counter(row["source_name"] for row in self.kept.values())
        left = Counter(row["source_name"] for row in self.quarantine.rows if row["reason"] != _DUPLICATE)
        found = {
            name: RowIdentity(
                rows_in=self.rows_in[name],
                kept=kept[name],
                duplicates=self.duplicates[name],
                quarantined=left[name],
                not_sampled=whole[name] - kept[name],
            )
            for name in self.rows_in
        }
        for name, identity in found.items():
            identity.check(f"source {name}")
        return found


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


def run(config: Config, layout: Layout) -> None:
    """Read every source of `config.ingest`, write `rows/`, `quarantine.parquet` and `report.json` under `layout.ingested`.

    Raises:
        DataError: a source, a file, a column or a package of the starter corpus is missing, or no row is left.
    """
    record_start("ingest", config, layout)
    intake = _take_in(config, layout.root)
    rows = [intake.kept[id] for id in sorted(intake.kept)]
    if not rows:
        raise DataError(
            f"No row is left after ingestion; reasons: {intake.quarantine.counts() or 'the sources are empty'}.",
            where="ingest.sources",
            fix="correct the column names or the files of the sources in params.yaml",
        )
    split(rows, config.ingest.heldout_fraction, config.longtail.marker, config.seed)
    chosen = sorted(subset(rows, config), key=lambda row: str(row["id"]))
    if not chosen:
        raise DataError(
            "No row has the markers that `ingest.only` asks for.", where="params.yaml: ingest.only", fix="widen it, or leave it empty"
        )
    identities = intake.identities(chosen)
    with staged_folder(layout.ingested) as folder:
        (folder / "rows").mkdir()
        write_shards(folder / "rows", chosen, RECORD)
        intake.quarantine.write(folder / "quarantine.parquet")
        write_json(folder / "report.json", _report(config, chosen, intake, identities))
    _tell(chosen, identities, config.longtail.marker)


def _take_in(config: Config, root: Path) -> Intake:
    intake = Intake()
    for source in config.ingest.sources:
        name = source.name or source.kind
        say(f"ingest: reading source '{name}' ({source.kind})")
        if source.path is not None and not (root / source.path).resolve().is_relative_to(root.resolve() / "sources"):
            say("  DVC does not see this file change: it watches the folder sources/")
        intake.rows_in[name] += 0
        for row in _rows(source, root):
            intake.add(name, row, config.ingest.max_completion_chars)
            if intake.rows_in[name] % _SAY_EVERY == 0:
                say(f"  {intake.rows_in[name]:,} rows read")
    return intake


def _rows(source: Source, root: Path) -> Iterator[Candidate | Reject]:
    return build() if source.kind == "starter" else read_source(source, root)


def _report(config: Config, rows: list[Record], intake: Intake, identities: dict[str, RowIdentity]) -> dict[str, Any]:
    names = dict.fromkeys((*_COUNTED, config.longtail.marker, *config.ingest.stratify))
    return {
        "identity": asdict(_sum(identities)),
        "sources": {name: asdict(identity) for name, identity in identities.items()},
        "quarantine": intake.quarantine.counts(),
        "splits": dict(Counter(row["split"] for row in rows)),
        "markers": counts(rows, tuple(names)),
        "licenses": dict(Counter(row["license"] for row in rows)),
        "packages": _packages(config, rows),
    }


def _packages(config: Config, rows: list[Record]) -> dict[str, dict[str, str | int]]:
    """The packages of the starter corpus, where it is a source: version, licence, and rows made from each."""
    if all(source.kind != "starter" for source in config.ingest.sources):
        return {}
    made = Counter(row["metadata"].get("package") for row in rows)
    return {name: {**told, "rows": made[name]} for name, told in versions().items()}


def _sum(identities: dict[str, RowIdentity]) -> RowIdentity:
    names = list(RowIdentity.__dataclass_fields__)
    return RowIdentity(**{name: sum(getattr(identity, name) for identity in identities.values()) for name in names})


def _tell(rows: list[Record], identities: dict[str, RowIdentity], marker: str) -> None:
    for name, identity in identities.items():
        say(f"  {name}: {identity}")
    for value, cell in sorted(counts(rows, (marker,))[marker].items(), key=lambda item: -sum(item[1].values())):
        say(f"    {value:<15} {sum(cell.values()):>6,} rows ({sum(cell.values()) / len(rows):5.1%}), {cell['heldout']:,} held out")
    whole = _sum(identities)
    whole.check("ingest")
    say(f"ingest: {whole}")
