"""Win rates: plain ones against counting, length-controlled ones against scikit-learn's regression."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from tailmark.evaluate.winrate import Match, cluster_weights, controlled, win_rate


def matches(values: list[float], longer: list[int] | None = None, groups: list[str] | None = None) -> list[Match]:
    lengths = longer or [0] * len(values)
    names = groups or [str(number) for number in range(len(values))]
    return [Match(value, length, name, True) for value, length, name in zip(values, lengths, names, strict=True)]


def by_sklearn(values: np.ndarray, longer: np.ndarray) -> float:
    """Every contest once as a win and once as a loss, weighed by its verdict, as AlpacaEval does; C = 1 / 0.01."""
    features = np.stack([np.ones_like(longer), np.tanh(longer / longer.std(ddof=1))], axis=1)
    model = LogisticRegression(C=100, fit_intercept=False, tol=1e-10, max_iter=10_000)
    both = np.concatenate([features, features])
    model.fit(both, np.repeat([1, 0], len(values)), sample_weight=np.concatenate([values, 1 - values]))
    return float(model.predict_proba([[1.0, 0.0]])[0, 1])


@pytest.mark.parametrize("seed", range(5))
def test_the_controlled_rate_is_that_of_the_regression(seed: int) -> None:
    random = np.random.default_rng(seed)
    longer = random.normal(40 * seed, 100, size=60)
    values = random.choice([0.0, 0.25, 0.5, 1.0], size=60)
    assert controlled(values, longer, np.ones((1, 60)))[0] == pytest.approx(by_sklearn(values, longer), abs=1e-5)


def test_wins_that_length_explains_are_no_wins() -> None:
    """The longer answer tends to win, and the marked model's mostly is longer: well above half plain, and half at equal lengths."""
    random = np.random.default_rng(0)
    longer = random.normal(150, 150, size=1000).astype(int)
    values = (random.random(1000) < 1 / (1 + np.exp(-2 * np.tanh(longer / 150)))).astype(float)
    found = win_rate(matches(values.tolist(), longer.tolist()), resamples=400, confidence=0.95, seed=1)
    assert found["win_rate"] == values.mean() > 0.65
    assert found["low"] > 0.62
    assert found["controlled_low"] < 0.5 < found["controlled_high"]
    assert found["longer"] == pytest.approx(longer.mean(), abs=1e-5)
    assert (found["wins"], found["ties"], found["n"]) == (found["win_rate"], 0, 1000)


def test_without_a_difference_in_length_nothing_is_controlled_for() -> None:
    found = win_rate(matches([1.0] * 18 + [0.5] * 4 + [0.0] * 8), resamples=400, confidence=0.95, seed=1)
    assert found["win_rate"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["controlled"] == pytest.approx(2 / 3, abs=1e-3)
    assert found["controlled_low"] == pytest.approx(found["low"], abs=0.05)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.integers(-500, 500)), min_size=1, max_size=20), st.integers(1, 5)
)
def test_rates_are_finite_and_within_their_intervals(judged: list[tuple[float, int]], groups: int) -> None:
    values, longer = [value for value, _ in judged], [length for _, length in judged]
    names = [str(place % groups) for place in range(len(values))]
    found = win_rate(matches(values, longer, names), resamples=50, confidence=0.9, seed=3)
    assert 0 <= found["low"] <= found["win_rate"] <= found["high"] <= 1
    assert 0 <= found["controlled_low"] <= found["controlled_high"] <= 1
    assert 0 < found["controlled"] < 1
    assert found["wins"] + found["ties"] + found["losses"] == pytest.approx(1, abs=2e-6)


def test_verdicts_that_are_all_alike_claim_no_certainty() -> None:
    found = win_rate(matches([1.0] * 5, [10, 20, 30, 40, 50]), resamples=100, confidence=0.95, seed=1)
    assert found["controlled_low"] == found["low"] < 0.6
    assert found["controlled_high"] == found["high"] == 1


def test_swapping_the_arms_mirrors_the_rate() -> None:
    random = np.random.default_rng(2)
    values, longer = random.choice([0.0, 0.5, 1.0], size=40), random.normal(30, 80, size=40)
    ones = np.ones((1, 40))
    assert controlled(values, longer, ones)[0] == pytest.approx(1 - controlled(1 - values, -longer, ones)[0], abs=1e-9)


def test_whole_clusters_are_drawn() -> None:
    weights = cluster_weights(["a", "b", "a", "c"], 500, seed=4)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert set((weights[:, 0] + weights[:, 1] + weights[:, 3]).tolist()) == {3.0}
    assert weights.mean() == pytest.approx(1, abs=0.15)
