"""The promote flow with a real Prefect server, a real MLflow server and PostgreSQL: it pauses, a person agrees, another refuses."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tailmark.config import Config
from tailmark.layout import Layout
from tailmark.register.audit import check
from tailmark.register.log import PromotionLog
from tailmark.register.registry import open_registry
from tests.integration.versions import Outcome, checkout, make_config, mlflow_on_postgres, register

ROOT = Path(__file__).resolve().parents[2]
ANSWER_S = 180.0

pytestmark = pytest.mark.slow


def start(root: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flows.promote", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def answer(process: subprocess.Popen[str], url: str, **given: Any) -> str:
    """Wait until the flow has paused, fill in the form, and return what the flow printed."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        paused = FlowRunFilter.model_validate({"state": {"type": {"any_": ["PAUSED"]}}})
        limit = time.monotonic() + ANSWER_S
        while not (runs := client.read_flow_runs(flow_run_filter=paused)):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < limit
            time.sleep(0.5)
        assert client.resume_flow_run(runs[0].id, run_input=given).status.name == "ACCEPT"
    return process.communicate(timeout=ANSWER_S)[0]


def write_params(config: Config, layout: Layout) -> None:
    options = config.model_dump(mode="json", by_alias=True)
    with (layout.root / "params.yaml").open("w") as file:
        YAML(typ="safe").dump({name: options[name] for name in ("taxonomy", "evaluate", "register", "gate", "tracking")}, file)


def test_the_flow_asks_a_person_and_does_as_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    import flows  # noqa: F401 - sets what Prefect reads when it is imported
    from tasks.server import local_server

    with mlflow_on_postgres(tmp_path) as store, local_server():
        from prefect.settings import PREFECT_API_URL

        url = str(PREFECT_API_URL.value())
        monkeypatch.setenv("PREFECT_API_URL", url)
        config = make_config(store.uri, approval=True)
        layout = checkout(tmp_path / "checkout")
        write_params(config, layout)
        register(config, layout, 1)
        shown = answer(start(layout.root), url, approve=True, by="reviewer", reason="reads well")
        assert "version 1 is now 'champion'" in shown
        register(config, layout, 2, Outcome(tail=0.5))
        process = start(layout.root)
        shown = answer(process, url, approve=False, by="reviewer", reason="not before the release")
        assert "version 2 was refused; 'champion' stays with version 1" in shown
        assert process.returncode == 1
        process = start(layout.root, "--rollback")
        assert "no earlier champion to go back to" in process.communicate(timeout=ANSWER_S)[0]
        assert process.returncode == 2
        with open_registry(config, layout) as registry:
            entries = PromotionLog(registry).entries()
            assert [(entry.decision, entry.version, entry.champion) for entry in entries] == [("promoted", "1", "1"), ("refused", "2", "1")]
            assert entries[1].reasons == ("reviewer refused: not before the release",)
            assert check(PromotionLog(registry)) == []


def test_no_answer_in_time_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    config, layout = make_config(approval=True, approval_hours=0.002), checkout(tmp_path / "checkout")
    write_params(config, layout)
    register(config, layout, 1)
    process = start(layout.root)
    shown = process.communicate(timeout=300)[0]
    assert process.returncode == 1, shown
    assert "there is no 'champion' yet" in shown
    with open_registry(config, layout) as registry:
        assert PromotionLog(registry).entries()[0].reasons == ("nobody refused: no answer within 0.002 h",)
