"""Stock engines as a user starts them: vLLM's CPU build from its own environment, and `transformers serve`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARSER = ROOT / "src/tailmark/serve/vllm_parser.py"
VLLM = ROOT / ".venv-vllm/bin/python"
NO_VLLM = "vLLM is not there: run `make engines`"
START_S = 400
"""vLLM takes one to two minutes to start on two free cores."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def vllm_command(folder: Path, port: int, *arguments: str) -> list[str]:
    command = [str(VLLM), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--served-model-name", "marked"]
    return [
        *command,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--dtype",
        "float32",
        "--max-model-len",
        "2048",
        "--enforce-eager",
        *arguments,
    ]


def vllm_environment(cores: str = "0-1") -> dict[str, str]:
    """What vLLM's CPU build is told: its cores, a cache of 1 GiB, and to send nothing home."""
    told = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": cores, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    return {**os.environ, **told, "HF_HUB_OFFLINE": "1"}


def transformers_command(folder: Path, port: int) -> list[str]:
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    return [*command, "--device", "cpu", "--dtype", "float32"]


@contextmanager
def running(command: Sequence[str], port: int, log: Path, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """An engine as a process group of its own, until it is ready; its address. It is ended in the end, with all it started."""
    with log.open("w") as lines:
        process = subprocess.Popen(command, stdout=lines, stderr=lines, start_new_session=True, env=environment)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    limit = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < limit:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"the engine did not start; the end of its log:\n{log.read_text()[-3000:]}")
