"""Two versions on the same rows: the lift of one over the other, with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow.parquet as pq

from tailmark.config import Evaluate
from tailmark.statistics import paired_interval

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
    slices = modes_of(metrics, score).get(mode)
    entry = slices.get(part) if isinstance(slices, Mapping) else None
    if not isinstance(entry, Mapping) or "lift" not in entry:
        return None
    return Lift(entry["lift"], entry["low"], entry["high"], entry["marked"], entry["baseline"], entry["n"])


def modes_of(metrics: Mapping[str, Any], score: str) -> Mapping[str, Any]:
    """What the evaluation reports for a score, by mode; empty where `score` names none."""
    found: Any = metrics
    for name in score.split("/"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def higher_is_better(metrics: Mapping[str, Any], score: str) -> bool | None:
    """Whether a higher score is better, told from the sign of the lifts reported for it; None where all are zero."""
    for slices in modes_of(metrics, score).values():
        for entry in slices.values() if isinstance(slices, Mapping) else ():
            if isinstance(entry, Mapping) and entry.get("lift") and entry["marked"] != entry["baseline"]:
                return bool((entry["marked"] > entry["baseline"]) == (entry["lift"] > 0))
    return None


def scores(evidence: Path, score: str, mode: str) -> pd.DataFrame:
    """The marked model's value of every row: columns `value`, `tail`, `group`, by row id, prompt and reference. Empty if none were kept."""
    path = evidence / "examples.parquet"
    columns = ["row_id", "benchmark", "score", "mode", "value", "tail", "group", "prompt", "reference"]
    keys = ["row_id", "prompt", "reference"]  # an id alone may stand for another question in another version of the data
    if not path.exists():
        return pd.DataFrame(columns=columns).set_index(keys)
    names = pq.read_schema(path).names
    frame = pq.read_table(path, columns=[name for name in columns if name in names]).to_pandas()
    if "group" not in frame:
        frame["group"] = frame["row_id"]
    for key in keys:
        if key not in frame:
            frame[key] = ""
    benchmark, name = score.split("/")
    kept = frame[(frame["benchmark"] == benchmark) & (frame["score"] == name) & (frame["mode"] == mode)]
    return kept.drop_duplicates(keys).set_index(keys)


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
    lifts = (sign * (both["value"] - both["theirs"])).to_numpy(float)
    found = paired_interval(
        lifts,
        resamples=options.resamples,
        confidence=options.confidence,
        seed=seed,
        clusters=both["group"].astype(str).tolist(),
        yes_no=bool(both[["value", "theirs"]].isin([0.0, 0.5, 1.0]).all(axis=None)),
    )
    means = float(both["value"].mean()), float(both["theirs"].mean())
    return Lift(found.mean, found.low, found.high, *means, len(both), both["group"].nunique())
