"""Where an English prompt asks for another language: does the model's list name it, and does its answer keep to it?

A list that names the language and an answer that is in another tell apart what the model has understood and what its answer is drawn to.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence

import pyarrow.parquet as pq

from benchmarks.markdown import table

_COLUMNS = ("benchmark", "mode", "score", "row_id", "value", "slices", "written")
_MODES = ("absent", "inferred", "fixed")

Row = Mapping[str, object]
Pair = tuple[Row, Row]
"""Of one prompt the baseline's row and the marked model's."""


def lines(members: Mapping[str, bytes | None]) -> Iterator[str]:
    """The table, without those members whose evaluation did not ask; `members`: their examples.parquet."""
    head = (
        "member",
        "mode",
        "prompts",
        "all lines pass: baseline, marked",
        "of them, where the list names the language",
        "baseline, marked",
    )
    return table(head, ([name, *line] for name, examples in members.items() for line in cells(examples)))


def cells(examples: bytes | None) -> list[list[str]]:
    """A member's lines, one a mode; a prompt counts where the answers of both arms do."""
    if examples is None:
        return []
    asked = [("benchmark", "=", "language_confusion"), ("score", "=", "line")]
    rows = pq.read_table(io.BytesIO(examples), columns=list(_COLUMNS), filters=asked).to_pylist()
    by_mode: dict[str, dict[str, Row]] = {}
    for row in rows:
        if "/crosslingual/" in row["row_id"]:
            by_mode.setdefault(row["mode"], {})[row["row_id"]] = row
    before = by_mode.get("baseline", {})
    pairs = {mode: [(before[name], row) for name, row in by_mode.get(mode, {}).items() if name in before] for mode in _MODES}
    return [_cells(mode, of) for mode, of in pairs.items() if of]


def _cells(mode: str, pairs: Sequence[Pair]) -> list[str]:
    named = [pair for pair in pairs if _language(pair[1]["written"]) == _language(pair[1]["slices"])]
    return [mode, str(len(pairs)), _passed(pairs), str(len(named)), _passed(named)]


def _language(markers: object) -> object:
    return json.loads(str(markers or "{}")).get("lang")


def _passed(pairs: Sequence[Pair]) -> str:
    return ", ".join(f"{100 * sum(pair[arm]['value'] == 1 for pair in pairs) / len(pairs):.0f} %" for arm in (0, 1)) if pairs else ""
