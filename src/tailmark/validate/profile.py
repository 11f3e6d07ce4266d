"""How the values of every marker are distributed, and how far that is from the last accepted version."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tailmark.errors import DataError
from tailmark.files import read_json
from tailmark.records import HELDOUT, TRAIN
from tailmark.taxonomy import Taxonomy
from tailmark.validate.rows import column

Profile = dict[str, Any]
"""`rows` by split, the taxonomy's digest, and per marker either `values` (value to rows by split) or `edges` and `counts` (rows between
one edge and the next, by split; the lower edge belongs to the bin), and `missing` (rows without a value, by split)."""

SPLITS = (TRAIN, HELDOUT)
_BINS = 10


def make_profile(frame: pd.DataFrame, taxonomy: Taxonomy, accepted: Profile | None = None) -> Profile:
    """The profile of all rows. Numbers are counted in the accepted profile's bins where it has the marker, else in tenths of their own."""
    parts = {split: (frame["split"] == split).to_numpy() for split in SPLITS}
    markers: dict[str, Any] = {}
    for name, spec in sorted(taxonomy.markers.items()):
        values = frame[column("markers", name)]
        if spec.kind == "categorical":
            markers[name] = _categorical(values, parts)
        else:
            known = (accepted or {}).get("markers", {}).get(name, {}).get("edges")
            markers[name] = _number(values.to_numpy(dtype=np.float64, na_value=np.nan), parts, known)
    return {"rows": {split: int(part.sum()) for split, part in parts.items()}, "taxonomy": taxonomy.digest, "markers": markers}


def _categorical(values: pd.Series[Any], parts: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, Any]:
    codes, names = values.cat.codes.to_numpy(), list(values.cat.categories)
    counts = {split: np.bincount(codes[part] + 1, minlength=len(names) + 1).tolist() for split, part in parts.items()}
    found = {name: {split: counts[split][place] for split in SPLITS} for place, name in enumerate(names, start=1)}
    return {
        "values": {name: count for name, count in sorted(found.items()) if any(count.values())},
        "missing": {split: counts[split][0] for split in SPLITS},
    }


def _number(values: npt.NDArray[np.float64], parts: Mapping[str, npt.NDArray[np.bool_]], known: Sequence[float] | None) -> dict[str, Any]:
    present = ~np.isnan(values)
    edges = list(known) if known else _edges(values[present])
    return {
        "edges": edges,
        "counts": {split: _binned(values[part & present], edges) for split, part in parts.items()},
        "missing": {split: int((part & ~present).sum()) for split, part in parts.items()},
    }


def _edges(values: npt.NDArray[np.float64]) -> list[float]:
    """The distinct tenths of the values, without the lowest and the highest: the outer bins are open."""
    if not len(values):
        return []
    return [float(edge) for edge in np.unique(np.quantile(values, np.arange(1, _BINS) / _BINS, method="lower"))]


def _binned(values: npt.NDArray[np.float64], edges: Sequence[float]) -> list[int]:
    return [int(count) for count in np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)]


def read_accepted(path: Path) -> Profile | None:
    """The last accepted profile; None where none was accepted yet.

    Raises:
        DataError: the file is not such a profile.
    """
    if not path.exists():
        return None
    try:
        found = read_json(path)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not {"rows", "taxonomy", "markers"} <= found.keys():
        raise DataError("The accepted profile cannot be read.", where=str(path), fix="`git checkout` it, or remove it")
    return found


def shares(marker: Mapping[str, Any]) -> dict[str, float]:
    """Share of all rows (both splits) by value or bin; rows without a value are one of them."""
    counts = {"none": sum(marker["missing"].values())}
    if "values" in marker:
        counts |= {f"={value}": sum(count.values()) for value, count in marker["values"].items()}
    else:
        counts |= {f"bin {place}": sum(count) for place, count in enumerate(zip(*marker["counts"].values(), strict=True))}
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()} if total else {}


def distances(profile: Profile, accepted: Profile) -> dict[str, float]:
    """Per marker that both have, the Jensen-Shannon distance of their distributions."""
    both = sorted(set(profile["markers"]) & set(accepted["markers"]))
    return {name: distance(shares(profile["markers"][name]), shares(accepted["markers"][name])) for name in both}


def distance(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    """Jensen-Shannon distance to base 2: 0 for equal distributions, 1 for disjoint ones (Endres and Schindelin, 2003).

    Unlike the population stability index it is finite where a value is new or gone; for small shifts an index of 0.1 is a distance of
    about 0.13, one of 0.2 about 0.19.
    """
    total = 0.0
    for name in sorted({*first, *second}):
        p, q = first.get(name, 0.0), second.get(name, 0.0)
        middle = (p + q) / 2
        total += sum(share * math.log2(share / middle) for share in (p, q) if share) / 2
    return round(math.sqrt(max(total, 0.0)), 4)
