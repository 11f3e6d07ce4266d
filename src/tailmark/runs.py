"""What is known of flow runs without asking a server: one small file for each under `.tailmark/runs`, written while the run goes on."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tailmark.files import alive, read_json, write_json
from tailmark.layout import Layout

State = Literal["running", "waiting", "finished", "failed", "stopped"]


class RunRecord(BaseModel):
    """One run of a flow.

    Attributes:
        name: the run's name, also of its branch.
        flow: pipeline, sweep or refresh.
        state: how it goes; `waiting` for a person's answer.
        started, ended: UTC, ISO 8601.
        process, host: who runs it.
        commit, branch: what it runs from, and where the result is committed.
        profile, overrides: what it was asked for.
        stages: how each stage went: running, ran, restored, unchanged, failed.
        last: the stage that was heard of last.
        seconds: wall time of those that ran.
        error: the first line of what went wrong.
        again: the command that goes on with it.
        mlflow_run: the parent run in MLflow.
        prefect_run: the flow run in Prefect.
        version: of the registered model, as `reports/register/result.json` says.
        found: numbers that the run came to, such as drift.
    """

    model_config = ConfigDict(extra="ignore")

    name: str
    flow: str
    state: State = "running"
    started: str
    ended: str | None = None
    process: int
    host: str
    commit: str | None = None
    branch: str | None = None
    profile: str | None = None
    overrides: tuple[str, ...] = ()
    stages: dict[str, str] = {}
    last: str | None = None
    seconds: dict[str, float] = {}
    error: str | None = None
    again: str | None = None
    mlflow_run: str | None = None
    prefect_run: str | None = None
    version: str | None = None
    found: dict[str, Any] = {}

    @property
    def gone(self) -> bool:
        """It says that it runs, but its process is no longer there; only told on the same machine."""
        return self.state in ("running", "waiting") and self.host == socket.gethostname() and not alive(self.process)

    @property
    def stage(self) -> str | None:
        """The stage that failed, else the one that was heard of last."""
        return next((name for name, outcome in self.stages.items() if outcome == "failed"), self.last)


class RunFile:
    """A record that is kept up to date on disk."""

    def __init__(self, layout: Layout, record: RunRecord) -> None:
        self._path = folder(layout) / f"{record.name}.json"
        self.record = record
        self._write()

    def update(self, **changes: Any) -> None:
        """Change fields and write the file."""
        self.record = self.record.model_copy(update=changes)
        self._write()

    def stage(self, name: str, outcome: str, seconds: float | None = None) -> None:
        """Note how a stage goes."""
        times = {} if seconds is None else {name: seconds}
        self.update(last=name, stages={**self.record.stages, name: outcome}, seconds={**self.record.seconds, **times})

    def end(self, state: State, error: str | None = None) -> None:
        """Note how the run ended."""
        self.update(state=state, error=error, ended=now())

    def _write(self) -> None:
        write_json(self._path, self.record.model_dump(mode="json"))


def begin(layout: Layout, flow: str, name: str, **known: Any) -> RunFile:
    """Start the record of a run of this process."""
    record = RunRecord(name=name, flow=flow, started=now(), process=os.getpid(), host=socket.gethostname(), **known)
    return RunFile(layout, record)


def folder(layout: Layout) -> Path:
    """Where the records stand."""
    return layout.state / "runs"


def last_runs(layout: Layout, count: int | None = None) -> list[RunRecord]:
    """The newest runs first (None: all). A file that cannot be read is left out."""
    found = [record for path in folder(layout).glob("*.json") if (record := _read(path))]
    return sorted(found, key=lambda record: record.started, reverse=True)[:count]


def _read(path: Path) -> RunRecord | None:
    try:
        return RunRecord.model_validate(read_json(path))
    except (OSError, ValueError, ValidationError):
        return None


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def outcomes(stages: Mapping[str, str]) -> str:
    """`7 ran, 3 unchanged`."""
    counts: dict[str, int] = {}
    for outcome in stages.values():
        counts[outcome] = counts.get(outcome, 0) + 1
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
