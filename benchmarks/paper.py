"""The paper's experiment at our size: what the members of `sweeps/paper*.yaml` came to, beside the paper's figures.

    python -m benchmarks.paper                              # tables, in Markdown
    python -m benchmarks.paper --out .tailmark/experiment   # the same into tables.md, and a picture for each sweep

Reads what the members' branches hold (`make experiment` makes them) and computes no lift anew: lifts and intervals are those of `tailmark
evaluate`, paired by row within one member.
"""

from __future__ import annotations

import argparse
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks import confusion, lengths
from benchmarks.markdown import table
from benchmarks.pooled import ADDED, OPEN, Key, pooled, seeds_together
from tailmark.evaluate.scores import MEASURES, Measure
from tailmark.layout import ARMS
from tailmark.statistics import share_interval
from tasks import git
from tasks.comparison import outcome
from tasks.stored import read_output
from tasks.sweepfile import members, read_sweep
from tasks.workspace import branch_of

Evaluation = dict[str, Any]
"""What a member's branch holds: `metrics` and `benchmarks` of its evaluation, `trainings` by arm, `examples` (of examples.parquet)."""

Evaluations = Mapping[str, Evaluation]


@dataclass(frozen=True)
class Claim:
    """A measure in one mode, beside the paper's figure where it has one.

    Attributes:
        paper: the paper's figures, in words.
        theirs: the paper's lift in points, where it measures the same thing: it is drawn beside ours.
    """

    title: str
    benchmark: str
    score: str
    mode: str
    slice: str = "all"
    paper: str = ""
    theirs: float | None = None

    @property
    def key(self) -> Key:
        """What it is called in an evaluation."""
        return self.benchmark, self.score, self.mode, self.slice


_LENGTH, _LANGUAGE, _WIN = "length_instructed", "language_confusion", "heldout_prompts"
_ARENA = "on Arena-Hard, against a third model: "
CLAIMS = (
    Claim("AlpacaEval-LI, limits to 120 words: over it", _LENGTH, "violation", "inferred", paper="36.6 to 24.7 %, all limits", theirs=11.8),
    Claim("AlpacaEval-LI, limits to 120 words: over it", _LENGTH, "violation", "fixed", paper="36.6 to 1.25 %, all limits", theirs=35.3),
    Claim("AlpacaEval-LI: tokens off the limit, share of it", _LENGTH, "error", "inferred"),
    Claim("AlpacaEval-LI: tokens off the limit, share of it", _LENGTH, "error", "fixed"),
    Claim("held-out rows: more words than asked for", "length", "violation", "inferred"),
    Claim("held-out rows: more words than asked for", "length", "violation", "fixed"),
    Claim("held-out rows: tokens off the length asked for", "length", "error", "inferred"),
    Claim("held-out rows: tokens off the length asked for", "length", "error", "fixed"),
    Claim("held-out rows: off the marker's length, no words beside it", "length_alone", "error", "fixed"),
    Claim("language confusion: answers whose lines all pass", _LANGUAGE, "line", "absent"),
    Claim("language confusion: answers whose lines all pass", _LANGUAGE, "line", "inferred"),
    Claim("language confusion: answers whose lines all pass", _LANGUAGE, "line", "fixed", paper="68.6 to 79.6 %", theirs=11.0),
    Claim("language confusion, prompt in the answer's language", _LANGUAGE, "line", "inferred", "monolingual"),
    Claim("language confusion, prompt in the answer's language", _LANGUAGE, "line", "fixed", "monolingual"),
    Claim("language confusion, prompt in English", _LANGUAGE, "line", "inferred", "crosslingual"),
    Claim("language confusion, prompt in English", _LANGUAGE, "line", "fixed", "crosslingual"),
    Claim("held-out rows: in the language asked for", "language", "pass", "inferred"),
    Claim("held-out rows: in the language asked for", "language", "pass", "fixed"),
    Claim("held-out rows: in the marker's language, no words beside it", "language_alone", "pass", "fixed"),
    Claim("held-out prompts: wins over the baseline, less 50", _WIN, "win_reference", "inferred", paper=f"{_ARENA}+5.7"),
    Claim("held-out prompts: wins, head", _WIN, "win_reference", "inferred", "head"),
    Claim("held-out prompts: wins, tail", _WIN, "win_reference", "inferred", "tail", paper=f"{_ARENA}+9.1"),
    Claim("held-out prompts: wins over the baseline, less 50", _WIN, "win_reference", "fixed"),
    Claim("held-out prompts: wins, head", _WIN, "win_reference", "fixed", "head"),
    Claim("held-out prompts: wins, tail", _WIN, "win_reference", "fixed", "tail"),
    Claim("held-out prompts: wins, the prompt does not show its language", _WIN, "win_reference", "fixed", "open"),
    Claim("held-out prompts: wins, all other prompts", _WIN, "win_reference", "fixed", "shown"),
    Claim("ConDefects repair: lines as in the correction", "repair", "similarity", "inferred"),
    Claim("ConDefects repair: lines as in the correction", "repair", "similarity", "fixed"),
    Claim("ConDefects repair: exactly the correction", "repair", "exact", "fixed"),
    Claim("HumanEvalPack repair, pass@1", "humanevalpack", "pass_repair", "inferred", paper=".216, +4.2 % relative"),
    Claim("HumanEvalPack repair, pass@1", "humanevalpack", "pass_repair", "fixed", paper=".216 to .246", theirs=3.0),
    Claim("HumanEvalPack synthesis, pass@1", "humanevalpack", "pass_synthesis", "fixed", paper=".406 to .419", theirs=1.3),
    Claim("HumanEvalPack translation, pass@1", "humanevalpack", "pass_translation", "fixed", paper=".597 to .636", theirs=3.9),
    Claim("likelihood of held-out answers, nats per token", "likelihood", "nll", "absent"),
    Claim("likelihood of held-out answers, nats per token", "likelihood", "nll", "inferred"),
    Claim("likelihood of held-out answers, nats per token", "likelihood", "nll", "fixed"),
    Claim("likelihood, head", "likelihood", "nll", "fixed", "head"),
    Claim("likelihood, tail", "likelihood", "nll", "fixed", "tail"),
    Claim("likelihood, the prompt does not show its language", "likelihood", "nll", "fixed", "open"),
    Claim("likelihood, all other prompts", "likelihood", "nll", "fixed", "shown"),
    Claim("likelihood under another row's markers", "likelihood", "nll", "wrong"),
)
INFERRED = {
    "0_50": {"domain": 3.3, "task": 1.9, "format": 7.3, "lang": 1.2},
    "50_50": {"domain": 74.9, "task": 53.6, "format": 47.4, "lang": 99.2},
    "70_50": {"domain": 75.1, "task": 51.4, "format": 46.8, "lang": 99.1},
}
"""The paper's accuracy of inferred markers, in per cent, by dropout."""

_SWEEPS = ("paper", "paper-ablation", "paper-dropouts", "paper-confusion")
_MARKERS = ("domain", "task", "format", "lang")
_RARE = ("domain", "task", "lang")
_TAIL = (
    ("wins", _WIN, "win_reference", "inferred"),
    ("wins", _WIN, "win_reference", "fixed"),
    ("likelihood", "likelihood", "nll", "inferred"),
    ("likelihood", "likelihood", "nll", "fixed"),
)
_FEWEST = 12
"""Fewer rows have no line of their own: what an evaluation was not meant to measure has a few."""


def found(root: Path, file: str, revision: str, profile: str) -> tuple[Evaluations, list[str]]:
    """The members that are done, in the sweep's order, and the names of the others."""
    commit = git.resolve(root, revision)
    every = members(read_sweep(root / file), root, commit, profile)
    outcomes = {member.name: _found(root, member.run) for member in every}
    return {name: item for name, item in outcomes.items() if item is not None}, [name for name, item in outcomes.items() if item is None]


def _found(root: Path, run: str) -> Evaluation | None:
    evaluation = outcome(root, run)
    if evaluation is None:
        return None
    files = {arm: read_output(root, branch_of(run), f"reports/train/{arm}/metrics.json") for arm in ARMS}
    trainings = {arm: json.loads(text) for arm, text in files.items() if text is not None}
    examples = read_output(root, branch_of(run), "reports/evaluate/examples.parquet")
    return _with_added({**evaluation, "trainings": trainings, "examples": examples})


def _told(examples: bytes | None) -> str:
    """How often the language is written right where the prompt shows which it is."""
    if examples is None:
        return ""
    columns = ["benchmark", "score", "slices", "given", "group", "value"]
    rows = [row for row in pq.read_table(io.BytesIO(examples), columns=columns).to_pylist() if row["benchmark"] == "inference"]
    asked = [row for row in rows if row["score"] == "lang" and json.loads(row["slices"]).get("task") not in OPEN]
    if not asked:
        return ""
    share = share_interval([row["value"] == 1 for row in asked], confidence=0.95, clusters=[row["group"] for row in asked])
    most = Counter(json.loads(row["given"])["lang"] for row in asked).most_common(1)[0][1] / len(asked)
    return _with_chance(share.mean, share.low, share.high, most, len(asked))


def _with_chance(value: float, low: float, high: float, most: float, rows: int, paper: float | None = None) -> str:
    beside = "" if paper is None else f", paper {paper:g}"
    return f"**{100 * value:.1f}** ({100 * low:.0f} to {100 * high:.0f}; chance {100 * most:.0f}{beside}; n {rows})"


def training_table(evaluations: Evaluations) -> Iterator[str]:
    """What each arm was trained on, and its held-out loss at both ends."""
    counted = ("steps", "tokens", "supervised_tokens", "trainable_parameters")
    head = ("member", "arm", "steps", "tokens", "supervised", "parameters trained", "held-out answers, nats per token, first and last")
    arms = [(name, arm, entry) for name, item in evaluations.items() for arm, entry in item["trainings"].items()]
    losses = [f"{entry['heldout_first']['answer']:.3f}, {entry['heldout_last']['answer']:.3f}" for *_, entry in arms]
    counts = [[f"{entry[key]:,}" for key in counted] for *_, entry in arms]
    return table(head, ([name, arm, *of, loss] for (name, arm, _), of, loss in zip(arms, counts, losses, strict=True)))


def lift_table(evaluations: Evaluations) -> Iterator[str]:
    """A line a claim; columns: the paper, then every member. A lift whose interval leaves zero out is bold."""
    found = [(claim, [_cell(item, claim) for item in evaluations.values()]) for claim in CLAIMS]
    head = ("measure", "mode", "paper", *evaluations)
    return table(head, ([claim.title, claim.mode, claim.paper, *cells] for claim, cells in found if any(cells)))


def inference_table(evaluations: Evaluations) -> Iterator[str]:
    """How often each marker is written right for a bare prompt, in per cent, by member; chance is the most frequent value."""
    rows = []
    for name, item in evaluations.items():
        theirs = INFERRED.get(name.partition(",")[0], {})
        rows.append([name, *(_right(item, marker, theirs.get(marker)) for marker in _MARKERS), _told(item["examples"])])
    return table(("member", *_MARKERS, "lang, where the prompt shows it"), rows)


def length_table(evaluations: Evaluations) -> Iterator[str]:
    """How far answers follow the number of tokens asked for; see `benchmarks.lengths`."""
    return lengths.lines({name: lengths.cells(item["examples"]) for name, item in evaluations.items()})


def tail_table(evaluations: Evaluations) -> Iterator[str]:
    """How much more the tail gains than the head, in points or nats per token."""
    rows = []
    for name, item in evaluations.items():
        parts = [item["metrics"].get(benchmark, {}).get(score, {}).get(mode, {}) for _, benchmark, score, mode in _TAIL]
        scales = [(100, 1) if benchmark == _WIN else (1, 3) for _, benchmark, *_ in _TAIL]
        rows.append([name, *(_slope(part.get("tail_minus_head"), *scale) for part, scale in zip(parts, scales, strict=True))])
    return table(("member", *(f"{title}, {mode}" for title, *_, mode in _TAIL)), (row for row in rows if any(row[1:])))


def rarity_table(evaluations: Evaluations) -> Iterator[str]:
    """How much more likely answers become for every tenfold fewer training rows of their marker's value, in nats per token."""
    found = [
        (name, mode, item["metrics"].get("likelihood", {}).get("nll", {}).get(mode, {}).get("rarity"))
        for name, item in evaluations.items()
        for mode in ("inferred", "fixed")
    ]
    rows = ([name, mode, *(_slope(of.get(marker)) for marker in _RARE)] for name, mode, of in found if of)
    return table(("member", "mode", *_RARE), rows)


def _slope(entry: Mapping[str, float] | None, factor: int = 1, digits: int = 3) -> str:
    if entry is None:
        return ""
    difference, low, high = (factor * entry[key] for key in ("difference", "low", "high"))
    text = f"{difference:+.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
    return f"{f'**{text}**' if entry['low'] > 0 or entry['high'] < 0 else text}; n {entry['n']:.0f}"


def confusion_table(evaluations: Evaluations) -> Iterator[str]:
    """English prompts that ask for another language; see `benchmarks.confusion`."""
    return confusion.lines({name: item["examples"] for name, item in evaluations.items()})


def _right(evaluation: Evaluation, marker: str, paper: float | None) -> str:
    entry = evaluation["metrics"].get("inference", {}).get(marker, {})
    if "accuracy" not in entry:
        return ""
    return _with_chance(entry["accuracy"], entry["low"], entry["high"], entry["majority"], entry["n"], paper)


def _entry(evaluation: Evaluation, claim: Claim) -> dict[str, Any]:
    part: Any = evaluation["metrics"]
    for key in claim.key:
        part = part.get(key, {})
    return dict(part)


def _with_added(evaluation: Evaluation) -> Evaluation:
    """With the lifts over slices that `tailmark evaluate` does not tell apart."""
    if evaluation["examples"] is None:
        return evaluation
    keys = [claim.key for claim in CLAIMS if claim.slice in ADDED]
    metrics = deepcopy(evaluation["metrics"])
    for benchmark, scores in pooled([evaluation], keys)["metrics"].items():
        for score, modes in scores.items():
            for mode, parts in modes.items():
                metrics[benchmark][score][mode] |= parts
    return {**evaluation, "metrics": metrics}


def _is_share(evaluation: Evaluation, claim: Claim) -> bool:
    measures: Sequence[Measure] = (*MEASURES, *(Measure(**item) for item in evaluation["benchmarks"]["measures"]))
    return any((item.benchmark, item.score, item.unit) == (claim.benchmark, claim.score, "share") for item in measures)


def _cell(evaluation: Evaluation, claim: Claim) -> str:
    entry = _entry(evaluation, claim)
    if not entry or entry["n"] < _FEWEST:
        return ""
    factor, digits = (100, 1) if _is_share(evaluation, claim) else (1, 3)
    before, after, lift, low, high = (f"{factor * entry[name]:.{digits}f}" for name in ("baseline", "marked", "lift", "low", "high"))
    text = f"{'+' * (entry['lift'] > 0)}{lift} ({low} to {high})"
    decided = entry["low"] > 0 or entry["high"] < 0
    return f"{before} to {after}: {f'**{text}**' if decided else text}; n {entry['n']}"


def plot(evaluations: Evaluations, path: Path) -> None:
    """Our lifts in points by member, with intervals (filled: zero is outside), and the paper's beside those that measure the same."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    shown = [claim for claim in CLAIMS if any(_points(item, claim) for item in evaluations.values())]
    figure = Figure(figsize=(9, 0.36 * len(shown) + 1.2), layout="constrained")
    axes = figure.subplots()
    for number, (name, item) in enumerate(evaluations.items()):
        shift = 0.16 * (number - (len(evaluations) - 1) / 2)
        marks = [(place + shift, points) for place, claim in enumerate(shown) if (points := _points(item, claim))]
        lifts = [lift for _, (lift, _, _) in marks]
        errors = [[lift - low for _, (lift, low, _) in marks], [high - lift for _, (lift, _, high) in marks]]
        places = [place for place, _ in marks]
        drawn = axes.errorbar(lifts, places, xerr=errors, fmt="o", markersize=5, markerfacecolor="white", capsize=2, label=name)
        decided = [(lift, place) for place, (lift, low, high) in marks if low > 0 or high < 0]
        axes.plot([lift for lift, _ in decided], [place for _, place in decided], "o", markersize=5, color=drawn[0].get_color(), zorder=3)
    theirs = [(claim.theirs, place) for place, claim in enumerate(shown) if claim.theirs is not None]
    if theirs:
        axes.plot([lift for lift, _ in theirs], [place for _, place in theirs], "D", color="black", fillstyle="none", label="paper (7B)")
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(shown)), [f"{claim.title} ({claim.mode})" for claim in shown], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("lift of the marked model over its baseline, points, 95 % intervals")
    axes.legend(loc="best", fontsize=8)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
        figure.savefig(path, metadata={"Date": None})


def _points(evaluation: Evaluation, claim: Claim) -> tuple[float, float, float] | None:
    entry = _entry(evaluation, claim)
    shown = entry and entry["n"] >= _FEWEST and _is_share(evaluation, claim)
    return (100 * entry["lift"], 100 * entry["low"], 100 * entry["high"]) if shown else None


def page(root: Path, given: argparse.Namespace) -> Iterator[str]:
    """The tables of every sweep, and its picture into `--out`."""
    for file in given.files:
        name = read_sweep(root / file).name
        evaluations, missing = found(root, file, given.revision, given.profile)
        yield f"## {name}"
        if missing:
            yield f"Not done: {', '.join(missing)}."
        if evaluations:
            every = {**evaluations, **seeds_together(evaluations, [claim.key for claim in CLAIMS])}
            yield "\n".join(training_table(evaluations))
            yield "\n".join(lift_table(every))
            tables = [list(make(evaluations)) for make in (inference_table, tail_table, rarity_table, confusion_table, length_table)]
            yield from ("\n".join(lines) for lines in tables if len(lines) > 2)
        if evaluations and given.out:
            plot(every, given.out / f"{name}.svg")


def main() -> None:
    """Print the tables; with `--out` keep them, with the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", default=[f"sweeps/{name}.yaml" for name in _SWEEPS])
    parser.add_argument("--revision", default="HEAD", help="what the sweeps ran from")
    parser.add_argument("--profile", default="bench")
    parser.add_argument("--out", type=Path, help="a folder for tables.md and the pictures")
    given = parser.parse_args()
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(page(Path.cwd(), given)) + "\n"
    print(text, end="")
    if given.out:
        (given.out / "tables.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
