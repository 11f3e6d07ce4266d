"""What a training leaves in the checkout: `metrics.json` and `curve.csv`. The same training writes the same bytes: no times, no speeds."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tailmark.files import staged_folder, write_json, write_text

_LAST = 10


def write_report(folder: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """Write both files of a finished training and return the metrics.

    Args:
        result: totals and `curve`, a row per step (step 0 has held-out losses only).
    """
    curve: Sequence[Mapping[str, float]] = result["curve"]
    metrics = summarize(result, curve)
    with staged_folder(folder) as temporary:
        write_json(temporary / "metrics.json", metrics)
        write_text(temporary / "curve.csv", curve_csv(curve))
    return metrics


def summarize(result: Mapping[str, Any], curve: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Totals, the training loss at both ends (mean of up to ten steps), the held-out losses at both ends."""
    losses = [row["loss"] for row in curve if "loss" in row]
    heldout = [_heldout(row) for row in curve if _heldout(row)]
    totals = {name: value for name, value in result.items() if name not in ("curve", "step")}
    ends = {"loss_first": _mean(losses[:_LAST]), "loss_last": _mean(losses[-_LAST:])}
    return {**totals, **ends, "steps": result["step"], "heldout_first": heldout[0], "heldout_last": heldout[-1]}


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 6)


def _heldout(row: Mapping[str, float]) -> dict[str, float]:
    return {name.removeprefix("heldout_"): value for name, value in row.items() if name.startswith("heldout_")}


def curve_csv(curve: Sequence[Mapping[str, float]]) -> str:
    """The curve as CSV; a cell is empty where nothing was measured."""
    columns = list(dict.fromkeys(["step", "loss", "learning_rate", "gradient_norm", *(name for row in curve for name in row)]))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(curve)
    return text.getvalue()
