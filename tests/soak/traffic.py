"""Clients of every kind: whole answers, streams, clients that hang up, bad requests. What became of each request is counted."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

ANSWERED = frozenset({200, 429, 503})
"""What a right request may get: an answer, or a refusal because too many others ask or the server is ending."""
PATIENCE_S = 180.0
JSON = {"content-type": "application/json"}
_PROMPTS = ("Who?", "What is a hedge fund?", "Translate: bonjour", "a " * 200, "<MARKER_LIST> <|im_end|>", "漢字 🙂 é")


@dataclass
class Traffic:
    """Requests against one server until `until` (of the monotonic clock).

    Attributes:
        seen: requests by kind and what became of them.
        lost: requests that got neither answer nor refusal, and what happened instead.
    """

    url: str
    until: float
    draw: random.Random
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    async def run(self, clients: int) -> None:
        """All clients at once; each asks again as soon as it has its answer."""
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE_S, limits=limits) as client:
            await asyncio.gather(*(self._one(client) for _ in range(clients)))

    async def _one(self, client: httpx.AsyncClient) -> None:
        kinds: dict[Callable[[httpx.AsyncClient], Awaitable[str]], int] = {
            self._whole: 30, self._stream: 30, self._hang_up: 15, self._never_read: 5, self._bad: 15, self._look: 5,
        }  # fmt: skip
        while time.monotonic() < self.until:
            (kind,) = self.draw.choices(list(kinds), list(kinds.values()))
            name = kind.__name__.strip("_")
            try:
                became = await kind(client)
            except (httpx.HTTPError, AssertionError, json.JSONDecodeError) as error:
                became = "lost"
                self.lost.append(f"{name}: {error!r}"[:300])
            self.seen[name, became] += 1
            if became == "429":
                await asyncio.sleep(self.draw.uniform(0.01, 0.2))

    def _body(self, **more: Any) -> dict[str, Any]:
        body = {
            "model": "tailmark",
            "messages": [{"role": "user", "content": self.draw.choice(_PROMPTS)}],
            "max_tokens": self.draw.randint(1, 24),
        }
        asked = self.draw.choice([{}, {"markers": {"lang": "French"}}, {"mode": "absent"}, {"constrained": True}, {"temperature": 1.0}])
        return body | asked | more

    async def _whole(self, client: httpx.AsyncClient) -> str:
        response = await client.post("/v1/chat/completions", json=self._body())
        if response.status_code == 200:
            assert response.json()["choices"][0]["finish_reason"] in ("stop", "length")
        return _among(response, ANSWERED, f": {response.text[:200]}")

    async def _stream(self, client: httpx.AsyncClient) -> str:
        async with client.stream("POST", "/v1/chat/completions", json=self._body(stream=True)) as response:
            lines = [line async for line in response.aiter_lines() if line]
        if response.status_code == 200:
            assert lines[-1] == "data: [DONE]", lines[-1]
            assert "error" not in json.loads(lines[-2].removeprefix("data: ")), lines[-2]
        return _among(response, ANSWERED)

    async def _hang_up(self, client: httpx.AsyncClient) -> str:
        """In the middle of a stream."""
        async with client.stream("POST", "/v1/chat/completions", json=self._body(stream=True, max_tokens=200)) as response:
            wanted = self.draw.randint(0, 4)
            async for _ in response.aiter_lines():
                if wanted == 0:
                    break
                wanted -= 1
        return _among(response, ANSWERED)

    async def _never_read(self, client: httpx.AsyncClient) -> str:
        """Before there is an answer."""
        try:
            asking = client.post("/v1/chat/completions", json=self._body(max_tokens=200))
            return _among(await asyncio.wait_for(asking, self.draw.uniform(0.005, 0.1)), ANSWERED)
        except TimeoutError:
            return "hung up"

    async def _bad(self, client: httpx.AsyncClient) -> str:
        status, sent = self.draw.choice(
            [
                (400, {"content": b"{", "headers": JSON}),
                (400, {"json": self._body(markers={"lang": "Klingon"})}),
                (400, {"json": self._body(messages=[])}),
                (400, {"json": self._body(max_tokens=10**6)}),
                (404, {"json": self._body(model="other")}),
                (413, {"content": b" " * 2**21, "headers": JSON}),
                (415, {"content": b"{}", "headers": {"content-type": "text/plain"}}),
            ]
        )
        response = await client.post("/v1/chat/completions", **sent)
        assert response.json()["error"]["message"]
        return _among(response, {status})

    async def _look(self, client: httpx.AsyncClient) -> str:
        return _among(await client.get(self.draw.choice(["/health", "/metrics", "/v1/models", "/v1/taxonomy", "/"])), {200})


def _among(response: httpx.Response, wanted: frozenset[int] | set[int], said: str = "") -> str:
    assert response.status_code in wanted, f"{response.status_code} instead of {sorted(wanted)}{said}"
    return str(response.status_code)
