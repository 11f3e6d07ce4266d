"""Where a version came from, and what came from a version of the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tailmark.errors import TrackingError
from tailmark.register.fetch import Fetched, fetch
from tailmark.register.log import PromotionLog, as_rows
from tailmark.register.registry import Registry

_OUTPUT = "output."
_SHORTEST = 6


@dataclass(frozen=True)
class Made:
    """A version that was made from some data.

    Attributes:
        outputs: the outputs whose hash was asked for.
        aliases: it has now.
    """

    version: str
    outputs: tuple[str, ...]
    commit: str | None
    aliases: tuple[str, ...]


def backward(registry: Registry, reference: str) -> dict[str, Any]:
    """A version's commit, `dvc.lock`, outputs and options, from its verified files, and what was decided on it.

    Raises:
        TrackingError: there is no such version.
        ModelError: its files are not what was registered.
    """
    version = registry.resolve(reference)
    fetched = fetch(registry, version)
    log = PromotionLog(replace(registry, name=fetched.name))
    decisions = [row for row in as_rows(log.entries()) if row["version"] == fetched.version]
    return {
        "name": fetched.name,
        "version": fetched.version,
        "aliases": _aliases(registry, fetched),
        "model": fetched.manifest.model,
        **fetched.manifest.lineage.model_dump(mode="json"),
        "decisions": [{name: row[name] for name in ("seq", "decision", "time", "who", "hash")} for row in decisions],
    }


def _aliases(registry: Registry, fetched: Fetched) -> list[str]:
    found = registry.client.get_registered_model(fetched.name).aliases
    return sorted(alias for alias, version in found.items() if str(version) == fetched.version)


def forward(registry: Registry, digest: str) -> list[Made]:
    """The versions that were made from an output of DVC (or are it), by its hash or the first characters of it; the newest first.

    Raises:
        TrackingError: fewer than six characters, nothing is registered yet, or no version knows it.
    """
    if len(digest) < _SHORTEST:
        raise TrackingError(f"'{digest}' is too short to name an output.", where="--data", fix=f"give at least {_SHORTEST} characters")
    aliases = registry.require_registered().aliases
    found = []
    for version in registry.versions():
        outputs = tuple(
            name.removeprefix(_OUTPUT) for name, md5 in sorted(version.tags.items()) if name.startswith(_OUTPUT) and md5.startswith(digest)
        )
        if outputs:
            number = str(version.version)
            named = tuple(sorted(alias for alias, of in aliases.items() if str(of) == number))
            found.append(Made(number, outputs, version.tags.get("commit"), named))
    if not found:
        raise TrackingError(
            f"No version of {registry.name} was made from '{digest}'.",
            where=registry.uri,
            fix="take a hash from `dvc.lock` or `tailmark lineage`",
        )
    return found
