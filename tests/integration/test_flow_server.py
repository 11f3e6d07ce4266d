"""The Prefect server of one run: it goes when its run goes, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
_RUN = """
import time
from prefect.settings import PREFECT_API_URL
from tasks.server import local_server
with local_server():
    print(PREFECT_API_URL.value(), flush=True)
    time.sleep(100)
"""


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_does_not_outlive_its_run(tmp_path: Path, number: signal.Signals) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"} | {"PREFECT_HOME": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", _RUN], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        url = run.stdout.readline().strip()
        assert answers(url)
        run.send_signal(number)
    limit = time.monotonic() + 60
    while answers(url) and time.monotonic() < limit:
        time.sleep(0.2)
    assert not answers(url)
