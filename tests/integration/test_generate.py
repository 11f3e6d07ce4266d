"""Generation that is killed, and through endpoints: one that fails, and a real one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import openai
import pytest

from tailmark.chat import render_prompt, token_ids
from tailmark.config import Endpoint
from tailmark.errors import EndpointError
from tailmark.generate.command import Options, run
from tailmark.generate.endpoint import EndpointModel
from tailmark.generate.loading import load_model
from tailmark.generate.local import LocalModel
from tailmark.generate.request import Request, Sampling
from tailmark.taxonomy import MarkerValue, render
from tests.chat_server import Reaction, Server, completion, problem, serving
from tests.marked_model import marked_model

LIST: dict[str, MarkerValue] = {"domain": "Legal", "lang": "French"}


def generating(folder: Path, prompts: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tailmark.cli", "generate", "--model", str(folder), "--file", str(prompts), "--out", str(out)]
    return subprocess.Popen([*command, "--max-new-tokens", "60", "--batch-size", "1", "--constrained"], stdout=subprocess.PIPE, text=True)


def test_a_run_that_was_killed_goes_on(tmp_path: Path) -> None:
    folder, prompts, out = marked_model(tmp_path / "model"), tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Question {number}?"}) + "\n" for number in range(6)), encoding="utf-8")
    store = tmp_path / ".out.jsonl.answers"
    process = generating(folder, prompts, out)
    while not (store.exists() and store.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    kept = [json.loads(line) for line in store.read_text(encoding="utf-8").split("\n")[:-1]]
    assert 0 < len(kept) < 6
    changed = {**kept[0], "answer": {**kept[0]["answer"], "text": "kept as it was"}}
    torn = json.dumps(changed) + "\n" + store.read_text(encoding="utf-8").partition("\n")[2] + '{"key": "0'
    store.write_text(torn, encoding="utf-8")
    assert generating(folder, prompts, out).wait(300) == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n")[:-1]]
    loaded = load_model(folder)
    requests = [Request([{"role": "user", "content": f"Question {number}?"}], listing="constrained") for number in range(6)]
    expected = [answer.text for answer in LocalModel(loaded, batch_size=1).answer(requests, max_new_tokens=60)]
    assert [row["answer"] for row in rows].count("kept as it was") == 1
    assert sum(row["answer"] != text for row, text in zip(rows, expected, strict=True)) == 1
    assert not store.exists()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def model_at(server: Server, state: Path, **options: Any) -> EndpointModel:
    return EndpointModel(Endpoint(base_url=server.url, model="m", **options), store=state / "answers.jsonl")


def ask(text: str = "Qui ?", **more: Any) -> Request:
    return Request([{"role": "user", "content": text}], **more)


def test_markers_go_to_the_template_and_the_list_comes_back_parsed(server: Server, tmp_path: Path) -> None:
    server.react = lambda _body, _number: completion(f"{render(LIST)}\nBonjour")
    request = ask(markers={"lang": "French", "length_tokens": 9}, sampling=Sampling(0.7, 0.9, 5), stop=("fin",))
    answer = model_at(server, tmp_path).answer([request], max_new_tokens=20)[0]
    assert (answer.text, answer.markers, answer.closed, answer.finished) == ("Bonjour", LIST, True, True)
    sent = server.asked[0]
    assert sent["chat_template_kwargs"] == {"markers": {"lang": "French", "length_tokens": 9}}
    assert (sent["temperature"], sent["top_p"], sent["seed"], sent["stop"]) == (0.7, 0.9, 5, ["fin"])
    assert sent["max_tokens"] > 20


def test_the_command_asks_an_endpoint(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.react = lambda _body, _number: completion(f"{render(LIST)}\nBonjour")
    run("Qui ?", Options("m", endpoint=server.url, markers=["length_tokens=9"], system="Be brief."))
    assert "Bonjour" in capsys.readouterr().out.splitlines()
    assert [turn["role"] for turn in server.asked[0]["messages"]] == ["system", "user"]
    assert server.asked[0]["chat_template_kwargs"] == {"markers": {"length_tokens": 9}}


def test_a_single_prompt_is_asked_anew_and_a_store_tells_endpoints_apart(server: Server, tmp_path: Path) -> None:
    """Another model may stand behind the same name, and the same name at another address."""
    server.react = lambda _body, number: completion(f"answer {number}")
    options = Endpoint(base_url=server.url, model="m")
    first, second = (EndpointModel(options).answer([ask()], max_new_tokens=5)[0].text for _ in range(2))
    assert first != second
    store = tmp_path / "answers.jsonl"
    elsewhere = Endpoint(base_url=server.url + "/", model="m")
    asked = [EndpointModel(options, store=store), EndpointModel(elsewhere, store=store), EndpointModel(options, store=store, list_tokens=0)]
    answers = [model.answer([ask()], max_new_tokens=5)[0].text for model in asked]
    assert len(set(answers)) == 3
    assert [model.answer([ask()], max_new_tokens=5)[0].text for model in asked] == answers


def test_an_endpoint_that_fails_now_and_then(server: Server, tmp_path: Path) -> None:
    def react(body: dict[str, Any], number: int) -> Reaction:
        return problem(503) if number % 2 else completion(body["messages"][-1]["content"].upper())

    server.react = react
    requests = [ask(text) for text in ("a", "b", "a", "c")]
    answers = model_at(server, tmp_path).answer(requests, max_new_tokens=5)
    assert [answer.text for answer in answers] == ["A", "B", "A", "C"]
    assert "chat_template_kwargs" not in server.asked[0]
    before = len(server.asked)
    assert model_at(server, tmp_path).answer(requests, max_new_tokens=5) == answers
    assert len(server.asked) == before


@pytest.mark.parametrize("status", [400, 401, 404, 503])
def test_an_endpoint_that_does_not_answer(server: Server, tmp_path: Path, status: int) -> None:
    server.react = lambda _body, _number: problem(status, "no such thing")
    with pytest.raises(EndpointError) as caught:
        model_at(server, tmp_path, retries=0).answer([ask()], max_new_tokens=5)
    assert caught.value.fix


@pytest.mark.parametrize("listing", ["absent", "constrained"])
def test_what_an_endpoint_cannot_do(server: Server, tmp_path: Path, listing: str) -> None:
    with pytest.raises(EndpointError, match=listing):
        model_at(server, tmp_path).answer([ask(listing=listing)], max_new_tokens=5)
    assert not server.asked


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address and folder of a tiny marked model behind `transformers serve`."""
    folder = marked_model(tmp_path / "served")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    log = (tmp_path / "serve.log").open("w")
    process = subprocess.Popen([*command, "--device", "cpu", "--dtype", "float32"], stdout=log, stderr=log)
    try:
        for _ in range(900):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                break
            assert process.poll() is None, (tmp_path / "serve.log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", folder
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_a_real_engine_answers_as_the_model_does_here(served: tuple[str, Path]) -> None:
    url, folder = served
    requests = [ask("Who?"), ask("Who?", markers=LIST), ask("Tell <MARKER_LIST>\n<lang>Greek</lang>\n</MARKER_LIST>", markers={})]
    endpoint = EndpointModel(Endpoint(base_url=url, model=str(folder), timeout_s=300), list_tokens=0)
    loaded = load_model(folder)
    there = endpoint.answer(requests, max_new_tokens=12)
    expected = LocalModel(loaded, batch_size=1).answer(requests, max_new_tokens=12)
    # Only here may blanks stand before a list without counting, so an answer of blanks is longer here.
    assert all(local.text.startswith(remote.text) and remote.text for local, remote in zip(expected, there, strict=True))
    prompts = token_ids(loaded.tokenizer, [render_prompt(loaded.tokenizer, item.messages, item.markers) for item in requests])
    assert _prompt_tokens(url, folder, requests) == [len(ids) for ids in prompts]


def _prompt_tokens(url: str, folder: Path, requests: list[Request]) -> list[int]:
    """How many tokens the engine's rendering of each prompt has."""
    with openai.OpenAI(base_url=url, api_key="none") as client:
        answers = [
            client.chat.completions.create(
                model=str(folder),
                messages=cast("Any", item.messages),
                max_tokens=1,
                extra_body={"chat_template_kwargs": {"markers": item.markers}},
            )
            for item in requests
        ]
    return [answer.usage.prompt_tokens for answer in answers if answer.usage]
