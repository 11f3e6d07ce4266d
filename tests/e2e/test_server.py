"""docs/deploy.md and docs/operations.md as a platform engineer follows them, with every service but without containers.

The tiny profile goes through a deployment; a backup is restored into an empty place, where the registered model gives the same answer.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Checkout, commit, copy_checkout
from tests.e2e.server import ACCOUNT, PASSWORD, Server, deployments, place, require_programs, set_up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ASK = """
import sys
from pathlib import Path
from tailmark.config import load_config
from tailmark.generate.local import LocalModel
from tailmark.generate.request import Request
from tailmark.layout import Layout
from tailmark.register.fetch import load_registered
loaded = load_registered(load_config(Path("params.yaml")), Layout(Path(sys.argv[1])), "models:/tailmark@challenger")
question = [{"role": "user", "content": "What is a hedge fund?"}]
print("ANSWER", LocalModel(loaded, batch_size=1).answer([Request(question)], max_new_tokens=12)[0].raw)
"""

LISTEN = """
import asyncio
from prefect.events import emit_event
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter

async def listen():
    async with get_events_subscriber(filter=EventFilter(event=EventNameFilter(name=["tailmark.test"]))) as subscriber:
        emit_event("tailmark.test", resource={"prefect.resource.id": "test"})
        async for event in subscriber:
            return event.event

print("heard", asyncio.run(asyncio.wait_for(listen(), 60)))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The services, running, with the deployments made and the pipeline run once on the tiny profile."""
    require_programs()
    root = tmp_path_factory.mktemp("server")
    checkout = copy_checkout(root / "checkout")
    checkout.run("tailmark", "config", "use", "tiny", "--reset")
    commit(checkout, "the tiny profile")
    set_up(checkout)
    with place() as folder, (server := Server(checkout, folder / "state")).running():
        server.run("python", "-m", "infra.deploy")
        server.run("prefect", "deployment", "run", "pipeline/on-request", "--param", "jobs=1", "--watch")
        yield server


def test_nobody_gets_in_without_an_account(server: Server) -> None:
    account = ("--user", f"{ACCOUNT}:{PASSWORD}")
    for name in ("MLFLOW", "PREFECT"):
        assert server.answer(name) == 401
        assert server.answer(name, "/api/health", "--user", f"{ACCOUNT}:wrong") == 401
        assert server.answer(name, "/", *account) == 200
    search = ("/api/2.0/mlflow/experiments/search", *account, "--json", '{"max_results": 1}')
    assert server.answer("MLFLOW", *search) == 200
    assert server.answer("MLFLOW", *search, "--header", "Host: elsewhere.example.org") == 403
    assert server.answer("MLFLOW", *search, "--header", "Origin: https://elsewhere.example.org") == 403
    assert server.answer("SERVE", "/metrics") == 404


def test_deploying_again_changes_nothing(server: Server) -> None:
    before = server.run("python", "-m", "infra.deploy", env=server.from_outside | {"TAILMARK_CHECKOUT": str(server.checkout.root)})
    assert deployments(before) == ["pipeline/on-request", "promote/on-request", "refresh/nightly", "rollback/on-request", "sweep/ablation"]
    assert "0 3 * * * UTC" in before
    again = server.run("python", "-m", "infra.deploy")
    assert again == before
    assert "refresh when data arrive" in again


def test_events_come_through_the_proxy(server: Server) -> None:
    """Prefect's workers and clients listen on websockets, which ask for an account too."""
    assert "heard tailmark.test" in server.run("python", "-c", LISTEN, env=server.from_outside)


def test_the_run_is_in_postgresql_and_its_files_in_the_store(server: Server) -> None:
    shown = server.run("rclone", "lsf", "--recursive", "--files-only", str(server.state / "store"))
    assert "/artifacts/marked/model.safetensors" in shown
    assert any(line.startswith("dvc/files/md5/") for line in shown.splitlines())
    count = "SELECT count(*) FROM model_versions WHERE name = 'tailmark'"
    assert server.run("psql", "--tuples-only", "--no-align", "--dbname", "mlflow", "--command", count).strip() == "1"
    states = server.run(
        "psql", "--tuples-only", "--no-align", "--dbname", "prefect", "--command", "SELECT DISTINCT state_type FROM flow_run"
    )
    assert "COMPLETED" in states


def test_anyone_checks_the_branch_out_and_has_nothing_to_do(server: Server, tmp_path: Path) -> None:
    """Another checkout gets the data from the DVC remote in the store."""
    branch = server.run("git", "branch", "--list", "tailmark/*", "--format", "%(refname:short)").splitlines()[-1]
    again = Checkout(tmp_path / "again")
    subprocess.run(["git", "clone", "-q", "--branch", branch, str(server.checkout.root), str(again.root)], check=True)
    environment = server.shell | {"PYTHONPATH": str(again.root / "src")}
    for command in (
        ["dvc", "remote", "add", "--local", "--default", "store", "s3://dvc"],
        ["dvc", "remote", "modify", "--local", "store", "endpointurl", environment["AWS_ENDPOINT_URL"]],
        ["dvc", "pull"],
    ):
        subprocess.run(command, cwd=again.root, env=environment, check=True, capture_output=True)
    done = subprocess.run(["dvc", "repro"], cwd=again.root, env=environment, capture_output=True, text=True, check=True)
    assert "up to date" in done.stdout


def test_no_password_is_in_a_process_list_a_log_or_a_deployment(server: Server) -> None:
    secrets = [value for name, value in server.written.items() if name.endswith(("PASSWORD", "KEY"))]
    assert len(secrets) >= 6
    places = {"process list": server.run("ps", "-eo", "args")}
    places |= {path.name: path.read_text(errors="replace") for path in (server.state / "logs").iterdir()}
    for database in ("mlflow", "prefect"):
        places[database] = server.run("pg_dump", "--data-only", database)
    assert [(place, secret) for place, text in places.items() for secret in secrets if secret in text] == []


def test_a_backup_is_restored_into_an_empty_place_and_answers_the_same(server: Server, tmp_path: Path) -> None:
    before = server.run("python", "-c", ASK, str(tmp_path / "before"))
    assert "ANSWER" in before
    (tmp_path / "backups").mkdir()
    environment = server.shell
    server.run("infra/backup.sh", str(tmp_path / "backups"), env=environment)
    (backup,) = (tmp_path / "backups").iterdir()
    assert (backup / "SHA256SUMS").read_text().count("\n") > 20
    refused = server.run("infra/restore.sh", str(backup), env=environment, check=False)
    assert "The database mlflow is not empty" in refused

    elsewhere = Server(server.checkout, server.state.parent / "elsewhere")
    with elsewhere.running("--stores-only"):
        damaged = tmp_path / "damaged"
        subprocess.run(["cp", "--archive", str(backup), str(damaged)], check=True)
        weights = next(path for path in damaged.rglob("model.safetensors"))
        content = weights.read_bytes()
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        environment = elsewhere.shell | {"TAILMARK_CHECKOUT": str(tmp_path / "checkout")}
        assert "nothing was restored" in elsewhere.run("infra/restore.sh", str(damaged), env=environment, check=False)
        elsewhere.run("infra/restore.sh", str(backup), env=environment)
        assert "is not empty" in elsewhere.run("infra/restore.sh", str(backup), env=environment, check=False)
    with elsewhere.running("--no-worker", "--serve"):
        after = elsewhere.run("python", "-c", ASK, str(tmp_path / "after"))
        assert after.splitlines()[-1] == before.splitlines()[-1]
        question = ("--json", '{"model": "tailmark", "messages": [{"role": "user", "content": "What is a hedge fund?"}], "max_tokens": 8}')
        assert elsewhere.answer("SERVE", "/v1/chat/completions", *question) == 401
        key = ("--header", f"Authorization: Bearer {elsewhere.written['TAILMARK_SERVE_KEY']}")
        assert elsewhere.answer("SERVE", "/v1/chat/completions", *question, *key) == 200
        runs = "SELECT count(*) FROM flow_run"
        assert int(elsewhere.run("psql", "--tuples-only", "--dbname", "prefect", "--command", runs)) > 0
    restored = subprocess.run(
        ["git", "branch", "--list", "tailmark/*"], cwd=tmp_path / "checkout", capture_output=True, text=True, check=True
    )
    assert "tailmark/" in restored.stdout
