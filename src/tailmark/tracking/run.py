"""A run that is open: what is logged waits in a queue, from which a thread sends it."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailmark.config import Config
from tailmark.console import say
from tailmark.files import write_text
from tailmark.layout import Layout
from tailmark.tracking.limits import LONGEST_PARAM, LONGEST_TAG, MOST_METRICS, MOST_PARAMS, chunks, flatten, now_ms, valid_key
from tailmark.tracking.store import connect, experiment_id, hidden, store_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

_BATCH_S = 1.0
_CONNECT_S = 20.0
_FLUSH_S = 30.0
_LONGEST_WAIT_S = 30.0
_REFUSED = (400, 403, 404, 422)

Operation = dict[str, Any]
"""One thing to send, as JSON: `kind` (metrics, params, tags, artifact, table) and its content."""


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
        flat = {valid_key(name): str(value)[:LONGEST_PARAM] for name, value in flatten(params)}
        for chunk in chunks(flat, MOST_PARAMS):
            self._put({"kind": "params", "values": chunk})

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers, at a step or once."""
        values = {valid_key(name): float(value) for name, value in metrics.items()}
        self._put({"kind": "metrics", "values": values, "step": step or 0, "time": now_ms()})

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
        flat = {valid_key(name): str(value)[:LONGEST_TAG] for name, value in tags.items() if value is not None}
        for chunk in chunks(flat, MOST_PARAMS):
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
                self._pending.append({"kind": "status", "status": status, "time": now_ms()})
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
        for operation in islice(self._pending.copy(), MOST_METRICS):
            room = MOST_METRICS - sum(len(item["values"]) for item in batch)
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
            parts = [{**first, "values": chunk} for chunk in chunks(first["values"], MOST_METRICS)]
            self._pending.extendleft(reversed(parts))
        return 0

    def _warn(self, error: Exception) -> None:
        self._connected.set()
        if not self._warned:
            self._warned = True
            reason = str(error).strip().splitlines() or [type(error).__name__]
            told = hidden(f"{store_uri(self.config, self.layout)}: {reason[0][:200]}")
            say(f"  MLflow cannot be reached; the stage goes on and tries again ({told})")

    def _keep_unsent(self) -> None:
        left = [*self._refused, *self._pending]
        if not left:
            return
        head = {"kind": "run", "run_id": self.run_id, "name": self.name, "tags": self.tags, "experiment": self.config.tracking.experiment}
        path = self.layout.state / "mlflow-unsent" / f"{self.name}-{now_ms()}.jsonl"
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
