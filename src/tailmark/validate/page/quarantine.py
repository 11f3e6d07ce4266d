"""What left before validation, and why, for the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tailmark.records import Record, read_table

_EXAMPLES = 3
_BATCH = 4_096
_LONGEST, _LONGEST_ROW = 420, 240


def left(stage: str, folder: Path) -> dict[str, Any]:
    """The rows in a stage's quarantine: per reason, the most frequent first, how many and the first of them. Memory holds a batch of rows.

    Raises:
        DataError: the quarantine is corrupt.
    """
    path = folder / "quarantine.parquet"
    reasons = np.array(read_table(path, columns=["reason"])["reason"].to_pylist(), dtype=object)
    places = {reason: np.flatnonzero(reasons == reason) for reason in sorted(set(reasons))}
    rows = _pick(path, [int(place) for found in places.values() for place in found[:_EXAMPLES]])
    ordered = sorted(places.items(), key=lambda item: (-len(item[1]), item[0]))
    told = [
        {"reason": reason, "rows": len(found), "examples": [rows[int(place)] for place in found[:_EXAMPLES]]} for reason, found in ordered
    ]
    return {"stage": stage, "rows": len(reasons), "reasons": told}


def _pick(path: Path, wanted: list[int]) -> dict[int, Record]:
    """Number to row, for the rows wanted."""
    found: dict[int, Record] = {}
    start = 0
    for batch in pq.ParquetFile(path).iter_batches(_BATCH):
        here = sorted(place for place in wanted if start <= place < start + batch.num_rows)
        for place, row in zip(here, batch.take([place - start for place in here]).to_pylist() if here else [], strict=True):
            found[place] = {**row, "row": _shown(row["row"])}
        start += batch.num_rows
    return found


def _shown(text: str) -> str:
    """A quarantined row as a person reads it: prompt and completion where it has them."""
    try:
        row = json.loads(text)
        prompt = " / ".join(message["content"] for message in row["prompt"])
        return cut(f"{prompt} \u2192 {row['completion']}", _LONGEST_ROW)
    except (ValueError, TypeError, KeyError):
        return cut(text, _LONGEST_ROW)


def cut(text: str, most: int = _LONGEST) -> str:
    """At most that many characters."""
    return text if len(text) <= most else text[:most].rstrip() + " \u2026"
