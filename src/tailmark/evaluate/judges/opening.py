"""Makes the judges that `evaluate.judges` names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tailmark import config
from tailmark.config import LLMJudge, ReferenceJudge
from tailmark.evaluate.judges.base import Judge
from tailmark.evaluate.judges.llm import LanguageModelJudge
from tailmark.evaluate.judges.reference import ReferenceAnswerJudge
from tailmark.layout import Layout


def open_judges(options: Sequence[config.Judge], layout: Layout) -> list[Judge]:
    """The judges, loaded. A second one of a kind is `reward2` and so on, since scores are named after their judge.

    Raises:
        ModelError: a reward model cannot be loaded.
        DataError: the file with a language model's earlier verdicts is corrupt.
    """
    judges = [_open(item, f"evaluate.judges[{number}]", layout) for number, item in enumerate(options)]
    seen: Counter[str] = Counter()
    for judge in judges:
        seen[judge.name] += 1
        if seen[judge.name] > 1:
            judge.name += str(seen[judge.name])
    return judges


def _open(options: config.Judge, place: str, layout: Layout) -> Judge:
    if isinstance(options, ReferenceJudge):
        return ReferenceAnswerJudge(options)
    if isinstance(options, LLMJudge):
        return LanguageModelJudge(options, layout.state, place)
    from tailmark.evaluate.judges.reward import RewardModelJudge

    return RewardModelJudge(options, layout.root, place)
