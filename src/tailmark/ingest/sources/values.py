"""Options made into functions of a row: fields, text and templates, conditions. Made once a source, called once a row."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from tailmark.config.fields import EACH, Field, Step, Template, parse_field, parse_text
from tailmark.config.sources import Condition, Scalar
from tailmark.ingest.sources.reasons import Unusable

Row = dict[str, Any]
Get = Callable[[Row], Any]
Text = Callable[[Row], str]
Test = Callable[[Row], bool]

_SURROGATE = re.compile("[\ud800-\udfff]")
_REMEMBERED = 65_536


def getter(field: Field) -> Get:
    """The field's value in a row, or None where the row has none. With `[*]` a list of what is there."""
    name = field.text
    if len(field.steps) == 1:
        return lambda row: row.get(name)
    if field.steps[1:] == (EACH,):
        return lambda row: _items(row[name] if name in row else row.get(field.column))
    return lambda row: row[name] if name in row else _walk(row, field.steps)


def _items(value: Any) -> list[Any]:
    return [item for item in value if item is not None] if isinstance(value, list) else []


def _walk(value: Any, steps: Sequence[Step]) -> Any:
    for place, step in enumerate(steps):
        if step is EACH:
            items = [_walk(item, steps[place + 1 :]) for item in value] if isinstance(value, list) else []
            return [part for item in items for part in (item if isinstance(item, list) else [item]) if part is not None]
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            assert isinstance(step, int)
            value = value[step] if isinstance(value, list) and -len(value) <= step < len(value) else None
    return value


def checked(value: str, place: str) -> str:
    """The text, if it can be written as UTF-8."""
    if not value.isascii() and _SURROGATE.search(value):
        raise Unusable("corrupt_encoding", f"{place} holds half of a surrogate pair")
    return value


def text_of(option: str, when_missing: str, when_empty: str) -> Text:
    """What an option (a field or a template) says of a row. A field must hold text; in a template numbers are written out too.

    The function raises `Unusable` with the reason `when_missing` where a value is missing, `when_empty` where a part of a
    template is empty text.
    """
    parsed = parse_text(option)
    if isinstance(parsed, Template):
        return _template(parsed, when_missing, when_empty)
    get, place = getter(parsed), f"field '{parsed.text}'"

    def plain(row: Row) -> str:
        value = get(row)
        if isinstance(value, str):
            return checked(value, place)
        if value is None:
            raise Unusable(when_missing, f"{place} has no value")
        raise Unusable("wrong_type", f"{place} holds a {type(value).__name__}, not text")

    return plain


def _template(template: Template, when_missing: str, when_empty: str) -> Text:
    parts = [(getter(field), field, literal) for field, literal in zip(template.fields, template.literals[1:], strict=True)]
    first, strips = template.literals[0], any(field.optional for field in template.fields)

    def filled(row: Row) -> str:
        pieces = [first]
        for get, field, literal in parts:
            pieces.append(_piece(get(row), field, when_missing, when_empty))
            pieces.append(literal)
        text = "".join(pieces)
        return text.strip() if strips else text

    return filled


def _piece(value: Any, field: Field, when_missing: str, when_empty: str) -> str:
    if value is None or value == "":
        if field.optional:
            return ""
        raise Unusable(when_missing if value is None else when_empty, f"field '{field.text}' of the template has no text")
    if isinstance(value, str):
        return checked(value, f"field '{field.text}'")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unusable("wrong_type", f"field '{field.text}' of the template holds a {type(value).__name__}, not text or a number")
    return str(value)


def written(value: Any) -> str:
    """A value as conditions and value maps write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def pattern(text: str) -> re.Pattern[str]:
    """A value in which `*` stands for any text."""
    return re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)


def condition(where: Condition, *, any_of: bool = False) -> Test:
    """Whether all fields (or any) of a row have one of the values wanted. A field without a value has none of them."""
    tests = [_field_test(parse_field(field), wanted) for field, wanted in where.items()]
    if len(tests) == 1:
        return tests[0]
    if any_of:
        return lambda row: any(test(row) for test in tests)
    return lambda row: all(test(row) for test in tests)


def _field_test(field: Field, wanted: Scalar | tuple[Scalar, ...]) -> Test:
    get = getter(field)
    values = [written(value) for value in (wanted if isinstance(wanted, tuple) else (wanted,))]
    exact = frozenset(value for value in values if "*" not in value)
    patterns = [pattern(value) for value in values if "*" in value]

    @lru_cache(_REMEMBERED)
    def matches(text: str) -> bool:
        return text in exact or any(item.fullmatch(text) for item in patterns)

    def test(row: Row) -> bool:
        value = get(row)
        parts = value if isinstance(value, list) else [value]
        return any(matches(written(part)) for part in parts if part is not None and part != "")

    return test
