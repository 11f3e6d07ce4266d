"""Every option of `params.yaml`, from the sections' JSON schema and docstrings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from infra.reference.docstrings import attributes, flowing, summary
from tailmark.config import Config
from tailmark.config.section import Section

HEAD = """\
# Options

Every option of `params.yaml`, from the classes in `src/tailmark/config`. The values here are the defaults; profiles in `params/` set
others, and `tailmark config show` prints what holds in your checkout, with where each value comes from. An unknown option stops every
command with the nearest known one.
"""

Schema = dict[str, Any]

_LARGE = 2**31
"""A bound of this size or more only says which integers the machine has."""


def page() -> str:
    """The page as Markdown."""
    schema = Config.model_json_schema(by_alias=True)
    sections = _Sections(schema["$defs"])
    alone: list[str] = ["## At the top\n"]
    below: list[str] = []
    for key, field in schema["properties"].items():
        if reference := _reference(field):
            below += sections.describe(key, reference)
        else:
            alone.append(_option(key, field, attributes(Config)[key]))
    return "\n".join([HEAD, *alone, *below])


class _Sections:
    """Describes a section and every section inside it."""

    def __init__(self, schemas: dict[str, Schema]) -> None:
        self.schemas = schemas
        self.classes = {cls.__name__: cls for cls in _subclasses(Section)}

    def describe(self, place: str, name: str, title: str | None = None) -> Iterator[str]:
        """The section called `name` that stands at `place`, and those below it."""
        meanings = attributes(self.classes[name])
        yield f"## {title or f'`{place}`'}\n"
        yield f"{flowing(summary(self.classes[name]))}\n"
        below: list[tuple[str, str, str | None]] = []
        for key, field in self.schemas[name]["properties"].items():
            if "const" in field:
                continue  # the kind, which the heading says
            if key not in meanings:
                raise LookupError(f"the docstring of {name} says nothing of `{key}` under `Attributes:`")
            yield _option(f"{place}.{key}", field, meanings[key], required=key in self.schemas[name].get("required", ()))
            below += self._inside(f"{place}.{key}", field)
        for inner in below:
            yield from self.describe(*inner)

    def _inside(self, place: str, field: Schema) -> Iterator[tuple[str, str, str | None]]:
        for name, many in _references(field):
            kind = self.schemas[name]["properties"].get("kind", {}).get("const")
            if kind:
                yield f"{place}[]", name, f"`{place}[]` of kind `{kind}`"
            else:
                yield f"{place}{'[]' if many else ''}", name, None


def _subclasses(cls: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for inner in cls.__subclasses__():
        yield inner
        yield from _subclasses(inner)


def _references(field: Schema, many: bool = False) -> Iterator[tuple[str, bool]]:
    """The sections that a field holds, and whether it holds several."""
    if "$ref" in field:
        yield field["$ref"].rpartition("/")[2], many
    for part in (*field.get("anyOf", ()), *field.get("oneOf", ())):
        yield from _references(part, many)
    for key in ("items", "additionalProperties"):
        if isinstance(field.get(key), dict):
            yield from _references(field[key], True)


def _reference(field: Schema) -> str | None:
    return next((name for name, many in _references(field) if not many), None)


def _option(name: str, field: Schema, meaning: str, *, required: bool = False) -> str:
    facts = [kind(field), "required" if required else _default(field)]
    text = re.sub(r"\bNone\b", "`null`", flowing(meaning))
    return f"### `{name}`\n\n*{'; '.join(fact for fact in facts if fact)}*\n\n{text[:1].upper()}{text[1:]}\n"


def _default(field: Schema) -> str:
    if "default" not in field or (next(_references(field), None) and field["default"] is not None):
        return ""  # a section has its own entries
    return f"default `{json.dumps(field['default'], ensure_ascii=False)}`"


def kind(field: Schema) -> str:
    """What may stand there, in words."""
    if "$ref" in field:
        return "a section"
    for key in ("anyOf", "oneOf"):
        if key in field:
            words = [kind(part) for part in field[key]]
            return " or ".join(dict.fromkeys(words))
    if "const" in field:
        return f"`{json.dumps(field['const'])}`".replace('"', "")
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if 0 in (field.get("maxItems"), field.get("maxProperties")):
        return "an empty list" if field["type"] == "array" else "an empty object"
    if field.get("type") == "array":
        return f"list of {_several(field['items'])}" if "items" in field else "list"
    if field.get("type") == "object":
        inner = field.get("additionalProperties")
        return f"names, each with {kind(inner)}" if isinstance(inner, dict) else "mapping"
    return _scalar(field)


def _several(field: Schema) -> str:
    return "sections" if next(_references(field), None) else kind(field)


def _scalar(field: Schema) -> str:
    names = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`", "null": "`null`"}
    word = "path" if field.get("format") == "path" else names[field.get("type", "string")]
    bounds = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    if "minimum" in field and field["minimum"] == field.get("maximum"):
        return f"`{field['minimum']:g}`"
    limits = [f"{text} {field[key]:g}" for key, text in bounds.items() if key in field and abs(field[key]) < _LARGE]
    if "pattern" in field:
        limits.append(f"matching `{field['pattern']}`")
    return " ".join([word, *limits])
