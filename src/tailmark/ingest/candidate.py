"""What a source hands to the stage: a row that may become a record, or one that cannot, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Candidate:
    """A well-formed row.

    Attributes:
        where: file and row number, as a person looks it up.
        prompt: (role, content) pairs, the last one the user's.
        metadata: what the source says; `marker.<name>` is a marker's value.
    """

    where: str
    prompt: tuple[tuple[str, str], ...]
    completion: str
    license: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reject:
    """A row that cannot be used. `reason`: a short code. `row`: its text as the file has it, or as JSON."""

    where: str
    reason: str
    detail: str
    row: str
