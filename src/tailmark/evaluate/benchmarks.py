"""What every comparison needs, and the two on the reference answers: their likelihood, and the inference of their markers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tailmark.config import Config
from tailmark.errors import TaxonomyError
from tailmark.evaluate.likelihood import Scored, answer_nll
from tailmark.evaluate.sample import HeldOut, Row, draw, shuffled_markers
from tailmark.evaluate.scores import Score, ScoredMode
from tailmark.generate.decode import Answer, Request, generate
from tailmark.generate.loading import LoadedModel
from tailmark.taxonomy import MarkerValue


@dataclass(frozen=True)
class Bench:
    """What every comparison needs."""

    config: Config
    baseline: LoadedModel
    marked: LoadedModel
    heldout: HeldOut

    def draw(self, rows: Sequence[Row], count: int, purpose: str) -> list[Row]:
        """A sample of rows, balanced over head and tail."""
        return draw(rows, count, seed=self.config.seed, purpose=purpose)

    def answer(self, mode: ScoredMode, requests: Sequence[Request], what: str) -> list[Answer]:
        """Answers of the arm that the mode belongs to."""
        options = self.config.evaluate
        loaded = self.baseline if mode == "baseline" else self.marked
        return generate(loaded, requests, max_new_tokens=options.max_new_tokens, batch_size=options.batch_size, what=f"{what}, {mode}")


def written_markers(answer: Answer) -> dict[str, str] | None:
    """The list a model wrote, as far as it is well formed; None where it wrote none."""
    return answer.markers if answer.listed else None


def infer_markers(bench: Bench, rows: Sequence[Row]) -> list[Answer]:
    """The lists the marked model writes of itself for the rows' prompts."""
    requests = [Request(row.messages) for row in rows]
    return generate(
        bench.marked, requests, max_new_tokens=1, batch_size=bench.config.evaluate.batch_size, list_only=True, what="writing marker lists"
    )


def likelihood(bench: Bench, rows: Sequence[Row], inferred: Sequence[Answer]) -> list[Score]:
    """Negative log-likelihood of the reference answer per token: baseline, and the marked model in each mode.

    `inferred` conditions on the list the model wrote itself, `fixed` on the row's own markers and `wrong` on another row's; the last two
    stand both in the prompt and at the head of the completion, as in training.
    """
    asked: dict[ScoredMode, list[Scored]] = {"baseline": [Scored(row.messages, row.completion) for row in rows]}
    for mode in bench.config.evaluate.modes:
        if mode == "inferred":
            lists: list[Mapping[str, MarkerValue] | None] = [written_markers(answer) for answer in inferred]
            asked[mode] = [Scored(row.messages, row.completion, None, written) for row, written in zip(rows, lists, strict=True)]
        else:
            given = [row.markers for row in rows] if mode == "fixed" else shuffled_markers(rows, bench.config.seed)
            asked[mode] = [Scored(row.messages, row.completion, markers, markers) for row, markers in zip(rows, given, strict=True)]
    scores = []
    for name, items in asked.items():
        loaded = bench.baseline if name == "baseline" else bench.marked
        values = answer_nll(loaded, items, batch_size=bench.config.evaluate.batch_size, what=f"answer likelihood, {name}")
        scores += [
            Score(row, "likelihood", name, "nll", value, given=item.given or {}, written=item.written or {})
            for row, item, value in zip(rows, items, values, strict=True)
        ]
    return scores


def inference(bench: Bench, rows: Sequence[Row], inferred: Sequence[Answer]) -> list[Score]:
    """Per marker and row: 1 or 0 for a categorical marker written right or not (missing is not), the relative error of a number.

    A number that was not written, or not as a number, counts as an error of 1.
    """
    taxonomy = bench.marked.taxonomy
    scores = []
    for row, answer in zip(rows, inferred, strict=True):
        for name, label in row.markers.items():
            text = answer.markers.get(name)
            if isinstance(label, str):
                value = float(text == label)
            else:
                value = _relative_error(bench, name, text, float(label)) if text is not None and name in taxonomy.markers else 1.0
            scores.append(Score(row, "inference", "inferred", name, value, given={name: label}, written=answer.markers))
    return scores


def own_markers(bench: Bench, inferred: Sequence[Score]) -> list[Score]:
    """Marker inference as a comparison: the model's list against always naming the value most frequent in training."""
    scores = []
    for item in inferred:
        if trained := bench.heldout.trained.get(item.score):
            guess = min(trained, key=lambda value: (-trained[value], value))
            right = float(item.given[item.score] == guess)
            scores.append(replace(item, benchmark="own_markers", mode="baseline", value=right, written={item.score: guess}))
            scores.append(replace(item, benchmark="own_markers"))
    return scores


def _relative_error(bench: Bench, name: str, text: str, label: float) -> float:
    try:
        guess = float(bench.marked.taxonomy.typed(name, text))
    except TaxonomyError:
        return 1.0
    return abs(guess - label) / max(abs(label), 1.0)
