"""The report's pictures, each a pure function from rows to SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from tailmark.evaluate.report import svg
from tailmark.evaluate.table import LiftRow

WIDTH = 960
Form = Callable[[float], str]


def _padded(values: Sequence[float], share: float = 0.06) -> tuple[float, float]:
    low, high = min(*values, 0.0, 0.0), max(*values, 0.0, 0.0)
    room = ((high - low) or 1.0) * share
    return low - room, high + room


def _x_axis(
    scale: svg.Scale, values: Sequence[float], top: float, bottom: float, name: str, *, middle: float, form: Form = svg.plain
) -> list[str]:
    parts = []
    for value in values:
        x = scale(value)
        parts += [
            svg.line(x, top, x, bottom, colour=svg.GRID),
            svg.text(x, bottom + 17, form(value), anchor="middle", size=11, colour=svg.MUTED),
        ]
    return [*parts, svg.text(middle, bottom + 38, name, anchor="middle", colour=svg.MUTED)]


def _zero(x: float, top: float, bottom: float) -> str:
    return svg.line(x, top, x, bottom, colour=svg.INK, width=1.2)


def lift_picture(rows: Sequence[LiftRow]) -> str:
    """The main lifts as one panel a measure, each on its own scale; the README's picture and the report's first."""
    wanted = [row for row in rows if row.slice == "all"]
    parts: list[str] = []
    y = 34.0
    modes = list(dict.fromkeys(row.mode for row in wanted))
    parts.append(svg.legend(300, 16, modes))
    for title, group in groupby(wanted, key=lambda row: row.title):
        panel = list(group)
        parts += _lift_panel(title, panel, y)
        y += 26 * len(panel) + 62
    box = f'<rect width="{WIDTH}" height="{svg.number(y)}" fill="white"/>'
    return svg.document(WIDTH, y, [box, *parts], "Lifts of the marked model over its baseline with confidence intervals")


def _lift_panel(title: str, rows: Sequence[LiftRow], top: float) -> list[str]:
    bottom = top + 26 * len(rows) + 4
    low, high = _padded([value for row in rows for value in (row.low, row.high)])
    scale = svg.linear(low, high, 300, 780)
    unit = {"points": "percentage points"}.get(rows[0].unit, rows[0].unit)
    parts = _x_axis(scale, svg.ticks(low, high, 7), top, bottom, "", middle=540, form=svg.signed)
    parts.append(_zero(scale(0), top, bottom))
    parts += [
        svg.text(0, top + 18, title, size=13.5, weight=600),
        svg.text(0, top + 36, f"lift in {unit}, above 0 is better", size=11, colour=svg.MUTED),
    ]
    for place, row in enumerate(rows):
        y = top + 17 + 26 * place
        parts += [svg.interval(scale(row.low), scale(row.high), y, row.mode), svg.mark(scale(row.lift), y, row.mode)]
        parts.append(svg.text(800, y + 4, svg.signed(row.lift, row.digits), size=12.5, weight=600))
        parts.append(
            svg.text(856, y + 4, f"{svg.signed(row.low, row.digits)} to {svg.signed(row.high, row.digits)}", size=11, colour=svg.MUTED)
        )
    return parts


_ROW, _GAP, _HEADING = 17, 8, 30
_PLOT = (230.0, 690.0)
"""Left and right end of a forest's plot; names stand left of it, what may be concluded right of it."""


def forest(rows: Sequence[Mapping[str, Any]], *, unit: str, label: str, level: float, extent: tuple[float, float] | None = None) -> str:
    """Lifts of slices with intervals under a heading for each marker; the rows of a slice (one a mode) stand together.

    Args:
        rows: as `tables.slice_rows` gives them, those of a marker and of a slice one after the other.
        level: 1 less the confidence: below it a corrected p-value counts as a finding.
        extent: least and greatest value shown (None: those of the rows), so that several pictures share a scale.
    """
    low, high = _padded(extent or [row[key] for row in rows for key in ("low", "high")])
    scale, top = svg.linear(low, high, *_PLOT), 46.0
    y = top
    parts: list[str] = []
    for group, members in groupby(rows, key=lambda row: _marker(row["slice"])):
        if group:
            parts.append(svg.text(0, y + 22, group, size=12.5, weight=600))
            y += _HEADING
        for name, modes in groupby(members, key=lambda row: row["slice"]):
            slice_rows = list(modes)
            parts += _forest_slice(name, slice_rows, scale, y, level)
            y += _ROW * len(slice_rows) + _GAP
    axis = _x_axis(scale, svg.ticks(low, high, 8), top, y, f"lift in {unit} (above 0 is better)", middle=sum(_PLOT) / 2, form=svg.signed)
    key = svg.legend(_PLOT[0], 18, dict.fromkeys(row["mode"] for row in rows))
    heads = [svg.text(x, 36, words, size=11, colour=svg.MUTED) for x, words in ((_PLOT[1] + 14, "lift"), (_PLOT[1] + 84, "what it shows"))]
    return svg.document(WIDTH, y + 48, [key, *heads, *axis, _zero(scale(0), top, y), *parts], label)


def _marker(name: str) -> str:
    return name.partition("=")[0] if "=" in name else ""


def _forest_slice(name: str, rows: Sequence[Mapping[str, Any]], scale: svg.Scale, y: float, level: float) -> list[str]:
    middle = y + (_ROW * len(rows) + _GAP) / 2 + 4
    parts = [
        svg.line(0, y, WIDTH, y, colour=svg.GRID),
        svg.text(12 if "=" in name else 0, middle, name.partition("=")[2] or name, size=12.5, weight=400 if "=" in name else 600),
        svg.text(_PLOT[0] - 16, middle, f"n = {rows[0]['n']}", size=11, anchor="end", colour=svg.MUTED),
    ]
    for place, row in enumerate(rows):
        parts += _forest_row(row, scale, y + 13 + _ROW * place, level)
    return parts


def _forest_row(row: Mapping[str, Any], scale: svg.Scale, y: float, level: float) -> list[str]:
    digits = 1 if max(abs(row["low"]), abs(row["high"])) >= 10 else 3
    hint = f"{row['mode']}: {svg.signed(row['lift'], digits)} ({svg.signed(row['low'], digits)} to {svg.signed(row['high'], digits)})"
    reading, decided = _reading(row, level, digits)
    return [
        svg.interval(scale(row["low"]), scale(row["high"]), y, row["mode"]),
        svg.mark(scale(row["lift"]), y, row["mode"], title=hint),
        svg.text(_PLOT[1] + 14, y + 4, svg.signed(row["lift"], digits), size=11, weight=600 if decided else 400),
        svg.text(_PLOT[1] + 84, y + 4, reading, size=11, colour=svg.INK if decided else svg.MUTED),
    ]


def _reading(row: Mapping[str, Any], level: float, digits: int) -> tuple[str, bool]:
    """What a slice's row allows to conclude, and whether that is a finding."""
    p, mde = row.get("p_holm"), row.get("mde")
    apart = row["low"] > 0 or row["high"] < 0
    if p is None and apart:
        return "interval without zero", False
    if p is not None and p < level and apart:
        return f"holds, corrected p = {p:.3f}", True
    if apart:
        return f"not after correction, p = {p:.2f}", False
    return (f"too few: would see {mde:.{digits}f} or more" if mde else "too few"), False


def rarity(points: Sequence[Mapping[str, Any]], marker: str, *, tail_below: float) -> str:
    """Mean lift of each value of the long-tail marker against its number of training rows; the tail is shaded."""
    height, left, right, top, bottom = 480, 70.0, WIDTH - 20.0, 120.0, 420.0
    x, y, lowest, highest = _rarity_scales(points, left, right, top, bottom)
    edge = x(min(max(tail_below, lowest), highest))
    parts = [f'<rect x="{left}" y="{top}" width="{svg.number(edge - left)}" height="{bottom - top}" fill="#f5f1e6"/>']
    parts.append(svg.text(left + 8, top + 16, "tail", size=11, colour=svg.MUTED))
    name = f"training rows with the same {marker} (logarithmic)"
    parts += _x_axis(x, svg.log_ticks(lowest, highest), top, bottom, name, middle=(left + right) / 2)
    low, high = _rarity_range(points)
    parts += _y_axis(y, svg.ticks(low, high), left, right, "lift in nats per token", middle=(top + bottom) / 2, form=svg.signed)
    parts.append(svg.line(left, y(0), right, y(0), colour=svg.INK, width=1.2))
    parts += _rarity_marks(points, x, y)
    parts += _names(points, x, top)
    parts.append(svg.legend(left, 20, dict.fromkeys(point["mode"] for point in points)))
    return svg.document(WIDTH, height, parts, f"Lift against the number of training rows of each {marker}")


def _rarity_range(points: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    return _padded([point["lift"] for point in points], 0.12)


def _rarity_scales(
    points: Sequence[Mapping[str, Any]], left: float, right: float, top: float, bottom: float
) -> tuple[svg.Scale, svg.Scale, float, float]:
    """Both scales, and the least and greatest number of training rows."""
    counts = [max(1, point["training_rows"]) for point in points]
    lowest, highest = max(1.0, min(counts) / 1.5), max(counts) * 1.5
    return svg.logarithmic(lowest, highest, left, right), svg.linear(*_rarity_range(points), bottom, top), lowest, highest


def _rarity_marks(points: Sequence[Mapping[str, Any]], x: svg.Scale, y: svg.Scale, size: float = 1.0) -> list[str]:
    parts = []
    for point in points:
        hint = f"{point['value']}, {point['mode']}: {point['lift']:+.3f} ({point['n']} rows)"
        radius = size * (3 + min(5.0, point["n"] ** 0.5 / 1.6))
        place = x(max(1, point["training_rows"])), y(point["lift"])
        parts.append(svg.mark(*place, point["mode"], size=radius, opacity=0.85, title=hint))
    return parts


def rarities(points: Sequence[Mapping[str, Any]]) -> str:
    """The same for every other marker, in small panels, each on its own scales."""
    markers = list(dict.fromkeys(point["marker"] for point in points))
    width, height, gap = 270.0, 150.0, 48.0
    parts = [svg.legend(52, 16, dict.fromkeys(point["mode"] for point in points))]
    for place, marker in enumerate(markers):
        left, top = 52 + place % 3 * (width + gap), 58 + place // 3 * (height + 78)
        panel = [point for point in points if point["marker"] == marker]
        x, y, lowest, highest = _rarity_scales(panel, left, left + width, top, top + height)
        ticks = svg.log_ticks(lowest, highest)
        parts.append(svg.text(left, top - 10, marker, size=12.5, weight=600))
        parts.append(svg.text(left + width, top - 10, "lift in nats per token", anchor="end", size=11, colour=svg.MUTED))
        parts += _x_axis(x, ticks[:: max(1, len(ticks) // 4)], top, top + height, "training rows", middle=left + width / 2)
        parts += _y_axis(y, svg.ticks(*_rarity_range(panel), 5), left, left + width, "", middle=0, form=svg.signed)
        parts.append(svg.line(left, y(0), left + width, y(0), colour=svg.INK, width=1.2))
        parts += _rarity_marks(panel, x, y, 0.7)
    return svg.document(WIDTH, 58 + (len(markers) + 2) // 3 * (height + 78), parts, "Lift against the number of training rows, by marker")


def _names(points: Sequence[Mapping[str, Any]], x: svg.Scale, top: float) -> list[str]:
    """The values' names, standing up along their columns; of close columns only the first is named."""
    parts, last = [], float("-inf")
    for name, count in sorted({point["value"]: point["training_rows"] for point in points}.items(), key=lambda item: (item[1], item[0])):
        place = x(max(1, count))
        if place - last >= 13:
            parts.append(svg.text(place + 4, top - 8, name, size=11, colour=svg.MUTED, turn=True))
            last = place
    return parts


def _y_axis(
    scale: svg.Scale,
    values: Sequence[float],
    left: float,
    right: float,
    name: str,
    *,
    middle: float,
    form: Form = svg.plain,
) -> list[str]:
    parts = []
    for value in values:
        y = scale(value)
        parts += [
            svg.line(left, y, right, y, colour=svg.GRID),
            svg.text(left - 8, y + 4, form(value), anchor="end", size=11, colour=svg.MUTED),
        ]
    return [*parts, svg.text(18, middle, name, anchor="middle", colour=svg.MUTED, turn=True)] if name else parts


def lengths(points: Sequence[Mapping[str, Any]], names: dict[str, str]) -> str:
    """Generated against target length, one panel a way of asking, equal logarithmic axes; on the line is exactly right."""
    modes = [mode for mode in svg.SHAPES if any(point["mode"] == mode for point in points)]
    values = [max(1, point[key]) for point in points for key in ("target", "generated")]
    low, high = max(1.0, min(values) / 1.3), max(values) * 1.3
    gap = 26.0
    side = (WIDTH - 64 - gap * (len(modes) - 1)) / max(3, len(modes))
    top, bottom = 34.0, 34.0 + side
    parts = []
    for place, mode in enumerate(modes):
        left = 64 + place * (side + gap)
        x, y = svg.logarithmic(low, high, left, left + side), svg.logarithmic(low, high, bottom, top)
        marks = svg.log_ticks(low, high)
        parts += _x_axis(x, marks, top, bottom, "target length", middle=left + side / 2)
        for value in marks:
            parts.append(svg.line(left, y(value), left + side, y(value), colour=svg.GRID))
            if not place:
                parts.append(svg.text(left - 8, y(value) + 4, f"{value:g}", anchor="end", size=11, colour=svg.MUTED))
        parts.append(svg.line(left, bottom, left + side, top, colour=svg.RULE, dash="4 4"))
        shown = [point for point in points if point["mode"] == mode]
        parts += [svg.mark(x(point["target"]), y(max(1, point["generated"])), mode, size=4, opacity=0.7) for point in shown]
        parts.append(svg.text(left, 20, names.get(mode, mode), size=12.5, weight=600))
    parts.append(svg.text(16, (top + bottom) / 2, "generated length", anchor="middle", colour=svg.MUTED, turn=True))
    return svg.document(WIDTH, bottom + 48, parts, "Generated length against target length, in words and punctuation marks")
