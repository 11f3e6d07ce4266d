"""The report's page: scores and metrics into one HTML file that fetches nothing and is the same for the same inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.report import charts, svg, verdict
from tailmark.evaluate.report.examples import picked_examples
from tailmark.evaluate.scores import Score
from tailmark.evaluate.summary import MIN_SLICE, Metrics
from tailmark.evaluate.table import MODE_WORDS, lift_table
from tailmark.evaluate.tables import length_points, marker_rows, rarity_points, slice_rows

_PACKAGES = ("tailmark", "torch", "transformers", "numpy", "spacy", "py3langid")
_ASKED = {"baseline": "baseline, told in words", "inferred": "marked, told in words", "fixed": "marked, length_tokens instead"}


def report_page(bench: Bench, scores: Sequence[Score], metrics: Metrics) -> str:
    """The whole page."""
    environment = Environment(
        loader=PackageLoader("tailmark.evaluate.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = svg.signed
    rows = lift_table(metrics)
    options = bench.config.evaluate
    return environment.get_template("template.html").render(
        headline=verdict.headline(rows),
        sentences=verdict.sentences(rows, metrics, options.confidence),
        rows=rows,
        modes=MODE_WORDS,
        metrics=metrics,
        markers=marker_rows(metrics),
        figures=_figures(bench, scores, metrics),
        examples=picked_examples(scores),
        bench=bench,
        options=options,
        min_slice=MIN_SLICE,
        provenance=_provenance(bench),
    )


def _figures(bench: Bench, scores: Sequence[Score], metrics: Metrics) -> dict[str, Markup]:
    config = bench.config
    slices = [row for row in slice_rows(metrics) if row["score"] == "nll" and row["slice"] != "all"]
    order = {"head": 0, "tail": 1}
    slices.sort(key=lambda row: (order.get(row["slice"], 2), row["slice"]))
    passes = [row for row in slice_rows(metrics) if row["benchmark"] == "language" and row["slice"] != "all"]
    points, lengths = rarity_points(scores, bench.heldout, config), length_points(scores)
    pictures = {"lifts": charts.lift_picture(lift_table(metrics))}
    if slices:
        pictures["forest"] = charts.forest(slices, unit="nats per token", label="Lift of the answer's likelihood by slice")
    if passes:
        pictures["language"] = charts.forest(passes, unit="share of answers", label="Lift of the language pass rate by slice")
    if points:
        tail_below = config.longtail.threshold * bench.heldout.train_rows
        pictures["rarity"] = charts.rarity(points, config.longtail.marker, tail_below=tail_below)
    if lengths:
        pictures["lengths"] = charts.lengths(lengths, _ASKED)
    return {name: Markup(picture) for name, picture in pictures.items()}


def _provenance(bench: Bench) -> list[tuple[str, str]]:
    models = [(f"{arm.folder.name} model", _model_digest(arm.info.files)) for arm in (bench.baseline, bench.marked)]
    info = bench.marked.info
    return [
        ("profile", bench.config.profile),
        ("annotated rows", bench.heldout.digest),
        ("taxonomy", info.taxonomy),
        *models,
        ("base model", info.base),
        ("markers", ", ".join(info.markers)),
        ("dropout", f"whole list {info.dataset_dropout:.0%}, each marker {info.sample_dropout:.0%}; list in {info.placement}"),
        ("seed", str(bench.config.seed)),
        ("evaluate", ", ".join(f"{name} {_shown(value)}" for name, value in bench.config.evaluate.model_dump().items())),
        ("versions", ", ".join(f"{name} {version(name)}" for name in _PACKAGES)),
    ]


def _model_digest(files: Mapping[str, str]) -> str:
    weights = [digest for name, digest in sorted(files.items()) if name.endswith(".safetensors")]
    return ", ".join(weights)


def _shown(value: Any) -> str:
    return "/".join(value) if isinstance(value, tuple) else str(value)
