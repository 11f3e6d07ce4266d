"""The four comparisons: likelihood of the reference answer, marker inference, length control, language control."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tailmark.config import Config
from tailmark.console import say
from tailmark.errors import TaxonomyError
from tailmark.evaluate.likelihood import Scored, answer_nll
from tailmark.evaluate.sample import HeldOut, Row, draw, shuffled_markers
from tailmark.evaluate.scores import Score, ScoredMode
from tailmark.files import sha256_json
from tailmark.generate.decode import Answer, Request, generate
from tailmark.generate.loading import LoadedModel
from tailmark.measure.language import CODES, lines_in_language, measure_language
from tailmark.measure.lengths import measure_lengths
from tailmark.taxonomy import MarkerList, MarkerValue

LENGTH, LANG = "length_tokens", "lang"
LIMIT_WORDS = (
    "Answer in at most {} words.",
    "Use no more than {} words.",
    "Keep the answer to {} words or fewer.",
    "The answer must not be longer than {} words.",
)
LANGUAGE_WORDS = ("Answer in {}.", "Write the answer in {}.", "Reply in {}.", "The answer must be in {}.")
CONTROL_LANGUAGES = 6
_NO_SPACES = frozenset({"Chinese", "Japanese"})
"""Written without spaces between words, so that a limit in words means nothing."""

_SHORTEST_LIMIT = 8
"""Below, one token more or less is a large share of the target."""

_SHORTEST_JUDGED = 6
"""Tokens of a reference answer: of shorter ones a line seldom says which language it is in."""

_WORD = re.compile(r"\w+(?:['’\-]\w+)*")


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


def _relative_error(bench: Bench, name: str, text: str, label: float) -> float:
    try:
        guess = float(bench.marked.taxonomy.typed(name, text))
    except TaxonomyError:
        return 1.0
    return abs(guess - label) / max(abs(label), 1.0)


def length_control(bench: Bench) -> list[Score]:
    """Held-out prompts with the length of their own answer as the limit (the paper's AlpacaEval-LI).

    Baseline and `inferred` are told in words; in `fixed` the words are removed and only `length_tokens` stands in the prompt. Limits go
    up to half of `evaluate.max_new_tokens`, so that an answer cut off there is over its limit in any case, and counts as it is.
    """
    if LENGTH not in bench.marked.info.markers:
        say(f"  length control left out: the model was not trained with {LENGTH}")
        return []
    rows = bench.draw([row for row in bench.heldout.rows if _has_limit(row, bench)], bench.config.evaluate.control_rows, "length")
    scores = []
    for mode in _control_modes(bench):
        said = [_said(row, LIMIT_WORDS, row.markers[LENGTH]) for row in rows]
        given = [MarkerList({LENGTH: row.markers[LENGTH]}) if mode == "fixed" else None for row in rows]
        messages = [row.messages if mode == "fixed" else _with_words(row, words) for row, words in zip(rows, said, strict=True)]
        answers = bench.answer(mode, [Request(*item) for item in zip(messages, given, strict=True)], "length control")
        for row, asked, markers, answer in zip(rows, messages, given, answers, strict=True):
            scores += _length_scores(row, mode, asked[-1]["content"], markers, answer)
    return scores


def _has_limit(row: Row, bench: Bench) -> bool:
    limit = row.markers.get(LENGTH)
    return limit is not None and _SHORTEST_LIMIT <= float(limit) <= bench.config.evaluate.max_new_tokens / 2 and row.lang not in _NO_SPACES


def _length_scores(row: Row, mode: ScoredMode, prompt: str, given: MarkerList | None, answer: Answer) -> list[Score]:
    target = float(row.markers[LENGTH])
    tokens = measure_lengths(answer.text, row.lang).tokens
    values = {
        "violation": float(len(_WORD.findall(answer.text)) > target),
        "violation_tokens": float(tokens > target),
        "error": abs(tokens - target) / target,
        "tokens": float(tokens),
    }
    return [Score(row, "length", mode, name, value, prompt, answer.text, given or {}, answer.markers) for name, value in values.items()]


def language_control(bench: Bench) -> list[Score]:
    """Held-out prompts in English, asked for an answer in another language of the training data (after arXiv 2406.20052).

    Baseline and `inferred` are told in words; `fixed` is told in words and by the marker.
    """
    targets = control_languages(bench)
    if not targets:
        say("  language control left out: the model was not trained with `lang`, or the training data have one language only")
        return []
    rows = bench.draw([row for row in bench.heldout.rows if _asks_in_english(row)], bench.config.evaluate.control_rows, "language")
    langs = [targets[place % len(targets)] for place in range(len(rows))]
    scores = []
    for mode in _control_modes(bench):
        messages = [_with_words(row, _said(row, LANGUAGE_WORDS, lang)) for row, lang in zip(rows, langs, strict=True)]
        given = [MarkerList({LANG: lang}) if mode == "fixed" else None for lang in langs]
        answers = bench.answer(mode, [Request(*item) for item in zip(messages, given, strict=True)], "language control")
        for row, lang, asked, markers, answer in zip(rows, langs, messages, given, answers, strict=True):
            passed = float(lines_in_language(answer.text, lang))
            scores.append(Score(row, "language", mode, "pass", passed, asked[-1]["content"], answer.text, markers or {}, answer.markers))
    return scores


def control_languages(bench: Bench) -> list[str]:
    """The languages, other than English, with the most training rows that the language check knows."""
    if LANG not in bench.marked.info.markers:
        return []
    counts = bench.heldout.trained.get(LANG, {})
    known = [lang for lang in counts if lang in CODES and lang != "English"]
    return sorted(known, key=lambda lang: (-counts[lang], lang))[:CONTROL_LANGUAGES]


def _asks_in_english(row: Row) -> bool:
    if row.labels.get("domain") == "Code" or float(row.markers.get(LENGTH, _SHORTEST_JUDGED)) < _SHORTEST_JUDGED:
        return False
    found = measure_language(row.messages[-1]["content"], CODES)
    return found is not None and found.name == "English"


def _control_modes(bench: Bench) -> list[ScoredMode]:
    """`wrong` has no meaning here: there is no request it could go against."""
    return ["baseline", *(mode for mode in bench.config.evaluate.modes if mode != "wrong")]


def _said(row: Row, templates: Sequence[str], value: MarkerValue) -> str:
    return templates[int(sha256_json(row.id)[:8], 16) % len(templates)].format(value)


def _with_words(row: Row, words: str) -> tuple[dict[str, str], ...]:
    *before, last = row.messages
    return (*before, {**last, "content": f"{last['content'].rstrip()} {words}"})
