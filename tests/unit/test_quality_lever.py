"""Whether grades rise with the quality asked for: each statistic against an independent one, and the verdict by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from tailmark.evaluate.suite.quality import WORST_FIRST, lever

DRAWS = {"resamples": 300, "confidence": 0.95, "seed": 5}


def names(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_statistics_are_what_they_say() -> None:
    grades = np.random.default_rng(3).normal(0, 1, (40, 4)) + 0.4 * np.arange(4)
    found = lever(grades, names(40), **DRAWS)
    assert found["means"] == pytest.approx(dict(zip(WORST_FIRST, grades.mean(0), strict=True)), abs=1e-6)
    assert found["spearman"] == pytest.approx(np.mean([spearmanr(row, range(4)).statistic for row in grades]), abs=1e-6)
    assert found["low"] < found["spearman"] < found["high"]
    assert (found["verdict"], found["n"]) == ("rises", 40)
    assert found["page_p"] < 0.001


def test_a_falling_or_flat_lever_does_not_rise() -> None:
    grades = np.random.default_rng(4).normal(0, 1, (40, 4)) + 0.8 * np.arange(4)
    falling = lever(-grades, names(40), **DRAWS)
    assert (falling["verdict"], falling["isotonic"]) == ("falls", pytest.approx(0, abs=1e-6))
    assert falling["page_p"] > 0.99
    flat = lever(np.ones((5, 4)), names(5), **DRAWS)
    assert (flat["verdict"], flat["spearman"], flat["isotonic"]) == ("unclear", 0, 1)


def test_monotone_means_are_explained_by_a_monotone_fit() -> None:
    assert lever(np.array([[1.0, 2, 3, 9], [0, 2, 4, 4]]), names(2), **DRAWS)["isotonic"] == 1
    bent = lever(np.array([[0.0, 3, 1, 4], [0, 3, 1, 4]]), names(2), **DRAWS)
    # The best monotone fit of 0 3 1 4 is 0 2 2 4: it leaves 2 of 10 squares.
    assert bent["isotonic"] == pytest.approx(0.8)


def test_without_a_trend_one_verdict_in_twenty_claims_one() -> None:
    random = np.random.default_rng(9)
    verdicts = [lever(random.normal(0, 1, (30, 4)), names(30), **DRAWS)["verdict"] for _ in range(100)]
    assert 0.88 <= verdicts.count("unclear") / 100 <= 0.99


def test_prompts_of_one_text_are_one_observation() -> None:
    grades = np.repeat(np.random.default_rng(6).normal(0, 1, (6, 4)), 10, axis=0)
    alone = lever(grades, names(60), **DRAWS)
    grouped = lever(grades, [str(place // 10) for place in range(60)], **DRAWS)
    assert grouped["high"] - grouped["low"] > 1.5 * (alone["high"] - alone["low"])
