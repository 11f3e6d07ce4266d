"""What the figures say, in sentences: which lifts rose, which did not, how sure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tailmark.evaluate.report.svg import signed
from tailmark.evaluate.summary import RARITY, TAIL_MINUS_HEAD
from tailmark.evaluate.table import LiftRow
from tailmark.statistics import holm

_ASKED = {
    "absent": "kept from writing markers",
    "inferred": "left to write its own markers",
    "fixed": "given the markers",
    "forced": "given the markers in the prompt and in its own list",
    "on-the-fly": "given the markers that an annotator reads from the prompt",
    "wrong": "given another row's markers",
}
_SUBJECT = {
    "nll": "finds the reference answers",
    "violation": "goes over the word limit",
    "error": "misses the length asked for",
    "pass": "answers in the language asked for",
}
_TOLD = frozenset({"likelihood", "length", "length_alone", "language", "language_alone"})
"""Benchmarks whose scores `_SUBJECT` puts into words."""

_FEW = 4
"""Undecided comparisons of further benchmarks that are told one by one."""

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
    """(verdict, sentence) for every main lift, what rose first; then the tail, the control, and what the model inferred."""
    counted = [row for row in rows if row.slice == "all" and row.mode != "wrong"]
    order, undecided = ("better", "worse", "unclear"), _undecided(counted)
    told = [row for row in counted if row not in undecided]
    found = sorted(((row.verdict, _sentence(row)) for row in told), key=lambda item: order.index(item[0]))
    if undecided:
        titles = dict.fromkeys(row.title for row in undecided)
        found.append(("unclear", f"Too close to call in {len(undecided)} further comparisons, in the table below: {'; '.join(titles)}."))
    found += [*_together(counted, confidence), *_tail(rows, metrics)]
    found += [("control", _control(row)) for row in rows if row.slice == "all" and row.mode == "wrong" and row.score == "nll"]
    compared = {row.score for row in rows if row.benchmark == "own_markers"}
    return [*found, *_inferred(metrics, compared, confidence)]


def _undecided(rows: Sequence[LiftRow]) -> list[LiftRow]:
    """What a benchmark that options name left open, where that is so much that it would hide what is decided."""
    found = [row for row in rows if row.verdict == "unclear" and not _worded(row)]
    return found if len(found) > _FEW else []


def _worded(row: LiftRow) -> bool:
    return row.benchmark in ("own_markers", "attribution") or (row.benchmark in _TOLD and row.score in _SUBJECT)


def _together(rows: Sequence[LiftRow], confidence: float) -> list[tuple[str, str]]:
    """How many of the decided comparisons remain after correction for the number of comparisons."""
    decided = [row.verdict != "unclear" for row in rows]
    if len(rows) < 2 or not any(decided):
        return []
    kept = sum(p < 1 - confidence and known for p, known in zip(holm([row.p for row in rows]), decided, strict=True))
    which = "none of them holds" if not kept else "all of them hold" if kept == sum(decided) else f"{kept} of the {sum(decided)} hold"
    return [
        ("note", f"Of so many comparisons some differ by chance. Corrected for their number (Holm), {which} at {_percent(confidence)}.")
    ]


def _measured(row: LiftRow) -> str:
    """Of a benchmark that options name: its title and figures."""
    asked = _ASKED.get(row.mode, row.mode)
    figures = f"{row.marked:.{row.digits}f} against {row.baseline:.{row.digits}f}"
    doubt = "too close to call, " if row.verdict == "unclear" else ""
    return f"{row.title}, {asked}: {figures} ({doubt}lift {signed(row.lift, row.digits)} {row.unit}, {_range(row)})."


def _own_marker(row: LiftRow) -> str:
    name = {"lang": "language"}.get(row.score, row.score)
    told = "It writes the right" if row.benchmark == "own_markers" else "Trying out every value, it finds the right"
    return (
        f"{told} {name} for {row.marked:.0f}\u00a0% of the prompts; always naming the most frequent would be right"
        f" for {row.baseline:.0f}\u00a0% (lift {signed(row.lift, row.digits)}, {_range(row)})."
    )


def _range(row: LiftRow) -> str:
    return f"{signed(row.low, row.digits)} to {signed(row.high, row.digits)}; {row.n} rows"


def _sentence(row: LiftRow) -> str:
    if row.benchmark in ("own_markers", "attribution"):
        return _own_marker(row)
    if not _worded(row):
        return _measured(row)
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


def _tail(rows: Sequence[LiftRow], metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """Whether the answers' likelihood gains more in the tail than in the head: the difference, which the two lifts alone do not test."""
    found = {(row.mode, row.slice): row for row in rows if row.score == "nll" and row.mode != "wrong"}
    sentences = []
    for mode in dict.fromkeys(mode for mode, name in found if name == "tail"):
        slices = metrics["likelihood"]["nll"][mode]
        if TAIL_MINUS_HEAD not in slices or (mode, "head") not in found:
            continue
        tail, head = found[mode, "tail"], found[mode, "head"]
        entry = slices[TAIL_MINUS_HEAD]
        reading = "better" if entry["low"] > 0 else "worse" if entry["high"] < 0 else "unclear"
        words = {"better": "more than", "worse": "less than", "unclear": "not clearly more or less than"}[reading]
        lifts = f"{signed(tail.lift, 3)} against {signed(head.lift, 3)} nats per token, a difference of {_between(entry)}"
        sentences.append((reading, f"{_ASKED[mode].capitalize()}, it gains in the tail {words} in the head: {lifts}{_growth(slices)}."))
    return sentences


def _growth(slices: dict[str, Any]) -> str:
    """The marker along which rarity matters most clearly, where it does for any."""
    clear = {name: entry for name, entry in slices.get(RARITY, {}).items() if entry["low"] > 0 or entry["high"] < 0}
    if not clear:
        return ""
    name = max(clear, key=lambda item: (abs(clear[item]["difference"]), item))
    return f"; for every tenfold fewer training rows with the same {name} the lift changes by {_between(clear[name])}"


def _between(entry: dict[str, float]) -> str:
    return f"{signed(entry['difference'], 3)} ({signed(entry['low'], 3)} to {signed(entry['high'], 3)})"


def _inferred(metrics: dict[str, Any], compared: set[str], confidence: float) -> list[tuple[str, str]]:
    parts = [
        f"{name} in {_percent(entry['accuracy'])} ({_percent(entry['low'])} to {_percent(entry['high'])};"
        f" the most frequent value alone would give {_percent(entry['majority'])})"
        for name, entry in metrics["inference"].items()
        if "accuracy" in entry and name not in compared
    ]
    if not parts:
        return []
    return [("note", f"It writes the right {_listed(parts)}; intervals at {_percent(confidence)}.")]


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"
