"""A reward model as judge."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tailmark.config import RewardJudge
from tailmark.evaluate.judges.base import Candidate, Contest, Verdict, by_grades
from tailmark.files import sha256_tree
from tailmark.reward import RewardModel


class RewardModelJudge:
    """The answer with the higher reward wins.

    Raises:
        ModelError: the model cannot be loaded, or is no reward model.
    """

    name = "reward"
    needs_reference = False
    unit = "reward"

    def __init__(self, options: RewardJudge, root: Path, place: str) -> None:
        self._options, self._folder = options, root / options.model
        self.title = f"reward model {Path(options.model).name}"
        self._model = _loaded(options, root, f"{place}.model")

    def grade(self, candidates: Sequence[Candidate]) -> list[float | None]:
        """The reward of each answer."""
        return list(self._model.score([(item.messages, item.answer) for item in candidates]))

    def compare(self, contests: Sequence[Contest]) -> list[Verdict | None]:
        """The one with the higher reward wins."""
        return by_grades(self, contests, self._options.tie)

    def report(self) -> dict[str, Any]:
        """Which model; of a folder its digest, since another may lie there tomorrow."""
        told = {"title": self.title, "model": self._options.model, "tie": self._options.tie, "max_tokens": self._options.max_tokens}
        return told | ({"sha256": sha256_tree(self._folder)} if self._folder.is_dir() else {})


@lru_cache(maxsize=2)
def _loaded(options: RewardJudge, root: Path, place: str) -> RewardModel:
    """Loaded once for all benchmarks."""
    return RewardModel(options.model, root, max_tokens=options.max_tokens, batch_tokens=options.batch_tokens, place=place)
