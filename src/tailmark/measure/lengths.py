"""Length of a text in tokens, sentences and paragraphs, with the tokenizer of its language (paper: language-specific spaCy)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

import spacy
from spacy.pipeline import Sentencizer
from spacy.tokens import Doc

from tailmark.measure.code import looks_like_code, segments
from tailmark.measure.language import CODES

CONCISE_BELOW, LONG_ABOVE = 300, 1000
"""Bounds of `length_bucket`, in tokens: fewer than 300 concise, more than 1000 long."""

_BLANK_LINES = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+")
_WORD_OR_MARK = re.compile(r"\w+(?:['’\-]\w+)*|[^\w\s]")
_TERMINATORS = frozenset(Sentencizer.default_punct_chars)
_GREEK_TERMINATORS = _TERMINATORS | {";", "\u037e"}
"""Greek asks with a semicolon."""

_PIECE_CHARS = 4_000
"""Sudachi refuses more than 49,149 bytes at once, so longer paragraphs are tokenized in pieces."""

_RULES = {"nlp": {"tokenizer": {"@tokenizers": "spacy.Tokenizer.v1"}}}
_NEED_MORE = frozenset({"ko", "th", "vi"})
"""spaCy's own tokenizers of these need packages beside spaCy; its rule-based one stands in, which splits at blanks and punctuation."""


class Lengths(NamedTuple):
    """Length of a text: words and punctuation marks, sentences, paragraphs."""

    tokens: int
    sentences: int
    paragraphs: int


def length_bucket(tokens: int) -> str:
    """concise (fewer than 300 tokens), medium, or long (more than 1000)."""
    if tokens < CONCISE_BELOW:
        return "concise"
    return "long" if tokens > LONG_ABOVE else "medium"


def measure_lengths(text: str, lang: str | None) -> Lengths:
    """Measure a text in `lang` (English name; None or one that spaCy does not know: words and marks by Unicode class).

    Code, fenced or not, is always split by Unicode class. A sentence ends at a terminator of any script, and at the end of its paragraph.
    A text of blanks only measures (0, 0, 0).
    """
    tokens = sentences = 0
    code = CODES.get(lang or "")
    tokenizer, terminators = _tokenizer(code), _GREEK_TERMINATORS if code == "el" else _TERMINATORS
    for segment in segments(text):
        split = words_and_marks if segment.code or looks_like_code(segment.text) else tokenizer
        for paragraph in _paragraphs(segment.text):
            words = [word for piece in _pieces(paragraph) for word in split(piece)]
            tokens += len(words)
            sentences += _count_sentences(words, terminators)
    return Lengths(tokens, sentences, len(_paragraphs(text)))


def words_and_marks(text: str) -> list[str]:
    """Words and single punctuation marks, whatever the language: the tokenizer for code and unknown languages."""
    return _WORD_OR_MARK.findall(text)


def _paragraphs(text: str) -> list[str]:
    return [part for part in _BLANK_LINES.split(text.replace("\r\n", "\n")) if part.strip()]


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces of at most `_PIECE_CHARS`, cut at a line or blank where there is one."""
    while len(text) > _PIECE_CHARS:
        cut = max(text.rfind("\n", 0, _PIECE_CHARS), text.rfind(" ", 0, _PIECE_CHARS)) + 1 or _PIECE_CHARS
        yield text[:cut]
        text = text[cut:]
    yield text


def _count_sentences(words: list[str], terminators: frozenset[str]) -> int:
    """Runs of words that end in a terminator; what stands after the last one counts as one more."""
    count, inside = 0, False
    for word in words:
        if word[-1] in terminators:
            count += inside
            inside = False
        elif word[0].isalnum():
            inside = True
    return max(1, count + inside)


@cache
def _tokenizer(code: str | None) -> Callable[[str], list[str]]:
    """The tokenizer of a language by ISO code, made on first use (0.1 to 5 s)."""
    if code is None:
        return words_and_marks
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tokenize: Callable[[str], Doc] = spacy.blank(code, config=_RULES if code in _NEED_MORE else {}).tokenizer
    except ImportError:
        return words_and_marks
    return lambda text: [token.text for token in tokenize(text) if not token.is_space]
