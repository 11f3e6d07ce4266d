"""Stage `evaluate`: baseline against marked on held-out rows and benchmarks; scores, and from them metrics, plots and the report."""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from tailmark import chat, generate, taxonomy
from tailmark.chat import render_prompt
from tailmark.config import Config
from tailmark.console import duration, say
from tailmark.errors import DataError, ModelError
from tailmark.evaluate import control, inference, reference
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.marker_metrics import confusion_rows, reliability_rows, value_rows
from tailmark.evaluate.report.page import report_page
from tailmark.evaluate.sample import HeldOut, Row, read_heldout
from tailmark.evaluate.scores import MEASURES, Score, measures_of
from tailmark.evaluate.store import Facts, read_scores, write_scores
from tailmark.evaluate.suite.runner import NOTHING, Suite, run_suite
from tailmark.evaluate.summary import Metrics, summarize
from tailmark.evaluate.table import lift_rows, lift_table, read_measures, render_table
from tailmark.evaluate.tables import length_points, marker_rows, rarity_points, slice_rows, tendency_rows
from tailmark.files import read_json, sha256_file, sha256_json, staged_folder, write_json, write_text
from tailmark.generate.loading import LoadedModel, load_model
from tailmark.generate.modes import Tagger
from tailmark.layout import Layout
from tailmark.taxonomy import load_taxonomy
from tailmark.tracking import Run, start_run

SCORES = "examples.parquet"
_SHOWN = ("baseline", "marked", "lift", "low", "high")
_PACKAGES = ("tailmark", "torch", "transformers", "numpy", "scipy", "spacy", "py3langid")


def run(config: Config, layout: Layout, tagger: Tagger | None = None) -> None:
    """Compare the arms and write `layout.evaluated`.

    Args:
        tagger: reads the prompts of benchmarks in the mode `on-the-fly`.

    Raises:
        ModelError: a model folder is missing or incomplete, or the arms do not belong together.
        DataError: a shard is missing or corrupt, no row is held out, or a benchmark's data are not as they should be.
    """
    start = time.monotonic()
    with start_run("evaluate", config=config, layout=layout, stage="evaluate") as tracked:
        bench = load_bench(config, layout)
        keeping = place_of_answers(bench, layout)
        bench = replace(bench, kept=keeping)
        suite = run_suite(bench, layout, tagger)
        scores = [*measure(bench), *suite.scores]
        with staged_folder(layout.evaluated) as folder:
            write_scores(folder / SCORES, scores, facts_of(bench, suite))
            write_results(folder, config)
        keeping.unlink(missing_ok=True)
        _track(tracked, layout.evaluated)
    _show(layout.evaluated)
    say(f"Evaluated in {duration(time.monotonic() - start)}. Report: {layout.evaluated / 'report.html'}")


def from_scores(config: Config, layout: Layout) -> None:
    """Make metrics, plots and report again from the scores that are there; no model is needed.

    Raises:
        DataError: there are no scores, or they were written by another version.
    """
    read_scores(layout.evaluated / SCORES)
    with staged_folder(layout.evaluated) as folder:
        shutil.copyfile(layout.evaluated / SCORES, folder / SCORES)
        write_results(folder, config)
    _show(layout.evaluated)
    say(f"Made again from the scores. Report: {layout.evaluated / 'report.html'}")


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
    heldout = _askable(read_heldout(config, layout, taxonomy, marked.info.markers), (baseline, marked))
    tail = sum(row.tail for row in heldout.rows)
    say(f"  {len(heldout.rows):,} rows held out, {tail:,} of them in the tail ({', '.join(sorted(heldout.tail)) or 'there is none'})")
    return Bench(config, baseline, marked, heldout)


def place_of_answers(bench: Bench, layout: Layout) -> Path:
    """The file that keeps answers while an evaluation runs (`Bench.kept`): a name for all that an answer depends on beside its request."""
    code = [path for package in (chat, generate, taxonomy) for path in sorted(Path(package.__path__[0]).glob("*.py"))]
    sources = [sha256_file(path) for path in code]
    versions = [version(name) for name in ("torch", "transformers")]
    key = sha256_json([bench.baseline.digest, bench.marked.digest, str(bench.marked.device), sources, versions])
    return layout.state / "scratch" / f"evaluate-{key[:16]}.jsonl"


def _askable(heldout: HeldOut, arms: Sequence[LoadedModel]) -> HeldOut:
    """Without the rows whose conversation a model's template refuses.

    Raises:
        DataError: no row is left.
    """
    rows = tuple(row for row in heldout.rows if all(_takes(arm, row) for arm in arms))
    if refused := len(heldout.rows) - len(rows):
        say(f"  {refused:,} of {len(heldout.rows):,} held-out rows are left out: the model's chat template refuses their conversation")
    if not rows:
        raise DataError(
            "The model's chat template refuses every held-out conversation.", where=str(arms[0].folder), fix="use another base model"
        )
    return replace(heldout, rows=rows)


def _takes(arm: LoadedModel, row: Row) -> bool:
    try:
        render_prompt(arm.tokenizer, row.messages, None)
    except TemplateError:
        return False
    return True


def _require_a_pair(baseline: LoadedModel, marked: LoadedModel) -> None:
    if baseline.info.markers or not marked.info.markers:
        swapped = baseline if baseline.info.markers else marked
        raise ModelError(
            f"The model in '{swapped.folder.name}' was not trained as that arm.", where=str(swapped.folder), fix="run `dvc repro`"
        )
    if baseline.info.base != marked.info.base:
        raise ModelError("The two arms were trained from different base models.", where=str(marked.folder), fix="run `dvc repro`")


def measure(bench: Bench) -> list[Score]:
    """Run all comparisons on held-out rows; their scores in long form."""
    rows = bench.draw(bench.heldout.rows, bench.config.evaluate.likelihood_rows, "likelihood")
    inferred = inference.infer_markers(bench, rows)
    known = inference.inference(bench, rows, inferred)
    return [
        *known,
        *inference.own_markers(bench, known),
        *reference.likelihood(bench, rows, inferred),
        *reference.attribution(bench),
        *control.length_control(bench),
        *control.language_control(bench),
    ]


def facts_of(bench: Bench, suite: Suite = NOTHING) -> Facts:
    """What figures need beside the scores."""
    heldout = bench.heldout
    return Facts(
        profile=bench.config.profile,
        trained=heldout.trained,
        tail=tuple(sorted(heldout.tail)),
        train_rows=heldout.train_rows,
        heldout=len(heldout.rows),
        heldout_tail=sum(row.tail for row in heldout.rows),
        measures=suite.measures,
        benchmarks=suite.report,
        provenance=tuple(_provenance(bench)),
    )


def _provenance(bench: Bench) -> list[tuple[str, str]]:
    info = bench.marked.info
    return [
        ("annotated rows", bench.heldout.digest),
        ("taxonomy", info.taxonomy),
        *((f"{arm.folder.name} model", _weights(arm.info.files)) for arm in (bench.baseline, bench.marked)),
        ("base model", info.base),
        ("markers", ", ".join(info.markers)),
        ("dropout", f"whole list {info.dataset_dropout:.0%}, each marker {info.sample_dropout:.0%}; list in {info.placement}"),
        ("rows without any list", f"{info.list_dropout:.0%}"),
        *((f"digits of {name}", f"at least {digits}") for name, digits in info.digits.items()),
        ("versions", ", ".join(f"{name} {version(name)}" for name in _PACKAGES)),
    ]


def _weights(files: Mapping[str, str]) -> str:
    return ", ".join(digest for name, digest in sorted(files.items()) if name.endswith(".safetensors"))


def write_results(folder: Path, config: Config) -> None:
    """From `examples.parquet` in a folder, write beside it `metrics.json`, `lifts.json`, `benchmarks.json`, `plots/` and `report.html`."""
    scores, facts = read_scores(folder / SCORES)
    measures = measures_of(scores, facts.measures)
    metrics = summarize(scores, facts, config, measures)
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "lifts.json", _main_lifts(metrics))
    further = [asdict(item) for item in measures if item not in MEASURES]
    write_json(folder / "benchmarks.json", {"measures": further, "benchmarks": facts.benchmarks})
    for name, rows in _plots(scores, facts, config, metrics).items():
        _write_csv(folder / "plots" / f"{name}.csv", rows)
    write_text(folder / "report.html", report_page(config, scores, facts, metrics, measures))


def _plots(scores: Sequence[Score], facts: Facts, config: Config, metrics: Metrics) -> dict[str, list[dict[str, Any]]]:
    """The tables behind the figures, by name; those without rows are left out."""
    measures = measures_of(scores, facts.measures)
    tables = {
        "lift_by_rarity": rarity_points(scores, facts, config),
        "length_control": length_points(scores),
        "slices": slice_rows(metrics, measures),
        "tendencies": tendency_rows(metrics, measures),
        "confusion": confusion_rows(scores),
        "marker_values": value_rows(scores, facts.trained, config),
        "reliability": reliability_rows(scores, config),
        "attribution": confusion_rows(scores, "attribution"),
    }
    return {name: rows for name, rows in tables.items() if rows}


def _main_lifts(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The lifts over all rows, head and tail, and the accuracy of inferred markers: few enough to compare runs at a glance."""
    kept = {name: value for name, value in metrics.items() if name not in ("rows", "inference")}
    lifts = {name: {score: _of_modes(modes) for score, modes in scores.items()} for name, scores in kept.items()}
    return lifts | {"inference": metrics["inference"]}


def _of_modes(modes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        mode: {name: {key: slices[name][key] for key in _SHOWN} for name in ("all", "head", "tail") if name in slices}
        for mode, slices in modes.items()
    }


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _track(tracked: Run, folder: Path) -> None:
    """The main lifts as metrics, every slice in a table: thousands of metrics would hide those that matter."""
    metrics, measures = read_json(folder / "metrics.json"), read_measures(folder)
    tracked.log_metrics(flat_metrics({"rows": metrics["rows"], **read_json(folder / "lifts.json")}))
    tables = {"lifts": lift_rows(metrics, measures), "slices": slice_rows(metrics, measures), "markers": marker_rows(metrics)}
    for name, rows in tables.items():
        tracked.log_table(rows, name)
    for path in sorted(folder.iterdir()):
        tracked.log_artifact(path, "plots" if path.name == "plots" else None)


def _show(folder: Path) -> None:
    render_table(lift_table(read_json(folder / "metrics.json"), read_measures(folder)))


def flat_metrics(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested metrics with their keys joined by slashes, as MLflow groups them."""
    flat: dict[str, float] = {}
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            flat |= flat_metrics(value, f"{prefix}{key}/")
        else:
            flat[f"{prefix}{key}"] = float(value)
    return flat
