"""Registered versions for the tests of gate, log and lineage: a tiny model, and an evaluation whose outcome a test chooses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa

from tailmark.config import Config, parse_config
from tailmark.files import read_json, write_json
from tailmark.layout import Layout
from tailmark.records import write_table
from tailmark.register import stage
from tests.integration.test_register import PAPER, make_model
from tests.postgres import free_port, postgres

ROWS = 40
SERVER_START_S = 120.0


def make_config(uri: str | None = None, name: str = "tailmark", **gate: Any) -> Config:
    content = {
        "taxonomy": {"file": str(PAPER)},
        "base": {"source": "random:tiny"},
        "evaluate": {"resamples": 200},
        "register": {"model_name": name},
        "gate": gate,
        "tracking": {"uri": uri},
    }
    return parse_config(content, Path("params.yaml"))


@dataclass(frozen=True)
class Outcome:
    """By how much the marked model is better than the baseline (nats per token), in each part and mode.

    Attributes:
        first: number of the first row that was scored; versions share the rows from the later one on.
    """

    tail: float = 0.3
    head: float = 0.1
    absent: float = 0.05
    modes: tuple[str, ...] = ("inferred", "fixed")
    first: int = 0


def write_evaluation(layout: Layout, outcome: Outcome) -> None:
    """`metrics.json` and `examples.parquet` of an evaluation in which every second row is in the tail."""
    noise = np.random.default_rng(5).normal(0, 0.02, ROWS + outcome.first)
    examples, metrics = [], {}
    for mode in outcome.modes:
        lifts: dict[str, list[float]] = {"all": [], "head": [], "tail": []}
        for number in range(outcome.first, outcome.first + ROWS):
            part = "tail" if number % 2 else "head"
            lift = (outcome.absent if mode == "inferred" else getattr(outcome, part)) + noise[number]
            lifts["all"].append(lift)
            lifts[part].append(lift)
            examples.append(_example(number, mode, 2.0 - lift, part))
        metrics[mode] = {name: _entry(values) for name, values in lifts.items()}
    write_table(layout.evaluated / "examples.parquet", pa.Table.from_pylist(examples))
    rows = {"heldout": ROWS, "heldout_tail": ROWS // 2, "train": 160}
    write_json(layout.evaluated / "metrics.json", {"rows": rows, "inference": {}, "likelihood": {"nll": metrics}})


def _example(number: int, mode: str, value: float, part: str) -> dict[str, Any]:
    name = f"row-{number:03d}"
    tail = part == "tail"
    return {"benchmark": "likelihood", "score": "nll", "mode": mode, "row_id": name, "group": name, "value": value, "tail": tail}


def _entry(lifts: list[float]) -> dict[str, float]:
    mean, half = float(np.mean(lifts)), 2 * float(np.std(lifts)) / len(lifts) ** 0.5
    return {"lift": mean, "low": mean - half, "high": mean + half, "baseline": 2.0, "marked": 2.0 - mean, "p": 0.01, "n": len(lifts)}


def checkout(root: Path, contamination: Mapping[str, Any] | None = None) -> Layout:
    """A checkout with reports of data and training, in which DVC ran."""
    layout = Layout(root)
    ingested = {"splits": {"train": 160, "heldout": 40}, "licenses": {"MIT": 200}, "identity": {}, "contamination": contamination or {}}
    write_json(layout.ingested / "report.json", ingested)
    write_json(layout.training_report("marked") / "metrics.json", {"loss": 1.5})
    (root / "params.yaml").write_text(f"taxonomy:\n  file: {PAPER}\n")
    set_data(layout, "1" * 32)
    return layout


def set_data(layout: Layout, md5: str) -> None:
    """What `dvc.lock` says of the annotated data."""
    stages = (
        f"schema: '2.0'\nstages:\n  annotate:\n    cmd: tailmark annotate\n    outs:\n    - path: data/annotated\n      md5: {md5}.dir\n"
    )
    (layout.root / "dvc.lock").write_text(stages)


def register(config: Config, layout: Layout, seed: int, outcome: Outcome | None = None) -> str:
    """Register another version; returns its number."""
    make_model(layout.trained("marked"), seed)
    write_evaluation(layout, outcome or Outcome())
    stage.run(config, layout)
    return str(read_json(layout.registered / "result.json")["version"])


@dataclass(frozen=True)
class Server:
    """An MLflow server and the address of the database behind it."""

    uri: str
    database: str


@contextmanager
def mlflow_on_postgres(folder: Path, *, served: bool = False) -> Iterator[Server]:
    """A real MLflow server over a real PostgreSQL; its artifacts lie in a folder that clients see too, or are `served` over HTTP."""
    with postgres() as database:
        port = free_port()
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        store = (folder / "artifacts").as_uri()
        artifacts = (
            ["--artifacts-destination", store, "--serve-artifacts"]
            if served
            else ["--default-artifact-root", store, "--no-serve-artifacts"]
        )
        command += ["--backend-store-uri", database, *artifacts]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
        environment = clean | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (folder / "mlflow.log").open("w") as log:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            wait_for(process, f"http://127.0.0.1:{port}/health", folder / "mlflow.log")
            yield Server(f"http://127.0.0.1:{port}", database)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)


def wait_for(process: subprocess.Popen[Any], url: str, log: Path, limit_s: float = SERVER_START_S) -> None:
    """Wait until a server answers; what it said is shown where it ends or takes too long."""
    limit = time.monotonic() + limit_s
    while time.monotonic() < limit and process.poll() is None:
        try:
            if httpx.get(url, timeout=2).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(log.read_text()[-3000:])
