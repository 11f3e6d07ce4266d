"""What a run came to: the lifts of its evaluation, as a table and as numbers for MLflow."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

from tailmark.evaluate.table import lift_rows, read_measures
from tailmark.files import read_json
from tailmark.layout import Layout
from tasks.workspace import Workspace


def lifts(place: Workspace) -> str:
    """The table of lifts as `tailmark lifts` prints it; empty where nothing was evaluated."""
    if not (Layout(place.root).evaluated / "metrics.json").exists():
        return ""
    command = [str(Path(sys.executable).parent / "tailmark"), "lifts"]
    done = subprocess.run(command, cwd=place.root, env=place.environment, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip("\n")


def lift_numbers(layout: Layout) -> dict[str, float] | None:
    """The main lifts with both ends of their intervals, by the names they have in MLflow; None where nothing was evaluated."""
    path = layout.evaluated / "metrics.json"
    if not path.exists():
        return None
    rows = lift_rows(read_json(path), read_measures(layout.evaluated))
    found = {
        f"{row['benchmark']}/{row['score']}/{row['slice']}/{row['mode']}{end}": float(row[key])
        for row in rows
        for key, end in (("lift", ""), ("low", ".low"), ("high", ".high"))
    }
    return {name: value for name, value in found.items() if math.isfinite(value)}
