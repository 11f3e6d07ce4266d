"""Which rows broke an expectation: all of them, where Great Expectations' own results stop at 200."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from tailmark.validate.rows import Annotated, column
from tailmark.validate.suite import Expectation

_FIELDS: list[Any] = [
    pa.field("expectation", pa.string(), nullable=False),
    pa.field("severity", pa.string(), nullable=False),
    pa.field("id", pa.string()),
    pa.field("source_name", pa.string()),
    pa.field("shard", pa.string(), nullable=False),
    pa.field("row", pa.int64(), nullable=False),
    pa.field("value", pa.string()),
]
FAILING = pa.schema(_FIELDS)
"""One row for each row that broke an expectation that does not hold. `shard`, `row`: where it stands under the annotated `rows/`, from 0.
`value`: what the row holds, as text; with two columns compared, both."""

Mask = npt.NDArray[np.bool_]


def broken(item: Expectation, frame: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Positions of the rows that break an expectation about rows, ascending; a missing value breaks only one that forbids it."""
    first, *others = (frame[name] for name in item.looks_at)
    bad = _KINDS[item.kind](item.arguments, first, *others)
    for marker, values in item.only_where.items():
        bad &= frame[column("markers", marker)].isin(values).to_numpy()
    return np.flatnonzero(bad)


def looked_at(item: Expectation, frame: pd.DataFrame) -> int:
    """How many rows an expectation has something to say of."""
    considered = np.ones(len(frame), dtype=bool)
    for name in item.looks_at if item.kind != "ExpectColumnValuesToNotBeNull" else ():
        considered &= _present(frame[name])
    for marker, values in item.only_where.items():
        considered &= frame[column("markers", marker)].isin(values).to_numpy()
    return int(considered.sum())


def _present(values: pd.Series[Any]) -> Mask:
    return values.notna().to_numpy()


def _not_in(arguments: dict[str, Any], values: pd.Series[Any]) -> Mask:
    return _present(values) & ~values.isin(arguments["value_set"]).to_numpy()


def _in(arguments: dict[str, Any], values: pd.Series[Any]) -> Mask:
    return _present(values) & values.isin(arguments["value_set"]).to_numpy()


def _outside(arguments: dict[str, Any], values: pd.Series[Any]) -> Mask:
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    low, high = arguments.get("min_value"), arguments.get("max_value")
    below = numbers < (-np.inf if low is None else low)
    return below | (numbers > (np.inf if high is None else high))


def _missing(_: dict[str, Any], values: pd.Series[Any]) -> Mask:
    return ~_present(values)


def _repeated(_: dict[str, Any], values: pd.Series[Any]) -> Mask:
    return _present(values) & values.duplicated(keep=False).to_numpy()


def _unequal(_: dict[str, Any], first: pd.Series[Any], second: pd.Series[Any]) -> Mask:
    return _present(first) & _present(second) & (first != second).fillna(False).to_numpy(dtype=bool)


_KINDS: dict[str, Callable[..., Mask]] = {
    "ExpectColumnValuesToBeInSet": _not_in,
    "ExpectColumnValuesToNotBeInSet": _in,
    "ExpectColumnValuesToBeBetween": _outside,
    "ExpectColumnValuesToNotBeNull": _missing,
    "ExpectColumnValuesToBeUnique": _repeated,
    "ExpectColumnPairValuesToBeEqual": _unequal,
}


def failing_table(item: Expectation, severity: str, positions: npt.NDArray[np.int64], rows: Annotated) -> pa.Table:
    """All rows at `positions` in the schema `FAILING`."""
    part = rows.frame.iloc[positions]
    names, numbers = rows.places(positions)
    texts = [part[name].astype(object).map(_text).tolist() for name in item.looks_at]
    columns: dict[str, Any] = {
        "expectation": pa.repeat(item.name, len(positions)),
        "severity": pa.repeat(severity, len(positions)),
        "id": pa.array(part["id"], pa.string(), from_pandas=True),
        "source_name": pa.array(part["source_name"].astype(object), pa.string(), from_pandas=True),
        "shard": pa.array(names, pa.string()),
        "row": pa.array(numbers, pa.int64()),
        "value": pa.array([" / ".join(values) for values in zip(*texts, strict=True)], pa.string()),
    }
    return pa.table(columns, schema=FAILING)


def _text(value: Any) -> str:
    return "none" if pd.isna(value) else str(value)


def named(positions: npt.NDArray[np.int64], rows: Annotated, most: int = 3) -> list[str]:
    """The first rows, each as a person can find it: `id (source, shard row number)`."""
    first = positions[:most]
    if not len(first):
        return []
    part, (names, numbers) = rows.frame.iloc[first], rows.places(first)
    sources = part["source_name"].astype(object).tolist()
    return [f"{id} ({source}, {shard} row {number})" for id, source, shard, number in zip(part["id"], sources, names, numbers, strict=True)]
