"""Benchmarks on the reference answers: their likelihood under each list of markers, and which value of a marker explains one best."""

from __future__ import annotations

from collections.abc import Sequence

from tailmark.console import say
from tailmark.evaluate.benchmarks import Bench, written_markers
from tailmark.evaluate.inference import confidences, most_frequent
from tailmark.evaluate.likelihood import Scored, answer_nll, score_answers
from tailmark.evaluate.sample import Row, shuffled_markers
from tailmark.evaluate.scores import Score, ScoredMode
from tailmark.generate.decode import Answer
from tailmark.taxonomy import MarkerList

READ_MODES = ("absent", "inferred", "fixed", "wrong")
"""Modes in which an answer that is already there can be read. The others differ only in how the list comes about."""


def likelihood(bench: Bench, rows: Sequence[Row], inferred: Sequence[Answer]) -> list[Score]:
    """Negative log-likelihood of the reference answer per token: baseline, and the marked model in each mode.

    `absent` has no list anywhere, `inferred` the list the model wrote itself, `fixed` the row's own markers and `wrong` another row's;
    the last two stand where training had them: in the prompt, at the head of the completion, or in both. The pass over `inferred` also
    says how likely the model found the values it wrote (`confidence`).
    """
    asked: dict[ScoredMode, list[Scored]] = {"baseline": _without(rows)}
    asked |= {mode: _asked(bench, mode, rows, inferred) for mode in _modes(bench)}
    scores = []
    for name, items in asked.items():
        loaded = bench.baseline if name == "baseline" else bench.marked
        what, sure = f"answer likelihood, {name}", name == "inferred"
        found = score_answers(loaded, items, batch_size=bench.config.evaluate.batch_size, what=what, values=sure)
        scores += [
            Score(row, "likelihood", name, "nll", one.nll, given=item.given or {}, written=item.written or {})
            for row, item, one in zip(rows, items, found, strict=True)
        ]
        if sure:
            scores += confidences(rows, inferred, [one.values for one in found])
    return scores


def _modes(bench: Bench) -> list[ScoredMode]:
    return [mode for mode in bench.config.evaluate.modes if mode in READ_MODES]


def _without(rows: Sequence[Row]) -> list[Scored]:
    return [Scored(row.messages, row.completion) for row in rows]


def _asked(bench: Bench, mode: ScoredMode, rows: Sequence[Row], inferred: Sequence[Answer]) -> list[Scored]:
    if mode == "absent":
        return _without(rows)
    if mode == "inferred":
        lists = [written_markers(bench.marked, answer) for answer in inferred]
        return [Scored(row.messages, row.completion, None, written) for row, written in zip(rows, lists, strict=True)]
    given = [row.markers for row in rows] if mode == "fixed" else shuffled_markers(rows, bench.config.seed)
    return [_marked(bench, row, markers) for row, markers in zip(rows, given, strict=True)]


def _marked(bench: Bench, row: Row, markers: MarkerList) -> Scored:
    info = bench.marked.info
    return Scored(row.messages, row.completion, markers if info.reads_markers else None, markers if info.writes_markers else None)


def attribution(bench: Bench) -> list[Score]:
    """Which value of a marker, put into a row's list, makes its reference answer likeliest (1: the row's own value).

    The rest of the list is the row's own, so that candidates differ in that value alone; they are the values that training rows
    have. Rows times values forward passes. The baseline always names the value most frequent in training.
    """
    markers = bench.config.evaluate.attribution_markers or (bench.config.longtail.marker,)
    return [score for marker in markers for score in _attributed(bench, marker)]


def _attributed(bench: Bench, marker: str) -> list[Score]:
    count, values = bench.config.evaluate.attribution_rows, sorted(bench.heldout.trained.get(marker, {}))
    known = [row for row in bench.heldout.rows if row.markers.get(marker) in values]
    if not count or not known:
        if count:
            say(f"  attribution of {marker} left out: the model was not trained with it, or no held-out row has it")
        return []
    rows = bench.draw(known, count, "attribution")
    lists = [MarkerList({**row.markers, marker: value}) for row in rows for value in values]
    items = [_marked(bench, row, lists[place]) for place, row in _spread(rows, len(values))]
    found = answer_nll(bench.marked, items, batch_size=bench.config.evaluate.batch_size, what=f"attribution, {marker}")
    scores = []
    for place, row in enumerate(rows):
        losses = found[place * len(values) : (place + 1) * len(values)]
        best = values[losses.index(min(losses))]
        answers: dict[ScoredMode, str | None] = {"baseline": most_frequent(bench, marker), "fixed": best}
        scores += [_attribution(row, marker, mode, str(value)) for mode, value in answers.items()]
    return scores


def _spread(rows: Sequence[Row], times: int) -> list[tuple[int, Row]]:
    return list(enumerate(row for row in rows for _ in range(times)))


def _attribution(row: Row, marker: str, mode: ScoredMode, value: str) -> Score:
    label = row.markers[marker]
    return Score(row, "attribution", mode, marker, float(value == label), given={marker: label}, written={marker: value})
