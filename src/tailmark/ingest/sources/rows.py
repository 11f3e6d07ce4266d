"""A source's options made into one function: what becomes of a row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tailmark.config import Source
from tailmark.config.fields import is_template, parse_field
from tailmark.config.sources import COLUMN, Variant, as_tuple
from tailmark.ingest.candidate import Candidate, Reject
from tailmark.ingest.sources.columns import CONVERSATIONS, text_fields, ways
from tailmark.ingest.sources.markers import marker_reader
from tailmark.ingest.sources.reasons import Unusable
from tailmark.ingest.sources.shapes import Example, Turn, every_answer, last_answer, turns, usable, with_system
from tailmark.ingest.sources.values import Get, Row, Test, Text, condition, getter, text_of

GROUP = "group"
"""The key of the metadata that keeps rows on one side of the split."""

_NOTHING = "missing_completion"
"""The reason given for a text that a row may lack; it never leaves this module."""

_HALF = (1 << 32) - 1
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, default=str)
_WRITER = json.JSONEncoder(ensure_ascii=False, default=str)


@dataclass(frozen=True)
class _Way:
    """One way to make examples of a row."""

    share: int
    fits: Test
    prompts: Sequence[Callable[[Row], list[Turn]]]
    completion: Text | None
    system: Text | None
    markers: Callable[[Row], dict[str, str]]


class RowReader:
    """Turns rows of one source into candidates, or into rejects with their reason."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._contents = [getter(field) for field in text_fields(source)]
        self._wanted, self._unwanted = condition(source.where), condition(source.unless, any_of=True)
        self._ways = [_way(way) for way in ways(source)]
        self._draws = len(self._ways) > 1 or any(len(way.prompts) > 1 for way in self._ways)
        self._conversation = _conversation(source)
        self._group = text_of(source.group, _NOTHING, _NOTHING) if source.group else None
        self._license = _license(source.license)

    def read(self, row: Row, where: str) -> Iterator[Candidate | Reject]:
        """What becomes of one row: a candidate, a reject, or, with `turns: every`, one of them for each answer."""
        try:
            if not self._wanted(row) or self._unwanted(row):
                raise Unusable("filtered", "`where` or `unless` of the source leaves the row out")
            drawn = draw(_ENCODER.encode([get(row) for get in self._contents])) if self._draws else 0
            way = self._choose(row, drawn & _HALF)
            license, metadata = self._license(row), self._metadata(row, way)
            for example in self._examples(row, way, drawn >> 32, metadata):
                yield self._candidate(example, row, where, license, metadata)
        except Unusable as problem:
            yield self._reject(problem, row, where)

    def _choose(self, row: Row, drawn: int) -> _Way:
        """The variant of this row, drawn from its content, so that it depends on neither order nor place."""
        fitting = [way for way in self._ways if way.fits(row)]
        if not fitting:
            raise Unusable("no_variant", "none of the `variants` fits the row")
        if len(fitting) == 1:
            return fitting[0]
        place = drawn % sum(way.share for way in fitting)
        for way in fitting:
            place -= way.share
            if place < 0:
                break
        return way

    def _examples(self, row: Row, way: _Way, drawn: int, metadata: dict[str, str]) -> Iterator[Example | Unusable]:
        system = _optional(way.system, row)
        if self._conversation is None:
            assert way.completion is not None
            said = with_system(system, way.prompts[drawn % len(way.prompts)](row))
            yield usable(Example(tuple(said), way.completion(row)))
            return
        said = with_system(system, self._conversation(row))
        if self._source.turns == "last":
            yield last_answer(said)
        else:
            metadata.setdefault(GROUP, f"conversation {draw(_ENCODER.encode(said)):016x}")
            yield from every_answer(said)

    def _metadata(self, row: Row, way: _Way) -> dict[str, str]:
        metadata = way.markers(row)
        if group := _optional(self._group, row):
            metadata[GROUP] = group
        return metadata

    def _candidate(
        self, example: Example | Unusable, row: Row, where: str, license: str, metadata: Mapping[str, str]
    ) -> Candidate | Reject:
        if isinstance(example, Unusable):
            return self._reject(example, row, where)
        place = where if example.turn is None else f"{where}#{example.turn}"
        return Candidate(place, example.prompt, example.completion, license, metadata)

    def _reject(self, problem: Unusable, row: Row, where: str) -> Reject:
        told = {name: value for name, value in row.items() if name not in self._source.lookup}
        return Reject(where, problem.reason, writable(problem.detail), writable(_WRITER.encode(told)))


def draw(content: str) -> int:
    """A number of 64 bits that depends on nothing but the content."""
    return int.from_bytes(hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def writable(text: str) -> str:
    """The text with replacement characters where it cannot be written as UTF-8."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _optional(text: Text | None, row: Row) -> str:
    """The text, or nothing where the row has none."""
    if text is None:
        return ""
    try:
        return text(row)
    except Unusable as problem:
        if problem.reason == _NOTHING:
            return ""
        raise


def _way(way: Variant) -> _Way:
    fits, misfits = condition(way.where), condition(way.unless, any_of=True)
    return _Way(
        share=way.share,
        fits=lambda row: fits(row) and not misfits(row),
        prompts=[_prompt(option) for option in as_tuple(way.prompt)],
        completion=text_of(way.completion, "missing_completion", "empty_completion") if way.completion else None,
        system=text_of(way.system, _NOTHING, _NOTHING) if way.system else None,
        markers=marker_reader(way),
    )


def _prompt(option: str) -> Callable[[Row], list[Turn]]:
    """The turns of a prompt: text is one of the user's; a field may hold messages."""
    text = text_of(option, "empty_prompt", "empty_prompt")
    if is_template(option):
        return lambda row: [("user", text(row))]
    get = getter(parse_field(option))

    def read(row: Row) -> list[Turn]:
        value = get(row)
        return turns(value, f"field '{option}'", "messages") if isinstance(value, list) else [("user", text(row))]

    return read


def _conversation(source: Source) -> Callable[[Row], list[Turn]] | None:
    kind = source.resolved_shape
    if kind not in ("messages", "sharegpt"):
        return None
    name = source.messages or CONVERSATIONS[kind]
    get = getter(parse_field(name))
    return lambda row: turns(get(row), f"field '{name}'", kind)


def _license(option: str) -> Callable[[Row], str]:
    if not option.startswith(COLUMN):
        return lambda row: option  # noqa: ARG005
    get: Get = getter(parse_field(option.removeprefix(COLUMN)))

    def read(row: Row) -> str:
        value = get(row)
        parts = value if isinstance(value, list) else [value]
        return writable("; ".join(part for part in parts if isinstance(part, str) and part)) or "unknown"

    return read
