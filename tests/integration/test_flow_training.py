"""A training under a deployed pipeline: its worker is killed, MLflow is away for a minute. Nothing that was learned or measured is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from ruamel.yaml import YAML

from tests.flow_checkout import BIN, kill_worker, stage_processes
from tests.prefect_server import Platform, alive, free_port, platform, until
from tests.trainings import checkpoint_at, last_event, make_project, none_left, numbers, train

pytestmark = pytest.mark.slow

STEPS = 300
STAGES = {
    "stages": {
        "train": {
            "cmd": "tailmark train --arm marked",
            "deps": ["data/prepared/marked", "models/base"],
            "params": ["train"],
            "outs": ["models/marked", "reports/train/marked/curve.csv"],
            "metrics": ["reports/train/marked/metrics.json"],
        }
    }
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training, prepared, in a git repository that holds its data."""
    root = make_project(tmp_path_factory.mktemp("training") / "checkout", STEPS)
    (root / ".gitignore").write_text("/.tailmark/\n/models/marked\n/reports/\n")
    with (root / "dvc.yaml").open("w") as file:
        YAML(typ="safe").dump(STAGES, file)
    for command in (["git", "init", "-q", "-b", "main"], [str(BIN / "dvc"), "init", "-q"]):
        subprocess.run(command, cwd=root, check=True)
    commit(root)
    return root


def commit(root: Path) -> None:
    subprocess.run(["git", "add", "-A"], cwd=root, check=True)
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *author, "commit", "-q", "-m", "state"], cwd=root, check=True)


@pytest.fixture
def checkout(project: Path, tmp_path: Path) -> Path:
    subprocess.run(["git", "clone", "-q", str(project), str(tmp_path / "checkout")], check=True)
    return tmp_path / "checkout"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Platform]:
    with platform(tmp_path / "prefect") as found:
        found.deploy("pipeline")
        yield found


def test_a_training_goes_on_after_its_worker_was_killed(served: Platform, project: Path, checkout: Path) -> None:
    run = served.run("tests-0", root=str(checkout))
    until(checkpoint_at(checkout, 20), every=0.01, what=served.tail(run))
    stages = stage_processes(served, checkout)
    kill_worker(served)
    until(lambda: not any(alive(number) for number in stages), 60)
    assert none_left(checkout)
    assert served.state(run) == "RUNNING", "nobody is there to say otherwise"

    served.start_worker()
    again = served.run("tests-0", root=str(checkout))
    assert served.wait(again) == "COMPLETED", served.tail(again)
    assert any("going on from checkpoint" in line for line in served.logs(again))

    train(project)
    branch = subprocess.run(
        ["git", "for-each-ref", "--format=%(refname:short)", "--sort=-creatordate", "refs/heads/tailmark"],
        cwd=checkout, capture_output=True, text=True, check=True,
    ).stdout.split()[0]  # fmt: skip
    subprocess.run(["git", "checkout", "-q", branch], cwd=checkout, check=True)
    subprocess.run([str(BIN / "dvc"), "checkout", "-q"], cwd=checkout, check=True)
    assert numbers(checkout, "loss").tolist() == numbers(project, "loss").tolist(), "bit for bit as if nothing had happened"


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder / "artifacts")]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "mlflow.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def answers() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200
        return False

    try:
        until(answers, what=str(folder / "mlflow.log"))
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def test_mlflow_is_away_for_a_minute(tmp_path: Path, checkout: Path) -> None:
    """The training is stopped and continued by signals, so that it lasts longer than the minute; every step's loss arrives."""
    port, store = free_port(), tmp_path / "mlflow"
    store.mkdir()
    address = f"http://127.0.0.1:{port}"
    with platform(tmp_path / "prefect", MLFLOW_TRACKING_URI=address) as served:
        served.deploy("pipeline")
        with mlflow_server(store, port):
            run = served.run("tests-0", root=str(checkout))
            until(lambda: last_event(checkout, "step") >= 10, every=0.01, what=served.tail(run))
        before = last_event(checkout, "step")
        slowed(served, checkout, 60)
        assert before < last_event(checkout, "step") < STEPS, "it went on, and MLflow is back before its end"
        with mlflow_server(store, port):
            assert served.wait(run) == "COMPLETED", served.tail(run)
            found = httpx.post(
                f"{address}/api/2.0/mlflow/runs/search", json={"experiment_ids": ["1"], "filter": "tags.stage = 'train'"}
            ).json()
            (trained,) = found["runs"]
            query = {"run_id": trained["info"]["run_id"], "metric_key": "loss", "max_results": 1000}
            history = httpx.get(f"{address}/api/2.0/mlflow/metrics/get-history", params=query).json()["metrics"]
    assert trained["info"]["status"] == "FINISHED"
    assert sorted(int(item["step"]) for item in history) == list(range(1, STEPS + 1))


def slowed(served: Platform, checkout: Path, seconds: float) -> None:
    """Let the training's processes run a fiftieth of the time, until the minute is over."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        ranks = [number for number in stage_processes(served, checkout) if alive(number)]
        for number, wait in ((signal.SIGSTOP, 1.96), (signal.SIGCONT, 0.04)):
            for process in ranks:
                with suppress(ProcessLookupError):
                    os.kill(process, number)
            time.sleep(wait)
