"""What every request passes before a route sees it: a record of it, the server's state, its key, the size and kind of its body."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailmark.config.serving import Serve
from tailmark.errors import ConfigError
from tailmark.serve.errors import APIError, later
from tailmark.serve.record import Metrics, Record

_BODY_S = 30.0
"""How long a request may take to send its body."""

_KEY = re.compile(r"(?:(?P<name>[A-Za-z0-9_.-]{1,40})=)?(?P<hash>[0-9a-fA-F]{64})")


@dataclass
class State:
    """What all requests share.

    Attributes:
        draining: no new work is taken.
        active: requests under way.
    """

    draining: bool = False
    active: int = 0
    metrics: Metrics = field(default_factory=Metrics)


def read_keys(variable: str) -> dict[str, bytes]:
    """Names of API keys and their sha256, from `NAME=HASH` or `HASH`, with commas or blanks between; empty: no key is asked for.

    Raises:
        ConfigError: something else stands there.
    """
    found: dict[str, bytes] = {}
    for number, item in enumerate(re.split(r"[\s,]+", os.environ.get(variable, "").strip(" ,\n\t")), 1):
        match = _KEY.fullmatch(item)
        if match:
            found[match["name"] or match["hash"][:8].lower()] = bytes.fromhex(match["hash"])
        elif item:
            raise ConfigError(
                f"Entry {number} of the API keys is not a sha256.",  # it may be a key: it is not repeated
                where=f"environment variable {variable}",
                fix="give NAME=HASH, where HASH is what `printf %s KEY | sha256sum` prints",
            )
    return found


class Gatekeeper:
    """ASGI middleware.

    Args:
        keys: names of API keys and their sha256; empty: none is asked for.
    """

    def __init__(self, app: ASGIApp, *, options: Serve, state: State, keys: Mapping[str, bytes]) -> None:
        self._app, self._state, self._keys = app, state, keys
        self._most = options.max_body_kib * 1024
        self._retry_s = max(1, round(options.drain_s))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request and note it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = scope.setdefault("state", {})["record"] = Record(self._state.metrics)

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = record.name
                headers["x-content-type-options"] = "nosniff"
                if self._state.draining:
                    headers["connection"] = "close"
            await send(message)

        self._state.active += 1
        try:
            await self._pass(scope, receive, noted, record)
        finally:
            self._state.active -= 1
            route = scope.get("route")
            record.endpoint = getattr(route, "path", "none")
            if scope["path"].startswith("/v1/"):
                record.close()

    async def _pass(self, scope: Scope, receive: Receive, send: Send, record: Record) -> None:
        try:
            headers = Headers(scope=scope)
            if scope["path"].startswith("/v1/"):
                record.key = self._require_key(headers)
            if scope["method"] == "POST":
                self._require_ready()
                _require_json(headers)
                body = await self._body(headers, receive)
                _require_text(body)
                receive = _replay(body, receive)
        except APIError as error:
            record.about["code"] = error.code
            await JSONResponse(error.body, error.status, dict(error.headers))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _require_key(self, headers: Headers) -> str | None:
        if not self._keys:
            return None
        scheme, _, key = headers.get("authorization", "").partition(" ")
        given = hashlib.sha256(key.strip().encode()).digest() if scheme.lower() == "bearer" else b""
        matches = [name for name, digest in self._keys.items() if hmac.compare_digest(digest, given)]  # all of them, in equal time
        if not matches:
            why = "This key is not known here." if given else "An API key is needed: send `Authorization: Bearer KEY`."
            raise APIError(401, why, "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        return matches[0]

    def _require_ready(self) -> None:
        if self._state.draining:
            raise later("The server is shutting down.", "draining", self._retry_s)

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        too_large = APIError(413, f"The request is larger than {self._most // 1024} KiB.", "request_too_large")
        if int(headers.get("content-length", "0")) > self._most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(_BODY_S):
                while True:
                    message = await receive()
                    body += message.get("body", b"")
                    if len(body) > self._most:
                        raise too_large
                    if message["type"] == "http.disconnect" or not message.get("more_body"):
                        return bytes(body)
        except TimeoutError:
            raise APIError(408, f"The request did not arrive within {_BODY_S:.0f} s.", "request_timeout") from None


def _require_json(headers: Headers) -> None:
    """A web page of another origin can send anything else without asking."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise APIError(415, "Send JSON, with `Content-Type: application/json`.", "unsupported_media_type")


def _require_text(body: bytes) -> None:
    """Half of a surrogate pair can be written in JSON, but it is no text: no tokenizer and no answer could hold it."""
    if b"\\ud" not in body.lower():
        return
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise APIError(400, "The body holds half of a character (a lone surrogate).", "invalid_json") from None
    except (ValueError, RecursionError):
        return  # no JSON: the route says so


def _replay(body: bytes, receive: Receive) -> Receive:
    """A body that was read, then whatever comes after it: that the client has gone."""
    pending = [body]

    async def replayed() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return replayed
