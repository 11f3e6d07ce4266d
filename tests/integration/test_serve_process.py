"""`tailmark serve` as a process: what it says, how it ends, what it refuses to start with."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import openai
import pytest

from tests.marked_model import marked_model
from tests.serving import HELLO, Process, serving_process, wait_until

LONG = {"model": "tailmark", "messages": HELLO, "max_tokens": 1000}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return marked_model(tmp_path_factory.mktemp("process"))


def write_params(folder: Path, **sections: object) -> None:
    """Options where the server is started; the taxonomy is what on-the-fly markers are read with."""
    content = {"taxonomy": {"file": str(folder / "taxonomy.yaml")}, **sections}
    (folder.parent / "params.yaml").write_text(json.dumps(content), encoding="utf-8")


def stream_in_background(server: Process) -> tuple[threading.Thread, list[str], list[Exception]]:
    """A long answer that is being read; returns its reader, its texts so far, and the error it ended with."""
    texts: list[str] = []
    errors: list[Exception] = []
    asking = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)

    def read() -> None:
        try:
            for chunk in asking.chat.completions.create(stream=True, **LONG):  # type: ignore[call-overload]
                texts.append(chunk.choices[0].finish_reason or "")
        except openai.APIError as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    wait_until(lambda: len(texts) > 2)
    return reader, texts, errors


def test_sigterm_lets_what_is_under_way_end_and_takes_nothing_new(folder: Path) -> None:
    write_params(folder)
    with serving_process(folder.parent, "--model", folder.name) as server:
        assert "no baseline" in server.said
        assert "No API keys" in server.said
        command = server.said.strip().splitlines()[-1].strip()
        answer = json.loads(subprocess.run(command, shell=True, capture_output=True, check=True).stdout)
        assert answer["choices"][0]["message"]["markers_asked"] == {"lang": "French"}
        asked = {
            **LONG,
            "messages": [{"role": "user", "content": "Où est la bibliothèque municipale ?"}],
            "mode": "on-the-fly",
            "max_tokens": 2,
        }
        read = httpx.post(f"{server.url}/v1/chat/completions", json=asked, timeout=60).json()
        assert read["choices"][0]["message"]["markers_asked"] == {"lang": "French"}
        reader, texts, errors = stream_in_background(server)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{server.url}/health").json() == {"status": "draining"})
        refused = httpx.post(f"{server.url}/v1/chat/completions", json=LONG)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert int(refused.headers["retry-after"]) > 0
        assert httpx.get(f"{server.url}/health/live").status_code == 200
        reader.join()
        assert (errors, texts[-1]) == ([], "length")
        assert server.process.wait(20) == 0
        requests = server.events("request")
    assert [entry["status"] for entry in requests] == [200, 200, 503, 200]
    assert requests[-1]["completion_tokens"] - requests[-1]["list_tokens"] == 1000
    assert "hedge" not in server.log.read_text(encoding="utf-8")


def test_what_takes_longer_than_the_drain_is_told(folder: Path) -> None:
    write_params(folder, serve={"drain_s": 0.2, "modes": ["inferred"]})
    with serving_process(folder.parent, "--model", folder.name) as server:
        reader, _, errors = stream_in_background(server)
        server.process.send_signal(signal.SIGINT)
        reader.join()
        assert server.process.wait(20) == 0
        assert len(errors) == 1
        assert "shutting down" in str(errors[0])
        assert [event["active"] for event in server.events("giving up")] == [1]


def test_an_address_that_is_in_use(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "tailmark.cli", "serve", "--model", folder.name, "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "already in use" in done.stderr
    assert "Traceback" not in done.stderr
