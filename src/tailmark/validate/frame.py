"""The annotated rows as one flat pandas frame, with the columns that expectations compare them to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tailmark.longtail import tail_values, value_counts
from tailmark.measure.lengths import length_bucket, measure_lengths
from tailmark.records import HELDOUT, TRAIN, annotated_schema, read_shards
from tailmark.taxonomy import Taxonomy

PLAIN = ("id", "source_name", "license", "split")
LENGTHS = ("length_tokens", "length_sentences", "length_paragraphs")


def column(part: str, name: str) -> str:
    """The frame's column of a marker: `markers.lang`, `origin.lang`, `confidence.lang`, `remeasured.length_tokens`, ..."""
    return f"{part}.{name}"


def columns(taxonomy: Taxonomy) -> list[str]:
    """The columns `load` gives, before any is derived."""
    parts = ("markers", "origin", "confidence")
    return [*PLAIN, "last_role", "completion_chars", *(column(part, name) for part in parts for name in sorted(taxonomy.markers))]


def load(rows: Path, taxonomy: Taxonomy) -> pd.DataFrame:
    """All annotated rows without their texts: one column a marker, origin and confidence.

    `last_role`: of the prompt's last message (none: an empty prompt). `completion_chars`: without blanks at its ends.

    Raises:
        DataError: a shard is missing, corrupt, or written with another taxonomy.
    """
    tables = [_flat(table, taxonomy) for table in read_shards(rows, annotated_schema(taxonomy))]
    frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    return frame


def _flat(table: pa.Table, taxonomy: Taxonomy) -> pa.Table:
    found: dict[str, Any] = {name: table[name] for name in PLAIN}
    found["last_role"] = pa.array([messages[-1]["role"] if messages else None for messages in table["prompt"].to_pylist()], pa.string())
    found["completion_chars"] = pc.utf8_length(pc.utf8_trim_whitespace(table["completion"]))
    for part in ("markers", "origin", "confidence"):
        found |= {column(part, name): pc.struct_field(table[part], name) for name in sorted(taxonomy.markers)}
    return pa.table(found)


def measures_lengths(taxonomy: Taxonomy) -> tuple[str, ...]:
    """The length markers that the taxonomy has as whole numbers."""
    return tuple(name for name in LENGTHS if name in taxonomy.markers and taxonomy.markers[name].kind == "integer")


def has_buckets(taxonomy: Taxonomy) -> bool:
    """Whether the taxonomy has both `length_tokens` and a `length_bucket` with the paper's values."""
    bucket = taxonomy.markers.get("length_bucket")
    return "length_tokens" in measures_lengths(taxonomy) and bucket is not None and {"concise", "medium", "long"} <= set(bucket.values)


def add_bucket(frame: pd.DataFrame) -> None:
    """`expected.length_bucket`: the bucket that `length_tokens` falls into."""
    tokens = frame[column("markers", "length_tokens")]
    frame[column("expected", "length_bucket")] = [None if pd.isna(count) else length_bucket(int(count)) for count in tokens]


def add_tail(frame: pd.DataFrame, marker: str, threshold: float) -> None:
    """`tail_heldout.<marker>`: for rows whose value is in the tail of the training rows, the value's number of held-out rows."""
    values = pd.Series([None if pd.isna(value) else str(value) for value in frame[column("markers", marker)]], dtype=object)
    tail = tail_values(values[(frame["split"] == TRAIN).to_numpy()], threshold)
    heldout = value_counts(values[(frame["split"] == HELDOUT).to_numpy()])
    counts = {value: heldout.get(value, 0) for value in tail}
    frame[column("tail_heldout", marker)] = pd.array([counts.get(value) for value in values], dtype="Int64")


def add_remeasured(frame: pd.DataFrame, rows: Path, names: Sequence[str], most: int) -> None:
    """`remeasured.<length>`: the lengths of at most `most` rows, evenly spread over the ids, measured again; none for the others."""
    sample = np.unique(np.linspace(0, len(frame) - 1, num=min(most, len(frame)), dtype=int))
    chosen = set(np.argsort(frame["id"].to_numpy(), kind="stable")[sample].tolist())
    found: list[tuple[int, int, int] | None] = []
    for table in read_shards(rows):
        start = len(found)
        langs = pc.struct_field(table["markers"], "lang").to_pylist() if _has(table, "lang") else [None] * table.num_rows
        for number, (completion, lang) in enumerate(zip(table["completion"], langs, strict=True)):
            found.append(measure_lengths(completion.as_py(), lang) if start + number in chosen else None)
    for name in names:
        place = LENGTHS.index(name)
        frame[column("remeasured", name)] = pd.array([lengths[place] if lengths else None for lengths in found], dtype="Int64")


def _has(table: pa.Table, marker: str) -> bool:
    return any(field.name == marker for field in table.schema.field("markers").type)
