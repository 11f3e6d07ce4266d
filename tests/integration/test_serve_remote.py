"""Another server decodes: vLLM's CPU build where it is installed, and a small one that speaks as SGLang documents."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest

from tailmark.chat import render_prompt, token_ids
from tailmark.generate.loading import load_model
from tailmark.serve.command import Server
from tailmark.taxonomy import MarkerValue, render
from tests.engines import NO_VLLM, VLLM, free_port, running, vllm_command, vllm_environment
from tests.marked_model import marked_model
from tests.serving import HELLO, client, serving
from tests.taught_model import LESSONS, taught_model

LIST: dict[str, MarkerValue] = {"domain": "Legal", "lang": "French", "length_tokens": 9}


@dataclass
class Other:
    """A server that streams given pieces of text as completions, without token ids."""

    pieces: Sequence[str] = ()
    status: int = 200
    asked: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""


@contextmanager
def other_server() -> Iterator[Other]:
    state = Other()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._start("application/json")
            self.wfile.write(json.dumps({"object": "list", "data": [{"id": "there", "object": "model", "max_model_len": 900}]}).encode())

        def do_POST(self) -> None:
            state.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            if state.status != 200:
                self.send_error(state.status)
                return
            self._start("text/event-stream")
            for number, piece in enumerate(state.pieces, 1):
                reason = "stop" if number == len(state.pieces) else None
                choice = {"index": 0, "text": piece, "logprobs": None, "finish_reason": reason}
                chunk = {"id": "c", "object": "text_completion", "created": 0, "model": "there", "choices": [choice]}
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.write(b"data: [DONE]\n\n")

        def _start(self, kind: str) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield state
        http.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return marked_model(tmp_path_factory.mktemp("remote"))


@pytest.fixture(scope="module")
def both(folder: Path) -> Iterator[tuple[Server, Other]]:
    with other_server() as other, serving(folder, engine=other.url) as server:
        yield server, other


@pytest.fixture
def pieces(both: tuple[Server, Other]) -> Other:
    both[1].pieces = [*f"{render(LIST)}\n", "Bon", "jour ", "le", " monde"]
    both[1].asked.clear()
    return both[1]


def chat(server: Server, **more: Any) -> Any:
    return client(server).chat.completions.create(model="tailmark", messages=HELLO, **{"max_tokens": 20, **more})  # type: ignore[call-overload]


def test_the_other_server_is_sent_tokens_and_its_list_is_taken_off(both: tuple[Server, Other], pieces: Other, folder: Path) -> None:
    server, tokenizer = both[0], load_model(folder).tokenizer
    got = chat(server, temperature=0.7, seed=5, extra_body={"markers": {"lang": "French"}})
    assert (got.choices[0].message.content, got.choices[0].message.markers) == ("Bonjour le monde", LIST)
    assert got.choices[0].finish_reason == "stop"
    (expected,) = token_ids(tokenizer, [render_prompt(tokenizer, HELLO, {"lang": "French"})])
    sent = pieces.asked[0]
    assert sent["prompt"] == expected
    assert (sent["model"], sent["temperature"], sent["seed"], sent["stream"]) == ("there", 0.7, 5, True)
    assert sent["max_tokens"] == 20 + 256
    streamed = list(chat(server, stream=True))
    assert streamed[0].choices[0].delta.markers == LIST
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == "Bonjour le monde"


def test_the_answer_has_its_own_limit_and_stop_texts_are_its_own(both: tuple[Server, Other], pieces: Other) -> None:
    short = chat(both[0], max_tokens=3)
    assert short.choices[0].finish_reason == "length"
    assert "Bonjour le monde".startswith(short.choices[0].message.content)
    assert short.usage.completion_tokens - short.usage.completion_tokens_details.list_tokens == 3
    stopped = chat(both[0], stop=["\n", " le"])
    assert (stopped.choices[0].message.content, stopped.choices[0].message.markers) == ("Bonjour", LIST)
    assert stopped.choices[0].finish_reason == "stop"
    assert not any("stop" in sent for sent in pieces.asked)


def test_a_list_that_never_closes_has_its_allowance(both: tuple[Server, Other], pieces: Other) -> None:
    pieces.pieces = ["<MARKER_LIST>\n<quality>nan</quality>\n", *["word "] * 400]
    got = chat(both[0])
    assert (got.choices[0].message.content, got.choices[0].message.markers) == ("", {"quality": "nan"})
    assert got.choices[0].finish_reason == "length"
    assert got.usage.completion_tokens == got.usage.completion_tokens_details.list_tokens == 256


def test_what_the_other_server_cannot_do(both: tuple[Server, Other], pieces: Other) -> None:
    for extra in ({"mode": "absent"}, {"mode": "forced", "markers": {"lang": "French"}}, {"constrained": True}):
        with pytest.raises(openai.BadRequestError):
            chat(both[0], extra_body=extra)
    with pytest.raises(openai.BadRequestError, match="900 in all"):
        chat(both[0], max_tokens=900)
    assert not pieces.asked


@pytest.mark.parametrize(("status", "code"), [(503, "engine_away"), (429, "engine_away"), (400, "failure")])
def test_the_other_server_refuses(both: tuple[Server, Other], pieces: Other, status: int, code: str) -> None:
    pieces.status = status
    with pytest.raises(openai.InternalServerError) as caught:
        chat(both[0])
    pieces.status = 200
    assert caught.value.code == code


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not VLLM.exists(), reason=NO_VLLM)
def test_vllm_answers_as_this_machine_does(tmp_path: Path) -> None:
    folder, port = taught_model(tmp_path), free_port()
    with (
        running(vllm_command(folder, port), port, tmp_path / "vllm.log", vllm_environment()) as url,
        serving(folder, engine=url) as there,
        serving(folder, constrained=False) as here,
    ):
        for lesson in LESSONS:
            for most in (5, 60):
                extra = {"markers": dict(lesson.markers)} if lesson.markers else {}
                asked = {"model": "tailmark", "messages": lesson.messages, "max_tokens": most, "extra_body": extra}
                one, other = (client(server).chat.completions.create(**asked) for server in (there, here))
                assert (one.choices, one.usage) == (other.choices, other.usage)
                chunks = client(there).chat.completions.create(stream=True, **asked)
                assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == one.choices[0].message.content
