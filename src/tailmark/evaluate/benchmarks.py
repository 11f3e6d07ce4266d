"""What every comparison needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tailmark.config import Config
from tailmark.evaluate.sample import HeldOut, Row, draw
from tailmark.evaluate.scores import ScoredMode
from tailmark.generate.decode import Answer, Request, generate
from tailmark.generate.loading import LoadedModel


@dataclass(frozen=True)
class Bench:
    """What every comparison needs."""

    config: Config
    baseline: LoadedModel
    marked: LoadedModel
    heldout: HeldOut

    def draw(self, rows: Sequence[Row], count: int, purpose: str) -> list[Row]:
        """A sample of rows, balanced over head and tail."""
        return draw(rows, count, seed=self.config.seed, purpose=purpose)

    def answer(self, mode: ScoredMode, requests: Sequence[Request], what: str, max_new_tokens: int | None = None) -> list[Answer]:
        """Answers of the arm that the mode belongs to; `max_new_tokens`: None means `evaluate.max_new_tokens`."""
        options = self.config.evaluate
        loaded = self.baseline if mode == "baseline" else self.marked
        tokens = max_new_tokens or options.max_new_tokens
        return generate(loaded, requests, max_new_tokens=tokens, batch_size=options.batch_size, what=f"{what}, {mode}")


def written_markers(answer: Answer) -> dict[str, str] | None:
    """The list a model wrote, as far as it is well formed; None where it wrote none."""
    return answer.markers if answer.listed else None
