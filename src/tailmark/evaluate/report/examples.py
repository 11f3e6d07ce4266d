"""Which generated answers the report shows, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tailmark.evaluate.scores import Score, ScoredMode
from tailmark.files import sha256_json

_PER_BENCHMARK = 4
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
    """One prompt with its reference and its answers."""

    title: str
    prompt: str
    reference: str
    tail: bool
    told: tuple[Told, ...]


def picked_examples(scores: Sequence[Score]) -> list[Example]:
    """A few rows of each control benchmark, drawn by their ids and not by their results, tail and head in turn."""
    examples = []
    for benchmark, (name, _) in _SHOWN.items():
        found = [item for item in scores if (item.benchmark, item.score) == (benchmark, name)]
        ids = sorted({item.row.id for item in found}, key=lambda row_id: sha256_json(["example", row_id]))
        tail = {item.row.id for item in found if item.row.tail}
        turns = [[row_id for row_id in ids if row_id in tail], [row_id for row_id in ids if row_id not in tail]]
        picked = sorted(ids, key=lambda row_id: next(turn.index(row_id) for turn in turns if row_id in turn))[:_PER_BENCHMARK]
        examples += [_example([item for item in found if item.row.id == row_id]) for row_id in picked]
    return examples


def _example(items: Sequence[Score]) -> Example:
    order = ("baseline", "inferred", "fixed")
    first = min(items, key=lambda item: order.index(item.mode))
    told = tuple(_told(item) for item in sorted(items, key=lambda item: order.index(item.mode)))
    return Example(_SHOWN[first.benchmark][1], _cut(first.prompt), _cut(first.row.completion), first.row.tail, told)


def _told(item: Score) -> Told:
    if item.score == "pass":
        note = "in the language asked for" if item.value else "not in the language asked for"
    else:
        target = item.row.markers["length_tokens"]
        note = f"{item.value:.0%} off the target of {target}"
    if item.given:
        note += "; asked by " + ", ".join(f"{name}={value}" for name, value in item.given.items())
    return Told(item.mode, _cut(item.answer or ""), {name: str(value) for name, value in item.written.items()}, note)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST].rstrip() + " …"
