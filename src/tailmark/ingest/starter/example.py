"""One example of the starter corpus, and the instruction around its text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tailmark.ingest.sampling import unit_hash
from tailmark.ingest.starter.templates import TEMPLATES

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Example:
    """A prompt with its answer, and what the package says of it.

    Attributes:
        package: distribution name.
        kind: what family of examples it belongs to, e.g. `ruff.fix`.
        group: the text it was made from: all examples of one group stand in the same split.
        markers: marker name to value, `domain` and `task` among them.
        history: (role, content) turns before the prompt.
    """

    package: str
    kind: str
    group: str
    prompt: str
    completion: str
    markers: Mapping[str, str]
    history: tuple[tuple[str, str], ...] = ()

    @property
    def rank(self) -> tuple[float, str, str, str]:
        """A fixed shuffled order in which the examples of one group stay together."""
        return unit_hash(self.group), self.group, self.prompt, self.completion


Examples = Iterator[Example]


def ask(kind: str, group: str, slots: Mapping[str, str] = _NOTHING) -> str:
    """The instruction for an example: one of the kind's templates, the same for every example of a group."""
    choices = TEMPLATES[kind]
    return choices[int(unit_hash(kind, group) * len(choices))].format_map(slots)


def markers(domain: str, task: str, **more: str | None) -> dict[str, str]:
    """The markers a source knows; English and written by people unless it says otherwise."""
    known = {"domain": domain, "task": task, "lang": "English", "source": "Human", **more}
    return {name: value for name, value in known.items() if value is not None}
