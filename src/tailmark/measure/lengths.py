"""Length of a text in tokens, sentences and paragraphs, with the tokenizer of its language (paper: language-specific spaCy)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from spacy.pipeline import Sentencizer

from tailmark.measure.code import looks_like_code, segments
from tailmark.measure.language import CODES
from tailmark.measure.words import Split, across_blanks, tokenizer, words_and_marks
from tailmark.taxonomy import MarkerValue, Taxonomy

BUCKET = "length_bucket"

Steps = Sequence[tuple[str, int]]
"""Values of `length_bucket`, each with its least number of tokens."""

PAPER_STEPS: Steps = (("concise", 0), ("medium", 300), ("long", 1001))

_BLANK_LINES = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+")
_TERMINATORS = frozenset(Sentencizer.default_punct_chars)
_GREEK_TERMINATORS = _TERMINATORS | {";", "\u037e"}
"""Greek asks with a semicolon."""

_MOST_CHUNKS = 100_000
_LONGEST_CHUNK = 40


class Lengths(NamedTuple):
    """Length of a text: words and punctuation marks, sentences, paragraphs."""

    tokens: int
    sentences: int
    paragraphs: int


def length_steps(taxonomy: Taxonomy) -> Steps:
    """The steps that the taxonomy gives its `length_bucket`, else the paper's."""
    spec = taxonomy.markers.get(BUCKET)
    return (spec.steps if spec else ()) or PAPER_STEPS


def length_bucket(tokens: float, steps: Steps = PAPER_STEPS) -> str:
    """The step that a length falls into; the paper's are concise (fewer than 300 tokens), medium, and long (more than 1000)."""
    return next(value for value, least in reversed(steps) if tokens >= least)


def with_bucket(markers: Mapping[str, MarkerValue], taxonomy: Taxonomy, known: Collection[str]) -> dict[str, MarkerValue]:
    """The markers, and the `length_bucket` that their `length_tokens` implies where nothing says another one.

    A number is digits to a model, and what they amount to takes long to learn; a step is a word like any other value.

    Args:
        known: the markers that the model was trained with.
    """
    tokens = markers.get("length_tokens")
    implied = {} if tokens is None or BUCKET not in known else {BUCKET: length_bucket(float(tokens), length_steps(taxonomy))}
    return {name: value for name, value in implied.items() if taxonomy.allows(name, value)} | dict(markers)


def measure_lengths(text: str, lang: str | None) -> Lengths:
    """Measure a text in `lang` (English name; None or one that spaCy does not know: words and marks by Unicode class).

    Code, fenced or not, is always split by Unicode class. A sentence ends at a terminator of any script, and at the end of its paragraph.
    A text of blanks only measures (0, 0, 0).
    """
    tokens = sentences = 0
    code = CODES.get(lang or "")
    for segment in segments(text):
        counter = _counter(None if segment.code or looks_like_code(segment.text) else code, code == "el")
        for paragraph in _paragraphs(segment.text):
            words, ended = counter.count(paragraph)
            tokens += words
            sentences += max(1, ended)
    return Lengths(tokens, sentences, len(_paragraphs(text)))


def _paragraphs(text: str) -> list[str]:
    if "\n" not in text:
        return [text] if text.strip() else []
    return [part for part in _BLANK_LINES.split(text.replace("\r\n", "\n")) if part.strip()]


class _State(NamedTuple):
    """What a chunk of words does to the count: its words, the sentences it ends, and whether one is open after it."""

    words: int
    ended: int
    inside: bool


class _Counter:
    """Counts words and sentences of paragraphs in one language; chunks between blanks are counted once and remembered."""

    def __init__(self, split: Split, terminators: frozenset[str]) -> None:
        self._split, self._terminators = split, terminators
        self._chunks: dict[str, tuple[_State, _State]] = {}

    def count(self, paragraph: str) -> tuple[int, int]:
        """Words and sentences of a paragraph; a sentence that its end cuts off counts."""
        if across_blanks(self._split, paragraph):
            words, ended, inside = self._read(self._split(paragraph), inside=False)
            return words, ended + inside
        words, ended, inside = 0, 0, False
        known = self._chunks
        for chunk in paragraph.split():
            more, ends, inside = (known.get(chunk) or self._chunk(chunk))[inside]
            words += more
            ended += ends
        return words, ended + inside

    def _chunk(self, chunk: str) -> tuple[_State, _State]:
        split = self._split(chunk)
        states = self._read(split, inside=False), self._read(split, inside=True)
        if len(chunk) <= _LONGEST_CHUNK:
            if len(self._chunks) >= _MOST_CHUNKS:
                self._chunks.clear()
            self._chunks[chunk] = states
        return states

    def _read(self, words: list[str], *, inside: bool) -> _State:
        """A sentence is a run of words that ends in a terminator."""
        ended = 0
        for word in words:
            if word[-1] in self._terminators:
                ended += inside
                inside = False
            elif word[0].isalnum():
                inside = True
        return _State(len(words), ended, inside)


@cache
def _counter(code: str | None, greek: bool) -> _Counter:
    return _Counter(tokenizer(code) if code else words_and_marks, _GREEK_TERMINATORS if greek else _TERMINATORS)
