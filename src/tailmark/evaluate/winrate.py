"""Win rates of the marked model over its baseline, plain and length-controlled, with intervals over whole clusters of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailmark.statistics import cluster_places, paired_interval, percentiles

Floats = NDArray[np.float64]

_RIDGE = 0.01
"""Weight of the penalty |w|^2 / 2: it keeps the fit finite where one side wins throughout, and moves the rate of 30 contests by less
than 0.001."""

_STEPS = 50
_CLOSE = 1e-10
DIGITS = 6


@dataclass(frozen=True)
class Match:
    """A contest that was judged.

    Attributes:
        value: 1 the marked model wins, 0 the baseline, 0.5 they are equal.
        longer: characters that the marked model's answer is longer.
        group: what prompts made from one text share.
        steady: whether the judge says the same in both orders.
    """

    value: float
    longer: int
    group: str
    steady: bool


def win_rate(matches: Sequence[Match], *, resamples: int, confidence: float, seed: int) -> dict[str, float]:
    """Win rate, ties counting half, with its bootstrap interval, and the same controlled for length (`controlled`).

    Further: shares of `wins`, `ties` and `losses`, of verdicts that are the same in both orders (`steady`), the answers' mean difference
    in characters (`longer`), and `n`.

    Args:
        matches: at least one.
    """
    values = np.array([match.value for match in matches])
    groups = [match.group for match in matches]
    plain = paired_interval(values - 0.5, resamples=resamples, confidence=confidence, seed=seed, clusters=groups, yes_no=True)
    bounds = max(plain.low + 0.5, 0.0), min(plain.high + 0.5, 1.0)
    longer = np.array([match.longer for match in matches], dtype=np.float64)
    at_equal_length = bounds
    # Verdicts that are all alike leave a bootstrap nothing to draw from.
    if len(set(groups)) > 1 and np.ptp(values) > 0:
        drawn = controlled(values, longer, cluster_weights(groups, resamples, seed))
        at_equal_length = percentiles(drawn, len(set(groups)), confidence)
    numbers = {
        "win_rate": plain.mean + 0.5,
        "low": bounds[0],
        "high": bounds[1],
        "controlled": float(controlled(values, longer, np.ones((1, len(values))))[0]),
        "controlled_low": at_equal_length[0],
        "controlled_high": at_equal_length[1],
        "wins": float(np.mean(values > 0.5)),
        "ties": float(np.mean(values == 0.5)),
        "losses": float(np.mean(values < 0.5)),
        "steady": float(np.mean([match.steady for match in matches])),
        "longer": float(longer.mean()),
    }
    return {**{name: round(value, DIGITS) for name, value in numbers.items()}, "n": len(matches)}


def cluster_weights(groups: Sequence[str], resamples: int, seed: int) -> Floats:
    """How often each example is drawn, of shape (resamples, examples): whole clusters are."""
    places = cluster_places(groups)
    count = int(places.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return drawn[:, places].astype(np.float64)


def controlled(values: Floats, longer: Floats, weights: Floats) -> Floats:
    """The win rate at answers of equal length, of shape (draws,): AlpacaEval 2's regression (Dubois et al. 2024, arXiv 2404.04475).

    logit P(win) = a + b tanh(difference of the lengths / its standard deviation), fitted to verdicts of 0, 0.5 and 1; the rate is that at a
    difference of 0, so expit(a). AlpacaEval's third term, how difficult an instruction is, comes from its leaderboard and cannot be had for
    other prompts.

    Args:
        values: verdicts, of shape (n,).
        longer: differences of the lengths, of shape (n,).
        weights: of the examples, of shape (draws, n).
    """
    spread = longer.std(ddof=1) if len(longer) > 1 else 0.0
    features = np.stack([np.ones_like(longer), np.tanh(longer / spread) if spread else np.zeros_like(longer)])
    fitted = np.zeros((len(weights), 2))
    for _ in range(_STEPS):
        chances = _expit(fitted @ features)
        slope = (weights * (values - chances)) @ features.T - _RIDGE * fitted
        bend = np.einsum("dn,an,bn->dab", weights * chances * (1 - chances), features, features, optimize=True) + _RIDGE * np.eye(2)
        step = np.linalg.solve(bend, slope[..., None])[..., 0]
        # A step longer than 2 in logits overshoots where all verdicts are alike.
        fitted += np.clip(step, -2, 2)
        if np.abs(step).max() < _CLOSE:
            break
    return _expit(fitted[:, 0])


def _expit(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logits)))
