"""Profiles: sparse YAML files in `params/` that `tailmark config use` merges into a complete `params.yaml`.

`params.yaml` holds every option, defaults too, so that DVC sees every value that matters. Where a value comes from can then be told
by comparison: the profile's, the default, or neither, which is the user's own.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tailmark.config import Config, parse_config, read_params
from tailmark.errors import ConfigError
from tailmark.files import write_text

_COMPLETE = "# Every option of the pipeline, as `tailmark config use "
_HEADER = """\
{complete}{profile}` wrote it. Edit freely: DVC reruns what depends on what you change.
# `tailmark config show` says where each value comes from; src/tailmark/config/ says what each option means.
"""

Flat = dict[str, Any]


@dataclass(frozen=True)
class Option:
    """One resolved option: its dotted name, its value, and where it comes from (`default`, `profile NAME` or `params.yaml`)."""

    name: str
    value: Any
    origin: str


def profile_path(root: Path, name: str) -> Path:
    """The file of a profile.

    Raises:
        ConfigError: there is none of that name.
    """
    path = root / "params" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in (root / "params").glob("*.yaml"))) or "none"
        raise ConfigError(f"There is no profile '{name}'.", where=str(path), fix=f"use one of: {known}")
    return path


def resolved_options(root: Path) -> list[Option]:
    """Every option of `params.yaml` with its origin, in the order of the tree."""
    path = root / "params.yaml"
    data = read_params(path)
    config = parse_config(data, path)
    defaults, given = _flatten(_dump(Config())), _flatten(data)
    profile = _flatten(_profile_values(root, config.profile))
    return [
        Option(name, value, _origin(name, value, given, profile, defaults, config.profile))
        for name, value in _flatten(_dump(config)).items()
    ]


def _origin(name: str, value: Any, given: Flat, profile: Flat, defaults: Flat, profile_name: str) -> str:
    if name in profile and value == profile[name]:
        return f"profile {profile_name}"
    if name not in given or (name not in profile and value == defaults.get(name)):
        return "default"
    return "params.yaml"


def _profile_values(root: Path, name: str) -> dict[str, Any]:
    """A profile as the full tree would hold it (so that values compare equal), reduced to the keys it sets."""
    try:
        path = profile_path(root, name)
    except ConfigError:
        return {}
    data = read_params(path)
    full = _flatten(_dump(parse_config(data, path)))
    return {key: full[key] for key in _flatten(data) if key in full}


def use_profile(root: Path, name: str, *, reset: bool = False) -> list[Option]:
    """Write `params.yaml` from a profile and the defaults; returns the user's own values, which are kept unless `reset`.

    Raises:
        ConfigError: the profile does not exist, or it or `params.yaml` is malformed.
    """
    path = profile_path(root, name)
    own = [] if reset or not (root / "params.yaml").is_file() else [item for item in resolved_options(root) if item.origin == "params.yaml"]
    values = _flatten(read_params(path)) | {item.name: item.value for item in own}
    config = parse_config(_unflatten(values | {"profile": name}), path)
    write_text(root / "params.yaml", _header(name) + _yaml(_dump(config)))
    return own


def override(root: Path, assignments: Sequence[str]) -> None:
    """Set options of `params.yaml`, each given as `section.option=value` with the value in YAML; the whole is checked before it is written.

    Raises:
        ConfigError: one is no assignment or no YAML, there is no such option, or the value is impossible.
    """
    path = root / "params.yaml"
    values = read_params(path)
    for assignment in assignments:
        _set(values, *_assigned(assignment))
    if assignments:
        config = parse_config(values, path)
        write_text(path, _header(config.profile) + _yaml(_dump(config)))


def known_options(root: Path) -> frozenset[str] | None:
    """The options that the code knew which wrote `params.yaml`; None where a hand wrote it, which may have left some out."""
    path = root / "params.yaml"
    if not path.is_file() or not path.read_text(encoding="utf-8").startswith(_COMPLETE):
        return None
    return frozenset(_flatten(read_params(path)))


def keep_known(root: Path, known: Collection[str]) -> None:
    """Take out of `params.yaml` what is not `known` and has its default: an earlier revision's code would refuse an option that is new."""
    path = root / "params.yaml"
    values, defaults = _flatten(read_params(path)), _flatten(_dump(Config()))
    new = {name for name in values.keys() - known if name in defaults and values[name] == defaults[name]}
    if new:
        kept = {name: value for name, value in values.items() if name not in new}
        write_text(path, _header(kept["profile"]) + _yaml(_unflatten(kept)))


def _header(profile: str) -> str:
    return _HEADER.format(complete=_COMPLETE, profile=profile)


def _set(tree: dict[str, Any], name: str, value: Any) -> None:
    *sections, key = name.split(".")
    for section in sections:
        if not isinstance(tree.get(section), dict):
            tree[section] = {}
        tree = tree[section]
    tree[key] = value


def _assigned(assignment: str) -> tuple[str, Any]:
    name, found, text = assignment.partition("=")
    if not found or not name.strip():
        raise ConfigError(
            f"'{assignment}' sets no option.", where="overrides", fix="write section.option=value, as in prepare.dataset_dropout=0.7"
        )
    try:
        return name.strip(), YAML(typ="safe").load(text)
    except YAMLError:
        raise ConfigError(f"The value of '{name.strip()}' is no YAML: {text}", where="overrides", fix="quote texts: name='a: b'") from None


def _dump(config: Config) -> dict[str, Any]:
    data = config.model_dump(mode="json", by_alias=True)
    data["ingest"]["sources"] = [source.model_dump(mode="json", exclude_defaults=True) for source in config.ingest.sources]
    data["evaluate"]["benchmarks"] = [item.model_dump(mode="json", exclude_defaults=True) for item in config.evaluate.benchmarks]
    return data


def _yaml(data: dict[str, Any]) -> str:
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 120
    yaml.representer.add_representer(type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null"))
    stream = io.StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()


def _flatten(data: dict[str, Any], prefix: str = "") -> Flat:
    """Dotted names to values; lists and empty mappings are values."""
    flat: Flat = {}
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value and name not in _OPEN_MAPPINGS:
            flat |= _flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


_OPEN_MAPPINGS = {"ingest.only", "validate.min_completeness"}
"""Options whose value is a mapping with keys of the user's: they are replaced whole, not merged key by key."""


def _unflatten(flat: Flat) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *sections, key = name.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    return tree
