"""Dual dropout of the prompt-side list (paper, section 2) and dropout of both lists, drawn from (seed, epoch, row id) alone.

Neither worker, rank, order nor resume changes a draw, and adding a marker to a row leaves the draws of its others as they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from tailmark.config import Config
from tailmark.taxonomy import MarkerList

_UNIT = 2.0**-53


def uniform(seed: int, epoch: int, row_id: str, what: str) -> float:
    """A number in [0, 1), independent for each combination of arguments: the first 53 bits of a hash of them."""
    digest = blake2b(f"{seed}\0{epoch}\0{row_id}\0{what}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) * _UNIT


@dataclass(frozen=True)
class Dropout:
    """Which markers of a row stand in its prompt, and whether it has lists at all.

    The paper removes q % of the markers of an example at random. We read it as: each marker is removed with probability q,
    independently of the others; the expected share is the same, and a row with one or two markers also loses some.

    Attributes:
        seed: of the whole run.
        dataset: p, the probability that a row's whole list is removed (the prompt then holds no list at all).
        sample: q, the probability that a marker of a list that stays is removed (where all are, the empty list stands there).
        by_marker: another q for single markers, by name.
        lists: the probability that a row has no list, neither in its prompt nor in its completion.
    """

    seed: int
    dataset: float
    sample: float
    by_marker: Mapping[str, float] = field(default_factory=dict)
    lists: float = 0.0

    @classmethod
    def of(cls, config: Config) -> Dropout:
        """As the config says."""
        options = config.prepare
        return cls(config.seed, options.dataset_dropout, options.sample_dropout, options.sample_dropout_by_marker, options.list_dropout)

    def __call__(self, markers: MarkerList, epoch: int, row_id: str) -> MarkerList | None:
        """The prompt-side list of a row in an epoch; None: no list."""
        if self.unlisted(epoch, row_id) or uniform(self.seed, epoch, row_id, ":list") < self.dataset:
            return None
        return MarkerList({name: value for name, value in markers.items() if self._stays(name, epoch, row_id)})

    def unlisted(self, epoch: int, row_id: str) -> bool:
        """Whether a row has no list at all in an epoch."""
        return uniform(self.seed, epoch, row_id, ":lists") < self.lists

    def _stays(self, name: str, epoch: int, row_id: str) -> bool:
        return uniform(self.seed, epoch, row_id, name) >= self.by_marker.get(name, self.sample)
