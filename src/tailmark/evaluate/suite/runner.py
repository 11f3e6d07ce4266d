"""Runs the benchmarks of `evaluate.benchmarks`: every item answered by the baseline and in each mode, every answer scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tailmark.config import BenchmarkOptions
from tailmark.console import say, track
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.sample import Row
from tailmark.evaluate.scores import Measure, Score, ScoredMode
from tailmark.evaluate.suite.base import Benchmark, Item, Judged, Pairwise, Probe
from tailmark.evaluate.suite.registry import build
from tailmark.generate.modes import Mode, Tagger, requests_for
from tailmark.generate.request import Answer, Request
from tailmark.layout import Layout
from tailmark.taxonomy import MarkerList

GIVEN: frozenset[str] = frozenset({"fixed", "forced", "wrong"})
"""Modes that give the markers of an item; they have no meaning where no item has one."""


@dataclass(frozen=True)
class Suite:
    """What the benchmarks gave.

    Attributes:
        scores: of every item, mode and score, in the form of those of the held-out rows.
        measures: the scores that are compared between the arms.
        report: benchmark to its options, number of items, modes, files read, and what was not run with the reason.
    """

    scores: tuple[Score, ...] = ()
    measures: tuple[Measure, ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict)


NOTHING = Suite()


def run_suite(bench: Bench, layout: Layout, tagger: Tagger | None = None) -> Suite:
    """Run every configured benchmark.

    Args:
        tagger: reads prompts in the mode `on-the-fly`, which is left out without one.

    Raises:
        DataError: data of one are missing or not as they should be.
    """
    scores: list[Score] = []
    measures: dict[tuple[str, str], Measure] = {}
    report: dict[str, Any] = {}
    for options in bench.config.evaluate.benchmarks:
        made = build(options, bench, layout)
        say(f"Benchmark {made.name}")
        found = made.scores(bench) if isinstance(made, Probe) else _answered(made, options, bench, tagger)
        for what, reason in made.not_run.items():
            say(f"  not run: {what}: {reason}")
        scores += found
        measures |= {(item.benchmark, item.score): item for item in made.measures}
        report.setdefault(made.name, []).append(_entry(made, options, found, bench.config.evaluate.max_new_tokens))
    return Suite(tuple(scores), tuple(measures.values()), report)


def _entry(made: Benchmark | Probe, options: BenchmarkOptions, scores: Sequence[Score], max_new_tokens: int) -> dict[str, Any]:
    """What was run; `max_new_tokens`: of answers whose benchmark does not say."""
    return {
        "options": {"max_new_tokens": max_new_tokens, **options.model_dump(mode="json", exclude_none=True)},
        "items": len({score.row.id for score in scores}),
        "modes": sorted({score.mode for score in scores}),
        "files": {name: dict(told) for name, told in made.files.items()},
        "not_run": dict(made.not_run),
        "found": dict(made.found),
    }


def _answered(benchmark: Benchmark, options: BenchmarkOptions, bench: Bench, tagger: Tagger | None) -> list[Score]:
    items = benchmark.load()
    if not items:
        return []
    rows = [row_of(benchmark.name, item, bench) for item in items]
    modes = _modes(benchmark, options, rows, bench, tagger)
    requests = {mode: _requests(benchmark, mode, items, rows, bench, tagger) for mode in modes}
    answers = bench.answers(requests, benchmark.name, options.max_new_tokens)
    judged = benchmark.judge(items, answers) if isinstance(benchmark, Judged) else {}
    nothing: list[Mapping[str, float]] = [{}] * len(items)
    values = {
        mode: [{**own, **more} for own, more in zip(_values(benchmark, items, answers, mode), judged.get(mode, nothing), strict=True)]
        for mode in answers
    }
    return [
        score
        for mode in answers
        for row, request, answer, found in zip(rows, requests[mode], answers[mode], values[mode], strict=True)
        for score in _scores(benchmark.name, mode, row, request, answer, found)
    ]


def row_of(name: str, item: Item, bench: Bench) -> Row:
    """An item in the form of a held-out row, so that slices, intervals and tables treat it as one.

    Its markers are those that the model was trained with, at values that the taxonomy has; its labels stay as they are.
    """
    known, taxonomy = bench.marked.info.markers, bench.marked.taxonomy
    return Row(
        id=f"{name}/{item.id}",
        messages=tuple(dict(message) for message in item.messages),
        completion=item.reference,
        markers=MarkerList({key: value for key, value in item.markers.items() if key in known and taxonomy.allows(key, value)}),
        labels=dict(item.labels),
        tail=item.labels.get(bench.config.longtail.marker) in bench.heldout.tail,
        group=item.group or item.id,
    )


def _modes(benchmark: Benchmark, options: BenchmarkOptions, rows: Sequence[Row], bench: Bench, tagger: Tagger | None) -> list[ScoredMode]:
    """The baseline and the modes asked for, without those that mean nothing here."""
    asked = options.modes or bench.config.evaluate.modes
    known = [mode for mode in asked if benchmark.modes is None or mode in benchmark.modes]
    if not any(row.markers for row in rows):
        known = [mode for mode in known if mode not in GIVEN]
    if tagger is None:
        known = [mode for mode in known if mode != "on-the-fly"]
    return ["baseline", *known]


def _requests(
    benchmark: Benchmark, mode: ScoredMode, items: Sequence[Item], rows: Sequence[Row], bench: Bench, tagger: Tagger | None
) -> list[Request]:
    prompts = [benchmark.prompt(item, mode) for item in items]
    if mode == "baseline":
        return [Request(messages) for messages in prompts]
    known = set(bench.marked.info.markers)
    read = (lambda messages: [MarkerList(found).only(known) for found in tagger(messages)]) if tagger else None
    return requests_for(Mode(mode), prompts, markers=[row.markers for row in rows], tagger=read, seed=bench.config.seed)


def _values(
    benchmark: Benchmark, items: Sequence[Item], answers: Mapping[ScoredMode, Sequence[Answer]], mode: ScoredMode
) -> list[Mapping[str, float]]:
    """The scores of every answer of a mode, in the order of the items."""

    def score(place: int) -> Mapping[str, float]:
        answer = answers[mode][place]
        found = dict(benchmark.score(items[place], answer))
        if isinstance(benchmark, Pairwise):
            found |= benchmark.compare(items[place], answers["baseline"][place], answer)
        return found

    with ThreadPoolExecutor(benchmark.parallel) as pool:
        return list(track(pool.map(score, range(len(items))), f"scoring {benchmark.name}, {mode}", len(items), "answers"))


def _scores(name: str, mode: ScoredMode, row: Row, request: Request, answer: Answer, values: Mapping[str, float]) -> list[Score]:
    prompt = request.messages[-1]["content"]
    given = request.markers or {}
    return [Score(row, name, mode, score, value, prompt, answer.text, given, answer.markers) for score, value in values.items()]
