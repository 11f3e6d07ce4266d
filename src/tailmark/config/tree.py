"""The whole of `params.yaml`, read and checked before anything runs."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tailmark.config.data import Annotate, Engine, Ingest, LongTail, TaxonomyConfig
from tailmark.config.gate import Gate
from tailmark.config.model import Base, Prepare, Train
from tailmark.config.results import Evaluate, Register, Tracking
from tailmark.config.section import Section
from tailmark.config.serving import Serve
from tailmark.config.validation import Validate
from tailmark.errors import ConfigError


class Config(Section):
    """The whole of `params.yaml`; each section says what its options mean.

    Attributes:
        profile: the file in `params/` that the values come from; `tailmark config use` writes it.
        seed: of every random draw.
    """

    profile: str = "demo"
    seed: int = 17
    engine: Engine = Engine()
    taxonomy: TaxonomyConfig = TaxonomyConfig()
    longtail: LongTail = LongTail()
    ingest: Ingest = Ingest()
    annotate: Annotate = Annotate()
    validate_: Validate = Field(default=Validate(), alias="validate")
    base: Base = Base()
    prepare: Prepare = Prepare()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    register_: Register = Field(default=Register(), alias="register")
    gate: Gate = Gate()
    serve: Serve = Serve()
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _through_the_gate(self) -> Config:
        if self.register_.alias == self.gate.champion:
            raise ValueError(f"`register.alias` and `gate.champion` are both '{self.gate.champion}': registering would pass by the gate")
        return self


def read_params(path: Path) -> dict[str, Any]:
    """The mapping in a params file.

    Raises:
        ConfigError: it is missing, not YAML, or not a mapping.
    """
    try:
        data = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            "There is no params file.", where=str(path), fix="run from the root of a checkout, or `tailmark config use demo`"
        ) from None
    except (YAMLError, UnicodeDecodeError) as error:
        detail = " ".join(str(error).split("To suppress")[0].split())
        raise ConfigError(f"The params file cannot be read: {detail}", where=str(path), fix="mend the YAML at that place") from None
    if not isinstance(data, dict):
        raise ConfigError("The params file does not hold a mapping.", where=str(path), fix="run `tailmark config use demo`")
    return data


def load_config(path: Path) -> Config:
    """Read and check `params.yaml`.

    Raises:
        ConfigError: a key is unknown (the message names the nearest known one) or a value is impossible.
    """
    return parse_config(read_params(path), path)


def parse_config(data: dict[str, Any], path: Path) -> Config:
    """Check a params mapping; `path` is named in errors."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise _explain(error, path) from None


def _explain(error: ValidationError, path: Path) -> ConfigError:
    found = error.errors()
    # A misspelt key also is a missing one; what was written says more.
    first = next((item for item in found if item["type"] == "extra_forbidden"), found[0])
    keys = [str(part) for part in first["loc"]]
    place = ".".join(keys)
    if first["type"] == "extra_forbidden":
        known = _known_keys(first["loc"][:-1])
        near = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.5)
        fix = f"did you mean '{near[0]}'?" if near else f"use one of: {', '.join(known)}"
        return ConfigError(f"There is no option '{place}'.", where=f"{path}: {place}", fix=fix)
    problem = first["msg"].removeprefix("Value error, ")
    # A whole section is too much to show, and a secret is not to be shown.
    given = "" if isinstance(first["input"], dict) or first["type"] == "secret" else f" {first['input']!r}"
    return ConfigError(
        f"Option '{place}' cannot be{given}: {problem}." if given else f"Option '{place}' is not possible: {problem}.",
        where=f"{path}: {place}",
        fix="`tailmark config show` prints every option with its value and where it comes from",
    )


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys of the section at `location`."""
    section: type[BaseModel] = Config
    kinds: dict[str, type[BaseModel]] = {}
    for part in location:
        if isinstance(part, int):
            continue
        field = next((item for name, item in section.model_fields.items() if (item.alias or name) == part), None)
        # What is no field is a name in a mapping of sections, such as a lookup's, or the kind that chooses from a union.
        section = (_section_of(field) if field else None) or kinds.get(part, section)
        kinds = _kinds(field) if field else kinds
    return [field.alias or name for name, field in section.model_fields.items()]


def _kinds(field: FieldInfo) -> dict[str, type[BaseModel]]:
    """The branches of the union in a field's annotation, by the value of `kind` that chooses each."""
    found = _classes(field.annotation)
    return {kind: item for item in found if "kind" in item.model_fields for kind in get_args(item.model_fields["kind"].annotation)}


def _classes(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [item for part in get_args(annotation) for item in _classes(part)]


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The section class in a field's annotation, bare or inside a tuple."""
    candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
    return next((item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)), None)
