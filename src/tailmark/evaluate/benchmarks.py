"""What every comparison needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tailmark.config import Config
from tailmark.errors import TaxonomyError
from tailmark.evaluate.sample import HeldOut, Row, draw
from tailmark.evaluate.scores import ScoredMode
from tailmark.generate.loading import LoadedModel
from tailmark.generate.local import LocalModel
from tailmark.generate.request import Answer, Request
from tailmark.taxonomy import MarkerValue


@dataclass(frozen=True)
class Bench:
    """What every comparison needs.

    Attributes:
        kept: a file in which answers are kept as they are made, so that an evaluation that was killed goes on (None: they are not kept).
    """

    config: Config
    baseline: LoadedModel
    marked: LoadedModel
    heldout: HeldOut
    kept: Path | None = None

    def draw(self, rows: Sequence[Row], count: int, purpose: str) -> list[Row]:
        """A sample of rows, balanced over head and tail."""
        return draw(rows, count, seed=self.config.seed, purpose=purpose)

    def answer(self, mode: ScoredMode, requests: Sequence[Request], what: str, max_new_tokens: int | None = None) -> list[Answer]:
        """Answers of the arm that the mode belongs to; `max_new_tokens`: None means `evaluate.max_new_tokens`."""
        return self._generate(self.baseline if mode == "baseline" else self.marked, requests, f"{what}, {mode}", max_new_tokens)

    def answers(
        self, requests: Mapping[ScoredMode, Sequence[Request]], what: str, max_new_tokens: int | None = None
    ) -> dict[ScoredMode, list[Answer]]:
        """Answers of both arms, mode by mode. The marked model is asked in all its modes together: few prompts then still fill a batch."""
        modes = [mode for mode in requests if mode != "baseline"]
        asked = [request for mode in modes for request in requests[mode]]
        given = iter(self._generate(self.marked, asked, f"{what}, {', '.join(modes)}", max_new_tokens) if asked else ())
        answers: dict[ScoredMode, list[Answer]] = {mode: [next(given) for _ in requests[mode]] for mode in modes}
        return {"baseline": self.answer("baseline", requests["baseline"], what, max_new_tokens), **answers}

    def _generate(self, loaded: LoadedModel, requests: Sequence[Request], what: str, max_new_tokens: int | None) -> list[Answer]:
        options = self.config.evaluate
        tokens = max_new_tokens or options.max_new_tokens
        return LocalModel(loaded, batch_size=options.batch_size, store=self.kept).answer(requests, max_new_tokens=tokens, what=what)


def written_markers(loaded: LoadedModel, answer: Answer) -> Mapping[str, MarkerValue] | None:
    """The list a model wrote, as far as it is well formed and can be written again; None where it wrote none.

    As plain text every value can. A compact list has tokens for the values of the model's markers alone.
    """
    if not answer.listed:
        return None
    return answer.markers if loaded.info.rendering == "text" else dict(_typed(loaded, answer.markers))


def _typed(loaded: LoadedModel, markers: Mapping[str, str]) -> Iterator[tuple[str, MarkerValue]]:
    for name, text in markers.items():
        if name in loaded.info.markers:
            with suppress(TaxonomyError):
                yield name, loaded.taxonomy.typed(name, text)
