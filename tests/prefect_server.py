"""A Prefect server and a process worker of our own, with deployments of the flows: what a platform runs, on this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
POOL = "tests"
WAIT_S = 240.0
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(happened: Callable[[], Any], seconds: float = WAIT_S, every: float = 0.1, what: str = "") -> Any:
    """Poll until something is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what or happened}"
        time.sleep(every)
    return found


def children(process: int) -> list[int]:
    """The processes that a process has started, theirs, and so on."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):
            fields = path.read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, waiting = [], [process]
    while waiting:
        below = parents.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def alive(process: int) -> bool:
    with suppress(OSError, IndexError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@dataclass
class Platform:
    """The server and its worker.

    Attributes:
        home: `PREFECT_HOME`: database and logs.
        variables: more of the worker's environment.
    """

    home: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    server: subprocess.Popen[bytes] | None = None
    worker: subprocess.Popen[bytes] | None = None
    deployments: dict[str, UUID] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def environment(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PREFECT_", "TAILMARK_"))}
        own = {
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        quick = {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "PREFECT_WORKER_HEARTBEAT_SECONDS": "5"}
        code = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return {**clean, **own, **quick, **code, **self.variables}

    def log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def start_server(self) -> None:
        self.server = self._start("server", "server", "start", "--no-ui", "--host", "127.0.0.1", "--port", str(self.port))
        until(self._answers, what=f"server, {self.log('server')}")

    def _answers(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/health", timeout=2).status_code == 200
        return False

    def start_worker(self) -> None:
        self.worker = self._start("worker", "worker", "start", "--pool", POOL, "--type", "process", "--name", "tests")

    def _start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with self.log(name).open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "prefect", *command], env=self.environment, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def stop_server(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self.server is not None
        os.killpg(self.server.pid, number)
        self.server.wait(timeout=30)

    def stop(self) -> None:
        """End everything, whatever it is doing."""
        for process in (self.worker, self.server):
            if process is not None and process.poll() is None:
                below = children(process.pid)
                for number in [process.pid, *below]:
                    with suppress(ProcessLookupError):
                        os.kill(number, signal.SIGKILL)
                process.wait(timeout=30)

    def deploy(self, flow: str = "pipeline", **parameters: Any) -> str:
        """A deployment of a flow on the worker's pool; returns its name."""
        script = (
            "import json, sys\nfrom prefect import flow\n"
            "spec = json.loads(sys.argv[1])\n"
            "found = flow.from_source(spec['source'], spec['entrypoint'])\n"
            "print('id', found.deploy(spec['name'], work_pool_name=spec['pool'], parameters=spec['parameters'], print_next_steps=False))\n"
        )
        module = "promote" if flow == "rollback" else flow
        name = f"tests-{len(self.deployments)}"
        spec = {"source": str(ROOT), "entrypoint": f"flows/{module}.py:{flow}", "name": name, "pool": POOL, "parameters": parameters}
        done = subprocess.run(
            [sys.executable, "-c", script, json.dumps(spec)], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        identifier = next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("id "))
        self.deployments[name] = UUID(identifier)
        return name

    def api(self, method: str, path: str, **content: Any) -> Any:
        busy = 503  # SQLite is locked for a moment
        deadline = time.monotonic() + WAIT_S
        while (reply := httpx.request(method, f"{self.url}/{path}", timeout=60, **content)).status_code == busy:
            assert time.monotonic() < deadline, reply.text
            time.sleep(1)
        assert reply.status_code < 300, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    def run(self, deployment: str, **parameters: Any) -> str:
        """Ask for a run; returns its id."""
        answer = self.api("POST", f"deployments/{self.deployments[deployment]}/create_flow_run", json={"parameters": parameters})
        return str(answer["id"])

    def state(self, run: str) -> str:
        return str(self.api("GET", f"flow_runs/{run}")["state_type"])

    def message(self, run: str) -> str:
        return str(self.api("GET", f"flow_runs/{run}")["state"]["message"])

    def wait(self, run: str, *states: str, seconds: float = WAIT_S) -> str:
        """Wait until a run is in one of the states (default: until it has ended); returns which."""
        wanted = set(states) or ENDED
        return str(until(lambda: found if (found := self.state(run)) in wanted else None, seconds, what=f"{wanted}, {self.tail(run)}"))

    def tail(self, run: str) -> str:
        return "\n".join(self.logs(run)[-20:])

    def logs(self, run: str) -> list[str]:
        """What a run and its tasks have logged so far."""
        found: list[str] = []
        while True:
            query = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC", "limit": 200, "offset": len(found)}
            page = self.api("POST", "logs/filter", json=query)
            found += [str(item["message"]) for item in page]
            if len(page) < 200:
                return found

    def cancel(self, run: str) -> None:
        self.api("POST", f"flow_runs/{run}/set_state", json={"state": {"type": "CANCELLING", "name": "Cancelling"}})


@contextmanager
def platform(home: Path, **variables: str) -> Iterator[Platform]:
    """A server with a work pool and a worker."""
    home.mkdir(parents=True, exist_ok=True)
    found = Platform(home, variables)
    try:
        found.start_server()
        found.api("POST", "work_pools/", json={"name": POOL, "type": "process"})
        found.start_worker()
        yield found
    finally:
        found.stop()
