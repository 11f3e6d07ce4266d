"""A verdict as one HTML page that fetches nothing: what was judged, each check with its figure, and what to run where one fails."""

from __future__ import annotations

from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from tailmark.register.gate import Check, Verdict

_WIDTH, _PAD = 420.0, 14.0


@dataclass(frozen=True)
class Bar:
    """An interval in the picture beside a check, in its coordinates: ends, mean, zero and floor."""

    low: float
    high: float
    mean: float
    zero: float
    floor: float | None


def verdict_page(verdict: Verdict) -> str:
    """The whole page."""
    environment = Environment(
        loader=PackageLoader("tailmark.register", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["code"] = _code
    return environment.get_template("verdict.html").render(
        verdict=verdict,
        headline=_headline(verdict),
        failed=[check for check in verdict.checks if not check.passed],
        bars={check.title: _bar(check) for check in verdict.checks if check.lift},
        width=_WIDTH,
    )


def _code(text: str) -> Markup:
    """What stands between backticks, as code."""
    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts))


def _headline(verdict: Verdict) -> str:
    version, total = verdict.challenger.version, len(verdict.checks)
    against = f"version {verdict.champion.version}, the champion" if verdict.champion else "no champion before it"
    if verdict.passed:
        return f"Version {version} may become the champion: it holds all {total} checks, against {against}."
    failed = sum(not check.passed for check in verdict.checks)
    return f"Version {version} does not pass: {failed} of {total} checks fail, against {against}."


def _bar(check: Check) -> Bar:
    """Each check has a scale of its own, since scores have different units; it spans the interval, zero and the floor."""
    assert check.lift is not None
    points = (check.lift.low, check.lift.high, 0.0, check.floor)
    least, most = min(points), max(points)
    span = (most - least) or 1.0

    def place(value: float) -> float:
        return round(_PAD + (value - least) / span * (_WIDTH - 2 * _PAD), 1)

    floor = place(check.floor) if check.floor else None
    return Bar(place(check.lift.low), place(check.lift.high), place(check.lift.lift), place(0.0), floor)
