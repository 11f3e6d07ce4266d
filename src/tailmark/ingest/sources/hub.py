"""Rows of Hugging Face data sets, streamed: nothing is downloaded beyond what is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tailmark.config import Source
from tailmark.errors import DataError
from tailmark.ingest.sources.columns import Columns
from tailmark.ingest.sources.locations import reading
from tailmark.ingest.sources.tables import Numbered


def read_hub(source: Source, root: Path, columns: Columns) -> Numbered:
    """Rows of one split of a data set on the hub, or of a folder as `datasets` reads it; numbers count from 1.

    Raises:
        DataError: the data set, its subset, split or a column does not exist, or the hub cannot be reached.
    """
    rows = _stream(source, root)
    if known := rows.column_names:
        # Columns that nobody asked for (images, audio) are then neither fetched nor decoded.
        rows = rows.select_columns(columns.among(known, str(source.path)))
    with reading(str(source.path)):
        yield from enumerate(rows, 1)


def _stream(source: Source, root: Path) -> Any:
    # Half a second; most checkouts have no such source.
    from datasets import load_dataset

    assert source.path is not None
    local = root / source.path
    try:
        return load_dataset(
            str(local) if local.exists() else source.path,
            name=source.subset,
            split=source.split,
            revision=source.revision,
            streaming=True,
        )
    # The library raises ValueError for an unknown subset or split, exceptions of its own and of its HTTP client for the rest.
    except Exception as error:
        raise DataError(
            f"The data set of source '{source.name}' cannot be opened: {' '.join(str(error).split())}",
            where=source.path,
            fix="correct `path`, `subset`, `split` or `revision`; for a closed data set set HF_TOKEN in the environment",
        ) from None


def hub_version(source: Source) -> dict[str, str | int]:
    """What of the data set was asked for."""
    told = {"subset": source.subset, "split": source.split, "revision": source.revision}
    return {name: value for name, value in told.items() if value}
