"""Runs in a real SQLite store; a store that is away neither stops a stage nor loses what it logged."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tailmark import tracking
from tailmark.config import Config, parse_config
from tailmark.errors import Stopped
from tailmark.layout import Layout

TAXONOMY = "name: small\nmarkers:\n  lang: {kind: categorical, definition: language, values: {French: f}}\n"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", tracking.PARENT_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    root = tmp_path_factory.mktemp("checkout")
    (root / "taxonomy.yaml").write_text(TAXONOMY)
    return Layout(root)


def make_config(uri: str | None = None) -> Config:
    return parse_config({"taxonomy": {"file": "taxonomy.yaml"}, "tracking": {"uri": uri}}, Path("params.yaml"))


def stored(layout: Layout, run_id: str | None) -> tuple[MlflowClient, Run]:
    assert run_id
    client = tracking.connect(make_config(), layout)
    return client, client.get_run(run_id)


def test_what_the_machine_does_is_logged_beside_the_run(layout: Layout) -> None:
    started = tracking.start_run("train-marked", config=make_config(), layout=layout, stage="train", arm="marked")
    with started as run, tracking.system_metrics(run, every=0.1):
        time.sleep(0.5)
    client, found = stored(layout, run.run_id)
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(found.data.metrics)
    history = client.get_metric_history(found.info.run_id, "system/cpu_utilization_percentage")
    assert [item.step for item in history] == list(range(len(history)))


def test_everything_logged_arrives_in_order(layout: Layout) -> None:
    with tracking.start_run("train-marked", config=make_config(), layout=layout, stage="train", arm="marked") as run:
        for step in range(2500):
            run.log_metrics({"loss": 1 / (step + 1), "slice/lang=French": math.nan}, step=step)
        run.log_metrics({f"many.{number}": number for number in range(1500)})
        run.log_params({"nested": {"a": 1}, "text": "x" * 9000})
        run.log_table([{"a": 1}, {"a": 2, "b": "x"}], "slices")
        run.set_tags({"note": "ü"})
    client, found = stored(layout, run.run_id)
    assert found.info.status == "FINISHED"
    assert [item.value for item in client.get_metric_history(found.info.run_id, "loss")] == [1 / (step + 1) for step in range(2500)]
    assert found.data.metrics["many.1499"] == 1499
    assert math.isnan(found.data.metrics["slice/lang_French"])
    assert found.data.params["nested.a"] == "1"
    assert found.data.params["seed"] == "17"
    assert {"stage": "train", "arm": "marked", "profile": "demo", "note": "ü"}.items() <= found.data.tags.items()
    assert {item.path for item in client.list_artifacts(found.info.run_id)} == {"provenance", "slices.json"}


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (Stopped, "KILLED")])
def test_how_a_run_ends(layout: Layout, error: type[BaseException], status: str) -> None:
    with pytest.raises(error), tracking.start_run("ingest", config=make_config(), layout=layout, stage="ingest") as run:
        raise error
    assert stored(layout, run.run_id)[1].info.status == status


def test_runs_nest_under_the_pipeline_and_it_closes_those_that_died(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = tracking.open_parent(make_config(), layout, "pipeline")
    assert parent
    monkeypatch.setenv(tracking.PARENT_VARIABLE, parent)
    with tracking.start_run("ingest", config=make_config(), layout=layout, stage="ingest") as run:
        pass
    client, child = stored(layout, run.run_id)
    assert child.data.tags["mlflow.parentRunId"] == parent
    died = client.create_run(child.info.experiment_id, tags={"mlflow.parentRunId": parent}).info.run_id
    tracking.close_parent(make_config(), layout, parent, "FAILED", {"stages": 2})
    assert client.get_run(died).info.status == "KILLED"
    assert client.get_run(parent).info.status == "FAILED"
    assert client.get_run(parent).data.metrics == {"stages": 2}


def test_what_the_store_refuses_is_kept_and_the_rest_arrives(layout: Layout) -> None:
    with tracking.start_run("ingest", config=make_config(), layout=layout, stage="refused") as run:
        run.log_params({"seed": "another value than the config's"})
        run.log_metrics({"after": 1.0})
    assert stored(layout, run.run_id)[1].data.metrics["after"] == 1
    kept = "".join(path.read_text() for path in (layout.state / "mlflow-unsent").glob("ingest-*.jsonl"))
    assert "another value than the config's" in kept


def test_a_store_that_is_away(layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = make_config("http://127.0.0.1:9")
    assert tracking.open_parent(config, layout, "pipeline") is None
    with tracking.start_run("away", config=config, layout=layout, stage="train") as run:
        start = time.monotonic()
        for step in range(1000):
            run.log_metrics({"loss": float(step)}, step=step)
        assert time.monotonic() - start < 1
    assert run.run_id is None
    (kept,) = (layout.state / "mlflow-unsent").glob("away-*.jsonl")
    steps = [item["step"] for item in map(json.loads, kept.read_text().splitlines()) if item["kind"] == "metrics"]
    assert steps == list(range(1000))
    shown = capsys.readouterr().out
    assert shown.count("the stage goes on and tries again") == 1
    assert str(kept) in shown
