"""The run that the stages' runs nest under, and what is found from it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from tailmark import provenance
from tailmark.config import Config
from tailmark.console import say
from tailmark.layout import Layout
from tailmark.tracking.limits import LONGEST_PARAM, MOST_METRICS, now_ms, valid_key
from tailmark.tracking.store import connect, experiment_id, hidden, server_address, store_uri

PARENT_VARIABLE = "TAILMARK_PARENT_RUN"


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
            client.log_param(run.info.run_id, valid_key(key), value[:LONGEST_PARAM])
    except Exception as error:  # whatever the store does, the pipeline goes on
        say(f"MLflow cannot be reached; the pipeline goes on without a run of its own ({hidden(str(error))})")
        return None
    return str(run.info.run_id)


def close_parent(config: Config, layout: Layout, run_id: str, status: str, metrics: Mapping[str, float] | None = None) -> None:
    """End the pipeline's run as FINISHED, FAILED or KILLED, and with it every run under it that died without ending itself."""
    from mlflow.entities import Metric

    try:
        client = connect(config, layout)
        values = [Metric(valid_key(name), float(value), now_ms(), 0) for name, value in (metrics or {}).items()]
        for start in range(0, len(values), MOST_METRICS):
            client.log_batch(run_id, metrics=values[start : start + MOST_METRICS], synchronous=True)
        experiment = experiment_id(client, config, layout)
        orphans = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}' and attributes.status = 'RUNNING'")
        for orphan in orphans:
            client.set_terminated(orphan.info.run_id, "KILLED")
        client.set_terminated(run_id, status)
    except Exception as error:  # whatever the store does, the pipeline goes on
        say(f"MLflow cannot be reached; the pipeline's run stays open there ({hidden(str(error))})")


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
    server = server_address(store_uri(config, layout))
    try:
        client = connect(config, layout)
        return f"{server}/#/experiments/{experiment_id(client, config, layout)}/runs/{run_id}"
    except Exception:  # a link is missing then, nothing else
        return None
