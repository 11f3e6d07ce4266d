"""A real server of `tailmark serve` on a free port: in a thread of the test, or as a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from tailmark.config import Config, parse_config
from tailmark.generate.modes import Tagger
from tailmark.layout import Layout
from tailmark.serve.command import Server, prepare

START_S = 120
HELLO = [{"role": "user", "content": "What is a hedge fund?"}]


@contextmanager
def serving(
    model: str | Path, *, tagger: Tagger | None = None, config: Config | None = None, layout: Layout | None = None, **options: Any
) -> Iterator[Server]:
    """A server in a thread; `options`: those of the section `serve`."""
    section = {"model": str(model), "port": 0, **options}
    serve = parse_config({"serve": section}, Path("test")).serve
    server = prepare(config or Config(), layout or Layout(Path.cwd()), serve, tagger)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield server
    finally:
        server.drain()
        thread.join(30)
        assert not thread.is_alive()


def client(server: Server, **options: Any) -> openai.OpenAI:
    """The official client."""
    return openai.OpenAI(**{"base_url": f"{server.url}/v1", "api_key": "any", "max_retries": 0, **options})


def async_client(server: Server, **options: Any) -> openai.AsyncOpenAI:
    """The official client, asynchronous."""
    return openai.AsyncOpenAI(**{"base_url": f"{server.url}/v1", "api_key": "any", "max_retries": 0, **options})


def wait_until(holds: Any, seconds: float = 60) -> None:
    """Wait until something is so."""
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.01)


@dataclass
class Process:
    """`tailmark serve` as a user starts it."""

    process: subprocess.Popen[str]
    url: str
    said: str
    log: Path

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Lines of its log about this event."""
        lines = [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if line["event"] == kind]


@contextmanager
def serving_process(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Process]:
    """A server in a process of its own, started in `folder`; killed in the end where it still runs."""
    command = [sys.executable, "-m", "tailmark.cli", "serve", "--port", "0", *arguments]
    log = folder / "serve.log"
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(command, cwd=folder, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=errors, text=True)
    said = ""
    timer = threading.Timer(START_S, process.kill)  # reading would wait for ever
    timer.start()
    try:
        assert process.stdout is not None
        while not (match := re.search(r"Listening on (http://\S+)", said)):
            line = process.stdout.readline()
            assert line, said + log.read_text(encoding="utf-8")
            said += line
        timer.cancel()
        said += process.stdout.readline()
        yield Process(process, match[1], said, log)
    finally:
        timer.cancel()
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()
