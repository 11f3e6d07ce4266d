"""Control of the answer's length and language, by words in the prompt and by the marker alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tailmark.console import say
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.sample import Row
from tailmark.evaluate.scores import Score, ScoredMode
from tailmark.files import sha256_json
from tailmark.generate.decode import Answer, Request
from tailmark.measure.language import CODES, lines_in_language, measure_language
from tailmark.measure.lengths import measure_lengths, with_bucket
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

Messages = tuple[dict[str, str], ...]


def length_control(bench: Bench) -> list[Score]:
    """Held-out prompts with the length of their own answer as the target (the paper's AlpacaEval-LI).

    Under `length`, baseline and `inferred` are told the limit in words; in `fixed` the words are removed and only `length_tokens`, with
    the bucket that it implies, stands in the prompt. Under `length_alone` that same `fixed` is held against a baseline that is not told
    either. Targets go up to half of `evaluate.max_new_tokens`, so that an answer cut off there is over its limit in any case, and counts
    as it is.
    """
    if LENGTH not in bench.marked.info.markers:
        say(f"  length control left out: the model was not trained with {LENGTH}")
        return []
    rows = bench.draw([row for row in bench.heldout.rows if _has_limit(row, bench)], bench.config.evaluate.control_rows, "length")
    plain = [row.messages for row in rows]
    told = [_with_words(row, LIMIT_WORDS, row.markers[LENGTH]) for row in rows]
    known, taxonomy = bench.marked.info.markers, bench.marked.taxonomy
    given = [MarkerList(with_bucket({LENGTH: row.markers[LENGTH]}, taxonomy, known)) for row in rows]
    scores = []
    for mode in _control_modes(bench):
        alone = mode == "fixed"
        answers = _ask(bench, mode, plain if alone else told, given if alone else None, "length control")
        for row, messages, markers, answer in zip(rows, told, given, answers, strict=True):
            scores += _length_scores(row, "length", mode, messages, markers if alone else None, answer)
            if alone:
                scores += _length_scores(row, "length_alone", mode, row.messages, markers, answer)
    if "fixed" in bench.config.evaluate.modes:
        for row, answer in zip(rows, _ask(bench, "baseline", plain, None, "length control, not told"), strict=True):
            scores += _length_scores(row, "length_alone", "baseline", row.messages, None, answer)
    return scores


def language_control(bench: Bench) -> list[Score]:
    """Held-out prompts in English, for an answer in another language of the training data (after arXiv 2406.20052).

    Under `language`, all are told in words, `fixed` also by the marker, and an answer passes that is clearly in no other language (the
    benchmark's line-level pass). Under `language_alone` no word says the language: `fixed` has the marker, the baseline nothing, and an
    answer passes that is identified as being in the marker's.
    """
    targets = control_languages(bench)
    if not targets:
        say("  language control left out: the model was not trained with `lang`, or the training data have one language only")
        return []
    rows = bench.draw([row for row in bench.heldout.rows if _asks_in_english(row)], bench.config.evaluate.control_rows, "language")
    langs = [targets[place % len(targets)] for place in range(len(rows))]
    plain = [row.messages for row in rows]
    told = [_with_words(row, LANGUAGE_WORDS, lang) for row, lang in zip(rows, langs, strict=True)]
    given = [MarkerList({LANG: lang}) for lang in langs]
    asked: list[tuple[str, ScoredMode, list[Messages]]] = [("language", mode, told) for mode in _control_modes(bench)]
    if "fixed" in bench.config.evaluate.modes:
        asked += [("language_alone", "baseline", plain), ("language_alone", "fixed", plain)]
    scores = []
    for benchmark, mode, messages in asked:
        what = "language control" if benchmark == "language" else "language control, no words"
        markers = given if mode == "fixed" else None
        answers = _ask(bench, mode, messages, markers, what)
        for place, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            passes = lines_in_language if benchmark == "language" else _identified
            passed = float(passes(answer.text, langs[place]))
            shown = {LANG: langs[place]} if markers else {}
            scores.append(Score(row, benchmark, mode, "pass", passed, messages[place][-1]["content"], answer.text, shown, answer.markers))
    return scores


def _identified(text: str, lang: str) -> bool:
    found = measure_language(text, CODES)
    return found is not None and found.name == lang


def _ask(bench: Bench, mode: ScoredMode, messages: Sequence[Messages], given: Sequence[MarkerList] | None, what: str) -> list[Answer]:
    requests = [Request(item, given[place] if given else None) for place, item in enumerate(messages)]
    return bench.answer(mode, requests, what)


def _has_limit(row: Row, bench: Bench) -> bool:
    limit = row.markers.get(LENGTH)
    return limit is not None and _SHORTEST_LIMIT <= float(limit) <= bench.config.evaluate.max_new_tokens / 2 and row.lang not in _NO_SPACES


def _length_scores(row: Row, benchmark: str, mode: ScoredMode, messages: Messages, given: MarkerList | None, answer: Answer) -> list[Score]:
    values = length_values(answer.text, row.lang, float(row.markers[LENGTH]))
    prompt = messages[-1]["content"]
    return [Score(row, benchmark, mode, name, value, prompt, answer.text, given or {}, answer.markers) for name, value in values.items()]


def length_values(text: str, lang: str | None, target: float) -> dict[str, float]:
    """Scores of an answer's length.

    `violation`: whether it has more words than `target`, as the paper counts; `violation_tokens`: more tokens, in the unit of
    `length_tokens`; `error`: |tokens - target| / target, which counts an answer that is too short as well; `tokens`: its length.
    """
    tokens = measure_lengths(text, lang).tokens
    return {
        "violation": float(len(_WORD.findall(text)) > target),
        "violation_tokens": float(tokens > target),
        "error": abs(tokens - target) / target,
        "tokens": float(tokens),
    }


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
    """Words against the marker: the other modes say nothing more here, and `wrong` has no request it could go against."""
    return ["baseline", *(mode for mode in bench.config.evaluate.modes if mode in ("inferred", "fixed"))]


def _with_words(row: Row, templates: Sequence[str], value: MarkerValue) -> Messages:
    words = templates[int(sha256_json(row.id)[:8], 16) % len(templates)].format(value)
    *before, last = row.messages
    return (*before, {**last, "content": f"{last['content'].rstrip()} {words}"})
