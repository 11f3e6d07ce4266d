"""What `annotate` reports: per marker its values, their origins, and on how many rows it stands."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from tailmark.records import RowIdentity, read_table
from tailmark.taxonomy import MarkerValue, Taxonomy

Dropped = Counter[tuple[str, str, str]]


def most_dropped(dropped: Dropped, most: int = 50) -> list[tuple[tuple[str, str, str], int]]:
    """The values that were dropped on most rows, at most `most`; the others of a marker come together under the value `(others)`."""
    ordered = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    others = Dropped()
    for (marker, _, reason), rows in ordered[most:]:
        others[marker, "(others)", reason] += rows
    return ordered[:most] + sorted(others.items())


def _count(counter: Counter[Any], column: Any, rounded: bool = False) -> None:
    """Add a column's values. Reals are rounded to four digits after the point, so that memory does not grow with the rows."""
    for item in pc.value_counts(pc.round(column, 4) if rounded else column).to_pylist():
        if item["values"] is not None:
            counter[item["values"]] += item["counts"]


class MarkerCounts:
    """Counts the markers of annotated shards."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._taxonomy = taxonomy
        self.rows = 0
        self._values: dict[str, Counter[MarkerValue]] = {name: Counter() for name in sorted(taxonomy.markers)}
        self._origins: dict[str, Counter[str]] = {name: Counter() for name in self._values}

    def add(self, shard: Path) -> None:
        """Count one shard."""
        table = read_table(shard, columns=["markers", "origin"])
        self.rows += table.num_rows
        for name, values in self._values.items():
            _count(values, pc.struct_field(table["markers"], name), rounded=self._taxonomy.markers[name].kind == "real")
            _count(self._origins[name], pc.struct_field(table["origin"], name))

    def report(self, identity: RowIdentity, quarantined: dict[str, int], dropped: Dropped) -> dict[str, Any]:
        """The content of `report.json`."""
        return {
            "rows": {"in": identity.rows_in, "kept": identity.kept, "quarantined": identity.quarantined},
            "quarantined": quarantined,
            "taxonomy": {"name": self._taxonomy.name, "version": self._taxonomy.version, "digest": self._taxonomy.digest},
            "markers": {name: self._marker(name) for name in self._values},
            "dropped": [
                {"marker": marker, "value": value, "reason": reason, "rows": rows}
                for (marker, value, reason), rows in most_dropped(dropped)
            ],
        }

    def _marker(self, name: str) -> dict[str, Any]:
        values, origins = self._values[name], self._origins[name]
        filled = values.total()
        return {
            "rows": filled,
            "completeness": round(filled / self.rows, 4) if self.rows else 0.0,
            "origins": {origin: round(count / filled, 4) for origin, count in sorted(origins.items())},
            "values" if self._taxonomy.markers[name].kind == "categorical" else "spread": self._summary(name, values),
        }

    def _summary(self, name: str, values: Counter[MarkerValue]) -> dict[str, Any]:
        spec = self._taxonomy.markers[name]
        if spec.kind == "categorical":
            return {value: values[value] for value in spec.values}
        ordered = sorted((value, rows) for value, rows in values.items() if not isinstance(value, str))
        if not ordered:
            return {}
        upto = list(accumulate(rows for _, rows in ordered))
        at = {"minimum": 0.0, "p10": 0.1, "median": 0.5, "p90": 0.9, "maximum": 1.0}
        return {label: ordered[bisect_right(upto, round(share * (upto[-1] - 1)))][0] for label, share in at.items()}

    def table(self) -> list[str]:
        """Lines for the console: each marker with its completeness, its origins and its most frequent values."""
        return [self._line(name) for name in self._values]

    def _line(self, name: str) -> str:
        marker = self._marker(name)
        origins = ", ".join(f"{origin} {share:.0%}" for origin, share in marker["origins"].items())
        if "values" in marker:
            top = sorted(((count, value) for value, count in marker["values"].items() if count), key=lambda item: (-item[0], item[1]))
            shown = ", ".join(f"{value} {count:,}" for count, value in top[:4]) + (f", {len(top) - 4} more" if len(top) > 4 else "")
        else:
            shown = ", ".join(f"{label} {value:g}" for label, value in marker["spread"].items())
        return f"  {name:<18} {marker['completeness']:>6.1%}  {origins or 'no row has it':<30} {shown}".rstrip()


def told(report: Mapping[str, Any]) -> str:
    """A line of what a classifier's report holds, e.g. for the console."""
    parts = []
    for name, what in (("heldout", "held-out rows"), ("new_prompts", "rows with new prompts")):
        if (measured := report[name])["rows"]:
            sure = measured["accuracy_answered"]
            right = f", {sure:.1%} of them right" if sure is not None else ""
            parts.append(f"of {measured['rows']:,} {what} {measured['coverage']:.0%} answered{right}")
    return "; ".join(parts) or "no labelled row is left to measure it on"
