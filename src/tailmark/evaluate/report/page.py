"""The report's page: scores and metrics into one HTML file that fetches nothing and is the same for the same inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tailmark.config import Config
from tailmark.evaluate.marker_metrics import confusion_rows, reliability_rows
from tailmark.evaluate.report import charts, matrices, svg, verdict
from tailmark.evaluate.report.examples import picked_examples
from tailmark.evaluate.scores import MEASURES, Measure, Score
from tailmark.evaluate.store import Facts
from tailmark.evaluate.summary import DECILE, MIN_SLICE, Metrics
from tailmark.evaluate.table import MODE_WORDS, LiftRow, lift_table
from tailmark.evaluate.tables import length_points, marker_rows, rarity_points, slice_rows
from tailmark.statistics import POWER

_ASKED = {
    "baseline": "baseline, told in words",
    "absent": "absent, told in words",
    "inferred": "marked, told in words",
    "fixed": "marked, length_tokens instead",
    "forced": "forced, length_tokens instead",
}
_OPTIONS = frozenset(
    {"modes", "likelihood_rows", "control_rows", "max_new_tokens", "attribution_rows", "resamples", "confidence", "deciles"}
)
_OF_MARKERS = frozenset({"own_markers", "attribution"})
"""Benchmarks whose slices a confusion matrix shows better."""

_LINES = 42
"""Intervals in one picture: a printed page."""

Figures = dict[str, Markup]


def report_page(config: Config, scores: Sequence[Score], facts: Facts, metrics: Metrics, measures: Sequence[Measure] = MEASURES) -> str:
    """The whole page."""
    environment = Environment(
        loader=PackageLoader("tailmark.evaluate.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = svg.signed
    rows = lift_table(metrics, measures)
    level = config.evaluate.confidence
    return environment.get_template("template.html").render(
        headline=verdict.headline(rows),
        sentences=verdict.sentences(rows, metrics, level),
        modes=[mode for mode in MODE_WORDS if any(row.mode == mode for row in rows)],
        words=MODE_WORDS,
        table=_by_mode(rows),
        metrics=metrics,
        markers=marker_rows(metrics),
        lifts=Markup(charts.lift_picture(rows)),
        rarity=_rarity(config, scores, facts),
        deciles=_deciles(config, metrics, measures),
        forests=_forests(config, metrics, measures),
        confusions=_confusions(scores, facts, "inference", "written by the model"),
        attributions=_confusions(scores, facts, "attribution", "explains the answer best"),
        reliability=_reliability(scores, metrics, config),
        lengths=_lengths(scores),
        examples=picked_examples(scores, facts.measures, config.longtail.marker),
        config=config,
        facts=facts,
        options=config.evaluate,
        min_slice=MIN_SLICE,
        power=POWER,
        judged=_judged(facts),
        not_run=_not_run(facts),
        provenance=_provenance(config, facts),
    )


def _by_mode(rows: Sequence[LiftRow]) -> list[tuple[LiftRow, dict[str, LiftRow]]]:
    """One line a measure and slice: what it is, and its lift in each mode."""
    lines: dict[tuple[str, str, str], dict[str, LiftRow]] = {}
    for row in rows:
        lines.setdefault((row.benchmark, row.score, row.slice), {})[row.mode] = row
    return [(next(iter(modes.values())), modes) for modes in lines.values()]


def _rarity(config: Config, scores: Sequence[Score], facts: Facts) -> Figures:
    points = rarity_points(scores, facts, config)
    own = [point for point in points if point["marker"] == config.longtail.marker]
    values = {name: {point["value"] for point in points if point["marker"] == name} for name in facts.trained}
    others = [point for point in points if point not in own and len(values[point["marker"]]) > 2]
    tail_below = config.longtail.threshold * facts.train_rows
    found = {"own": charts.rarity(own, config.longtail.marker, tail_below=tail_below)} if own else {}
    return _marked(found | ({"others": charts.rarities(others)} if others else {}))


def _forests(config: Config, metrics: Metrics, measures: Sequence[Measure]) -> dict[str, list[Markup]]:
    """Title of a measure to its pictures, all on one scale, each short enough for a printed page."""
    found = {}
    for measure in measures:
        rows = [row for row in _slices(metrics, measure) if not row["slice"].startswith(f"{DECILE}=")]
        rows.sort(key=lambda row: _place(row["slice"], config.longtail.marker))
        if measure.benchmark not in _OF_MARKERS and any("=" in row["slice"] for row in rows):
            extent = min(row["low"] for row in rows), max(row["high"] for row in rows)
            found[measure.title] = [_forest(part, measure, config, extent) for part in _pages(rows)]
    return found


def _slices(metrics: Metrics, measure: Measure) -> list[dict[str, Any]]:
    """The slices of a measure but for the control's, shares as percentage points."""
    rows = [row for row in slice_rows(metrics, [measure]) if row["slice"] != "all" and row["mode"] != "wrong"]
    shown = ("lift", "low", "high", "mde")
    points = {"share": 100.0}.get(measure.unit, 1.0)
    return [row | {key: points * row[key] for key in shown if row[key] is not None} for row in rows]


def _forest(rows: Sequence[Mapping[str, Any]], measure: Measure, config: Config, extent: tuple[float, float] | None = None) -> Markup:
    unit = {"share": "percentage points"}.get(measure.unit, measure.unit)
    level = 1 - config.evaluate.confidence
    return Markup(charts.forest(rows, unit=unit, label=f"{measure.title} by slice", level=level, extent=extent))


def _place(name: str, marker: str) -> tuple[int, str]:
    """Head and tail first, then the long-tail marker."""
    group, equals, _ = name.partition("=")
    return (0 if not equals else 1 if group == marker else 2), name


def _pages(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The rows in parts of at most about `_LINES`, each slice and, where it fits, each marker whole."""
    parts: list[list[dict[str, Any]]] = [[]]
    for _, group in groupby(rows, key=lambda row: row["slice"].partition("=")[0]):
        members = list(group)
        if parts[-1] and len(parts[-1]) + len(members) > _LINES:
            parts.append([])
        for _, modes in groupby(members, key=lambda row: row["slice"]):
            if len(parts[-1]) >= _LINES:
                parts.append([])
            parts[-1] += modes
    return parts


def _deciles(config: Config, metrics: Metrics, measures: Sequence[Measure]) -> Markup | None:
    rows = [row for row in _slices(metrics, measures[0]) if row["slice"].startswith(f"{DECILE}=")]
    rows.sort(key=lambda row: str(row["slice"]))
    return _forest(rows, measures[0], config) if len({row["slice"] for row in rows}) > 1 else None


def _confusions(scores: Sequence[Score], facts: Facts, benchmark: str, named: str) -> Figures:
    """A matrix for each marker with several labels."""
    rows = confusion_rows(scores, benchmark)
    found = {}
    for marker, part in groupby(rows, key=lambda row: row["marker"]):
        own = list(part)
        if len({row["actual"] for row in own}) > 1:
            label = f"{marker}: label in the data against the value {named}"
            found[marker] = matrices.confusion(own, facts.trained.get(marker, {}), label=label, named=f"{marker} {named}")
    return _marked(found)


def _reliability(scores: Sequence[Score], metrics: Metrics, config: Config) -> Markup | None:
    rows = reliability_rows(scores, config)
    errors = {name: entry["ece"] for name, entry in metrics["inference"].items() if "ece" in entry}
    return Markup(matrices.reliability(rows, errors)) if rows else None


def _lengths(scores: Sequence[Score]) -> Markup | None:
    points = length_points(scores)
    return Markup(charts.lengths(points, _ASKED)) if points else None


def _marked(pictures: Mapping[str, str]) -> Figures:
    return {name: Markup(picture) for name, picture in pictures.items()}


def _provenance(config: Config, facts: Facts) -> list[tuple[str, str]]:
    options = {name: value for name, value in config.evaluate.model_dump().items() if name in _OPTIONS}
    evaluate = ", ".join(f"{name} {'/'.join(value) if isinstance(value, tuple) else value}" for name, value in options.items())
    runs = [(name, _run(entry)) for name, entries in sorted(facts.benchmarks.items()) for entry in entries]
    return [("profile", facts.profile), *facts.provenance, *runs, ("seed", str(config.seed)), ("evaluate", evaluate)]


def _run(entry: Mapping[str, Any]) -> str:
    """What a benchmark was run on."""
    files = [f"{name} (sha256 {told['sha256'][:16]})" for name, told in sorted(entry.get("files", {}).items())]
    return ", ".join([f"{entry['items']} items", *files])


def _judged(facts: Facts) -> bool:
    """Whether a judge read answers: of open-ended benchmarks, or every grade of the quality lever."""
    return any(entry.get("found", {}).get("judges") for entries in facts.benchmarks.values() for entry in entries)


def _not_run(facts: Facts) -> list[tuple[str, str, str]]:
    """Benchmark, what of it, and why."""
    entries = [(name, entry) for name, entries in sorted(facts.benchmarks.items()) for entry in entries]
    return [(name, what, reason) for name, entry in entries for what, reason in sorted(entry.get("not_run", {}).items())]
