"""Two versions on the same rows: the lift of one over the other, with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from scipy.stats import bootstrap

from tailmark.config import Evaluate

Part = Literal["all", "head", "tail"]


@dataclass(frozen=True)
class Lift:
    """How much better one model is than another, positive where it is better.

    Attributes:
        low, high: the interval.
        mine, theirs: means of the score.
        rows, texts: what both were scored on, and the source texts these come from.
    """

    lift: float
    low: float
    high: float
    mine: float
    theirs: float
    rows: int
    texts: int | None = None

    def as_dict(self) -> dict[str, float | int | None]:
        """JSON."""
        return asdict(self)


def over_baseline(metrics: Mapping[str, Any], score: str, mode: str, part: Part) -> Lift | None:
    """The lift that the evaluation reports; None where it reports none."""
    benchmark, name = score.split("/")
    entry = metrics.get(benchmark, {}).get(name, {}).get(mode, {}).get(part)
    if entry is None:
        return None
    return Lift(entry["lift"], entry["low"], entry["high"], entry["marked"], entry["baseline"], entry["n"])


def higher_is_better(metrics: Mapping[str, Any], score: str) -> bool | None:
    """Whether a higher score is better, told from the sign of the lifts reported for it; None where all are zero."""
    benchmark, name = score.split("/")
    for slices in metrics.get(benchmark, {}).get(name, {}).values():
        for entry in slices.values():
            if isinstance(entry, Mapping) and entry.get("lift") and entry["marked"] != entry["baseline"]:
                return bool((entry["marked"] > entry["baseline"]) == (entry["lift"] > 0))
    return None


def scores(evidence: Path, score: str, mode: str) -> pd.DataFrame:
    """The marked model's value of every row: columns `value`, `tail`, `group`, by row id. Empty where none were kept."""
    path = evidence / "examples.parquet"
    columns = ["row_id", "benchmark", "score", "mode", "value", "tail", "group"]
    if not path.exists():
        return pd.DataFrame(columns=columns).set_index("row_id")
    names = pq.read_schema(path).names
    frame = pq.read_table(path, columns=[name for name in columns if name in names]).to_pandas()
    if "group" not in frame:
        frame["group"] = frame["row_id"]
    benchmark, name = score.split("/")
    kept = frame[(frame["benchmark"] == benchmark) & (frame["score"] == name) & (frame["mode"] == mode)]
    return kept.drop_duplicates("row_id").set_index("row_id")


def over_other(mine: pd.DataFrame, theirs: pd.DataFrame, part: Part, *, higher: bool, options: Evaluate, seed: int) -> Lift | None:
    """The lift over another version on the rows that both were scored on; source texts are drawn whole.

    Returns None where fewer than two texts are shared.
    """
    both = mine.join(theirs["value"].rename("theirs"), how="inner").sort_index()
    if part != "all":
        both = both[both["tail"].astype(bool) == (part == "tail")]
    if both["group"].nunique() < 2:
        return None
    sign = 1.0 if higher else -1.0
    lifts = sign * (both["value"] - both["theirs"])
    texts = lifts.groupby(both["group"]).agg(["sum", "count"])
    low, high = _interval(texts["sum"].to_numpy(float), texts["count"].to_numpy(float), options, seed)
    return Lift(float(lifts.mean()), low, high, float(both["value"].mean()), float(both["theirs"].mean()), len(both), len(texts))


def _interval(sums: Any, counts: Any, options: Evaluate, seed: int) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap of the mean over rows."""
    means = sums / counts
    if np.allclose(means, means[0]):
        return float(means[0]), float(means[0])
    found = bootstrap(
        (sums, counts),
        lambda total, number, axis=-1: total.sum(axis) / number.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=options.resamples,
        confidence_level=options.confidence,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)
