"""Stage `evaluate`: baseline against marked on held-out rows; metrics, plots, examples and the report."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tailmark.config import Config
from tailmark.console import duration, say
from tailmark.errors import ModelError
from tailmark.evaluate import benchmarks, control
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.report.page import report_page
from tailmark.evaluate.sample import read_heldout
from tailmark.evaluate.scores import Score, example_table
from tailmark.evaluate.summary import Metrics, summarize
from tailmark.evaluate.table import lift_rows, lift_table, render_table
from tailmark.evaluate.tables import length_points, marker_rows, rarity_points, slice_rows
from tailmark.files import staged_folder, write_json, write_text
from tailmark.generate.loading import LoadedModel, load_model
from tailmark.layout import Layout
from tailmark.records import write_table
from tailmark.taxonomy import load_taxonomy
from tailmark.tracking import start_run


def run(config: Config, layout: Layout) -> None:
    """Compare the arms and write `layout.evaluated`.

    Raises:
        ModelError: a model folder is missing or incomplete, or the arms do not belong together.
        DataError: a shard is missing or corrupt, or no row is held out.
    """
    start = time.monotonic()
    with start_run("evaluate", config=config, layout=layout, stage="evaluate") as tracked:
        bench = load_bench(config, layout)
        scores = measure(bench)
        metrics = summarize(scores, bench.heldout, config)
        with staged_folder(layout.evaluated) as folder:
            write_results(folder, bench, scores, metrics)
        tracked.log_metrics(flat_metrics(metrics))
        tracked.log_table(lift_rows(metrics), "lifts")
        tracked.log_table(slice_rows(metrics), "slices")
        tracked.log_table(marker_rows(metrics), "markers")
        for name in ("report.html", "metrics.json", "plots", "examples.parquet"):
            tracked.log_artifact(layout.evaluated / name, "plots" if name == "plots" else None)
    render_table(lift_table(metrics))
    say(f"Evaluated in {duration(time.monotonic() - start)}. Report: {layout.evaluated / 'report.html'}")


def load_bench(config: Config, layout: Layout) -> Bench:
    """Load both arms and the held-out rows."""
    say("Loading baseline and marked model.")
    baseline, marked = load_model(layout.trained("baseline")), load_model(layout.trained("marked"))
    _require_a_pair(baseline, marked)
    taxonomy = load_taxonomy(layout.root / config.taxonomy.file)
    if taxonomy.digest != marked.info.taxonomy:
        raise ModelError(
            "The marked model was trained with another taxonomy.", where=str(marked.folder), fix="run `dvc repro` to train it again"
        )
    heldout = read_heldout(config, layout, taxonomy, marked.info.markers)
    tail = sum(row.tail for row in heldout.rows)
    say(f"  {len(heldout.rows):,} rows held out, {tail:,} of them in the tail ({', '.join(sorted(heldout.tail)) or 'there is none'})")
    return Bench(config, baseline, marked, heldout)


def _require_a_pair(baseline: LoadedModel, marked: LoadedModel) -> None:
    if baseline.info.markers or not marked.info.markers:
        swapped = baseline if baseline.info.markers else marked
        raise ModelError(
            f"The model in '{swapped.folder.name}' was not trained as that arm.", where=str(swapped.folder), fix="run `dvc repro`"
        )
    if baseline.info.base != marked.info.base:
        raise ModelError("The two arms were trained from different base models.", where=str(marked.folder), fix="run `dvc repro`")


def measure(bench: Bench) -> list[Score]:
    """Run all comparisons; their scores in long form."""
    rows = bench.draw(bench.heldout.rows, bench.config.evaluate.likelihood_rows, "likelihood")
    inferred = benchmarks.infer_markers(bench, rows)
    known = benchmarks.inference(bench, rows, inferred)
    return [
        *known,
        *benchmarks.own_markers(bench, known),
        *benchmarks.likelihood(bench, rows, inferred),
        *control.length_control(bench),
        *control.language_control(bench),
    ]


def write_results(folder: Path, bench: Bench, scores: Sequence[Score], metrics: Metrics) -> None:
    """Write `metrics.json`, `examples.parquet`, `plots/` and `report.html` into a folder."""
    rarity, lengths = rarity_points(scores, bench.heldout, bench.config), length_points(scores)
    write_json(folder / "metrics.json", metrics)
    write_table(folder / "examples.parquet", example_table(scores))
    _write_csv(folder / "plots" / "lift_by_rarity.csv", rarity)
    _write_csv(folder / "plots" / "length_control.csv", lengths)
    _write_csv(folder / "plots" / "slices.csv", slice_rows(metrics))
    write_text(folder / "report.html", report_page(bench, scores, metrics))


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["empty"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def flat_metrics(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested metrics with their keys joined by slashes, as MLflow groups them."""
    flat: dict[str, float] = {}
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            flat |= flat_metrics(value, f"{prefix}{key}/")
        else:
            flat[f"{prefix}{key}"] = float(value)
    return flat
