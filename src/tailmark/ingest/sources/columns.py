"""Which columns of a source its options name, so that only they are read and a missing one is found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from tailmark.config import Source
from tailmark.config.fields import Field, fields_of, parse_field
from tailmark.config.sources import COLUMN, Variant, as_tuple, texts
from tailmark.errors import DataError
from tailmark.ingest.sources.values import Row

CONVERSATIONS = {"messages": "messages", "sharegpt": "conversations"}
"""Where a conversation stands, unless the source says otherwise."""

_ALPACA = {"prompt": "{instruction}\n\n{input?}", "completion": "output"}
_SHOWN = 40


def ways(source: Source) -> tuple[Variant, ...]:
    """The source's ways to make an example; the shape alpaca is one of its own."""
    if source.resolved_shape != "alpaca":
        return source.ways
    return tuple(way.model_copy(update=_ALPACA) for way in source.ways)


def text_fields(source: Source) -> list[Field]:
    """The fields that make prompts and completions; those inside a looked-up row are left out."""
    found = {field.text: field for way in ways(source) for text in texts(way) for field in fields_of(text)}
    return [field for field in found.values() if field.column not in source.lookup]


def used_of(source: Source, lookup: str) -> list[str]:
    """The columns of a looked-up row that the options use: `long` where they name `english.long`."""
    inner = [field.steps[1] for field in _fields(source) if field.column == lookup and len(field.steps) > 1]
    return list(dict.fromkeys(step for step in inner if isinstance(step, str)))


class Columns:
    """The fields that a source's options name, in the order in which they do.

    Attributes:
        fields: each once; those inside a looked-up row stand for no column of their own.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        named: dict[str, Field] = {}
        for field in _fields(source):
            if field.column not in source.lookup:
                known = named.setdefault(field.text, field)
                named[field.text] = replace(field, optional=known.optional and field.optional)
        self.fields = tuple(named.values())

    def among(self, known: Iterable[str], where: str) -> list[str]:
        """The columns to read of a file that has the columns `known`.

        Raises:
            DataError: one is missing; `where` names the file.
        """
        there = list(known)
        found = {field: _column(field, there) for field in self.fields}
        for field, column in found.items():
            if column is None and not field.optional:
                raise self.missing(field, there, where)
        return list(dict.fromkeys(column for column in found.values() if column))

    def missing(self, field: Field, known: Iterable[str], where: str) -> DataError:
        """The error for a field that a file has no column for."""
        names = sorted(known)
        listed = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        fix = f"name one of its columns under `ingest.sources`: {listed}" if names else "correct `ingest.sources`"
        return DataError(f"Source '{self._source.name}' has no column '{field.column}'.", where=where, fix=fix)


def _column(field: Field, known: Iterable[str]) -> str | None:
    return next((name for name in (field.text, field.column) if name in known), None)


class Seen:
    """Watches rows that come without a head, such as JSON objects, for columns that none of them has."""

    _PATIENCE = 1_000

    def __init__(self, columns: Columns, required: Iterable[str]) -> None:
        self._columns, self._required = columns, frozenset(required)
        self._open = columns.fields
        self._names: set[str] = set()
        self._rows = 0

    def add(self, row: Row, where: str) -> None:
        """Count a row in.

        Raises:
            DataError: after 1,000 rows none had a column without which no row can be used.
        """
        self._rows += 1
        if self._open:
            self._open = tuple(field for field in self._open if _column(field, row) is None)
            if len(self._names) < _SHOWN:
                self._names.update(row)
            if self._rows == self._PATIENCE and any(field.text in self._required for field in self._open):
                self.close(where)

    def close(self, where: str) -> None:
        """At the end of the source.

        Raises:
            DataError: no row had one of the columns.
        """
        missing = next((field for field in self._open if not field.optional), None)
        if self._rows and missing:
            raise self._columns.missing(missing, self._names, where)


def required(source: Source) -> list[str]:
    """The fields without which no row of the source can be used."""
    if source.resolved_shape in CONVERSATIONS:
        return [source.messages or CONVERSATIONS[source.resolved_shape]]
    common = [set(_needed(way)) for way in ways(source)]
    return sorted(text for text in set.intersection(*common) if parse_field(text).column not in source.lookup)


def _needed(way: Variant) -> Iterator[str]:
    prompts = as_tuple(way.prompt)
    for text in (*(prompts if len(prompts) == 1 else ()), *as_tuple(way.completion)):
        yield from (field.text for field in fields_of(text) if not field.optional)


def _fields(source: Source) -> Iterator[Field]:
    """Every field that the options name."""
    if source.resolved_shape in CONVERSATIONS:
        yield parse_field(source.messages or CONVERSATIONS[source.resolved_shape])
    for way in ways(source):
        for text in texts(way):
            yield from fields_of(text)
        for names in way.markers.values():
            yield from map(parse_field, as_tuple(names))
        yield from map(parse_field, (*way.where, *way.unless))
    yield from map(parse_field, (*source.where, *source.unless))
    for lookup in source.lookup.values():
        yield from map(parse_field, (lookup.on, *lookup.where))
    yield from fields_of(source.group) if source.group else ()
    if source.license.startswith(COLUMN):
        yield parse_field(source.license.removeprefix(COLUMN))
