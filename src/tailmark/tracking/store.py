"""Where runs are kept: MLflow's store and the experiment in it."""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING

from tailmark.config import Config
from tailmark.console import say
from tailmark.errors import TrackingError
from tailmark.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient

_CREDENTIALS = re.compile(r"//[^/@\s]*@")


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
            where=hidden(store_uri(config, layout)),
            fix=f"`mlflow experiments restore --experiment-id {found.experiment_id}`, or name another one in `tracking.experiment`",
        )
    return found.experiment_id


def prepare(config: Config, layout: Layout) -> None:
    """Make the store and the experiment now, where there are none, so that runs that open at the same time find them."""
    try:
        experiment_id(connect(config, layout), config, layout)
    except Exception as error:  # whatever the store does, what was asked for goes on
        say(f"MLflow cannot be reached ({hidden(str(error))})")


def server_address(uri: str) -> str:
    """Where the pages of a store are: the MLflow server, without account and password, or where `make mlflow` shows the local store."""
    return _CREDENTIALS.sub("//", uri).rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"


def hidden(text: str) -> str:
    """A text without the accounts and passwords of the addresses in it."""
    return _CREDENTIALS.sub("//***@", text)
