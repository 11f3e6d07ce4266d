"""The paper's experiment at our size: what the members of `sweeps/paper*.yaml` came to, beside the paper's figures.

    python -m benchmarks.paper                     # tables, in Markdown
    python -m benchmarks.paper --plot lifts.svg    # and the picture

Reads what the members' branches hold (`make experiment` makes them) and computes nothing anew: lifts and intervals are those of `tailmark
evaluate`, paired by row within one member.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tailmark.evaluate.scores import MEASURES, Measure
from tailmark.layout import ARMS
from tailmark.statistics import share_interval
from tasks import git
from tasks.comparison import outcome
from tasks.stored import read_output
from tasks.sweepfile import members, read_sweep
from tasks.workspace import branch_of

Evaluations = Mapping[str, dict[str, Any]]
"""Member to what its evaluation wrote: `metrics` and `benchmarks`."""


@dataclass(frozen=True)
class Claim:
    """One of the paper's figures that a small model can take part in.

    Attributes:
        title, mode, slice, benchmark, score: what is compared.
        paper: the paper's figure, in its own unit; empty where it has none.
        theirs: its lift, on our scale (points or nats), for the picture.
    """

    title: str
    benchmark: str
    score: str
    mode: str
    slice: str = "all"
    paper: str = ""
    theirs: float | None = None


CLAIMS = (
    Claim(
        "AlpacaEval-LI: over the limit, told in words", "length_instructed", "violation", "inferred", paper="36.6 % to 24.7 %", theirs=11.84
    ),
    Claim(
        "AlpacaEval-LI: over the limit, told by the marker",
        "length_instructed",
        "violation",
        "fixed",
        paper="36.6 % to 1.25 %",
        theirs=35.33,
    ),
    Claim("AlpacaEval-LI: off the limit, share of it", "length_instructed", "error", "fixed"),
    Claim("held-out rows: off the length asked for", "length", "error", "fixed"),
    Claim("language confusion: lines that pass", "language_confusion", "line", "inferred"),
    Claim("language confusion: lines that pass", "language_confusion", "line", "fixed", paper="68.6 % to 79.6 %", theirs=11.0),
    Claim("held-out prompts: language, by the marker alone", "language_alone", "pass", "fixed"),
    Claim("win rate, held-out prompts", "heldout_prompts", "win_reference", "inferred", paper="+5.7", theirs=5.7),
    Claim("win rate, held-out prompts, head", "heldout_prompts", "win_reference", "inferred", "head"),
    Claim("win rate, held-out prompts, tail", "heldout_prompts", "win_reference", "inferred", "tail", paper="+9.1", theirs=9.1),
    Claim("win rate, held-out prompts, head", "heldout_prompts", "win_reference", "fixed", "head"),
    Claim("win rate, held-out prompts, tail", "heldout_prompts", "win_reference", "fixed", "tail"),
    Claim("repair: lines as in the correction", "repair", "similarity", "inferred"),
    Claim("repair: lines as in the correction", "repair", "similarity", "fixed"),
    Claim("repair: exactly the correction", "repair", "exact", "fixed"),
    Claim("HumanEvalPack repair, pass@1", "humanevalpack", "pass_repair", "fixed", paper=".216 to .246", theirs=3.0),
    Claim("likelihood of held-out answers", "likelihood", "nll", "absent"),
    Claim("likelihood of held-out answers", "likelihood", "nll", "inferred"),
    Claim("likelihood of held-out answers", "likelihood", "nll", "fixed"),
    Claim("likelihood, head", "likelihood", "nll", "fixed", "head"),
    Claim("likelihood, tail", "likelihood", "nll", "fixed", "tail"),
    Claim("likelihood under another row's markers", "likelihood", "nll", "wrong"),
)
INFERRED = {
    "0_50": {"domain": 3.3, "task": 1.9, "format": 7.3, "lang": 1.2},
    "50_50": {"domain": 74.9, "task": 53.6, "format": 47.4, "lang": 99.2},
    "70_50": {"domain": 75.1, "task": 51.4, "format": 46.8, "lang": 99.1},
}
"""The paper's accuracy of inferred markers, in per cent, by dropout."""

_MARKERS = ("domain", "task", "format", "lang")


def found(root: Path, file: str, revision: str, profile: str) -> tuple[Evaluations, list[str]]:
    """The members that are done, in the sweep's order, and the names of the others."""
    commit = git.resolve(root, revision)
    every = members(read_sweep(root / file), root, commit, profile)
    outcomes = {member.name: _found(root, member.run) for member in every}
    return {name: item for name, item in outcomes.items() if item is not None}, [name for name, item in outcomes.items() if item is None]


def _found(root: Path, run: str) -> dict[str, Any] | None:
    evaluation = outcome(root, run)
    if evaluation is None:
        return None
    files = {arm: read_output(root, branch_of(run), f"reports/train/{arm}/metrics.json") for arm in ARMS}
    trainings = {arm: json.loads(text) for arm, text in files.items() if text is not None}
    return {**evaluation, "trainings": trainings, "told": _told(read_output(root, branch_of(run), "reports/evaluate/examples.parquet"))}


def _told(examples: bytes | None) -> list[bool]:
    """Whether the language was written right, for the rows that no translator wrote: what the others are in, their prompts do not say."""
    if examples is None:
        return []
    rows = pq.read_table(io.BytesIO(examples), columns=["benchmark", "score", "slices", "value"]).to_pylist()
    asked = [row for row in rows if (row["benchmark"], row["score"]) == ("inference", "lang")]
    return [row["value"] == 1 for row in asked if json.loads(row["slices"]).get("source") != "Translation"]


def lift_table(evaluations: Evaluations) -> Iterator[str]:
    """A line a claim; columns: the paper, then every member that ran its benchmark."""
    whole = [name for name, item in evaluations.items() if _entry(item, CLAIMS[1])]
    if not whole:
        return
    yield f"| measure | mode | paper | {' | '.join(whole)} |"
    yield "|---" * (3 + len(whole)) + "|"
    for claim in CLAIMS:
        cells = [_cell(evaluations[name], claim) for name in whole]
        if any(cells):
            yield f"| {claim.title} | {claim.mode} | {claim.paper} | {' | '.join(cells)} |"


def ablation_table(evaluations: Evaluations) -> Iterator[str]:
    """How often each marker is written right for a bare prompt, and what markers are worth in likelihood, by member."""
    markers = " | ".join(f"{name} (paper)" for name in _MARKERS)
    yield f"| member | {markers} | lang, but for translations | held-out answers, `absent` | `inferred` | `fixed` |"
    yield "|---" * (len(_MARKERS) + 5) + "|"
    for name, item in evaluations.items():
        right = [_right(item, marker, INFERRED.get(name, {}).get(marker)) for marker in _MARKERS]
        right.append(_share(item["told"]))
        nats = [_cell(item, Claim("", "likelihood", "nll", mode)) for mode in ("absent", "inferred", "fixed")]
        yield f"| {name} | {' | '.join([*right, *nats])} |"


def training_table(evaluations: Evaluations) -> Iterator[str]:
    """What each arm was trained on, and its held-out loss at both ends."""
    yield "| member | arm | steps | tokens | supervised | parameters trained | held-out answers, nats per token, first and last |"
    yield "|---" * 7 + "|"
    for name, item in evaluations.items():
        for arm, entry in item["trainings"].items():
            counts = " | ".join(f"{entry[key]:,}" for key in ("steps", "tokens", "supervised_tokens", "trainable_parameters"))
            yield f"| {name} | {arm} | {counts} | {entry['heldout_first']['answer']:.3f}, {entry['heldout_last']['answer']:.3f} |"


def _share(right: Sequence[bool]) -> str:
    if not right:
        return ""
    interval = share_interval(right, confidence=0.95)
    return f"{100 * interval.mean:.1f} [{100 * interval.low:.0f}, {100 * interval.high:.0f}; {len(right)} rows]"


def _right(evaluation: dict[str, Any], marker: str, paper: float | None) -> str:
    entry = evaluation["metrics"].get("inference", {}).get(marker)
    if entry is None or "accuracy" not in entry:
        return ""
    value, low, high, majority = (100 * entry[name] for name in ("accuracy", "low", "high", "majority"))
    beside = "" if paper is None else f" ({paper:g})"
    return f"{value:.1f}{beside} [{low:.0f}, {high:.0f}; most frequent value {majority:.0f}]"


def _entry(evaluation: dict[str, Any], claim: Claim) -> dict[str, Any]:
    part: Any = evaluation["metrics"]
    for key in (claim.benchmark, claim.score, claim.mode, claim.slice):
        part = part.get(key, {})
    return dict(part)


def _scale(evaluation: dict[str, Any], claim: Claim) -> tuple[float, int]:
    """What a number is multiplied by to be read, and its decimals."""
    measures: Sequence[Measure] = (*MEASURES, *(Measure(**item) for item in evaluation["benchmarks"]["measures"]))
    unit = next((item.unit for item in measures if (item.benchmark, item.score) == (claim.benchmark, claim.score)), "")
    return (100.0, 1) if unit == "share" else (1.0, 3)


def _cell(evaluation: dict[str, Any], claim: Claim) -> str:
    entry = _entry(evaluation, claim)
    if not entry:
        return ""
    factor, digits = _scale(evaluation, claim)
    before, after, lift, low, high = (factor * entry[name] for name in ("baseline", "marked", "lift", "low", "high"))
    text = f"{before:.{digits}f} to {after:.{digits}f}: {lift:+.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
    return f"**{text}**" if low > 0 or high < 0 else text


def plot(evaluations: Evaluations, path: Path) -> None:
    """Our lifts in points, one mark a member with its interval, and the paper's beside them."""
    from matplotlib.figure import Figure

    shown = [claim for claim in CLAIMS if any(_points(item, claim) for item in evaluations.values())]
    figure = Figure(figsize=(9, 0.42 * len(shown) + 1.2), layout="constrained")
    axes = figure.subplots()
    names = [name for name, item in evaluations.items() if any(_points(item, claim) for claim in shown)]
    for number, name in enumerate(names):
        rows = [(place, _points(evaluations[name], claim)) for place, claim in enumerate(shown)]
        marks = [(place + 0.16 * (number - (len(names) - 1) / 2), values) for place, values in rows if values]
        lifts = [values[0] for _, values in marks]
        errors = [[lift - values[1] for lift, (_, values) in zip(lifts, marks, strict=True)],
                  [values[2] - lift for lift, (_, values) in zip(lifts, marks, strict=True)]]  # fmt: skip
        axes.errorbar(lifts, [place for place, _ in marks], xerr=errors, fmt="o", markersize=4, capsize=2, label=name)
    theirs = [(claim.theirs, place) for place, claim in enumerate(shown) if claim.theirs is not None]
    axes.plot([lift for lift, _ in theirs], [place for _, place in theirs], "D", color="black", fillstyle="none", label="paper, 7B")
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(shown)), [f"{claim.title} ({claim.mode})" for claim in shown])
    axes.invert_yaxis()
    axes.set_xlabel("lift over the baseline, points, with 95 % intervals")
    axes.legend(loc="best", fontsize=8)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _points(evaluation: dict[str, Any], claim: Claim) -> tuple[float, float, float] | None:
    entry = _entry(evaluation, claim)
    factor, _ = _scale(evaluation, claim)
    return (factor * entry["lift"], factor * entry["low"], factor * entry["high"]) if entry and factor > 1 else None


def main() -> None:
    """Print the tables and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", default=["sweeps/paper.yaml", "sweeps/paper-ablation.yaml"])
    parser.add_argument("--revision", default="HEAD", help="what the sweep ran from")
    parser.add_argument("--profile", default="bench")
    parser.add_argument("--plot", type=Path, help="where the picture goes (.svg or .png)")
    given = parser.parse_args()
    for file in given.files:
        _show(Path.cwd(), file, given)


def _show(root: Path, file: str, given: argparse.Namespace) -> None:
    evaluations, missing = found(root, file, given.revision, given.profile)
    print(f"## {read_sweep(root / file).name}\n")
    if missing:
        print(f"Not done: {', '.join(missing)}\n")
    for table in (training_table, lift_table, ablation_table) if evaluations else ():
        print("\n".join(table(evaluations)), end="\n\n")
    if given.plot and any(_entry(item, CLAIMS[1]) for item in evaluations.values()):
        plot(evaluations, given.plot)


if __name__ == "__main__":
    main()
