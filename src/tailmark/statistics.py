"""How sure a difference is: paired bootstrap intervals, sign-flip tests, Holm's correction, detectable effects, intervals of shares.

All randomness comes from the seed given, so the same scores give the same intervals. Examples that share a source text are one
cluster: clusters are drawn, flipped and counted whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Floats = NDArray[np.float64]

POWER = 0.8
"""Of the test that a minimum detectable effect is stated for."""

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
    """The mean of paired differences with its bootstrap interval.

    The percentiles are those of a Student distribution (Hesterberg 2015, "What teachers should know about the bootstrap", section
    5.3): a plain percentile interval is too narrow by the factor that turns a normal interval into Student's.

    Args:
        differences: one per example, marked minus baseline or the other way round; at least one.
        clusters: per example, what it shares with others (e.g. its source text): whole clusters are drawn.
        yes_no: the scores are 0 or 1. Where all clusters' means are equal a bootstrap has nothing to draw from and would claim certainty;
            the interval is then as wide as Wilson's for a share of k out of k clusters.
    """
    values = np.asarray(differences, dtype=np.float64)
    sums = _cluster_sums(np.stack([values, np.ones_like(values)], 1), clusters)
    mean, n = float(_ratio(sums.sum(0))), len(values)
    if len(sums) < 2 or np.ptp(_ratio(sums)) == 0:
        margin = 1 - wilson(len(sums), len(sums), confidence).low if yes_no else 0.0
        return Interval(mean, max(mean - margin, -1.0) if yes_no else mean, min(mean + margin, 1.0) if yes_no else mean, n)
    low, high = percentiles(_drawn(sums, _ratio, resamples, seed), len(sums), confidence)
    return Interval(mean, low, high, n)


def _ratio(sums: Floats) -> Floats:
    """Sums of values and of examples, in the last axis, to means."""
    means: Floats = sums[..., 0] / sums[..., 1]
    return means


def contrast_interval(
    differences: Sequence[float] | Floats,
    first: Sequence[bool],
    *,
    resamples: int,
    confidence: float,
    seed: int,
    clusters: Sequence[str] | None = None,
) -> Interval | None:
    """Mean of the examples marked `first` less the mean of the others (e.g. lift in the tail less lift in the head), as `paired_interval`.

    None where either side has fewer than two clusters.
    """
    values, inside = np.asarray(differences, dtype=np.float64), np.asarray(first, dtype=np.float64)
    sums = _cluster_sums(np.stack([values * inside, inside, values * (1 - inside), 1 - inside], 1), clusters)
    smaller = int(min(np.count_nonzero(sums[:, 1]), np.count_nonzero(sums[:, 3])))
    if smaller < 2:
        return None

    def contrast(totals: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            difference: Floats = _ratio(totals[..., :2]) - _ratio(totals[..., 2:])
        return difference

    low, high = percentiles(_drawn(sums, contrast, resamples, seed), smaller, confidence)
    return Interval(float(contrast(sums.sum(0))), low, high, len(values))


def slope_interval(
    x: Sequence[float] | Floats,
    y: Sequence[float] | Floats,
    *,
    resamples: int,
    confidence: float,
    seed: int,
    clusters: Sequence[str] | None = None,
) -> Interval | None:
    """The slope of the least-squares line through the examples, as `paired_interval`; None where x does not vary."""
    across, up = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    sums = _cluster_sums(np.stack([np.ones_like(across), across, up, across**2, across * up], 1), clusters)
    if len(sums) < 3:
        return None

    def slope(totals: Floats) -> Floats:
        n, of_x, of_y, of_xx, of_xy = np.moveaxis(totals, -1, 0)
        spread = n * of_xx - of_x**2
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Floats = np.where(spread > 1e-9 * n * n, (n * of_xy - of_x * of_y) / spread, np.nan)
        return found

    found = float(slope(sums.sum(0)))
    if np.isnan(found):
        return None
    low, high = percentiles(_drawn(sums, slope, resamples, seed), len(sums) - 1, confidence)
    return Interval(found, low, high, len(across))


def _cluster_sums(columns: Floats, clusters: Sequence[str] | None) -> Floats:
    """Per cluster the sums of the columns, (clusters, columns); without clusters each example is one."""
    if clusters is None:
        return columns
    places = cluster_places(clusters)
    return np.stack([np.bincount(places, weights=column) for column in columns.T], 1)


def cluster_places(clusters: Sequence[str]) -> NDArray[np.int64]:
    """Per example its cluster's number, from 0 in the order of first appearance: clusters of one leave the examples as they are."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    return np.array([numbers[name] for name in clusters], dtype=np.int64)


def _chunks(resamples: int, size: int) -> Iterator[int]:
    """How many resamples of `size` draws to make at a time."""
    per_chunk = max(1, _CHUNK // size)
    yield from (min(per_chunk, resamples - start) for start in range(0, resamples, per_chunk))


def _drawn(sums: Floats, statistic: Callable[[Floats], Floats], resamples: int, seed: int) -> Floats:
    """The statistic of as many clusters drawn with replacement, `resamples` times; a statistic of their sums, (..., columns)."""
    random, size = np.random.default_rng(seed), len(sums)
    found = []
    for count in _chunks(resamples, size):
        drawn = random.integers(0, size, (count, size)) + size * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size)
        found.append(statistic(times @ sums))
    return np.concatenate(found)


def percentiles(values: Floats, clusters: int, confidence: float) -> tuple[float, float]:
    """Low and high end of resampled values, from two clusters on, with the percentiles of a Student distribution (see `paired_interval`).

    A resample for which the statistic does not exist (nan) is left out; where it exists for none, both ends are nan.
    """
    if np.isnan(values).all():
        return float("nan"), float("nan")
    quantile = student.ppf((1 + confidence) / 2, clusters - 1) * (clusters / (clusters - 1)) ** 0.5
    above = _NORMAL.cdf(float(quantile))
    low, high = np.nanquantile(values, [1 - above, above])
    return float(low), float(high)


def sign_flip_test(differences: Sequence[float] | Floats, *, resamples: int, seed: int, clusters: Sequence[str] | None = None) -> float:
    """Two-sided p-value of a mean difference of zero, by flipping signs at random (Fisher's randomisation test).

    Args:
        differences: one per pair; at least one.
        clusters: per pair, what it shares with others: the signs of a cluster flip together, so that a single one has p = 1.
    """
    values = _cluster_sums(np.asarray(differences, dtype=np.float64)[:, None], clusters)[:, 0]
    observed = abs(values.sum())
    if observed == 0:
        return 1.0
    random = np.random.default_rng(seed)
    extreme = 0
    for count in _chunks(resamples, len(values)):
        signs = random.integers(0, 2, (count, len(values))) * 2 - 1
        # Rounding must not make an arrangement equal to the observed one look smaller.
        extreme += int(np.count_nonzero(np.abs(signs @ values) >= observed * (1 - 1e-12)))
    return (extreme + 1) / (resamples + 1)


def detectable_effect(differences: Sequence[float] | Floats, *, confidence: float, clusters: Sequence[str] | None = None) -> float | None:
    """The smallest mean difference that examples like these would show with a power of `POWER`, at this confidence.

    Bloom's minimum detectable effect (1995): the standard error, of cluster means weighed by their examples, times the sum of two Student
    quantiles. None where it cannot be told: fewer than two clusters, or no spread.
    """
    values = np.asarray(differences, dtype=np.float64)
    sums = _cluster_sums(np.stack([values, np.ones_like(values)], 1), clusters)
    error = _standard_error(sums)
    if not error:
        return None
    degrees = len(sums) - 1
    return error * float(student.ppf((1 + confidence) / 2, degrees) + student.ppf(POWER, degrees))


def _standard_error(sums: Floats) -> float:
    """Of the mean, from the sums of values and of examples of each cluster (linearised); 0 where it cannot be told."""
    count = len(sums)
    if count < 2:
        return 0.0
    total = sums.sum(0)
    residuals = sums[:, 0] - sums[:, 1] * _ratio(total)
    spread = float((residuals**2).sum()) * count / (count - 1)
    return spread**0.5 / float(total[1]) if spread > 1e-18 * total[1] ** 2 else 0.0


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979), in the order given: each at most 1, none below what it was."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def wilson(successes: float, n: float, confidence: float) -> Interval:
    """A share with its Wilson score interval (Wilson 1927); `n` above 0."""
    z = _NORMAL.inv_cdf((1 + confidence) / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * ((share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), round(n))


def share_interval(right: Sequence[bool], *, confidence: float, clusters: Sequence[str] | None = None) -> Interval:
    """A share with its Wilson interval, for the number of independent examples that clusters of them are worth (Korn and Graubard 1998).

    That number is the examples' divided by the design effect, and between the number of clusters and that of the examples.
    """
    values = np.asarray(right, dtype=np.float64)
    sums = _cluster_sums(np.stack([values, np.ones_like(values)], 1), clusters)
    share, n = float(values.mean()), len(values)
    error = _standard_error(sums)
    worth = share * (1 - share) / error**2 if error else float(len(sums))
    worth = min(max(worth, float(len(sums))), float(n))
    found = wilson(share * worth, worth, confidence)
    return Interval(share, found.low, found.high, n)
