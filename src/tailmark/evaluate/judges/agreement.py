"""How far two judges agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from sklearn.metrics import cohen_kappa_score

from tailmark.evaluate.judges.base import Verdict

OUTCOMES = ("loss", "tie", "win")


def outcome(value: float) -> str:
    """Of the second answer: a win is above 0.5; two orders that contradict each other are a tie."""
    return OUTCOMES[1 + (value > 0.5) - (value < 0.5)]


def agreement(verdicts: Mapping[str, Sequence[Verdict | None]]) -> dict[str, dict[str, float]]:
    """Per pair of judges (`a, b`): contests that both judged, the share with the same outcome, and Cohen's kappa (1960).

    Kappa is left out where chance alone would agree always: both gave one and the same outcome throughout.
    """
    found = {}
    for first, second in combinations(sorted(verdicts), 2):
        both = zip(verdicts[first], verdicts[second], strict=True)
        pairs = [(one, other) for one, other in both if one is not None and other is not None]
        if pairs:
            found[f"{first}, {second}"] = _agree([outcome(one.value) for one, _ in pairs], [outcome(other.value) for _, other in pairs])
    return found


def _agree(first: Sequence[str], second: Sequence[str]) -> dict[str, float]:
    equal = sum(one == other for one, other in zip(first, second, strict=True)) / len(first)
    entry = {"contests": len(first), "equal": round(equal, 6)}
    if len({*first, *second}) > 1:
        entry["kappa"] = round(float(cohen_kappa_score(first, second)), 6)
    return entry
