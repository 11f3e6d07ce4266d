"""The words and punctuation marks of a text, split as spaCy's tokenizer of its language splits them.

spaCy cuts a text at blanks and tokenizes each chunk on its own, so a chunk seen before need not be tokenized again, and a
language's thousands of exceptions need not be loaded before a chunk holds one of them (for Indonesian 4 s otherwise).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from spacy.lang.ja import try_sudachi_import
from spacy.symbols import ORTH
from spacy.tokenizer import Tokenizer
from spacy.util import compile_infix_regex, compile_prefix_regex, compile_suffix_regex, get_lang_class
from spacy.vocab import Vocab

_WORD_OR_MARK = re.compile(r"\w+(?:['’\-]\w+)*|[^\w\s]")

_PIECE_CHARS = 4_000
"""Sudachi refuses more than 49,149 bytes at once, and spaCy's time grows with the square of a chunk, so longer ones are cut."""

_CLOSING = frozenset(",.;:!?")

_MOST_STRINGS = 200_000
"""spaCy keeps every string it has met; past this many the tokenizer is made anew, so that memory does not grow with the data."""

Split = Callable[[str], list[str]]


def words_and_marks(text: str) -> list[str]:
    """Words and single punctuation marks, whatever the language: the tokenizer for code and unknown languages."""
    return _WORD_OR_MARK.findall(text)


@cache
def tokenizer(code: str | None) -> Split:
    """The function that splits a text in the language of an ISO code into words and marks, made on first use (at most 5 s).

    None, or a language that spaCy does not know: `words_and_marks`. Chinese is split into characters, as spaCy does without a
    segmenter; Japanese by Sudachi. For Korean, Thai and Vietnamese spaCy's rules stand in for its tokenizers, which need packages
    beside spaCy: they split at blanks and punctuation.
    """
    if code == "zh":
        return _characters
    if code == "ja":
        return _sudachi()
    try:
        return _SpacyWords(code) if code else words_and_marks
    except ImportError:
        return words_and_marks


def across_blanks(split: Split, text: str) -> bool:
    """Whether words of this text may hold a blank, so that it cannot be split chunk by chunk."""
    return split.holds_joined(text) if isinstance(split, _SpacyWords) else split not in (words_and_marks, _characters)


def _characters(text: str) -> list[str]:
    return list("".join(text.split()))


def _sudachi() -> Split:
    analyser = try_sudachi_import()

    def split(text: str) -> list[str]:
        found = (morpheme.surface() for piece in _pieces(text) for morpheme in analyser.tokenize(piece))
        return [word for word in found if word and not word.isspace()]

    return split


class _SpacyWords:
    """spaCy's rules of one language, without the rest of its pipeline."""

    def __init__(self, code: str) -> None:
        self._rules: dict[str, list[dict[Any, str]]] = dict((defaults := get_lang_class(code).Defaults).tokenizer_exceptions)
        self._longest = max(map(len, self._rules), default=0)
        self._joined = tuple(rule for rule in self._rules if any(map(str.isspace, rule)) and not rule.isspace())
        self._settings = {
            "prefix_search": compile_prefix_regex(defaults.prefixes).search if defaults.prefixes else None,
            "suffix_search": compile_suffix_regex(defaults.suffixes).search if defaults.suffixes else None,
            "infix_finditer": compile_infix_regex(defaults.infixes).finditer if defaults.infixes else None,
            "token_match": defaults.token_match,
            "url_match": defaults.url_match,
        }
        self._match = defaults.token_match
        self._affixes = tuple(self._settings[name] for name in ("prefix_search", "suffix_search", "infix_finditer"))
        self._begin()

    def _begin(self) -> None:
        self._spacy = Tokenizer(Vocab(), **self._settings)
        self._added: set[str] = set()

    def __call__(self, text: str) -> list[str]:
        if (plain := self._plain(text)) is not None:
            return plain
        if len(self._spacy.vocab.strings) > _MOST_STRINGS:
            self._begin()
        words: list[str] = []
        for piece in _pieces(text):
            self._add_rules(piece)
            words.extend(token.text for token in self._spacy(piece))
        return [word for word in words if not word.isspace()]

    def _plain(self, chunk: str) -> list[str] | None:
        """What spaCy makes of a chunk that no exception and no affix applies to, or one closing mark only (four times faster)."""
        if len(chunk) > _PIECE_CHARS or len(chunk.split()) != 1:
            return None
        if self._is_one_word(chunk):
            return [chunk]
        word, mark = chunk[:-1], chunk[-1]
        prefix, suffix, _ = self._affixes
        if mark not in _CLOSING or chunk in self._rules or not self._is_one_word(word) or (self._match and self._match(chunk)):
            return None
        ends = suffix(chunk) if suffix else None
        return [word, mark] if ends and ends.group() == mark and not (prefix and prefix(chunk)) else None

    def _is_one_word(self, chunk: str) -> bool:
        prefix, suffix, infixes = self._affixes
        return not (
            chunk in self._rules
            or (prefix and prefix(chunk))
            or (suffix and suffix(chunk))
            or (infixes and any(infixes(chunk)))
            or not chunk
        )

    def holds_joined(self, text: str) -> bool:
        """Whether an exception with a blank in it stands in the text."""
        return any(rule in text for rule in self._joined)

    def _add_rules(self, text: str) -> None:
        size = len(text)
        parts = {text[start:end] for start in range(size) for end in range(start + 1, min(size, start + self._longest) + 1)}
        for rule in sorted(parts & self._rules.keys() - self._added):
            self._spacy.add_special_case(rule, [{ORTH: token[ORTH]} for token in self._rules[rule]])
            self._added.add(rule)


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces of at most `_PIECE_CHARS`, cut at a line or blank where there is one."""
    while len(text) > _PIECE_CHARS:
        cut = max(text.rfind("\n", 0, _PIECE_CHARS), text.rfind(" ", 0, _PIECE_CHARS)) + 1 or _PIECE_CHARS
        yield text[:cut]
        text = text[cut:]
    yield text
