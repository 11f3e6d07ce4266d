"""The markers and values that options name, against the taxonomy: a misspelt one is told before anything runs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from tailmark.config.sources import Source, Variant
from tailmark.config.tree import Config
from tailmark.errors import ConfigError
from tailmark.taxonomy import Taxonomy


def check_markers(config: Config, taxonomy: Taxonomy) -> None:
    """Check every option that names markers or their values.

    Raises:
        ConfigError: the taxonomy has no such marker or value; the message names the nearest one.
    """
    tail = taxonomy.markers.get(_known(config.longtail.marker, taxonomy, "longtail.marker"))
    if tail is not None and not tail.values:
        categorical = ", ".join(name for name, spec in sorted(taxonomy.markers.items()) if spec.values)
        what = f"'{config.longtail.marker}' is a number, so it has no tail."
        raise ConfigError(what, where="params.yaml: longtail.marker", fix=f"use one of: {categorical}")
    for option, names in _named(config):
        for name in names:
            _known(name, taxonomy, option)
    for name in config.prepare.digits:
        if taxonomy.markers[name].kind != "integer":
            fix = f"take {name} out; markers that are whole numbers can stand there"
            what = f"'{name}' is not a whole number, so it has no leading zeros."
            raise ConfigError(what, where="params.yaml: prepare.digits", fix=fix)
    for option, name, value in _stated(config):
        _known(name, taxonomy, option)
        if value is not None:
            _known_value(name, value, taxonomy, option)


def _named(config: Config) -> Iterator[tuple[str, Iterable[str]]]:
    yield "ingest.stratify", config.ingest.stratify
    yield "prepare.markers", config.prepare.markers or ()
    yield "prepare.sample_dropout_by_marker", config.prepare.sample_dropout_by_marker
    yield "prepare.digits", config.prepare.digits
    yield "evaluate.attribution_markers", config.evaluate.attribution_markers or ()
    if config.annotate.llm is not None:
        yield "annotate.llm.markers", config.annotate.llm.markers or ()


def _stated(config: Config) -> Iterator[tuple[str, str, str | None]]:
    """Option, marker and value, where options state values; None: the value comes from the data."""
    for name, values in config.ingest.only.items():
        yield from ((f"ingest.only.{name}", name, value) for value in values)
    for number, source in enumerate(config.ingest.sources):
        where = f"ingest.sources[{number}] ({source.name or source.kind})"
        parts: tuple[Source | Variant, ...] = (source, *source.variants)
        for part in parts:
            yield from ((f"{where}: markers", name, None) for name in part.markers)
            yield from ((f"{where}: constants", name, str(value)) for name, value in part.constants.items())
            for name, mapped in part.values.items():
                yield from ((f"{where}: values", name, value) for value in mapped.values())


def _known(name: str, taxonomy: Taxonomy, option: str) -> str:
    if name in taxonomy.markers:
        return name
    near = difflib.get_close_matches(name, taxonomy.markers, n=1, cutoff=0.5)
    instead = f"did you mean '{near[0]}'?" if near else f"use some of: {', '.join(sorted(taxonomy.markers))}"
    raise ConfigError(f"'{name}' is not a marker of taxonomy '{taxonomy.name}'.", where=f"params.yaml: {option}", fix=instead)


def _known_value(name: str, value: str, taxonomy: Taxonomy, option: str) -> None:
    spec = taxonomy.markers[name]
    if taxonomy.allows(name, value) or not spec.values:
        return
    near = difflib.get_close_matches(value, spec.values, n=1, cutoff=0.5)
    instead = f"did you mean '{near[0]}'?" if near else f"use some of: {', '.join(spec.values)}"
    raise ConfigError(f"'{value}' is not a value of marker '{name}'.", where=f"params.yaml: {option}", fix=instead)
