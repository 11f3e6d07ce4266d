"""The report's pictures of markers: confusion matrices and reliability diagrams, each a pure function from rows to SVG."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tailmark.evaluate.marker_metrics import NOT_WRITTEN
from tailmark.evaluate.report import svg
from tailmark.evaluate.report.charts import WIDTH

OTHER = "others"
_MOST = 14
"""Values a matrix shows; further ones, the rarest, are one row and column."""

_LEFT, _RIGHT = 250.0, 90.0


def confusion(rows: Sequence[Mapping[str, Any]], trained: Mapping[str, int], *, label: str, named: str) -> str:
    """Labels down, values named across, in order of training rows; shaded by the share of the label's rows.

    Args:
        rows: of one marker, as `marker_metrics.confusion_rows` gives them.
        trained: training rows by value.
        named: what the columns are, e.g. `written by the model`.
    """
    names = _shown(rows, trained)
    counts = Counter((_among(row["actual"], names), _among(row["predicted"], names)) for row in rows)
    down = [name for name in names if any(actual == name for actual, _ in counts)]
    across = [name for name in (*names, NOT_WRITTEN) if any(predicted == name for _, predicted in counts)]
    cell, top = min(36.0, (WIDTH - _LEFT - _RIGHT) / len(across)), 24 + 6.6 * max(len(name) for name in across)
    parts = [svg.text(_LEFT + place * cell + cell / 2 + 4, top - 8, name, size=11.5, turn=True) for place, name in enumerate(across)]
    for place, name in enumerate(down):
        parts += _matrix_row(name, [counts[name, other] for other in across], trained, top + place * cell, cell, across)
    width, bottom = cell * len(across), top + cell * len(down)
    parts.append(svg.text(_LEFT + width / 2, bottom + 24, named, anchor="middle", colour=svg.MUTED))
    parts.append(svg.text(14, (top + bottom) / 2, "label in the data", anchor="middle", colour=svg.MUTED, turn=True))
    heads = ((_LEFT + width + _RIGHT - 20, "right", "end"), (_LEFT - 10, "value, training rows", "end"))
    parts += [svg.text(x, top - 8, words, size=11, anchor=anchor, colour=svg.MUTED) for x, words, anchor in heads]
    return svg.document(WIDTH, bottom + 36, parts, label)


def _shown(rows: Sequence[Mapping[str, Any]], trained: Mapping[str, int]) -> list[str]:
    """The values of the axes, the most frequent in training first."""
    found = {row["actual"] for row in rows} | {row["predicted"] for row in rows} - {NOT_WRITTEN}
    ordered = sorted(found, key=lambda value: (-trained.get(value, 0), value))
    return ordered if len(ordered) <= _MOST else [*ordered[: _MOST - 1], OTHER]


def _among(value: str, names: Sequence[str]) -> str:
    return value if value in names or value == NOT_WRITTEN else OTHER


def _matrix_row(name: str, counts: Sequence[int], trained: Mapping[str, int], y: float, cell: float, across: Sequence[str]) -> list[str]:
    total, middle = sum(counts), y + cell / 2 + 4
    parts = [
        svg.text(_LEFT - 52, middle, name, anchor="end", size=12),
        svg.text(_LEFT - 10, middle, f"{trained.get(name, 0):,}" if name != OTHER else "", anchor="end", size=11, colour=svg.MUTED),
    ]
    for place, count in enumerate(counts):
        x, share = _LEFT + place * cell, count / total
        edge = svg.INK if across[place] == name else svg.GRID
        box = f'x="{svg.number(x + 1)}" y="{svg.number(y + 1)}" width="{svg.number(cell - 2)}" height="{svg.number(cell - 2)}"'
        parts.append(f'<rect {box} fill="{svg.shade(share)}" stroke="{edge}"/>')
        if count:
            colour = "#ffffff" if share > 0.55 else svg.INK
            parts.append(svg.text(x + cell / 2, middle, str(count), anchor="middle", size=11, colour=colour))
    right = counts[across.index(name)] / total if name in across else 0.0
    end = _LEFT + cell * len(counts)
    return [*parts, svg.text(end + _RIGHT - 20, middle, f"{right:.0%} of {total}", anchor="end", size=11, colour=svg.MUTED)]


def reliability(rows: Sequence[Mapping[str, Any]], errors: Mapping[str, float]) -> str:
    """Share right against the probability the model gave, a panel a marker; on the dashed line it knows exactly how sure to be.

    Args:
        rows: as `marker_metrics.reliability_rows` gives them.
        errors: per marker the expected calibration error.
    """
    markers = list(dict.fromkeys(row["marker"] for row in rows))
    side, gap = 210.0, 90.0
    parts: list[str] = []
    for place, marker in enumerate(markers):
        left, top = 64 + place % 3 * (side + gap), 44 + place // 3 * (side + 84)
        x, y = svg.linear(0, 1, left, left + side), svg.linear(0, 1, top + side, top)
        parts.append(svg.text(left, top - 12, f"{marker}: error {errors[marker]:.2f}", size=12.5, weight=600))
        parts += _unit_axes(x, y, left, top, side, named=place % 3 == 0)
        for row in (row for row in rows if row["marker"] == marker):
            parts += _reliability_mark(row, x(row["confidence"]), y)
    return svg.document(WIDTH, 44 + (len(markers) + 2) // 3 * (side + 84), parts, "Share right against the probability the model gave")


def _unit_axes(x: svg.Scale, y: svg.Scale, left: float, top: float, side: float, *, named: bool) -> list[str]:
    parts = []
    for step in range(0, 101, 25):
        across, up = x(step / 100), y(step / 100)
        parts += [
            svg.line(across, top, across, top + side, colour=svg.GRID),
            svg.line(left, up, left + side, up, colour=svg.GRID),
            svg.text(across, top + side + 17, f"{step} %", anchor="middle", size=11, colour=svg.MUTED),
            svg.text(left - 8, up + 4, f"{step} %", anchor="end", size=11, colour=svg.MUTED),
        ]
    parts.append(svg.line(left, top + side, left + side, top, colour=svg.RULE, dash="4 4"))
    parts.append(svg.text(left + side / 2, top + side + 38, "probability given to the value", anchor="middle", colour=svg.MUTED))
    return [*parts, svg.text(16, top + side / 2, "share that is right", anchor="middle", colour=svg.MUTED, turn=True)] if named else parts


def _reliability_mark(row: Mapping[str, Any], x: float, y: svg.Scale) -> list[str]:
    colour = svg.COLOURS["inferred"]
    hint = f"{row['accuracy']:.0%} right at {row['confidence']:.0%} ({row['n']} rows)"
    return [
        svg.line(x, y(row["low"]), x, y(row["high"]), colour=colour, width=1.4),
        svg.mark(x, y(row["accuracy"]), "inferred", size=3 + min(4.0, row["n"] ** 0.5 / 3), title=hint),
    ]
