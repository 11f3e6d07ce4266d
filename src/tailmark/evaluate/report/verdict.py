"""What the figures say, in sentences: which lifts rose, which did not, how sure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tailmark.evaluate.report.svg import signed
from tailmark.evaluate.table import LiftRow

_ASKED = {"inferred": "left to write its own markers", "fixed": "given the markers", "wrong": "given another row's markers"}
_SUBJECT = {
    "nll": "finds the reference answers",
    "violation": "goes over the word limit",
    "error": "misses the length asked for",
    "pass": "answers in the language asked for",
}
_ALONE = {"length_alone": "Told the length by the marker alone", "language_alone": "Told the language by the marker alone"}


def headline(rows: Sequence[LiftRow]) -> str:
    """One sentence over all comparisons but the control."""
    counted = [row for row in rows if row.slice == "all" and row.mode != "wrong"]
    better, worse = (sum(row.verdict == kind for row in counted) for kind in ("better", "worse"))
    unclear = len(counted) - better - worse
    if not counted:
        return "Nothing could be compared."
    if not better and not worse:
        return f"Of {len(counted)} comparisons none is decided: this run is too small to tell the two models apart."
    parts = [
        f"better in {better}" if better else "better in none",
        *([f"worse in {worse}"] if worse else []),
        *([f"too close to call in {unclear}"] if unclear else []),
    ]
    return f"Of {len(counted)} comparisons with its baseline, the marked model is {_listed(parts)}."


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def sentences(rows: Sequence[LiftRow], metrics: dict[str, Any], confidence: float) -> list[tuple[str, str]]:
    """(verdict, sentence) for every main lift, then the control, the tail, and what the model inferred."""
    found = [(row.verdict, _sentence(row)) for row in rows if row.slice == "all" and row.mode != "wrong" and row.score in _SUBJECT]
    found += [(row.verdict, _own_marker(row)) for row in rows if row.slice == "all" and row.benchmark == "own_markers"]
    found += [("control", _control(row)) for row in rows if row.slice == "all" and row.mode == "wrong"]
    found += _tail(rows)
    compared = {row.score for row in rows if row.benchmark == "own_markers"}
    return [*found, *_inferred(metrics, compared, confidence)]


def _own_marker(row: LiftRow) -> str:
    name = {"lang": "language"}.get(row.score, row.score)
    return (
        f"Of itself it writes the right {name} for {row.marked:.0f}\u00a0% of the prompts; always naming the most frequent would be right"
        f" for {row.baseline:.0f}\u00a0% (lift {signed(row.lift, row.digits)}, {_range(row)})."
    )


def _range(row: LiftRow) -> str:
    return f"{signed(row.low, row.digits)} to {signed(row.high, row.digits)}; {row.n} rows"


def _sentence(row: LiftRow) -> str:
    asked = _ALONE.get(row.benchmark, _ASKED[row.mode].capitalize())
    other = "the baseline, told nothing," if row.benchmark in _ALONE else "the baseline"
    if row.score == "nll":
        word = {"better": "more likely", "worse": "less likely"}.get(row.verdict, "about as likely, as far as this run can tell,")
        than = "as" if row.verdict == "unclear" else "than"
        lift = f"{signed(row.lift, 3)} nats per token ({_range(row)})"
        return f"{asked}, it finds the reference answers {word} {than} the baseline does: {lift}."
    if row.score == "error":
        figures = f"by {row.marked:.2f} of the target on average, {other} by {row.baseline:.2f}"
    else:
        figures = f"in {row.marked:.0f}\u00a0% of its answers, {other} in {row.baseline:.0f}\u00a0%"
    doubt = ": too close to call" if row.verdict == "unclear" else ""
    return f"{asked}, it {_SUBJECT[row.score]} {figures}{doubt} (lift {signed(row.lift, row.digits)}, {_range(row)})."


def _control(row: LiftRow) -> str:
    reading = {
        "worse": "less likely than for the baseline, so it does go by what the markers say",
        "unclear": "about as likely as for the baseline",
        "better": "still more likely than for the baseline, so part of its lift does not come from what the markers say",
    }[row.verdict]
    return f"Given another row's markers, it finds the reference answers {reading} ({signed(row.lift, 3)} nats per token, {_range(row)})."


def _tail(rows: Sequence[LiftRow]) -> list[tuple[str, str]]:
    found = {row.slice: row for row in rows if row.score == "nll" and row.mode == "inferred"}
    if not {"head", "tail"} <= found.keys():
        return []
    tail, head = (f"{signed(found[name].lift, 3)} ({_range(found[name])})" for name in ("tail", "head"))
    return [(found["tail"].verdict, f"In the tail its likelihood lift without any marker given is {tail}, in the head {head}.")]


def _inferred(metrics: dict[str, Any], compared: set[str], confidence: float) -> list[tuple[str, str]]:
    parts = [
        f"{name} in {_percent(entry['accuracy'])} ({_percent(entry['low'])} to {_percent(entry['high'])};"
        f" the most frequent value alone would give {_percent(entry['majority'])})"
        for name, entry in metrics["inference"].items()
        if "accuracy" in entry and name not in compared
    ]
    if not parts:
        return []
    return [("note", f"Of itself it writes the right {_listed(parts)}; intervals at {_percent(confidence)}.")]


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"
