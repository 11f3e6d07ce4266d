"""Where an English prompt asks for another language: does the model's list name it, and does its answer keep to it?

A list that names the language and an answer that is in another tell apart what the model has understood and what its answer is drawn to.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping

import pyarrow.parquet as pq

_COLUMNS = ("benchmark", "mode", "score", "row_id", "value", "slices", "written")
_MODES = ("baseline", "absent", "inferred", "fixed")


def lines(members: Mapping[str, bytes | None]) -> Iterator[str]:
    """The table, without those members whose evaluation did not ask; `members`: their examples.parquet."""
    yield "| member | mode | prompts | answers whose lines all pass | lists that name the language | answers after these that pass |"
    yield "|---" * 6 + "|"
    for name, examples in members.items():
        yield from (f"| {name} | {line} |" for line in cells(examples))


def cells(examples: bytes | None) -> list[str]:
    """A member's lines, one a mode."""
    if examples is None:
        return []
    asked = [("benchmark", "=", "language_confusion"), ("score", "=", "line")]
    rows = pq.read_table(io.BytesIO(examples), columns=list(_COLUMNS), filters=asked).to_pylist()
    crossed = [row for row in rows if "/crosslingual/" in row["row_id"]]
    by_mode = {mode: [row for row in crossed if row["mode"] == mode] for mode in _MODES}
    return [_cells(mode, of) for mode, of in by_mode.items() if of]


def _cells(mode: str, rows: list[dict[str, object]]) -> str:
    named = [row for row in rows if _language(row["written"]) == _language(row["slices"])]
    shown = f"{len(named)} | {_passed(named)}" if mode in {"inferred", "fixed"} else " | "
    return f"{mode} | {len(rows)} | {_passed(rows)} | {shown}"


def _language(markers: object) -> object:
    return json.loads(str(markers or "{}")).get("lang")


def _passed(rows: list[dict[str, object]]) -> str:
    passed = sum(row["value"] == 1 for row in rows)
    return f"{passed} ({100 * passed / len(rows):.0f} %)" if rows else "0"
