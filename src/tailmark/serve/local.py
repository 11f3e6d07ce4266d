"""A model of this machine as an engine: one thread decodes, requests join and leave between two forward passes."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from tailmark.errors import ModelError, TailmarkError
from tailmark.generate.decode import Batch
from tailmark.generate.loading import LoadedModel
from tailmark.generate.request import Listing
from tailmark.generate.row import Row
from tailmark.serve.engine import End, EngineClosed, EngineFailure, Overloaded, Piece, Work
from tailmark.serve.streaming import TokenText

_CHUNK = 256
"""Prompt tokens that are read between two steps of those who are already writing."""

_FIRST_GUESS_S = 2.0
"""How long a request takes, as long as none is done."""

Event = Piece | End | Exception
_LOG = logging.getLogger("tailmark.serve")


@dataclass
class _Ticket:
    """A request in the engine: where its events go, and its row since it is decoded."""

    work: Work
    emit: Callable[[Event], None]
    since: float = 0.0
    row: Row | None = None
    text: TokenText | None = None
    sent: int = 0
    cancelled: bool = False


class LocalEngine:
    """Continuous batching over `generate.decode.Batch`.

    New requests read their prompt in a batch of their own, in chunks, between the steps of those that are already writing, and join them at
    the next step. A model that does not attend to all that came before takes them in waves instead: its caches cannot be put together.

    Args:
        batch_size: requests that are decoded together.
        queue: how many more may wait.
    """

    context: int | None = None

    def __init__(self, loaded: LoadedModel, *, batch_size: int, queue: int) -> None:
        self._loaded, self._places, self._most_waiting = loaded, batch_size, queue
        self._wake = threading.Condition()
        self._queue: deque[_Ticket] = deque()
        self._tickets: list[_Ticket] = []
        self._writing, self._reading = Batch(loaded), Batch(loaded)
        self._seconds = _FIRST_GUESS_S
        self._closed = False
        self._listings = frozenset[Listing](("free", "absent", "constrained") if _constrains(loaded) else ("free", "absent"))
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)
        self._thread.start()

    @property
    def listings(self) -> frozenset[Listing]:
        """See `Engine.listings`."""
        return self._listings

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Requests that are being decoded."""
        return len(self._tickets)

    @property
    def alive(self) -> bool:
        """Whether the decoding thread runs."""
        return self._thread.is_alive()

    async def stream(self, work: Work) -> AsyncGenerator[Piece | End, None]:
        """See `Engine.stream`."""
        loop, events = asyncio.get_running_loop(), asyncio.Queue[Event]()
        ticket = _Ticket(work, lambda event: _deliver(loop, events, event))
        self._enter(ticket)
        try:
            while True:
                event = await events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
                if isinstance(event, End):
                    return
        finally:
            ticket.cancelled = True

    def close(self) -> None:
        """End the thread and let go of the model."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _enter(self, ticket: _Ticket) -> None:
        with self._wake:
            if self._closed:
                raise EngineClosed
            waiting = sum(not item.cancelled for item in self._queue)
            if waiting >= self._most_waiting + max(0, self._places - len(self._tickets)):
                raise Overloaded(max(1, math.ceil(self._seconds * (1 + waiting // self._places))))
            self._queue.append(ticket)
            self._wake.notify()

    def _run(self) -> None:
        while self._wait():
            try:
                self._admit()
                self._pass()
            except Exception as error:  # an engine that dies takes all later requests with it; this one fails those it has
                _LOG.exception("decoding failed")
                self._fail(EngineFailure(f"decoding failed: {type(error).__name__}: {error}"))
        self._fail(EngineClosed())

    def _wait(self) -> bool:
        """Wait for work; False: closed."""
        with self._wake:
            self._wake.wait_for(lambda: self._closed or self._queue or self._tickets)
            return not self._closed

    def _admit(self) -> None:
        """Take in what there is room for, as soon as those taken in before have read their prompts."""
        with self._wake:
            self._queue = deque(item for item in self._queue if not item.cancelled)
            if self._reading.rows or (self._tickets and self._loaded.partial_attention):
                return
            new = [self._queue.popleft() for _ in range(min(self._places - len(self._tickets), len(self._queue)))]
            self._tickets += new
        begun = [ticket for ticket in new if self._begin(ticket)]
        self._tickets = [ticket for ticket in self._tickets if ticket.row is not None]
        # The padding between two chunks would take up a window, or go into a state.
        chunk = None if self._loaded.partial_attention else _CHUNK
        self._reading = Batch(self._loaded, [ticket.row for ticket in begun if ticket.row is not None], chunk)

    def _begin(self, ticket: _Ticket) -> bool:
        work = ticket.work
        try:
            ticket.row = Row(self._loaded, work.request, work.prompt, list(work.tokens), work.max_new_tokens)
        except TailmarkError as error:  # of this request alone
            ticket.emit(error)
            return False
        ticket.text, ticket.since = TokenText(self._loaded.tokenizer), time.monotonic()
        ticket.emit(Piece(""))
        return True

    def _pass(self) -> None:
        for batch in (self._reading, self._writing):
            if batch.rows:
                batch.step()
        for ticket in self._tickets:
            self._report(ticket)
        for batch in (self._reading, self._writing):
            batch.leave()
        self._tickets = [ticket for ticket in self._tickets if ticket.row is not None and not ticket.row.done]
        if self._writing.rows and not self._loaded.partial_attention:
            self._writing.trim()
        if self._reading.rows and not any(self._reading.reading):
            self._writing.join(self._reading)
            self._reading = Batch(self._loaded)

    def _report(self, ticket: _Ticket) -> None:
        row = ticket.row
        assert row is not None
        assert ticket.text is not None
        if ticket.cancelled:
            row.finished = True
            return
        new = [token for token in row.tokens[ticket.sent :] if token not in self._loaded.stop_ids]
        ticket.sent = len(row.tokens)
        if text := ticket.text.add(new):
            ticket.emit(Piece(text))
        if row.done:
            self._seconds += 0.2 * (time.monotonic() - ticket.since - self._seconds)
            ticket.emit(End(row.answer()))

    def _fail(self, failure: EngineFailure) -> None:
        with self._wake:
            for ticket in [*self._tickets, *self._queue]:
                ticket.emit(failure)
            self._tickets, self._queue = [], deque()
        self._writing, self._reading = Batch(self._loaded), Batch(self._loaded)


def _constrains(loaded: LoadedModel) -> bool:
    """Whether lists can be held to the taxonomy; builds the grammar, so that the first request need not wait for it."""
    if not loaded.writes_lists or loaded.partial_attention:
        return False
    try:
        return bool(loaded.grammar.names)
    except ModelError:
        return False


def _deliver(loop: asyncio.AbstractEventLoop, events: asyncio.Queue[Event], event: Event) -> None:
    try:
        loop.call_soon_threadsafe(events.put_nowait, event)
    except RuntimeError:  # the loop has ended, and with it whoever asked
        return
