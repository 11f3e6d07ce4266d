"""A few lines of SVG: linear and logarithmic scales, axes, marks. Text, so that the same numbers give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

# Okabe and Ito's palette: distinguishable with any colour vision.
COLOURS = {
    "baseline": "#5b6470",
    "absent": "#56b4e9",
    "inferred": "#0072b2",
    "fixed": "#d55e00",
    "forced": "#b8860b",
    "on-the-fly": "#009e73",
    "wrong": "#8d7b9c",
}
SHAPES = {
    "baseline": "square",
    "absent": "hexagon",
    "inferred": "circle",
    "fixed": "diamond",
    "forced": "wedge",
    "on-the-fly": "cross",
    "wrong": "triangle",
}
_CORNERS: dict[str, tuple[tuple[float, float], ...]] = {
    "circle": (),
    "square": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    "triangle": ((0, -1.2), (1.1, 1), (-1.1, 1)),
    "wedge": ((0, 1.2), (1.1, -1), (-1.1, -1)),
    "hexagon": ((-1.15, 0), (-0.6, -1), (0.6, -1), (1.15, 0), (0.6, 1), (-0.6, 1)),
    "cross": (
        *((-0.4, -1.1), (0.4, -1.1), (0.4, -0.4), (1.1, -0.4), (1.1, 0.4), (0.4, 0.4)),
        *((0.4, 1.1), (-0.4, 1.1), (-0.4, 0.4), (-1.1, 0.4), (-1.1, -0.4), (-0.4, -0.4)),
    ),
}
INK, MUTED, RULE, GRID = "#1d2733", "#5b6470", "#aeb6bf", "#e8ebee"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif"

Scale = Callable[[float], float]


def number(value: float) -> str:
    """A coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def plain(value: float) -> str:
    """A number with the decimals it has."""
    return f"{value:g}"


def signed(value: float, digits: int | None = None) -> str:
    """A number with its sign, zero without one; `digits` None: as many decimals as it has."""
    shown = format(value, "+g" if digits is None else f"+.{digits}f")
    return shown.lstrip("+-") if not any(digit in shown for digit in "123456789") else shown.replace("-", "\u2212")


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """Map low..high to start..end."""
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """Map low..high (above zero) to start..end by their logarithms."""
    scale = linear(math.log(low), math.log(high), start, end)
    return lambda value: scale(math.log(value))


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers between low and high, about `count` of them."""
    span = (high - low) or 1.0
    step = 10 ** math.floor(math.log10(span / count))
    step = next(step * factor for factor in (1, 2, 5, 10) if span / (step * factor) <= count)
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 10) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, 20, ... between low and high."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [factor * 10.0**power for power in powers for factor in (1, 2, 5) if low <= factor * 10.0**power <= high]


def text(
    x: float, y: float, content: str, *, anchor: str = "start", size: float = 12, colour: str = INK, weight: int = 400, turn: bool = False
) -> str:
    """A line of text; `turn` stands it up, reading from below."""
    turned = f' transform="rotate(-90 {number(x)} {number(y)})"' if turn else ""
    weighted = f' font-weight="{weight}"' if weight != 400 else ""
    head = f'<text x="{number(x)}" y="{number(y)}" font-size="{number(size)}" fill="{colour}" text-anchor="{anchor}"{weighted}{turned}>'
    return f"{head}{escape(content)}</text>"


def line(x1: float, y1: float, x2: float, y2: float, *, colour: str = RULE, width: float = 1, dash: str = "") -> str:
    """A straight line."""
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    ends = f'x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{number(width)}"{dashed}/>'


def mark(x: float, y: float, mode: str, *, size: float = 5, opacity: float = 1, title: str = "") -> str:
    """The mark of a mode: shape and colour both say which, for print and for any colour vision."""
    points = " ".join(f"{number(x + right * size)},{number(y + down * size)}" for right, down in _CORNERS[SHAPES[mode]])
    style = f'fill="{COLOURS[mode]}" fill-opacity="{opacity:g}" stroke="white" stroke-width="0.8"'
    hint = f"<title>{escape(title)}</title>" if title else ""
    if points:
        return f'<polygon points="{points}" {style}>{hint}</polygon>'
    return f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(size)}" {style}>{hint}</circle>'


def interval(low: float, high: float, y: float, mode: str, *, width: float = 2) -> str:
    """A horizontal confidence interval with short ends."""
    colour = COLOURS[mode]
    ends = [line(x, y - 3.5, x, y + 3.5, colour=colour, width=1.4) for x in (low, high)]
    return "".join([line(low, y, high, y, colour=colour, width=width), *ends])


def legend(x: float, y: float, modes: Iterable[str], names: dict[str, str] | None = None) -> str:
    """Mode names with their marks, side by side."""
    parts = []
    for mode in modes:
        name = (names or {}).get(mode, mode)
        parts += [mark(x + 5, y - 4, mode), text(x + 15, y, name, colour=MUTED)]
        x += 34 + 6.6 * len(name)
    return "".join(parts)


def shade(share: float) -> str:
    """From white (0) to the palette's blue (1), for matrices; ordered also without colour."""
    ends = zip((255, 255, 255), (0, 114, 178), strict=True)
    return "#" + "".join(f"{round(start + (end - start) * min(max(share, 0.0), 1.0)):02x}" for start, end in ends)


def document(width: float, height: float, parts: Sequence[str], label: str) -> str:
    """A whole picture; `label` says what it shows to readers who cannot see it."""
    box = f'viewBox="0 0 {number(width)} {number(height)}" width="{number(width)}" height="{number(height)}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" aria-label="{escape(label)}" font-family="{FONT}">'
    return "\n".join([head, *parts, "</svg>"])
