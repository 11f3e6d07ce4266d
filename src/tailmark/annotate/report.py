"""What `annotate` reports: per marker its values, their origins, and on how many rows it stands."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tailmark.records import Record, RowIdentity
from tailmark.taxonomy import MarkerValue, Taxonomy

Dropped = Counter[tuple[str, str, str]]


def most_dropped(dropped: Dropped, most: int = 50) -> list[tuple[tuple[str, str, str], int]]:
    """The values that were dropped on most rows, at most `most`; the others of a marker come together under the value `(others)`."""
    ordered = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    others = Dropped()
    for (marker, _, reason), rows in ordered[most:]:
        others[marker, "(others)", reason] += rows
    return ordered[:most] + sorted(others.items())


class MarkerCounts:
    """Counts the markers of annotated rows."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._taxonomy = taxonomy
        self._rows = 0
        self._values: dict[str, Counter[MarkerValue]] = {name: Counter() for name in sorted(taxonomy.markers)}
        self._origins: dict[str, Counter[str]] = {name: Counter() for name in self._values}

    def add(self, row: Record) -> None:
        """Count one row."""
        self._rows += 1
        for name, values in self._values.items():
            if (value := row["markers"][name]) is not None:
                values[value] += 1
                self._origins[name][row["origin"][name]] += 1

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
            "completeness": round(filled / self._rows, 4) if self._rows else 0.0,
            "origins": {origin: round(count / filled, 4) for origin, count in sorted(origins.items())},
            "values" if self._taxonomy.markers[name].kind == "categorical" else "spread": self._summary(name, values),
        }

    def _summary(self, name: str, values: Counter[MarkerValue]) -> dict[str, Any]:
        spec = self._taxonomy.markers[name]
        if spec.kind == "categorical":
            return {value: values[value] for value in spec.values}
        ordered = sorted(value for value in values.elements() if not isinstance(value, str))
        if not ordered:
            return {}
        at = {"minimum": 0.0, "p10": 0.1, "median": 0.5, "p90": 0.9, "maximum": 1.0}
        return {label: ordered[round(share * (len(ordered) - 1))] for label, share in at.items()}

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
