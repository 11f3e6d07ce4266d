"""Options of one source of rows: where it is, how a row is read, what it says of markers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from tailmark.config.fields import fields_of, parse_field, parse_text
from tailmark.config.section import Positive, Section

COLUMN = "column:"
Kind = Literal["starter", "jsonl", "csv", "parquet", "huggingface"]
Shape = Literal["pairs", "messages", "sharegpt", "alpaca"]
Scalar = str | int | float | bool
Condition = dict[str, Scalar | tuple[Scalar, ...]]
"""Field to the value, or one of the values, that it must have; `*` in a value stands for any text, `"*"` alone for any value at all."""

_SECRET = re.compile(
    r"://[^/@]*:[^/@]*@|https?://[^/@]*@|[?&][^=&]*(token|secret|signature|password|credential|key|keyid)=|[?&]sig=", re.IGNORECASE
)


def _check_condition(condition: Condition) -> Condition:
    for field in condition:
        parse_field(field)
    return condition


class Lookup(Section):
    """Rows of the same source that others refer to, e.g. the original of a translation. They are held in memory while it is read.

    Attributes:
        on: the field in which a row and the one it refers to agree.
        where: which rows can be referred to.
    """

    on: str
    where: Condition = Field(default_factory=dict)

    @model_validator(mode="after")
    def _readable(self) -> Lookup:
        parse_field(self.on)
        _check_condition(self.where)
        return self


class Variant(Section):
    """One of several ways to make an example of a row. What it does not name is the source's.

    Attributes:
        share: how often it is taken, beside the `share` of the other variants that fit the row.
        prompt, completion, system: as of a source, in place of the source's.
        where, unless: which rows it fits.
        markers, values, constants: added to the source's; a marker that the source takes from a field may be a constant here.
    """

    share: Positive = 1
    where: Condition = Field(default_factory=dict)
    unless: Condition = Field(default_factory=dict)
    prompt: str | tuple[str, ...] | None = None
    completion: str | None = None
    system: str | None = None
    markers: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    values: dict[str, dict[str, str | None]] = Field(default_factory=dict)
    constants: dict[str, str | int | float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _readable(self) -> Variant:
        check_readable(self)
        return self


class Source(Section):
    """One source of rows. docs/sources.md shows each shape with an example.

    A field is a column name, `a.b` inside a column, `a[0]` the first of a list, `a[*]` each of a list. Where text is asked for, a
    template such as `"{definition}\\n\\n{input?}"` can stand instead (`?`: may be empty).

    Attributes:
        kind: `starter` (the corpus of docs/starter-corpus.md, nothing else needed), `jsonl` (also .gz, .zst), `csv`, `parquet`, or
            `huggingface` (streamed).
        name: what the source is called in reports and in each of its rows.
        path: a file, a folder, a glob, or a URL that fsspec can open (s3, gs, hf, https, ...); for `huggingface` a data set's name
            or folder. Credentials come from the environment.
        subset, split, revision: of a Hugging Face data set.
        delimiter: of CSV; tab for .tsv files.
        shape: `pairs` (`prompt` and `completion`), `messages` (role and content), `sharegpt` (from and value), `alpaca`
            (instruction, input, output); None: from what is named.
        prompt: the field with text or messages, or a template; of several templates each row takes one, by its content.
        completion: the field with the answer, or a template.
        messages: the field with the turns (`messages`, or `conversations` for `sharegpt`).
        system: the field with a system message, or a template.
        turns: which assistant turns of a conversation are trained: the `last`, or `every` one, each with what was said before it.
        variants: several tasks that one row can serve, e.g. summarise or translate; each row takes one, by its content.
        lookup: name to the rows that others refer to; the row found is a field of that name.
        where, unless: which rows are read: all of `where` and none of `unless` holds; the others leave with the reason `filtered`.
        limit: rows read at most.
        group: a field or template; rows with equal text never stand on both sides of the split.
        license: the licence of all rows, or the field that holds it as `column:NAME`.
        markers: marker name to the field that holds it, or several: of their values the first that `values` names counts.
        values: per marker, source value to marker value; `*` in a source value stands for any text, and null for no marker. A value
            that the map does not name is taken as it is, unless `"*"` is in the map.
        constants: marker name to the value of every row.
    """

    kind: Kind
    name: str | None = None
    path: str | None = None
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    shape: Shape | None = None
    prompt: str | tuple[str, ...] | None = None
    completion: str | None = None
    messages: str | None = None
    system: str | None = None
    turns: Literal["last", "every"] = "last"
    variants: tuple[Variant, ...] = ()
    lookup: dict[str, Lookup] = Field(default_factory=dict)
    where: Condition = Field(default_factory=dict)
    unless: Condition = Field(default_factory=dict)
    limit: Positive | None = None
    group: str | None = None
    license: str = "unknown"
    markers: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    values: dict[str, dict[str, str | None]] = Field(default_factory=dict)
    constants: dict[str, str | int | float] = Field(default_factory=dict)

    @field_validator("path")
    @classmethod
    def _no_secret(cls, path: str | None) -> str | None:
        if path and "://" in path and _SECRET.search(path):
            raise PydanticCustomError("secret", "a URL with a password, key or signature in it would be stored with every run")
        return path

    @model_validator(mode="after")
    def _complete(self) -> Source:
        if self.kind == "starter":
            return self
        if not self.path or not self.name:
            raise ValueError(f"a {self.kind} source needs `name` and `path`")
        self._check_shape()
        check_readable(self)
        for text in filter(None, (self.messages, self.group)):
            parse_text(text)
        if self.license.startswith(COLUMN):
            parse_field(self.license.removeprefix(COLUMN))
        return self

    def _check_shape(self) -> None:
        """Exactly one way to read a row is named."""
        pairs = self.prompt is not None or self.completion is not None
        if self.shape is None and pairs == (self.messages is not None) and not self.variants:
            raise ValueError("name either `prompt` and `completion`, or `messages`, or a `shape`")
        if self.resolved_shape != "pairs":
            if pairs or self.variants:
                raise ValueError(f"`prompt`, `completion` and `variants` do not go with the shape {self.resolved_shape}")
            if self.shape == "alpaca" and self.messages is not None:
                raise ValueError("`messages` does not go with the shape alpaca")
        elif self.messages is not None:
            raise ValueError("`messages` does not go with the shape pairs")
        elif any((item.prompt or self.prompt) is None or (item.completion or self.completion) is None for item in self.ways):
            raise ValueError("name both `prompt` and `completion`, in the source or in each variant")

    @property
    def resolved_shape(self) -> Shape:
        """The shape, also where it follows from what is named."""
        return self.shape or ("messages" if self.messages is not None else "pairs")

    @property
    def ways(self) -> tuple[Variant, ...]:
        """The ways to make an example, complete: each variant with the source's options under it, or the source's alone."""
        return tuple(self._complete_variant(variant) for variant in self.variants or (Variant(),))

    def _complete_variant(self, variant: Variant) -> Variant:
        constants = self.constants | variant.constants
        fixed = variant.constants.keys() - variant.markers.keys()
        markers = {name: field for name, field in (self.markers | variant.markers).items() if name not in fixed}
        update = {
            "prompt": variant.prompt or self.prompt,
            "completion": variant.completion or self.completion,
            "system": variant.system or self.system,
            "markers": markers,
            "values": self.values | variant.values,
            "constants": constants,
        }
        return variant.model_copy(update=update)


def as_tuple(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """One or several, as several."""
    return (value,) if isinstance(value, str) else value or ()


def texts(part: Source | Variant) -> Iterator[str]:
    """Every option of a source or variant that is a field or a template."""
    yield from as_tuple(part.prompt)
    yield from filter(None, (part.completion, part.system))


def check_readable(part: Source | Variant) -> None:
    """Every field and template can be parsed.

    Raises:
        ValueError: one cannot.
    """
    if isinstance(part.prompt, tuple) and not part.prompt:
        raise ValueError("`prompt` is an empty list")
    for text in texts(part):
        fields_of(text)
    for fields in part.markers.values():
        for field in as_tuple(fields):
            parse_field(field)
    _check_condition(part.where)
    _check_condition(part.unless)
