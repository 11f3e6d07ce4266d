"""Texts as words, and runs of words as numbers: what near-duplicates and contamination are found by."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

# Scripts written without spaces: each character counts as a word (Thai, Lao, Myanmar, Khmer, kana, Chinese characters).
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNSPACED_CHARACTER = re.compile(f"[{_UNSPACED}]")
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_PUNCTUATION = {number: " " for number in range(128) if not (chr(number).isalnum() or chr(number) == "_")}
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def words(text: str) -> list[str]:
    """The words of a text: in lower case, compatibility forms made one, without punctuation. A text without any is one word."""
    if text.isascii():
        return text.lower().translate(_PUNCTUATION).split() or [text.strip()]
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower()) or [text.strip()]


def is_unspaced(text: str) -> bool:
    """Whether most of its words are single characters of a script without spaces; a word of those has two, about."""
    found = 0 if text.isascii() else len(_UNSPACED_CHARACTER.findall(text))
    return found > 0 and 2 * found > len(words(text))


class Texts(NamedTuple):
    """Texts as hashed words, one after the other: text i is `words[starts[i] : starts[i + 1]]`."""

    words: Hashes
    starts: Places

    def lengths(self) -> Places:
        """Words of each text."""
        return np.diff(self.starts)


def hashed(texts: Sequence[str]) -> Texts:
    """The texts' words as 64 bit numbers."""
    found = [words(text) for text in texts]
    numbers = chain.from_iterable(RMinHash.hash_token_sets(found))
    return Texts(
        np.fromiter(numbers, np.uint64, count=sum(map(len, found))), _starts(np.fromiter(map(len, found), np.int64, count=len(found)))
    )


def _starts(lengths: Places) -> Places:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))


def _mix(values: Hashes) -> Hashes:
    """Spread the bits (the finalizer of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Runs(NamedTuple):
    """Runs of words as hashes, with the text each is from and the word it starts at, counted in that text."""

    hashes: Hashes
    text: Places
    place: Places

    def only(self, wanted: NDArray[np.bool_]) -> Runs:
        """Those of them."""
        return Runs(self.hashes[wanted], self.text[wanted], self.place[wanted])


def ngrams(texts: Texts, size: int) -> Runs:
    """Every run of `size` words inside a text; a text with fewer has none."""
    positions = max(len(texts.words) - size + 1, 0)
    text = np.repeat(np.arange(len(texts.starts) - 1), texts.lengths())[:positions]
    start = np.arange(positions)
    inside = start + size <= texts.starts[text + 1]
    hashes = np.zeros(positions, np.uint64)
    for place in range(size):
        hashes = hashes * _MULTIPLIER + texts.words[place : place + positions]
    return Runs(_mix(hashes[inside]), text[inside], (start - texts.starts[text])[inside])


class HashSet:
    """Numbers of 64 bits that are well spread, for looking up many at once."""

    _BITS = 22

    def __init__(self, hashes: Hashes) -> None:
        self.sorted = np.unique(hashes)
        # Whether any begins with those bits: most are ruled out by one look.
        self._heads = np.zeros(1 << self._BITS, np.bool_)
        self._heads[self.sorted >> np.uint64(64 - self._BITS)] = True

    def has(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Which of these are in the set."""
        found: NDArray[np.bool_] = self._heads[hashes >> np.uint64(64 - self._BITS)]
        maybe = np.flatnonzero(found)
        if len(maybe):
            at = np.searchsorted(self.sorted, hashes[maybe])
            found[maybe] = self.sorted[np.minimum(at, len(self.sorted) - 1)] == hashes[maybe]
        return found


def whole(texts: Texts, shorter_than: int) -> Runs:
    """The texts with fewer words than that, each as one run."""
    short = np.flatnonzero(texts.lengths() < shorter_than)
    sizes = texts.lengths()[short]
    hashes = np.zeros(len(short), np.uint64)
    for place in range(int(sizes.max(initial=0))):
        longer = sizes > place
        hashes[longer] = hashes[longer] * _MULTIPLIER + texts.words[texts.starts[short[longer]] + place]
    return Runs(_mix(hashes ^ sizes.astype(np.uint64)), short, np.zeros(len(short), np.int64))


def shingles(texts: Texts, size: int) -> Texts:
    """The texts as the runs of `size` words in them, a shorter text as one run of all its words."""
    runs, rest = ngrams(texts, size), whole(texts, size)
    owner = np.concatenate((runs.text, rest.text))
    order = np.argsort(owner, kind="stable")
    hashes = np.concatenate((runs.hashes, rest.hashes))[order]
    return Texts(hashes, _starts(np.bincount(owner, minlength=len(texts.starts) - 1)))


def without(texts: Texts, common: HashSet) -> Texts:
    """The texts without the runs that are in `common`; one that has no others keeps them."""
    rows = len(texts.starts) - 1
    owner = np.repeat(np.arange(rows), texts.lengths())
    rare = ~common.has(texts.words)
    rare |= np.bincount(owner, weights=rare, minlength=rows)[owner] == 0
    return Texts(texts.words[rare], _starts(np.bincount(owner[rare], minlength=rows)))
