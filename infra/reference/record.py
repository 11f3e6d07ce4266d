"""The columns of the files that stages leave, from their schemas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa

from infra.reference.docstrings import SOURCES, attributes, flowing, line, package
from tailmark.evaluate.store import EXAMPLES
from tailmark.packs import PACKS, Pack
from tailmark.records import QUARANTINE, RECORD, annotated_schema
from tailmark.taxonomy import load_taxonomy
from tailmark.validate.failing import FAILING

HEAD = """\
# Records

The columns of the tables that stages write. What else holds between stages is in [architecture](../architecture.md).
"""


class Table(NamedTuple):
    """A schema, where files of it lie, and what says what its columns are."""

    title: str
    path: str
    schema: pa.Schema
    constant: str | None = None
    meanings: Mapping[str, str] = {}


def page() -> str:
    """The page as Markdown."""
    annotated = annotated_schema(load_taxonomy(SOURCES / "tailmark/taxonomy/paper.yaml"))
    tables = [
        Table("Record", "data/ingested/rows/part-*.parquet", RECORD, "records.RECORD"),
        Table("Annotated record", "data/annotated/rows/part-*.parquet", annotated, "records.annotated_schema"),
        Table("Row that left", "data/*/quarantine.parquet", QUARANTINE, "records.QUARANTINE"),
        Table("Row that broke an expectation", "data/validated/failing_rows.parquet", FAILING, "validate.failing.FAILING"),
        Table("Pack", "data/prepared/<arm>/train/epoch-*.arrow, heldout.arrow", PACKS, "packs.Pack", attributes(Pack)),
        Table("Score", "reports/evaluate/examples.parquet", EXAMPLES, "evaluate.store.EXAMPLES"),
    ]
    return "\n".join([HEAD, *(text for table in tables for text in _table(table))])


def _table(table: Table) -> Iterator[str]:
    yield f"## {table.title}\n\n`{table.path}`\n"
    if table.constant:
        yield f"{_docstring(table.constant)}\n"
    yield "| column | type | may be null |" if not table.meanings else "| column | type | meaning |"
    yield "|---|---|---|"
    for field in table.schema:
        last = line(table.meanings[field.name]) if table.meanings else ("yes" if field.nullable else "no")
        yield f"| `{field.name}` | {_type(field.type)} | {last} |"
    yield ""


def _type(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind) and len(kind) > 3:
        return "struct of " + ", ".join(f"`{field.name}: {field.type}`" for field in kind)
    return f"`{kind}`".replace(" not null", "")


def _docstring(path: str) -> str:
    found = package()[path].docstring
    return flowing(found.value.partition("\n\nAttributes:")[0]) if found else ""
