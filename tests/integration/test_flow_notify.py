"""Automations on a real Prefect server: who is told (Apprise posts to a real HTTP server), and what Prefect does by itself."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.flow_checkout import Checkout, kill_worker, make
from tests.prefect_server import ROOT, Platform, platform, until

pytestmark = pytest.mark.slow


class Receiver:
    """Takes what Apprise posts to `json://`."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"json://127.0.0.1:{self.server.server_port}/team"

    def told(self, text: str) -> bool:
        return any(text in message["title"] + message["message"] for message in self.messages)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.server.shutdown()


@pytest.fixture
def served(tmp_path: Path, receiver: Receiver) -> Iterator[Platform]:
    with platform(tmp_path / "prefect", TAILMARK_NOTIFY_URL=receiver.address) as found:
        yield found


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return make(tmp_path / "checkout")


def automations(served: Platform, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "flows.automations", *arguments],
        cwd=ROOT,
        env=served.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_failures_and_dead_runs_are_told(served: Platform, receiver: Receiver, checkout: Checkout) -> None:
    automations(served, "block", "team")
    first = automations(served, "install", "--block", "slack-webhook/team", "--silent", "45")
    assert automations(served, "install", "--block", "slack-webhook/team", "--silent", "45") == first
    assert len(served.api("POST", "automations/filter", json={})) == len(first.splitlines())
    served.deploy("pipeline")

    (checkout.out / "broken").touch()
    failed = served.run("tests-0", root=str(checkout.root))
    assert served.wait(failed) == "FAILED"
    until(lambda: receiver.told("Stage 'first' failed (exit code 2)"), what=str(receiver.messages))

    (checkout.out / "broken").unlink()
    checkout.hold("first")
    run = served.run("tests-0", root=str(checkout.root))
    until(lambda: checkout.ran()[1:] == ["first"], what=served.tail(run))
    kill_worker(served)
    assert served.wait(run, "CRASHED") == "CRASHED"
    until(lambda: receiver.told("No sign of life"), what=str(receiver.messages))


def arrival() -> dict[str, Any]:
    """What a webhook would post."""
    resource = {"prefect.resource.id": "tailmark.data"}
    moment = datetime.now(UTC).isoformat()
    return {"id": str(uuid4()), "event": "tailmark.data.arrived", "resource": resource, "occurred": moment, "payload": {}, "related": []}


def test_an_event_from_outside_starts_a_deployment(served: Platform, receiver: Receiver, checkout: Checkout) -> None:
    """As `refresh` would be; here it is the small pipeline."""
    name = served.deploy("pipeline", root=str(checkout.root))
    automations(served, "install", "--refresh", f"pipeline/{name}")
    automations(served, "announce", "a test")
    runs = until(lambda: served.api("POST", "flow_runs/filter", json={}))
    served.wait(runs[0]["id"], "COMPLETED")
    assert len(checkout.ran()) == 4
    served.api("POST", "events", json=[arrival()])
    until(lambda: len(served.api("POST", "flow_runs/filter", json={})) == 2)


def test_verdicts_decisions_and_questions_are_told(served: Platform, receiver: Receiver, tmp_path: Path) -> None:
    """The promote flow, on a registry with one version that passes and needs a person's yes."""
    from tailmark.layout import Layout
    from tests.integration.test_promote_flow import write_params
    from tests.integration.versions import checkout as registry_checkout
    from tests.integration.versions import make_config, register

    automations(served, "block", "team")
    automations(served, "install", "--block", "slack-webhook/team")
    config, layout = make_config(approval=True), registry_checkout(tmp_path / "registry")
    assert isinstance(layout, Layout)
    write_params(config, layout)
    register(config, layout, 1)
    served.deploy("promote", root=str(layout.root))
    run = served.run("tests-0")
    until(lambda: receiver.told("make it the champion?"), what=served.tail(run))
    assert receiver.told("version 1 passes the gate")
    served.wait(run, "PAUSED")
    served.api("POST", f"flow_runs/{run}/resume", json={"run_input": {"approve": True, "by": "reviewer", "reason": "reads well"}})
    assert served.wait(run) == "COMPLETED", served.tail(run)
    until(lambda: receiver.told("Version 1: promoted"), what=str(receiver.messages))
