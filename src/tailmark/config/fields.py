"""How a source's options name what stands in a row: paths (`meta.lang`, `output[0]`) and templates (`{definition}\\n\\n{input?}`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

_STEP = re.compile(r"([^.\[\]{}]+)|\[(\*|-?\d+)\]")
_PATH = re.compile(r"[^.\[\]{}]+(?:\.[^.\[\]{}]+|\[(?:\*|-?\d+)\])*")
_TEMPLATE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|([{}])")
_FORM = "write a name, a.b for a field inside another, a[0] for the first of a list, a[*] for each of them"


class EachItem:
    """The step `[*]`: every item of a list."""

    def __repr__(self) -> str:
        return "[*]"


EACH = EachItem()
Step = str | int | EachItem


@dataclass(frozen=True)
class Field:
    """A place in a row.

    Attributes:
        text: the path as written; a column of exactly that name comes before the path.
        steps: the way to it: keys, list indices, `EACH`.
        optional: `{name?}` in a template: where it has no value, it is empty text.
    """

    text: str
    steps: tuple[Step, ...]
    optional: bool = False

    @property
    def column(self) -> str:
        """The column it starts in."""
        return str(self.steps[0])


@dataclass(frozen=True)
class Template:
    """Text with fields in it: `literals[0] fields[0] literals[1] fields[1] ... literals[-1]`."""

    literals: tuple[str, ...]
    fields: tuple[Field, ...]


@cache
def parse_field(text: str, *, optional: bool = False) -> Field:
    """A path.

    Raises:
        ValueError: it is none.
    """
    if not _PATH.fullmatch(text):
        raise ValueError(f"'{text}' names no field of a row: {_FORM}")
    steps = tuple(name or _index(index) for name, index in _STEP.findall(text))
    return Field(text, steps, optional)


def _index(text: str) -> int | EachItem:
    return EACH if text == "*" else int(text)


def is_template(text: str) -> bool:
    """Whether the text has braces; without any it is the path of a field."""
    return "{" in text or "}" in text


@cache
def parse_template(text: str) -> Template:
    """A template. `{{` and `}}` stand for braces, `{name?}` is empty where the row has no value.

    Raises:
        ValueError: a brace is left open, a path is malformed, or no field is in it.
    """
    literals, fields = [""], []
    end = 0
    for match in _TEMPLATE.finditer(text):
        literals[-1] += text[end : match.start()]
        end = match.end()
        if match[0] in ("{{", "}}"):
            literals[-1] += match[0][0]
        elif match[2]:
            raise ValueError(f"the template {text!r} has a single brace; write {{{{ or }}}} for one that is text")
        else:
            name = match[1].strip()
            fields.append(parse_field(name.removesuffix("?"), optional=name.endswith("?")))
            literals.append("")
    literals[-1] += text[end:]
    if not fields:
        raise ValueError(f"the template {text!r} has no field in it, so that every row would have the same text")
    return Template(tuple(literals), tuple(fields))


def parse_text(text: str) -> Field | Template:
    """An option that takes either: with braces a template, else the path of a field."""
    return parse_template(text) if is_template(text) else parse_field(text)


def fields_of(text: str) -> tuple[Field, ...]:
    """The fields that such an option names."""
    parsed = parse_text(text)
    return parsed.fields if isinstance(parsed, Template) else (parsed,)
