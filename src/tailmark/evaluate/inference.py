"""What the marked model knows of an answer before it writes it: the markers it infers, and how sure it is of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tailmark.errors import TaxonomyError
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.sample import Row
from tailmark.evaluate.scores import Score
from tailmark.generate.decode import Answer, Request, generate
from tailmark.taxonomy import MarkerValue, Taxonomy


def infer_markers(bench: Bench, rows: Sequence[Row]) -> list[Answer]:
    """The lists the marked model writes of itself for the rows' prompts."""
    requests = [Request(row.messages) for row in rows]
    return generate(
        bench.marked, requests, max_new_tokens=1, batch_size=bench.config.evaluate.batch_size, list_only=True, what="writing marker lists"
    )


def inference(bench: Bench, rows: Sequence[Row], inferred: Sequence[Answer]) -> list[Score]:
    """Per marker and row: 1 or 0 for a categorical marker written right or not (missing is not), the relative error of a number.

    A number that was not written, or not as a number, counts as an error of 1.
    """
    return [
        Score(
            row,
            "inference",
            "inferred",
            name,
            _inferred(bench.marked.taxonomy, name, label, answer),
            "",
            None,
            {name: label},
            answer.markers,
        )
        for row, answer in zip(rows, inferred, strict=True)
        for name, label in row.markers.items()
    ]


def _inferred(taxonomy: Taxonomy, name: str, label: MarkerValue, answer: Answer) -> float:
    text = answer.markers.get(name)
    if isinstance(label, str):
        return float(text == label)
    try:
        guess = float(taxonomy.typed(name, text)) if text is not None else None
    except TaxonomyError:
        guess = None
    return 1.0 if guess is None else abs(guess - label) / max(abs(label), 1.0)


def own_markers(bench: Bench, inferred: Sequence[Score]) -> list[Score]:
    """Marker inference as a comparison: the model's list against always naming the value most frequent in training."""
    scores = []
    for item in inferred:
        if guess := most_frequent(bench, item.score):
            right = float(item.given[item.score] == guess)
            scores.append(replace(item, benchmark="own_markers", mode="baseline", value=right, written={item.score: guess}))
            scores.append(replace(item, benchmark="own_markers"))
    return scores


def most_frequent(bench: Bench, marker: str) -> str | None:
    """The value that most training rows have; of equal ones the first by name; None for a number, or where no row has one."""
    trained = bench.heldout.trained.get(marker)
    return min(trained, key=lambda value: (-trained[value], value)) if trained else None


def confidences(rows: Sequence[Row], inferred: Sequence[Answer], probabilities: Sequence[dict[str, float]]) -> list[Score]:
    """Per row and categorical marker that has a label and was written: the probability the model gave to the value it wrote.

    `probabilities`: as `likelihood.score_answers` gives them for the lists that the model wrote.
    """
    return [
        Score(row, "confidence", "inferred", name, found[name], "", None, {name: label}, answer.markers)
        for row, answer, found in zip(rows, inferred, probabilities, strict=True)
        for name, label in row.markers.items()
        if isinstance(label, str) and name in found
    ]
