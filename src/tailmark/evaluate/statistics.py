"""How sure a difference is: paired bootstrap intervals, sign-flip tests, Holm's correction, Wilson intervals.

All randomness comes from the seed given, so the same scores give the same intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_NORMAL = NormalDist()
_CHUNK = 4_000_000
"""Most resampled numbers held at once (32 MB)."""


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; `n`: the examples it was measured on."""

    mean: float
    low: float
    high: float
    n: int


def paired_interval(
    differences: Sequence[float] | Floats,
    *,
    resamples: int,
    confidence: float,
    seed: int,
    clusters: Sequence[str] | None = None,
    yes_no: bool = False,
) -> Interval:
    """The mean of paired differences with its bootstrap interval (Efron 1987: bias-corrected and accelerated).

    Args:
        differences: one per example, marked minus baseline or the other way round; at least one.
        clusters: per example, what it shares with others (e.g. its source text): whole clusters are drawn.
        yes_no: the scores are 0 or 1. Where all clusters' means are equal a bootstrap has nothing to draw from and would claim certainty;
            the interval is then as wide as Wilson's for a share of k out of k clusters.
    """
    values = np.asarray(differences, dtype=np.float64)
    sums, counts = _cluster_sums(values, clusters)
    mean = float(sums.sum() / counts.sum())
    if len(sums) < 2 or np.ptp(sums / counts) == 0:
        return _constant_interval(mean, len(sums), len(values), confidence) if yes_no else Interval(mean, mean, mean, len(values))
    means = np.sort(_resampled_means(sums, counts, resamples, seed))
    shares = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    low, high = np.quantile(means, _bca_shares(shares, means, mean, sums, counts))
    return Interval(mean, float(low), float(high), len(values))


def _constant_interval(mean: float, draws: int, n: int, confidence: float) -> Interval:
    margin = 1 - wilson(draws, draws, confidence).low
    return Interval(mean, max(mean - margin, -1.0), min(mean + margin, 1.0), n)


def _cluster_sums(values: Floats, clusters: Sequence[str] | None) -> tuple[Floats, Floats]:
    """Per cluster the sum and the number of its values; without clusters each value is one."""
    if clusters is None:
        return values, np.ones_like(values)
    places = cluster_places(clusters)
    return np.bincount(places, weights=values).astype(np.float64), np.bincount(places).astype(np.float64)


def cluster_places(clusters: Sequence[str]) -> NDArray[np.int64]:
    """Per example its cluster's number, from 0 in the order of first appearance: clusters of one leave the examples as they are."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    return np.array([numbers[name] for name in clusters], dtype=np.int64)


def _resampled_means(sums: Floats, counts: Floats, resamples: int, seed: int) -> Floats:
    random = np.random.default_rng(seed)
    size = len(sums)
    per_chunk = max(1, _CHUNK // size)
    means = []
    for start in range(0, resamples, per_chunk):
        drawn = random.integers(0, size, (min(per_chunk, resamples - start), size))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    return np.concatenate(means)


def _bca_shares(shares: Floats, means: Floats, mean: float, sums: Floats, counts: Floats) -> Floats:
    """The percentiles to read after correction for bias and skew."""
    below = (np.count_nonzero(means < mean) + np.count_nonzero(means <= mean)) / (2 * len(means))
    if not 0 < below < 1:
        return shares
    bias = _NORMAL.inv_cdf(below)
    left_out = (sums.sum() - sums) / (counts.sum() - counts)
    deviations = left_out.mean() - left_out
    spread = float((deviations**2).sum())
    acceleration = float((deviations**3).sum()) / (6 * spread**1.5) if spread else 0.0
    corrected = []
    for share in shares:
        score = bias + _NORMAL.inv_cdf(float(share))
        corrected.append(_NORMAL.cdf(bias + score / (1 - acceleration * score)))
    return np.asarray(corrected)


def sign_flip_test(differences: Sequence[float] | Floats, *, resamples: int, seed: int, clusters: Sequence[str] | None = None) -> float:
    """Two-sided p-value of a mean difference of zero, by flipping signs at random (Fisher's randomisation test).

    Args:
        differences: one per pair; at least one.
        clusters: per pair, what it shares with others: the signs of a cluster flip together, so that a single one has p = 1.
    """
    values, _ = _cluster_sums(np.asarray(differences, dtype=np.float64), clusters)
    observed = abs(values.sum())
    if observed == 0:
        return 1.0
    random = np.random.default_rng(seed)
    per_chunk = max(1, _CHUNK // len(values))
    extreme = 0
    for start in range(0, resamples, per_chunk):
        signs = random.integers(0, 2, (min(per_chunk, resamples - start), len(values))) * 2 - 1
        # Rounding must not make an arrangement equal to the observed one look smaller.
        extreme += int(np.count_nonzero(np.abs(signs @ values) >= observed * (1 - 1e-12)))
    return (extreme + 1) / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979), in the order given: each at most 1, none below what it was."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def wilson(successes: int, n: int, confidence: float) -> Interval:
    """A share with its Wilson score interval (Wilson 1927); `n` at least 1."""
    z = _NORMAL.inv_cdf((1 + confidence) / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * ((share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), n)
