"""What a source says of a row's markers, in the taxonomy's words: fields, value maps, constants."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from tailmark.config.fields import parse_field
from tailmark.config.sources import Variant, as_tuple
from tailmark.ingest.sources.reasons import Unusable
from tailmark.ingest.sources.values import Get, Row, checked, getter, pattern, written
from tailmark.records import MARKER_METADATA

_ANY = "*"
_REMEMBERED = 65_536


class ValueMap:
    """Source values to marker values; `*` in a source value stands for any text, None for no marker."""

    def __init__(self, values: dict[str, str | None]) -> None:
        self._exact = {key: value for key, value in values.items() if _ANY not in key}
        self._patterns = [(pattern(key), value) for key, value in values.items() if _ANY in key and key != _ANY]
        self._has_other, self._other = _ANY in values, values.get(_ANY)
        self.find: Callable[[str], tuple[bool, str | None]] = lru_cache(_REMEMBERED)(self._find)

    def _find(self, text: str) -> tuple[bool, str | None]:
        """Whether the map names the value, and what it makes of it."""
        if text in self._exact:
            return True, self._exact[text]
        for item, value in self._patterns:
            if item.fullmatch(text):
                return True, value
        return False, None

    def of(self, texts: list[str]) -> str | None:
        """What the first value that the map names becomes; else what the map says of others, else the first value itself."""
        for text in texts:
            named, value = self.find(text)
            if named:
                return value
        if self._has_other or not texts:
            return self._other if texts else None
        return texts[0]


def marker_reader(way: Variant) -> Callable[[Row], dict[str, str]]:
    """The metadata `marker.<name>` of a row; raises `Unusable` where a field holds neither text nor a number."""
    constants = {MARKER_METADATA + name: str(value) for name, value in way.constants.items()}
    readers = [
        (name, [(getter(parse_field(field)), field) for field in as_tuple(fields)], ValueMap(way.values.get(name, {})))
        for name, fields in way.markers.items()
    ]

    def read(row: Row) -> dict[str, str]:
        found = dict(constants)
        for name, fields, values in readers:
            texts = [text for get, field in fields for text in _texts(get, row, name, field)]
            value = values.of(texts)
            if value is not None:
                found[MARKER_METADATA + name] = value
        return found

    return read


def _texts(get: Get, row: Row, name: str, field: str) -> list[str]:
    value = get(row)
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [checked(value, f"field '{field}' of marker '{name}'")]
    parts = value if isinstance(value, list) and "[*]" in field else [value]
    return [_scalar(part, name, field) for part in parts if part != ""]


def _scalar(value: Any, name: str, field: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Unusable("wrong_type", f"field '{field}' of marker '{name}' holds a {type(value).__name__}, not text or a number")
    return checked(written(value), f"field '{field}' of marker '{name}'")
