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


def forest(rows: Sequence[Mapping[str, Any]], *, unit: str, label: str) -> str:
    """Lifts of slices with intervals; the rows of a slice (one a mode) stand together."""
    groups = [(name, list(group)) for name, group in groupby(rows, key=lambda row: row["slice"])]
    low, high = _padded([row[key] for row in rows for key in ("low", "high")])
    scale = svg.linear(low, high, 270, WIDTH - 20)
    top, y = 34.0, 34.0
    rules: list[str] = []
    parts: list[str] = []
    for name, group in groups:
        height = 17 * len(group) + 8
        rules.append(svg.line(0, y, WIDTH, y, colour=svg.GRID))
        parts.append(svg.text(0, y + height / 2 + 4, name.replace("=", ": "), size=12.5, weight=600 if "=" not in name else 400))
        parts.append(svg.text(250, y + height / 2 + 4, f"n = {group[0]['n']}", size=11, anchor="end", colour=svg.MUTED))
        for place, row in enumerate(group):
            middle = y + 13 + 17 * place
            hint = f"{row['mode']}: {svg.signed(row['lift'], 3)} ({svg.signed(row['low'], 3)} to {svg.signed(row['high'], 3)})"
            parts += [
                svg.interval(scale(row["low"]), scale(row["high"]), middle, row["mode"]),
                svg.mark(scale(row["lift"]), middle, row["mode"], title=hint),
            ]
        y += height
    axis = _x_axis(
        scale, svg.ticks(low, high, 8), top, y, f"lift in {unit} (above 0 is better)", middle=(270 + WIDTH - 20) / 2, form=svg.signed
    )
    key = svg.legend(270, 18, dict.fromkeys(row["mode"] for row in rows))
    return svg.document(WIDTH, y + 48, [key, *axis, *rules, _zero(scale(0), top, y), *parts], label)


def rarity(points: Sequence[Mapping[str, Any]], marker: str, *, tail_below: float) -> str:
    """Mean lift of each value of the long-tail marker against its number of training rows; the tail is shaded."""
    height, left, right, top, bottom = 480, 70, WIDTH - 20, 120, 420
    counts = [max(1, point["training_rows"]) for point in points]
    lowest, highest = max(1.0, min(counts) / 1.5), max(counts) * 1.5
    low, high = _padded([point["lift"] for point in points], 0.12)
    x, y = svg.logarithmic(lowest, highest, left, right), svg.linear(low, high, bottom, top)
    edge = x(min(max(tail_below, lowest), highest))
    parts = [f'<rect x="{left}" y="{top}" width="{svg.number(edge - left)}" height="{bottom - top}" fill="#f5f1e6"/>']
    parts.append(svg.text(left + 8, top + 16, "tail", size=11, colour=svg.MUTED))
    parts += _x_axis(
        x, svg.log_ticks(lowest, highest), top, bottom, f"training rows with the same {marker} (logarithmic)", middle=(left + right) / 2
    )
    parts += _y_axis(y, svg.ticks(low, high), left, right, "lift in nats per token", middle=(top + bottom) / 2, form=svg.signed)
    parts.append(svg.line(left, y(0), right, y(0), colour=svg.INK, width=1.2))
    for point in points:
        size = 3 + min(5.0, point["n"] ** 0.5 / 1.6)
        hint = f"{point[marker]}, {point['mode']}: {point['lift']:+.3f} ({point['n']} rows)"
        parts.append(svg.mark(x(max(1, point["training_rows"])), y(point["lift"]), point["mode"], size=size, opacity=0.85, title=hint))
    parts += _names(points, marker, x, top)
    parts.append(svg.legend(left, 20, dict.fromkeys(point["mode"] for point in points)))
    return svg.document(WIDTH, height, parts, f"Lift against the number of training rows of each {marker}")


def _names(points: Sequence[Mapping[str, Any]], marker: str, x: svg.Scale, top: float) -> list[str]:
    """The values' names, standing up along their columns; of close columns only the first is named."""
    parts, last = [], float("-inf")
    for name, count in sorted({point[marker]: point["training_rows"] for point in points}.items(), key=lambda item: (item[1], item[0])):
        place = x(max(1, count))
        if place - last >= 13:
            parts.append(svg.text(place + 4, top - 8, name, size=11, colour=svg.MUTED, turn=True))
            last = place
    return parts


def _y_axis(
    scale: svg.Scale, values: Sequence[float], left: float, right: float, name: str, *, middle: float, form: Form = svg.plain
) -> list[str]:
    parts = []
    for value in values:
        y = scale(value)
        parts += [
            svg.line(left, y, right, y, colour=svg.GRID),
            svg.text(left - 8, y + 4, form(value), anchor="end", size=11, colour=svg.MUTED),
        ]
    return [*parts, svg.text(18, middle, name, anchor="middle", colour=svg.MUTED, turn=True)]


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
