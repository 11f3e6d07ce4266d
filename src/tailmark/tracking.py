"""Runs in MLflow. Logging goes on in the background: a store that is slow or away never stops or breaks a stage."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailmark import provenance
from tailmark.config import Config
from tailmark.console import say
from tailmark.errors import Stopped, TrackingError
from tailmark.files import read_json, write_text
from tailmark.layout import Arm, Layout

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARENT_VARIABLE = "TAILMARK_PARENT_RUN"

_BATCH_S = 1.0
_CONNECT_S = 20.0
_FLUSH_S = 30.0
_LONGEST_WAIT_S = 30.0
_SYSTEM_S = 10.0
_MOST_METRICS, _MOST_PARAMS, _LONGEST_PARAM, _LONGEST_TAG = 1000, 100, 6000, 5000
_CREDENTIALS = re.compile(r"//[^/@\s]*@")
_NOT_IN_A_KEY = re.compile(r"[^/\w.\- :]")
_REFUSED = (400, 403, 404, 422)
_KILLED = (KeyboardInterrupt, Stopped)

Operation = dict[str, Any]
"""One thing to send, as JSON: `kind` (metrics, params, tags, artifact, table) and its content."""


def store_uri(config: Config, layout: Layout) -> str:
    """The store's address: `tracking.uri`, else `MLFLOW_TRACKING_URI`, else SQLite under `layout.state`."""
    chosen = config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    return chosen or f"sqlite:///{_local_store(layout) / 'mlflow.db'}"


def _local_store(layout: Layout) -> Path:
    return (layout.state / "mlflow").resolve()  # a worktree links to its checkout's


def connect(config: Config, layout: Layout) -> MlflowClient:
    """A client of the store, which also is the registry's; MLflow's telemetry, links and chatter are off."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # it honours no other spelling
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import mlflow

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    uri = store_uri(config, layout)
    if uri.startswith("sqlite:"):
        _local_store(layout).mkdir(parents=True, exist_ok=True)
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def experiment_id(client: MlflowClient, config: Config, layout: Layout) -> str:
    """The experiment's id; it is made if there is none, with its artifacts beside the store where that is the local one.

    Raises:
        TrackingError: the experiment was deleted.
    """
    name = config.tracking.experiment
    found = client.get_experiment_by_name(name)
    if found is None:
        local = store_uri(config, layout).startswith(f"sqlite:///{_local_store(layout)}")
        return client.create_experiment(name, artifact_location=(_local_store(layout) / "artifacts").as_uri() if local else None)
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"The experiment '{name}' was deleted.",
            where=_hidden(store_uri(config, layout)),
            fix=f"`mlflow experiments restore --experiment-id {found.experiment_id}`, or name another one in `tracking.experiment`",
        )
    return found.experiment_id


def prepare(config: Config, layout: Layout) -> None:
    """Make the store and the experiment now, where there are none, so that runs that open at the same time find them."""
    try:
        experiment_id(connect(config, layout), config, layout)
    except Exception as error:  # whatever the store does, what was asked for goes on
        say(f"MLflow cannot be reached ({_hidden(str(error))})")


@dataclass
class Run:
    """A run that is open. Its methods return at once and never raise for the store's sake.

    Attributes:
        name: the run's name.
        run_id: its id in MLflow, or None while the store has not been reached.
    """

    name: str
    config: Config
    layout: Layout
    tags: dict[str, str]
    parent: str | None = None
    run_id: str | None = None
    _pending: deque[Operation] = field(default_factory=deque)
    _refused: list[Operation] = field(default_factory=list)
    _wake: threading.Condition = field(default_factory=threading.Condition)
    _connected: threading.Event = field(default_factory=threading.Event)
    _closing: bool = False
    _warned: bool = False
    _thread: threading.Thread | None = None
    _client: MlflowClient | None = None

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters; nested mappings are flattened with dots."""
        flat = {_key(name): str(value)[:_LONGEST_PARAM] for name, value in _flatten(params)}
        for chunk in _chunks(flat, _MOST_PARAMS):
            self._put({"kind": "params", "values": chunk})

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers, at a step or once."""
        values = {_key(name): float(value) for name, value in metrics.items()}
        self._put({"kind": "metrics", "values": values, "step": step or 0, "time": _now_ms()})

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Store a file, or a folder's files, with the run. It must stay where it is until the run ends."""
        self._put({"kind": "artifact", "path": str(path.resolve()), "folder": folder})

    def log_table(self, rows: Sequence[Mapping[str, Any]], name: str) -> None:
        """Store rows as a table that MLflow shows, under `name`.json."""
        columns = dict.fromkeys(column for row in rows for column in row)
        data = {column: [row.get(column) for row in rows] for column in columns}
        self._put({"kind": "table", "data": data, "name": f"{name}.json"})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags."""
        flat = {_key(name): str(value)[:_LONGEST_TAG] for name, value in tags.items() if value is not None}
        for chunk in _chunks(flat, _MOST_PARAMS):
            self._put({"kind": "tags", "values": chunk})

    def open(self) -> None:
        """Start sending; waits a moment for the store, so that `run_id` is known where it can be."""
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()
        self._connected.wait(_CONNECT_S)

    def close(self, status: str) -> None:
        """Send what is left and end the run; what cannot be sent is kept in a file."""
        try:
            with self._wake:
                self._pending.append({"kind": "status", "status": status, "time": _now_ms()})
                self._closing = True
                self._wake.notify_all()
            if self._thread:
                self._thread.join(_FLUSH_S)
        finally:
            self._keep_unsent()

    def _put(self, operation: Operation) -> None:
        with self._wake:
            self._pending.append(operation)

    def _work(self) -> None:
        wait = _BATCH_S
        while True:
            sent = self._send_pending()
            if self._closing and (sent is False or not self._pending):
                return
            wait = _BATCH_S if sent else min(wait * 2, _LONGEST_WAIT_S)
            with self._wake:
                if not self._closing:
                    self._wake.wait(wait)

    def _send_pending(self) -> bool:
        """Send in order until nothing is left (True) or the store fails (False)."""
        try:
            if self._client is None or self.run_id is None:
                self._create()
            while self._pending:
                self._send_or_reject()
        except Exception as error:  # whatever the store does, the stage goes on
            self._warn(error)
            return False
        return True

    def _send_or_reject(self) -> None:
        """Send the front of the queue. What the store refuses for good is set aside, so that the rest gets through."""
        from mlflow.exceptions import MlflowException

        count = 1
        try:
            count = self._send_batch()
        except MlflowException as error:
            if error.get_http_status_code() not in _REFUSED:
                raise
            self._refused.append({**self._pending[0], "error": str(error)})
        for _ in range(count):
            self._pending.popleft()

    def _create(self) -> None:
        client = connect(self.config, self.layout)
        experiment = experiment_id(client, self.config, self.layout)
        tags = {**self.tags, **({"mlflow.parentRunId": self.parent} if self.parent else {})}
        self._client = client
        self.run_id = client.create_run(experiment, tags=tags, run_name=self.name).info.run_id
        self._connected.set()

    def _send_batch(self) -> int:
        """Send the first operation, or all metrics that stand in a row at the front; returns how many it took."""
        assert self._client is not None
        assert self.run_id is not None
        first = self._pending[0]
        if first["kind"] != "metrics":
            _send(self._client, self.run_id, first)
            return 1
        batch: list[Operation] = []
        for operation in islice(self._pending.copy(), _MOST_METRICS):
            room = _MOST_METRICS - sum(len(item["values"]) for item in batch)
            if operation["kind"] != "metrics" or len(operation["values"]) > room:
                break
            batch.append(operation)
        if not batch:
            return self._split_first()
        _send_metrics(self._client, self.run_id, batch)
        return len(batch)

    def _split_first(self) -> int:
        """Cut an operation of more metrics than one request takes into several."""
        with self._wake:
            first = self._pending.popleft()
            parts = [{**first, "values": chunk} for chunk in _chunks(first["values"], _MOST_METRICS)]
            self._pending.extendleft(reversed(parts))
        return 0

    def _warn(self, error: Exception) -> None:
        self._connected.set()
        if not self._warned:
            self._warned = True
            reason = str(error).strip().splitlines() or [type(error).__name__]
            told = _hidden(f"{store_uri(self.config, self.layout)}: {reason[0][:200]}")
            say(f"  MLflow cannot be reached; the stage goes on and tries again ({told})")

    def _keep_unsent(self) -> None:
        left = [*self._refused, *self._pending]
        if not left:
            return
        head = {"kind": "run", "run_id": self.run_id, "name": self.name, "tags": self.tags, "experiment": self.config.tracking.experiment}
        path = self.layout.state / "mlflow-unsent" / f"{self.name}-{_now_ms()}.jsonl"
        write_text(path, "".join(json.dumps(item, ensure_ascii=False, default=str) + "\n" for item in [head, *left]))
        say(f"  {len(left)} records of run '{self.name}' could not be sent to MLflow; they are kept in {path}")


def _send(client: MlflowClient, run_id: str, operation: Operation) -> None:
    """Send one operation that is not a metric."""
    from mlflow.entities import Param, RunTag

    kind = operation["kind"]
    if kind == "params":
        client.log_batch(run_id, params=[Param(name, value) for name, value in operation["values"].items()], synchronous=True)
    elif kind == "tags":
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in operation["values"].items()], synchronous=True)
    elif kind == "table":
        client.log_table(run_id, operation["data"], operation["name"])
    elif kind == "status":
        client.set_terminated(run_id, operation["status"], operation["time"])
    elif Path(operation["path"]).is_dir():
        client.log_artifacts(run_id, operation["path"], operation["folder"])
    else:
        client.log_artifact(run_id, operation["path"], operation["folder"])


def _send_metrics(client: MlflowClient, run_id: str, batch: Iterable[Operation]) -> None:
    from mlflow.entities import Metric

    metrics = [Metric(name, value, item["time"], item["step"]) for item in batch for name, value in item["values"].items()]
    client.log_batch(run_id, metrics=metrics, synchronous=True)


@contextmanager
def system_metrics(run: Run, every: float = _SYSTEM_S) -> Iterator[None]:
    """While the block runs, log what this machine does (processors, memory, disk, network, NVIDIA GPUs) under `system/`."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with suppress(Exception):  # no NVIDIA GPU, or not its library
        monitors.append(GPUMonitor())
    over = threading.Event()

    def watch() -> None:
        step = 0
        while not over.wait(every):
            for monitor in monitors:
                monitor.collect_metrics()
                run.log_metrics({f"system/{name}": value for name, value in monitor.aggregate_metrics().items()}, step=step)
                monitor.clear_metrics()
            step += 1

    threading.Thread(target=watch, name="system-metrics", daemon=True).start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def start_run(name: str, *, config: Config, layout: Layout, stage: str, arm: Arm | None = None) -> Iterator[Run]:
    """Open a run, nested under the pipeline's run where the environment names one, with the stage's provenance and parameters.

    It ends FINISHED, FAILED after an exception, and KILLED after Ctrl-C or a requested stop.

    Raises:
        TaxonomyError, StorageError: the provenance record cannot be made.
    """
    record = provenance.record_start(stage, config, layout, arm)
    content = read_json(record)
    tags = _run_tags(content, stage, arm, config)
    run = Run(name, config, layout, tags, parent=os.environ.get(PARENT_VARIABLE) or None)
    run.open()
    run.log_params(content["config"])
    run.log_artifact(record, "provenance")
    try:
        yield run
    except BaseException as error:
        run.close("KILLED" if isinstance(error, _KILLED) else "FAILED")
        raise
    run.close("FINISHED")


def _run_tags(record: Mapping[str, Any], stage: str, arm: Arm | None, config: Config) -> dict[str, str]:
    code = record["code"]
    tags = {
        "stage": stage,
        "arm": arm,
        "profile": config.profile,
        "commit": code["commit"],
        "dirty": None if code["dirty"] is None else str(code["dirty"]).lower(),
        "taxonomy": record["taxonomy"],
        "mlflow.source.git.commit": code["commit"],
        "mlflow.source.name": f"tailmark {stage}",
        **{f"data.{path}": digest for path, digest in record["data"].items()},
    }
    return {_key(name): str(value) for name, value in tags.items() if value is not None}


def open_parent(config: Config, layout: Layout, name: str, params: Mapping[str, str] | None = None, **more: str | None) -> str | None:
    """Start the run that the stages' runs nest under; its id goes to them as `TAILMARK_PARENT_RUN`. None: the store is away.

    Where the environment names a parent itself, the run nests under that. `more` are tags.
    """
    code = provenance.code_version(layout.root)
    above = {"mlflow.parentRunId": os.environ.get(PARENT_VARIABLE) or None}
    tags = {"stage": "pipeline", "profile": config.profile, "commit": code["commit"], "dirty": code["dirty"], **above, **more}
    try:
        client = connect(config, layout)
        experiment = experiment_id(client, config, layout)
        run = client.create_run(experiment, tags={key: str(value) for key, value in tags.items() if value is not None}, run_name=name)
        for key, value in (params or {}).items():
            client.log_param(run.info.run_id, _key(key), value[:_LONGEST_PARAM])
    except Exception as error:  # whatever the store does, the pipeline goes on
        say(f"MLflow cannot be reached; the pipeline goes on without a run of its own ({_hidden(str(error))})")
        return None
    return str(run.info.run_id)


def find_run(config: Config, layout: Layout, parent: str, stage: str, arm: str | None = None) -> str | None:
    """The newest run of a stage under a parent; None where there is none or the store is away."""
    wanted = [f"tags.`mlflow.parentRunId` = '{parent}'", f"tags.stage = '{stage}'", *([f"tags.arm = '{arm}'"] if arm else [])]
    try:
        client = connect(config, layout)
        found = client.search_runs([experiment_id(client, config, layout)], " and ".join(wanted), max_results=1)
    except Exception:  # a link is missing then, nothing else
        return None
    return str(found[0].info.run_id) if found else None


def run_page(config: Config, layout: Layout, run_id: str) -> str | None:
    """The address of a run's page: on the MLflow server, or where `make mlflow` shows the local store. None where the store is away."""
    uri = store_uri(config, layout)
    server = _CREDENTIALS.sub("//", uri).rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"
    try:
        client = connect(config, layout)
        return f"{server}/#/experiments/{experiment_id(client, config, layout)}/runs/{run_id}"
    except Exception:  # a link is missing then, nothing else
        return None


def close_parent(config: Config, layout: Layout, run_id: str, status: str, metrics: Mapping[str, float] | None = None) -> None:
    """End the pipeline's run as FINISHED, FAILED or KILLED, and with it every run under it that died without ending itself."""
    from mlflow.entities import Metric

    try:
        client = connect(config, layout)
        values = [Metric(_key(name), float(value), _now_ms(), 0) for name, value in (metrics or {}).items()]
        for start in range(0, len(values), _MOST_METRICS):
            client.log_batch(run_id, metrics=values[start : start + _MOST_METRICS], synchronous=True)
        experiment = experiment_id(client, config, layout)
        orphans = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}' and attributes.status = 'RUNNING'")
        for orphan in orphans:
            client.set_terminated(orphan.info.run_id, "KILLED")
        client.set_terminated(run_id, status)
    except Exception as error:  # whatever the store does, the pipeline goes on
        say(f"MLflow cannot be reached; the pipeline's run stays open there ({_hidden(str(error))})")


def _hidden(text: str) -> str:
    """A text without the accounts and passwords of the addresses in it."""
    return _CREDENTIALS.sub("//***@", text)


def _key(name: str) -> str:
    """A name that MLflow takes: other characters become underscores."""
    return _NOT_IN_A_KEY.sub("_", name)[:250]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _chunks(values: Mapping[str, Any], size: int) -> Iterator[dict[str, Any]]:
    items = list(values.items())
    return (dict(items[start : start + size]) for start in range(0, len(items), size))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
