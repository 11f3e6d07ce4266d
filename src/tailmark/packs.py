"""Packed documents on disk: what `prepare` writes and `train` maps into memory (docs/architecture.md, "Packs")."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tailmark.errors import DataError
from tailmark.files import staged_file

PACKS = pa.schema(
    [
        pa.field("step", pa.int32(), nullable=False),
        pa.field("input_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("kinds", pa.list_(pa.int8()), nullable=False),
        pa.field("lengths", pa.list_(pa.int32()), nullable=False),
        pa.field("row_ids", pa.list_(pa.string()), nullable=False),
        pa.field("tail", pa.list_(pa.bool_()), nullable=False),
    ]
)
UNSUPERVISED, MARKERS, ANSWER = 0, 1, 2
"""Values of `kinds`: the prompt; the completion's marker list with its newline; the answer with the end of turn."""

_METADATA = b"tailmark"
_PACKS_PER_BATCH = 256


@dataclass(frozen=True)
class Pack:
    """Documents laid one after the other.

    Attributes:
        step: the optimizer step it belongs to, counted within the epoch.
        input_ids: int32 [tokens].
        kinds: int8 [tokens]: `UNSUPERVISED`, `MARKERS` or `ANSWER`.
        lengths: int32 [documents], tokens of each; their sum is the number of tokens.
        row_ids: one per document.
        tail: bool [documents]: whether the document's value of the long-tail marker is a tail value.
    """

    step: int
    input_ids: np.ndarray[Any, np.dtype[np.int32]]
    kinds: np.ndarray[Any, np.dtype[np.int8]]
    lengths: np.ndarray[Any, np.dtype[np.int32]]
    row_ids: tuple[str, ...]
    tail: np.ndarray[Any, np.dtype[np.bool_]]

    @property
    def supervised(self) -> int:
        """Number of supervised tokens."""
        return int(np.count_nonzero(self.kinds))


def write_packs(path: Path, packs: Iterable[Pack], metadata: dict[str, Any]) -> None:
    """Write packs in order, by rename; `metadata` (JSON) goes into the schema. Same packs, same bytes."""
    text = json.dumps(metadata, sort_keys=True, ensure_ascii=False)
    schema = PACKS.with_metadata({_METADATA: text.encode()})
    with staged_file(path) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        batch: list[Pack] = []
        for pack in packs:
            batch.append(pack)
            if len(batch) == _PACKS_PER_BATCH:
                writer.write_batch(_record_batch(batch, schema))
                batch = []
        if batch:
            writer.write_batch(_record_batch(batch, schema))


def _record_batch(packs: Sequence[Pack], schema: pa.Schema) -> pa.RecordBatch:
    columns = [[getattr(pack, name) for pack in packs] for name in schema.names]
    return pa.record_batch([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)


class PackReader:
    """A memory-mapped pack file: `len`, `reader[i]`, `metadata`, `of_step`. Nothing is copied until it is asked for.

    Raises:
        DataError: the file is missing, corrupt or not a pack file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._table = _map(path)
        try:
            self.metadata: dict[str, Any] = json.loads(self._table.schema.metadata[_METADATA])
        except (KeyError, TypeError, ValueError):
            raise DataError("The file holds no packs of tailmark.", where=str(path), fix=_REMAKE) from None
        steps = self._table.column("step").to_numpy()
        if np.any(np.diff(steps) < 0):
            raise DataError("The packs are not in the order of their steps.", where=str(path), fix=_REMAKE)
        self._steps = steps

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, index: int) -> Pack:
        if not 0 <= index < len(self):
            raise IndexError(index)
        input_ids, kinds, lengths, tail = (self._array(name, index) for name in ("input_ids", "kinds", "lengths", "tail"))
        row_ids = tuple(self._table.column("row_ids")[index].as_py())
        return Pack(int(self._steps[index]), input_ids, kinds, lengths, row_ids, tail)

    def _array(self, name: str, index: int) -> np.ndarray[Any, Any]:
        values = self._table.column(name)[index].values
        array: np.ndarray[Any, Any] = values.to_numpy(zero_copy_only=False)
        return array

    @property
    def steps(self) -> int:
        """Number of steps."""
        return int(self._steps[-1]) + 1 if len(self) else 0

    def of_step(self, step: int) -> range:
        """The indices of the packs of one step (empty for a step that is not there)."""
        first, last = np.searchsorted(self._steps, [step, step + 1])
        return range(int(first), int(last))


_REMAKE = "run `dvc checkout`, or `dvc repro` to make it again"


def _map(path: Path) -> pa.Table:
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except FileNotFoundError:
        raise DataError("A prepared file is missing.", where=str(path), fix=_REMAKE) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"A prepared file is corrupt: {error}", where=str(path), fix=f"remove it and {_REMAKE}") from None
    if not table.schema.equals(PACKS, check_metadata=False):
        raise DataError("A prepared file does not have the expected columns.", where=str(path), fix=_REMAKE)
    return table
