"""A taxonomy: which markers exist, of which kind, with which values, read from what."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tailmark.errors import TaxonomyError
from tailmark.files import sha256_json
from tailmark.taxonomy.markers import NAME, VALUE, MarkerValue

UNSPECIFIED = "Unspecified"
"""The value of a categorical marker where nothing says which; never counted as a tail value."""

_MOST = 10**18
"""Integers are stored in 64 bits."""

_Name = Annotated[str, StringConstraints(pattern=rf"^{NAME.pattern}$")]
_Value = Annotated[str, StringConstraints(pattern=rf"^{VALUE.pattern}$")]
Kind = Literal["categorical", "integer", "real"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Example(_Frozen):
    """A few-shot example for taggers: a prompt and the value it has."""

    text: str
    value: _Value


class MarkerSpec(_Frozen):
    """One marker of a taxonomy.

    Attributes:
        kind: categorical (closed values), integer or real.
        definition: one sentence, shown to taggers and people.
        values: value to definition, for categorical markers.
        read_from: the side of an example that determines it.
        bounds: where the values are steps of a number, as those of `length_bucket` are of `length_tokens`: the least number of each value
            but the first.
        minimum, maximum: the range of a number, both ends included.
        applies_to: categorical markers and the values under which this one makes sense, e.g. `{domain: [Code]}`; an example with
            another value has no value here, one without any may have.
        examples: few-shot examples for taggers.
    """

    kind: Kind
    definition: str
    values: dict[_Value, str] = Field(default_factory=dict)
    read_from: Literal["prompt", "completion", "metadata"] = "prompt"
    bounds: tuple[int, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    applies_to: dict[_Name, tuple[str, ...]] = Field(default_factory=dict)
    examples: tuple[Example, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> MarkerSpec:
        if (self.kind == "categorical") != bool(self.values):
            raise ValueError("a categorical marker needs `values`, and only a categorical one has them")
        if self.values and (self.minimum, self.maximum) != (None, None):
            raise ValueError("a categorical marker has no range")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("minimum is above maximum")
        if self.bounds and (len(self.bounds) != len(self.values) - 1 or sorted(set(self.bounds)) != list(self.bounds)):
            raise ValueError("`bounds` has a number for each of `values` but the first, each above the one before")
        unknown = [example.value for example in self.examples if example.value not in self.values]
        if self.values and unknown:
            raise ValueError(f"few-shot examples use values that are not defined: {', '.join(unknown)}")
        return self

    @property
    def steps(self) -> tuple[tuple[str, int], ...]:
        """The values with the least number of each; none where they are no steps."""
        return tuple(zip(self.values, (0, *self.bounds), strict=True)) if self.bounds else ()


class Taxonomy(_Frozen):
    """All markers, by name."""

    name: str
    version: int = 1
    markers: dict[_Name, MarkerSpec]

    @model_validator(mode="after")
    def _conditions_exist(self) -> Taxonomy:
        for name, spec in self.markers.items():
            for other, values in spec.applies_to.items():
                known = self.markers[other].values if other in self.markers else {}
                if other == name or not values or not set(values) <= set(known):
                    raise ValueError(f"`applies_to` of marker '{name}' asks for {other}={'/'.join(values)}, which no other marker has")
        return self

    @cached_property
    def digest(self) -> str:
        """Hash of the content; it goes into data, checkpoint and model."""
        content = self.model_dump(mode="json")
        for marker in content["markers"].values():
            if not marker["bounds"]:
                del marker["bounds"]  # what was made before there were any has a hash without
        return sha256_json(content)

    def spec(self, marker: str) -> MarkerSpec:
        """The marker's definition.

        Raises:
            TaxonomyError: there is no such marker.
        """
        if marker not in self.markers:
            known = ", ".join(sorted(self.markers))
            raise TaxonomyError(f"'{marker}' is not a marker of taxonomy '{self.name}'.", fix=f"use one of: {known}")
        return self.markers[marker]

    def typed(self, marker: str, text: str) -> MarkerValue:
        """A value read from text, checked and in the marker's type.

        Raises:
            TaxonomyError: the marker is unknown, or the value is not one it can have.
        """
        spec = self.spec(marker)
        if spec.kind == "categorical":
            if text not in spec.values:
                raise TaxonomyError(f"'{text}' is not a value of marker '{marker}'.", fix=f"use one of: {', '.join(spec.values)}")
            return text
        number = _number(marker, spec.kind, text)
        low = spec.minimum if spec.minimum is not None else float("-inf")
        high = spec.maximum if spec.maximum is not None else float("inf")
        if not low <= number <= high:
            raise TaxonomyError(f"{marker}={text} is out of range.", fix=f"use a number from {low:g} to {high:g}")
        return number

    def allows(self, marker: str, value: MarkerValue) -> bool:
        """Whether `value` is one that `marker` can have."""
        try:
            return self.typed(marker, str(value)) == value
        except TaxonomyError:
            return False


def _number(marker: str, kind: Kind, text: str) -> int | float:
    try:
        number: int | float = int(text) if kind == "integer" else float(text)
    except ValueError:
        wanted = "a whole number" if kind == "integer" else "a number"
        raise TaxonomyError(f"'{text}' is not {wanted}, as marker '{marker}' needs.", fix=f"write {marker}=60, for instance") from None
    if not (abs(number) <= _MOST if isinstance(number, int) else math.isfinite(number)):
        raise TaxonomyError(f"{marker}={text} cannot be stored.", fix="use a finite number; a whole one of at most 18 digits")
    return number


def load_taxonomy(path: Path) -> Taxonomy:
    """Read and check a taxonomy file.

    Raises:
        TaxonomyError: the file is missing or malformed; a marker or value stands twice; a value cannot be written in a list.
    """
    try:
        data = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        fix = "set `taxonomy.file` in params.yaml to a file that exists"
        raise TaxonomyError("There is no such taxonomy file.", where=str(path), fix=fix) from None
    except (YAMLError, UnicodeDecodeError) as error:
        detail = str(error).split("To suppress")[0].strip()
        raise TaxonomyError(
            f"The taxonomy cannot be read: {' '.join(detail.split())}",
            where=str(path),
            fix="give every marker and every value once, in valid YAML",
        ) from None
    try:
        return Taxonomy.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise TaxonomyError(
            f"The taxonomy is malformed: {first['msg']}.",
            where=f"{path}: {place}" if place else str(path),
            fix="see docs/taxonomy.md for the form of a taxonomy file",
        ) from None
