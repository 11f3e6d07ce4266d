"""Reads a model's answer: a value of the taxonomy, `Unspecified`, or nothing that counts."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tailmark.errors import TaxonomyError
from tailmark.llm import Tokens
from tailmark.taxonomy import MarkerValue, Taxonomy
from tailmark.taxonomy.schema import UNSPECIFIED

_WRAPPING = " \t\"'`*.:"
_LEAD = re.compile(r"^\s*(?:label|answer|value)\s*:\s*", re.IGNORECASE)
_LONGEST_SHOWN = 60


class Answered(NamedTuple):
    """A valid answer for one marker: its value (None: `Unspecified`) and the model's probability for it, where that is known."""

    value: MarkerValue | None
    confidence: float | None


Answer = dict[str, Answered]
"""Per marker of a question."""


class InvalidAnswer(Exception):
    """What a model said is not in the taxonomy; the text is what it said, cut short."""

    def __init__(self, said: str) -> None:
        super().__init__(" ".join(said.split())[:_LONGEST_SHOWN])


def read_label(content: str, marker: str, taxonomy: Taxonomy, tokens: Tokens | None = None) -> Answer:
    """The one label an answer consists of. Case, quotes, a full stop and a leading `Label:` are forgiven; more text is not.

    Raises:
        InvalidAnswer: it is no value of the marker.
    """
    line = next((line for line in content.splitlines() if line.strip()), "")
    label = _LEAD.sub("", line).strip(_WRAPPING)
    try:
        value = value_of(label, marker, taxonomy)
    except InvalidAnswer:
        raise InvalidAnswer(content) from None
    return {marker: Answered(value, _confidence(content, content.find(label), len(label), tokens))}


def read_object(content: str, markers: Sequence[str], taxonomy: Taxonomy, tokens: Tokens | None = None) -> tuple[Answer, dict[str, str]]:
    """The values in an answer's JSON object, and for the markers without a valid one what it says instead.

    The object may stand in a fenced block or among other text. Keys that were not asked for are passed over.
    """
    found = _first_object(content)
    answer: Answer = {}
    invalid: dict[str, str] = {}
    for name in markers:
        try:
            if found is None or name not in found:
                raise InvalidAnswer(content if found is None else "(no such key)")
            value = value_of(found[name], name, taxonomy)
        except InvalidAnswer as said:
            invalid[name] = str(said)
            continue
        answer[name] = Answered(value, _confidence(content, *_place(content, name, found), tokens))
    return answer, invalid


def _first_object(content: str) -> Mapping[str, Any] | None:
    start = content.find("{")
    if start < 0:
        return None
    try:
        found = json.JSONDecoder().raw_decode(content, start)[0]
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def value_of(said: object, marker: str, taxonomy: Taxonomy) -> MarkerValue | None:
    """The value that a model's word stands for; None: `Unspecified`, where the marker has no such value.

    Raises:
        InvalidAnswer: it is none the marker can have.
    """
    text = "" if said is None else str(said).strip()
    spec = taxonomy.spec(marker)
    known = {value.casefold(): value for value in (UNSPECIFIED, *spec.values)}
    if said is None or text.casefold() == UNSPECIFIED.casefold():
        return UNSPECIFIED if UNSPECIFIED in spec.values else None
    if isinstance(said, bool):
        raise InvalidAnswer(text)
    try:
        return taxonomy.typed(marker, known.get(text.casefold(), text))
    except TaxonomyError:
        raise InvalidAnswer(text) from None


def _place(content: str, name: str, found: Mapping[str, Any] | None) -> tuple[int, int]:
    """Where the value of a key stands in the answer: start and length."""
    written = json.dumps((found or {}).get(name), ensure_ascii=False)
    match = re.search(rf'"{re.escape(name)}"\s*:\s*({re.escape(written)})', content)
    return (match.start(1), len(written)) if match else (-1, 0)


def _confidence(content: str, start: int, length: int, tokens: Tokens | None) -> float | None:
    """The probability the model gave to the tokens of `content[start:start + length]`; None where that cannot be told."""
    if not tokens or start < 0 or not length or "".join(text for text, _ in tokens) != content:
        return None
    total, at = 0.0, 0
    for text, logprob in tokens:
        if at < start + length and at + len(text) > start:
            total += logprob
        at += len(text)
    return round(min(math.exp(total), 1.0), 4)
