"""A Prefect server for the length of one run, where no other is configured."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from tailmark.errors import StageFailed
from tasks import process

_START_S = 120.0


@contextmanager
def local_server() -> Iterator[None]:
    """The configured server (`PREFECT_API_URL`), else one of our own on a free port, gone at the end.

    It runs in a session of its own: Ctrl-C on the terminal must not take it away before the run could report how it ended, as it would
    Prefect's own temporary server. What it records stays in `PREFECT_HOME`.

    Raises:
        StageFailed: it did not come up.
    """
    if PREFECT_API_URL.value():
        yield
        return
    log = Path(PREFECT_HOME.value()) / "server.log"
    url = f"http://127.0.0.1:{_free_port()}/api"
    server = _start(url, log)
    with process.leashed(server):  # Prefect lets SIGTERM end this process on the spot, and SIGKILL always does
        try:
            _wait(server, url, log)
            with temporary_settings({PREFECT_API_URL: url}):
                yield
        finally:
            try:
                APILogHandler().flush()
            finally:
                process.end_group(server, {signal.SIGTERM: 3.0, signal.SIGKILL: 5.0})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(url: str, log: Path) -> subprocess.Popen[str]:
    port = url.rsplit(":", 1)[1].removesuffix("/api")
    command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui", "--host", "127.0.0.1", "--port", port]
    with log.open("w", encoding="utf-8") as file:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            env={**os.environ, "PREFECT_API_URL": url},
        )  # fmt: skip


def _wait(server: subprocess.Popen[str], url: str, log: Path) -> None:
    limit = time.monotonic() + _START_S
    while time.monotonic() < limit and server.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=2).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    fix = "read that log; `dvc repro` runs the same stages without Prefect"
    raise StageFailed("Prefect's server did not come up.", where=str(log), fix=fix)
