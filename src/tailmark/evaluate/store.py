"""`examples.parquet`: every score of every example, with all that metrics, plots and report are made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tailmark.errors import DataError
from tailmark.evaluate.sample import Row
from tailmark.evaluate.scores import Measure, Score
from tailmark.files import sha256_json
from tailmark.records import write_table
from tailmark.taxonomy import MarkerList

DIGITS = 6
"""Decimals of a score: below, machines differ."""

_METADATA = b"tailmark"

_FIELDS: list[pa.Field[Any]] = [
    pa.field("benchmark", pa.string(), nullable=False),
    pa.field("mode", pa.string(), nullable=False),
    pa.field("arm", pa.string(), nullable=False),
    pa.field("score", pa.string(), nullable=False),
    pa.field("row_id", pa.string(), nullable=False),
    pa.field("group", pa.string(), nullable=False),
    pa.field("value", pa.float64(), nullable=False),
    pa.field("tail", pa.bool_(), nullable=False),
    pa.field("slices", pa.string(), nullable=False),
    pa.field("markers", pa.string(), nullable=False),
    pa.field("prompt", pa.string(), nullable=False),
    pa.field("reference", pa.string(), nullable=False),
    pa.field("answer", pa.string()),
    pa.field("given", pa.string(), nullable=False),
    pa.field("written", pa.string(), nullable=False),
]
EXAMPLES = pa.schema(_FIELDS)
"""One row a score; docs/evaluation.md says what each column holds. `slices`, `markers`, `given` and `written` are JSON objects."""


@dataclass(frozen=True)
class Facts:
    """What figures need beside the scores; it stands in the file's metadata.

    Attributes:
        profile: of the run that was scored.
        trained: per categorical marker, training rows by value; `train_rows` in all.
        tail: the tail values of the long-tail marker.
        heldout, heldout_tail: held-out rows there were to draw from.
        measures: what the benchmarks that options name compare; `benchmarks`: what those were, by name.
        provenance: (name, value) pairs: data, models, taxonomy, versions.
    """

    profile: str
    trained: Mapping[str, Mapping[str, int]]
    tail: tuple[str, ...]
    train_rows: int
    heldout: int
    heldout_tail: int
    measures: tuple[Measure, ...] = ()
    benchmarks: Mapping[str, Any] = field(default_factory=dict)
    provenance: tuple[tuple[str, str], ...] = ()


def write_scores(path: Path, scores: Sequence[Score], facts: Facts) -> None:
    """Write all scores in a fixed order."""
    ordered = sorted(scores, key=lambda item: (item.benchmark, item.score, item.row.id, item.mode))
    metadata = {_METADATA: _json(asdict(facts)).encode()}
    write_table(path, pa.Table.from_pylist([_example(item) for item in ordered], schema=EXAMPLES.with_metadata(metadata)))


def read_scores(path: Path) -> tuple[list[Score], Facts]:
    """What `write_scores` wrote: the scores in its order, with groups as hashes and prompts as single messages.

    Raises:
        DataError: there is no such file, or it is none of this version's.
    """
    fix = "run `dvc repro evaluate`, or `dvc pull` to fetch a result"
    if not path.is_file():
        raise DataError("There are no scores to report.", where=str(path), fix=fix)
    table = pq.read_table(path)
    if not table.schema.equals(EXAMPLES, check_metadata=False) or _METADATA not in (table.schema.metadata or {}):
        raise DataError("The scores were written by another version.", where=str(path), fix=fix)
    content = json.loads(table.schema.metadata[_METADATA])
    content["measures"] = tuple(Measure(**item) for item in content["measures"])
    content["tail"] = tuple(content["tail"])
    content["provenance"] = tuple((name, value) for name, value in content["provenance"])
    rows: dict[tuple[str, str], Row] = {}
    return [_score(example, rows) for example in table.to_pylist()], Facts(**content)


def _example(score: Score) -> dict[str, object]:
    row = score.row
    return {
        "benchmark": score.benchmark,
        "mode": score.mode,
        "arm": score.arm,
        "score": score.score,
        "row_id": row.id,
        "group": sha256_json(row.group)[:16],
        "value": round(score.value, DIGITS),
        "tail": row.tail,
        "slices": _json(dict(row.labels)),
        "markers": _json(dict(row.markers)),
        "prompt": score.prompt or row.question,
        "reference": row.completion,
        "answer": score.answer,
        "given": _json(dict(score.given)),
        "written": _json(dict(score.written)),
    }


def _score(example: Mapping[str, Any], rows: dict[tuple[str, str], Row]) -> Score:
    key = example["benchmark"], example["row_id"]
    if key not in rows:
        rows[key] = _row(example)
    fields = ("benchmark", "mode", "score", "value", "prompt", "answer")
    lists = {name: json.loads(example[name]) for name in ("given", "written")}
    return Score(row=rows[key], **{name: example[name] for name in fields}, **lists)


def _row(example: Mapping[str, Any]) -> Row:
    return Row(
        id=example["row_id"],
        messages=({"role": "user", "content": example["prompt"]},),
        completion=example["reference"],
        markers=MarkerList(json.loads(example["markers"])),
        labels=json.loads(example["slices"]),
        tail=example["tail"],
        group=example["group"],
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
