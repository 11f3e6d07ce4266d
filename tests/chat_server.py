"""A small real HTTP server that speaks the chat completions API and answers well, badly, late or not at all."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reaction = tuple[int, dict[str, str], bytes]
"""Status, headers and body of a response."""


def completion(content: str, logprobs: list[tuple[str, float]] | None = None) -> Reaction:
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    if logprobs is not None:
        choice["logprobs"] = {"content": [{"token": token, "logprob": value, "top_logprobs": []} for token, value in logprobs]}
    body = {
        "id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice],
        "usage": {"prompt_tokens": 100, "completion_tokens": 3, "total_tokens": 103},
    }  # fmt: skip
    return 200, {}, json.dumps(body).encode()


def problem(status: int, message: str = "no", **headers: str) -> Reaction:
    return status, headers, json.dumps({"error": {"message": message}}).encode()


@dataclass
class Server:
    """Answers each request with what `react(body, number)` says; keeps what it was asked."""

    react: Callable[[dict[str, Any], int], Reaction] = lambda _body, _number: completion("Culture")
    asked: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def texts(self) -> list[str]:
        return [body["messages"][-1]["content"] for body in self.asked]


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port of this machine."""
    state = Server()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["content-length"]))
            if not sent:  # by a client that was killed
                return
            body = json.loads(sent)
            with lock:
                number = len(state.asked)
                state.asked.append(body)
                state.times.append(time.monotonic())
                state.headers.append(dict(self.headers))
            status, headers, content = state.react(body, number)
            self.send_response(status)
            for name, value in ({"content-type": "application/json", "content-length": str(len(content))} | headers).items():
                self.send_header(name, value)
            with suppress(ConnectionError):  # of a client that was killed
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield state
        http.shutdown()
