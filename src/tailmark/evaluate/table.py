"""The table of lifts, in the terminal and as the README's picture. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tailmark.console import say
from tailmark.errors import DataError
from tailmark.evaluate.scores import MEASURES, Measure
from tailmark.files import read_json
from tailmark.layout import Layout

MODE_WORDS = {
    "absent": "absent: the list is suppressed",
    "inferred": "inferred: it writes its own markers",
    "fixed": "fixed: markers are given",
    "forced": "forced: markers are given, and also stand at the head of its completion",
    "on-the-fly": "on-the-fly: an annotator reads the prompt and gives markers",
    "wrong": "wrong: markers of another row (control)",
}


@dataclass(frozen=True)
class LiftRow:
    """One line of the table of lifts, on the scale people read (shares as per cent).

    Attributes:
        lift, low, high: positive where the marked model is better.
        p: of no difference, not corrected.
        verdict: better, worse, or unclear (zero lies within the interval).
    """

    benchmark: str
    score: str
    title: str
    slice: str
    mode: str
    unit: str
    baseline: float
    marked: float
    lift: float
    low: float
    high: float
    n: int
    p: float = 1.0

    @property
    def verdict(self) -> str:
        """What the interval says."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "unclear"

    @property
    def digits(self) -> int:
        """Decimals to show."""
        return 1 if self.unit == "points" else 3 if self.benchmark == "likelihood" else 2


def lift_table(metrics: dict[str, Any], measures: Sequence[Measure] = MEASURES) -> list[LiftRow]:
    """The main lifts: every measure and mode over all rows; the likelihood also over head and tail."""
    rows = []
    for measure in measures:
        for mode, slices in _modes(metrics, measure):
            names = ("all", "head", "tail") if measure.benchmark == "likelihood" else ("all",)
            rows += [_row(measure, mode, name, slices[name]) for name in names if name in slices]
    return rows


def _modes(metrics: dict[str, Any], measure: Measure) -> list[tuple[str, dict[str, Any]]]:
    found = metrics.get(measure.benchmark, {}).get(measure.score, {})
    return [(mode, found[mode]) for mode in (*MODE_WORDS, *sorted(found.keys() - MODE_WORDS.keys())) if mode in found]


def _row(measure: Measure, mode: str, name: str, entry: dict[str, float]) -> LiftRow:
    share = measure.unit == "share"
    scale = 100.0 if share else 1.0
    # Adding zero turns -0.0, which would be shown with its sign, into 0.0.
    numbers = {key: entry[key] * scale + 0.0 for key in ("baseline", "marked", "lift", "low", "high")}
    unit = "points" if share else measure.unit
    return LiftRow(measure.benchmark, measure.score, measure.title, name, mode, unit, n=int(entry["n"]), p=entry.get("p", 1.0), **numbers)


def lift_rows(metrics: dict[str, Any], measures: Sequence[Measure] = MEASURES) -> list[dict[str, Any]]:
    """The table of lifts as plain mappings."""
    return [asdict(row) | {"verdict": row.verdict} for row in lift_table(metrics, measures)]


def print_lifts(layout: Layout) -> None:
    """Print the table of lifts of the last evaluation.

    Raises:
        DataError: nothing was evaluated yet.
    """
    path = layout.evaluated / "metrics.json"
    if not path.is_file():
        raise DataError("Nothing was evaluated yet.", where=str(path), fix="run `dvc repro`, or `dvc pull` to fetch a result")
    render_table(lift_table(read_json(path), read_measures(layout.evaluated)))
    say(f"Report: {layout.evaluated / 'report.html'}")


def read_measures(folder: Path) -> tuple[Measure, ...]:
    """What an evaluation compared: the measures of every run, and those of its benchmarks (`benchmarks.json`)."""
    path = folder / "benchmarks.json"
    found = read_json(path)["measures"] if path.is_file() else []
    return (*MEASURES, *(Measure(**item) for item in found))


def render_table(rows: Sequence[LiftRow]) -> None:
    """Print the lifts: green where the interval lies above zero, red where it lies below."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    console.print("\nLifts of the marked model over its baseline, with confidence intervals (above zero is better)")
    shown = ""
    for row in rows:
        if row.title != shown:
            console.print(f"\n[bold]{escape(row.title)}[/] ({row.unit})")
            console.print(f"  {'mode':<9} {'rows':<11} {'baseline':>8} {'marked':>8} {'lift':>8}   interval")
        shown = row.title
        console.print(_line(row))
    console.print()


def _line(row: LiftRow) -> str:
    colour = {"better": "green", "worse": "red", "unclear": "default"}[row.verdict]
    digits = row.digits
    means = f"{row.baseline:>8.{digits}f} {row.marked:>8.{digits}f}"
    interval = f"{row.low:+.{digits}f} to {row.high:+.{digits}f}"
    sample = f"{row.slice}, {row.n}"
    return f"  {row.mode:<9} {sample:<11} {means} [{colour}]{row.lift:>+8.{digits}f}[/]   {interval:<18} [{colour}]{row.verdict}[/]"


def save_lift_png(metrics: dict[str, Any], path: Path, measures: Sequence[Measure] = MEASURES) -> None:
    """Draw the main lifts with their intervals, as the README shows them."""
    import vl_convert

    from tailmark.evaluate.report.charts import lift_picture
    from tailmark.files import staged_file

    picture = vl_convert.svg_to_png(lift_picture(lift_table(metrics, measures)), scale=2)
    with staged_file(path) as temporary:
        temporary.write_bytes(picture)
