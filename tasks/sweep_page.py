"""A sweep as one HTML page that fetches nothing: each measure over the members, with intervals, as picture and as table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tailmark.evaluate.report import svg
from tasks.comparison import Estimate, Panel
from tasks.sweepfile import Member, SweepFile

_WIDTH, _PLOT, _ROW, _TOP = 900.0, (220.0, 700.0), 26.0, 12.0


def sweep_page(
    sweep: SweepFile, members: Sequence[Member], states: Mapping[str, str], panels: Sequence[Panel], facts: Mapping[str, Any]
) -> str:
    """The whole page.

    Args:
        sweep: what was asked for.
        members: its members.
        states: how each went: done, kept (was done before), or what went wrong.
        panels: what was measured.
        facts: commit, profile, confidence.
    """
    folder = str(Path(__file__).resolve().parent)
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"picture": lambda panel: Markup(picture(panel)), "shown": shown}
    return environment.get_template("sweep.html").render(
        sweep=sweep, members=members, states=states, facts=facts, own={member.name: _own(member, sweep) for member in members},
        written=[panel for panel in panels if not panel.lift], lifts=[panel for panel in panels if panel.lift],
    )  # fmt: skip


def _own(member: Member, sweep: SweepFile) -> list[str]:
    return [item for item in member.overrides if item.partition("=")[0] not in sweep.shared]


def picture(panel: Panel) -> str:
    """One line a member: its estimate and interval; zero is marked where the numbers are lifts."""
    values = [number for row in panel.rows for number in (row.low, row.high)] + ([0.0] if panel.lift else [])
    margin = 0.06 * ((max(values) - min(values)) or 1.0)
    low, high = min(values) - margin, max(values) + margin
    scale, bottom = svg.linear(low, high, *_PLOT), _TOP + _ROW * len(panel.rows)
    parts = [_tick(scale(value), value, bottom, panel.lift) for value in svg.ticks(low, high, 7)]
    if panel.lift:
        parts.append(svg.line(scale(0.0), _TOP, scale(0.0), bottom, colour=svg.INK))
    for place, row in enumerate(panel.rows):
        parts += _line(row, scale, _TOP + _ROW * (place + 0.5), panel)
    return svg.document(_WIDTH, bottom + 26, parts, f"{panel.title}, {panel.mode}")


def _tick(x: float, value: float, bottom: float, lift: bool) -> str:
    words = svg.signed(value) if lift else svg.plain(value)
    return svg.line(x, _TOP, x, bottom, colour=svg.GRID) + svg.text(x, bottom + 17, words, anchor="middle", size=11, colour=svg.MUTED)


def _line(row: Estimate, scale: svg.Scale, y: float, panel: Panel) -> list[str]:
    return [
        svg.text(0, y + 4, row.member, size=12.5, weight=600),
        svg.interval(scale(row.low), scale(row.high), y, panel.mode),
        svg.mark(scale(row.value), y, panel.mode, title=shown(row, panel)),
        svg.text(_PLOT[1] + 14, y + 4, shown(row, panel), size=12),
    ]


def shown(row: Estimate, panel: Panel) -> str:
    """`+0.12 (-0.03 to +0.28)`."""
    digits = 1 if panel.unit in ("points", "% of prompts") else 3
    numbers = [svg.signed(value, digits) if panel.lift else f"{value:.{digits}f}" for value in (row.value, row.low, row.high)]
    return f"{numbers[0]} ({numbers[1]} to {numbers[2]})"


def rows(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """The numbers as a table: one row a measure and member."""
    return [
        {"measure": panel.title, "unit": panel.unit, "mode": panel.mode, "over baseline": panel.lift, **asdict(row)}
        for panel in panels
        for row in panel.rows
    ]
