"""Open-ended prompts: the marked model's answer against the baseline's, in the eyes of every judge there is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from tailmark.config import OpenEnded
from tailmark.errors import DataError
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.judges import Contest, Judge, Verdict, open_judges
from tailmark.evaluate.judges.agreement import agreement
from tailmark.evaluate.scores import Measure, ScoredMode
from tailmark.evaluate.suite.base import Item, Judged, sample
from tailmark.evaluate.suite.data import Files
from tailmark.evaluate.suite.prompts import file_items, heldout_items
from tailmark.evaluate.winrate import Match, win_rate
from tailmark.generate.request import Answer
from tailmark.layout import Layout

DOMAIN = "domain"
_FEWEST = 8
"""Prompts of a domain that has a win rate of its own."""

Verdicts = Sequence[Verdict | None]


class OpenEndedBenchmark(Judged):
    """Arena-Hard, or held-out rows. Scores: `win_<judge>`, 1 the marked model wins, 0.5 a tie, and 0.5 for the baseline itself.

    `found` has per judge and mode the win rate, plain and length-controlled, by head, tail and domain, and how far the judges agree.
    """

    def __init__(self, options: OpenEnded, bench: Bench, layout: Layout) -> None:
        self.name = options.name
        self._options, self._bench = options, bench
        self._prompts = Files(layout.root, options.path) if options.path else None
        self._references = Files(layout.root, options.references) if options.references else None
        self.files: dict[str, dict[str, str | int]] = {}
        self.found: dict[str, Any] = {}
        self.not_run: dict[str, str] = {}
        self._judges = open_judges(bench.config.evaluate.judges, layout)
        title = "Held-out prompts" if options.path is None else options.name.replace("_", " ").capitalize()
        self.measures = [
            Measure(self.name, f"win_{judge.name}", f"{title}: win rate ({judge.title})", "share", higher_is_better=True)
            for judge in self._judges
        ]

    def load(self) -> Sequence[Item]:
        """The prompts, with reference answers and domains where there are any.

        Raises:
            DataError: a file is missing or has no prompts.
        """
        if self._prompts is None:
            items: Sequence[Item] = heldout_items(self._bench, self._options.limit, self.name)
        else:
            references = self._read_references()
            items = [self._with_facts(item, references) for item in file_items(self._prompts)]
            self.files |= self._prompts.digests
            items = sample(items, self._options.limit, self._bench.config.seed)
        missing = sum(not item.reference.strip() for item in items)
        for judge in self._judges:
            if judge.needs_reference and missing:
                self.not_run[f"judge {judge.name}"] = f"{missing} of {len(items)} prompts have no reference answer"
        return items

    def _read_references(self) -> dict[str, str]:
        if self._references is None:
            return {}
        found = {str(row.get("uid") or row.get("question_id")): _answer_of(row) for row in self._references.jsonl()}
        self.files |= self._references.digests
        return found

    def _with_facts(self, item: Item, references: Mapping[str, str]) -> Item:
        cluster = str(item.data.get("cluster") or item.data.get("category") or "")
        domain = next((value for glob, value in self._options.domains.items() if fnmatchcase(cluster, glob)), None)
        known = {DOMAIN: domain} if domain else {}
        return replace(item, reference=references.get(item.id, ""), markers=known, labels=known, group=item.id)

    def score(self, item: Item, answer: Answer) -> Mapping[str, float]:
        """How long the answer is, in characters: what the win rate is controlled for."""
        del item
        return {"characters": float(len(answer.text))}

    def judge(
        self, items: Sequence[Item], answers: Mapping[ScoredMode, Sequence[Answer]]
    ) -> Mapping[ScoredMode, Sequence[Mapping[str, float]]]:
        """The wins of every mode, by every judge."""
        values: dict[ScoredMode, list[dict[str, float]]] = {mode: [{} for _ in items] for mode in answers}
        found: dict[str, Any] = {"win_rates": {}, "agreement": {}}
        for mode in answers:
            verdicts = {judge.name: self._verdicts(judge, items, answers["baseline"], answers[mode], mode) for judge in self._judges}
            for name, said in verdicts.items():
                for place, verdict in enumerate(said):
                    if verdict is not None:
                        values[mode][place][f"win_{name}"] = verdict.value
                if mode != "baseline" and any(said):
                    rates = self._win_rates(items, answers["baseline"], answers[mode], said)
                    found["win_rates"].setdefault(name, {})[mode] = rates
            if mode != "baseline" and len(verdicts) > 1:
                found["agreement"][mode] = agreement(verdicts)
        found["judges"] = {judge.name: judge.report() for judge in self._judges}
        self.found = found
        return values

    def _verdicts(self, judge: Judge, items: Sequence[Item], baseline: Sequence[Answer], marked: Sequence[Answer], mode: str) -> Verdicts:
        can = [place for place, item in enumerate(items) if item.reference.strip() or not judge.needs_reference]
        said: list[Verdict | None] = [None] * len(items)
        if mode == "baseline":
            known: Verdicts = [Verdict(0.5)] * len(can)
        else:
            known = judge.compare([_contest(items[place], baseline[place], marked[place]) for place in can])
        for place, verdict in zip(can, known, strict=True):
            said[place] = verdict
        return said

    def _win_rates(
        self, items: Sequence[Item], baseline: Sequence[Answer], marked: Sequence[Answer], verdicts: Verdicts
    ) -> dict[str, dict[str, float]]:
        slices: dict[str, list[Match]] = defaultdict(list)
        for item, one, other, verdict in zip(items, baseline, marked, verdicts, strict=True):
            if verdict is not None:
                match = Match(verdict.value, len(other.text) - len(one.text), item.group or item.id, verdict.steady)
                for name in self._slices(item):
                    slices[name].append(match)
        options, seed = self._bench.config.evaluate, self._bench.config.seed
        return {
            name: win_rate(matches, resamples=options.resamples, confidence=options.confidence, seed=seed)
            for name, matches in sorted(slices.items())
            if "=" not in name or len(matches) >= _FEWEST
        }

    def _slices(self, item: Item) -> Iterator[str]:
        """`all`; head or tail, of which a prompt without a value of the long-tail marker is neither; the domain."""
        yield "all"
        value = item.labels.get(self._bench.config.longtail.marker)
        if value is not None:
            yield "tail" if value in self._bench.heldout.tail else "head"
        if DOMAIN in item.labels:
            yield f"{DOMAIN}={item.labels[DOMAIN]}"


def _contest(item: Item, baseline: Answer, marked: Answer) -> Contest:
    return Contest(item.messages, baseline.text, marked.text, item.reference)


def _answer_of(row: Mapping[str, Any]) -> str:
    """The text of an Arena-Hard answer: the last message, whose content is the text or an object with it."""
    try:
        content = row["messages"][-1]["content"]
        return str(content["answer"] if isinstance(content, dict) else content)
    except (KeyError, IndexError, TypeError):
        raise DataError(
            "A reference answer is not in the form of Arena-Hard's model_answer.", where=", ".join(sorted(row)), fix="correct `references`"
        ) from None
