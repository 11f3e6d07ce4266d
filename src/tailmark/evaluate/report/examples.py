"""Which generated answers the report shows, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from tailmark.config import Mode
from tailmark.evaluate.scores import Measure, Score, ScoredMode
from tailmark.files import sha256_json

_PER_BENCHMARK = 4
_ORDER: tuple[str, ...] = ("baseline", *get_args(Mode))
_SHOWN = {
    "length": ("error", "Length control"),
    "language": ("pass", "Language, asked for in words"),
    "language_alone": ("pass", "Language, by the marker alone"),
}
"""Benchmark to the score that is shown and the heading."""

_LONGEST = 700


@dataclass(frozen=True)
class Told:
    """One answer: how it was asked for, what came, and whether it did what was asked."""

    mode: ScoredMode
    answer: str
    written: dict[str, str]
    note: str


@dataclass(frozen=True)
class Example:
    """One prompt with its reference and its answers; `part`: `head` or `tail`, empty for a row that is neither."""

    title: str
    prompt: str
    reference: str
    part: str
    told: tuple[Told, ...]


def picked_examples(scores: Sequence[Score], measures: Sequence[Measure], marker: str) -> list[Example]:
    """A few rows of each benchmark with answers, drawn by their ids and not by their results, tail and head in turn.

    Args:
        measures: what the benchmarks that options name compare; the first of each says how its answers did.
        marker: the long-tail marker.
    """
    examples = []
    shown = dict(_SHOWN)
    for measure in measures:
        shown.setdefault(measure.benchmark, (measure.score, measure.title))
    for benchmark, (name, title) in shown.items():
        found = [item for item in scores if (item.benchmark, item.score) == (benchmark, name) and item.answer is not None]
        ids = sorted({item.row.id for item in found}, key=lambda row_id: sha256_json(["example", row_id]))
        tail = {item.row.id for item in found if item.row.tail}
        turns = [[row_id for row_id in ids if row_id in tail], [row_id for row_id in ids if row_id not in tail]]
        picked = sorted(ids, key=lambda row_id: next(turn.index(row_id) for turn in turns if row_id in turn))[:_PER_BENCHMARK]
        examples += [_example(title, [item for item in found if item.row.id == row_id], marker) for row_id in picked]
    return examples


def _example(title: str, items: Sequence[Score], marker: str) -> Example:
    ordered = sorted(items, key=lambda item: _ORDER.index(item.mode))
    first, told = ordered[0], tuple(_told(item, title) for item in ordered)
    part = "" if marker not in first.row.labels else "tail" if first.row.tail else "head"
    return Example(title, _cut(first.prompt), _cut(first.row.completion), part, told)


def _told(item: Score, title: str) -> Told:
    if item.benchmark not in _SHOWN:
        note = f"{title}: {item.value:.3g}"
    elif item.score == "pass":
        note = "in the language asked for" if item.value else "not in the language asked for"
    else:
        target = item.row.markers["length_tokens"]
        note = f"{item.value:.0%} off the target of {target}"
    if item.given:
        note += "; asked by " + ", ".join(f"{name}={value}" for name, value in item.given.items())
    return Told(item.mode, _cut(item.answer or ""), {name: str(value) for name, value in item.written.items()}, note)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST].rstrip() + " …"
