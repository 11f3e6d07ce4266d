"""The command `tailmark serve`: load, listen, drain."""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
import signal
import socket
import sys
import time
from collections.abc import Sequence
from types import FrameType

import uvicorn

from tailmark import config as configuration
from tailmark.config.serving import Serve
from tailmark.console import duration, say
from tailmark.errors import ConfigError
from tailmark.generate.modes import Mode, Tagger, check_markers
from tailmark.layout import Layout
from tailmark.serve.answering import Answering
from tailmark.serve.api import create_api
from tailmark.serve.asking import Asking
from tailmark.serve.gatekeeper import Gatekeeper, State, read_keys
from tailmark.serve.models import Models, Served
from tailmark.serve.record import JSONLines, note
from tailmark.serve.source import Source
from tailmark.serve.watch import Watcher

_IDLE_S = 75
"""How long an unused connection is kept: longer than clients and proxies do, so that none sends into one that is being closed."""

_CLOSE_S = 5
"""How long connections may take to close when all work is done or given up."""


def run(config: configuration.Config, layout: Layout, options: Serve, tagger: Tagger | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C; see `prepare` for what can be wrong."""
    _log_json()
    prepare(config, layout, options, tagger).run()
    say("Stopped.")


def prepare(config: configuration.Config, layout: Layout, options: Serve, tagger: Tagger | None = None) -> Server:
    """Take the address, load what is to be served and check the options against it.

    Args:
        tagger: reads the markers of a prompt where the mode is on-the-fly (None: that mode is not served).

    Raises:
        ConfigError: the address cannot be listened at, a key is no sha256, or the options do not fit the model.
        ModelError, TrackingError: the model cannot be loaded.
    """
    keys = read_keys(options.keys_variable)
    listener = _bind(options.host, options.port)
    source, state = Source(config, layout, options), State()
    start = time.monotonic()
    say(f"Loading {options.model}.")
    models = Models([served for served in (source.load(), source.load_baseline()) if served is not None])
    asking = Asking(options, tagger)
    _check(options, asking, models.named(options.name))
    api = create_api(Answering(models, asking), state, baseline_missing=source.baseline_missing, keyed=bool(keys))
    greeting = [*_loaded(models, source, start), *_address(_url(listener, options.host), options, models, keyed=bool(keys))]
    watcher = Watcher(source, models, state.metrics) if source.follows else None
    return Server(Gatekeeper(api, options=options, state=state, keys=keys), options, state, models, watcher, listener, greeting)


class Server(uvicorn.Server):
    """Serves until it is told to stop; then takes nothing new and ends when what it has is done.

    Args:
        watcher: follows the alias (None: there is none to follow).
        listener: bound to the address.
        greeting: lines that are printed when it listens.
    """

    def __init__(
        self,
        app: Gatekeeper,
        options: Serve,
        state: State,
        models: Models,
        watcher: Watcher | None,
        listener: socket.socket,
        greeting: Sequence[str],
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="off",
                ws="none",
                timeout_keep_alive=_IDLE_S,
                timeout_graceful_shutdown=_CLOSE_S,
            )
        )
        self.url = _url(listener, options.host)
        self.state, self.models, self.watcher = state, models, watcher
        self._drain_s, self._listener, self._greeting = options.drain_s, listener, greeting
        self._until = float("inf")

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until it has drained."""
        if self.watcher:
            self.watcher.start()
        try:
            super().run(sockets or [self._listener])
        finally:
            if self.watcher:
                self.watcher.stop()
            self.models.close()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        for line in self._greeting:
            say(line)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- uvicorn's interface
        """Drain at the first signal, end at the second."""
        if self.state.draining:
            self._until = 0
        else:
            note("draining", signal=signal.Signals(sig).name, active=self.state.active, seconds=self._drain_s)
            self.drain()

    def drain(self) -> None:
        """Take nothing new from now on, and end when what is under way is done."""
        self.state.draining, self._until = True, time.monotonic() + self._drain_s

    async def on_tick(self, counter: int) -> bool:
        """Whether to end now; asked ten times a second."""
        if not self.state.draining:
            return await super().on_tick(counter)
        if not self.state.active:
            return True
        if time.monotonic() < self._until:
            return False
        note("giving up", logging.WARNING, active=self.state.active)
        await asyncio.to_thread(self.models.close)
        return True


def _bind(host: str, port: int) -> socket.socket:
    """A socket with the address, taken before a model is loaded for minutes."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ConfigError(
            f"The address cannot be listened at: {error.strerror or error}.",
            where=f"{host}:{port}",
            fix="choose another one with --host and --port (--port 0: a free one)",
        ) from None
    return listener


def _log_json() -> None:
    """JSON lines on standard error, for requests and for what goes wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLines())
    for name, level in (("tailmark.serve", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def _check(options: Serve, asking: Asking, served: Served) -> None:
    """Options that no request could mend."""
    check_markers(options.markers, served.taxonomy, served.info.markers, where="serve.markers")
    if unknown := sorted(set(options.override or ()) - set(served.info.markers)):
        known = ", ".join(served.info.markers)
        raise ConfigError(f"'{unknown[0]}' is not a marker of this model.", where="serve.override", fix=f"use some of: {known}")
    if options.constrained and "constrained" not in served.engine.listings:
        raise ConfigError(
            "Lists cannot be held to the taxonomy by this model or engine.", where="serve.constrained", fix="set it to null or false"
        )
    if options.mode and Mode(options.mode) not in asking.modes(served):
        known = ", ".join(asking.modes(served))
        raise ConfigError(f"Mode {options.mode} cannot be served here.", where="serve.mode", fix=f"use one of: {known}")


def _loaded(models: Models, source: Source, start: float) -> list[str]:
    lines = []
    for served in models.all:
        version = f", version {served.version}" if served.version else ""
        about = f"{len(served.info.markers)} markers" if served.info.markers else "no markers"
        lines.append(f"  {served.name}: {served.source}{version} ({served.digest[:12]}), {about}, context of {served.context:,} tokens")
    lines = [f"Loaded in {duration(time.monotonic() - start)}:", *lines]
    return lines + ([f"  no baseline: {source.baseline_missing}"] if source.baseline_missing else [])


def _url(listener: socket.socket, host: str) -> str:
    reached = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{reached}:{listener.getsockname()[1]}"


def _address(url: str, options: Serve, models: Models, *, keyed: bool) -> list[str]:
    served = models.named(options.name)
    open_to_all = [] if keyed else [f"No API keys are set ({options.keys_variable}): whoever reaches this address can use it."]
    body = {"model": served.name, "messages": [{"role": "user", "content": "What is a hedge fund?"}], "markers": _example(served)}
    key = " -H 'Authorization: Bearer KEY'" if keyed else ""
    return [
        *open_to_all,
        f"Listening on {url} (requests are logged to standard error; Ctrl-C ends it). Try:",
        f"  curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}",
    ]


def _example(served: Served) -> dict[str, str]:
    """A marker with a value of this model."""
    closed = {name: list(served.taxonomy.spec(name).values) for name in served.info.markers if served.taxonomy.spec(name).values}
    if "French" in closed.get("lang", []):
        return {"lang": "French"}
    return {name: values[0] for name, values in list(closed.items())[:1]}
