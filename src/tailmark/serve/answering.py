"""One request from its body to its response: within its time, for as long as the client is there."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import ExitStack, aclosing
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tailmark.errors import TailmarkError
from tailmark.serve.asking import Asking
from tailmark.serve.engine import EngineClosed, EngineFailure, Overloaded, Work
from tailmark.serve.errors import APIError, later, refused
from tailmark.serve.models import Models, Served
from tailmark.serve.record import Record, note
from tailmark.serve.replies import DONE, ChatForm, Form, Lists, Reply, TextForm, event, usage_chunk
from tailmark.serve.schema import ChatRequest, Sampled, TextRequest

T = TypeVar("T")
Body = TypeVar("Body", bound=Sampled)

_GONE = 499
"""What logs say of a client that did not wait (nginx's code); nobody receives it."""
_LAST_WORD_S = 5.0
_RETRY_S = 10


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class Answering:
    """Answers requests with the models that are served."""

    def __init__(self, models: Models, asking: Asking) -> None:
        self.models, self.asking = models, asking

    async def chat(self, http: Request, body: ChatRequest) -> Response:
        """The response to a conversation."""
        return await self._answer(http, body, ChatForm(), self.asking.chat)

    async def text(self, http: Request, body: TextRequest) -> Response:
        """The response to a text."""
        return await self._answer(http, body, TextForm(), self.asking.text)

    async def _answer(self, http: Request, body: Body, form: Form, work: Callable[[Body, Served], Awaitable[Work]]) -> Response:
        record: Record = http.state.record
        deadline = asyncio.get_running_loop().time() + self.asking.options.request_s - record.seconds
        with ExitStack() as kept:
            served = kept.enter_context(self.models.use(body.model))
            record.about |= {"model": served.name, "version": served.version, "stream": bool(body.stream)}
            try:
                async with asyncio.timeout_at(deadline):
                    reply = Reply(served, await work(body, served), record)
                    if not body.stream:
                        return JSONResponse(await _while_there(http.receive, _whole(reply, form)))
                    items = reply.run()
                    first = await _while_there(http.receive, _next(items))
            except ClientGone:
                record.unfinished("client")
                return Response(status_code=_GONE)
            except Exception as error:
                raise _explained(error, record) from error
            usage = bool(body.stream_options and body.stream_options.include_usage)
            return EventStream(_events(reply, form, first, items, usage), record, deadline, kept.pop_all())


async def _whole(reply: Reply, form: Form) -> dict[str, Any]:
    lists, texts = Lists({}, None, None), []
    async for item in reply.run():
        if isinstance(item, Lists):
            lists = item
        else:
            texts.append(item)
    return form.whole(reply, lists, "".join(texts))


async def _next(items: AsyncGenerator[Lists | str, None]) -> Lists | str:
    return await anext(items)


async def _events(
    reply: Reply, form: Form, first: Lists | str, items: AsyncGenerator[Lists | str, None], usage: bool
) -> AsyncGenerator[str, None]:
    """The chunks as server-sent events."""
    async with aclosing(items):
        yield event(form.chunk(reply, first))
        async for item in items:
            yield event(form.chunk(reply, item))
    yield event(form.chunk(reply, None))
    if usage:
        yield event(usage_chunk(form, reply))
    yield DONE


class EventStream(Response):
    """A stream of events that ends when the client goes, and says so when its time is over or decoding fails.

    Args:
        deadline: of the event loop's clock.
        kept: closed when the stream ends.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[str, None], record: Record, deadline: float, kept: ExitStack) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events, self._record, self._deadline, self._kept = events, record, deadline, kept

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- Starlette's interface
        """Send the events."""
        with self._kept:
            async with aclosing(self._events):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                try:
                    async with asyncio.timeout_at(self._deadline):
                        await _while_there(receive, self._send_all(send))
                except ClientGone:
                    self._record.unfinished("client")
                except Exception as error:
                    await self._say(_explained(error, self._record), send)

    async def _send_all(self, send: Send) -> None:
        async for item in self._events:
            await send({"type": "http.response.body", "body": item.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _say(self, error: APIError, send: Send) -> None:
        """End with an error; a client that does not read what it is sent is not waited for."""
        try:
            async with asyncio.timeout(_LAST_WORD_S):
                await send({"type": "http.response.body", "body": event(error.body).encode(), "more_body": False})
        except TimeoutError:
            return


def _explained(error: Exception, record: Record) -> APIError:
    """What a client is told."""
    if isinstance(error, APIError):
        return error
    if isinstance(error, TimeoutError):
        record.unfinished("timeout")
        if "queue_s" not in record.about:
            return later("No place became free in the time that a request has here.", "overloaded", _RETRY_S)
        return APIError(HTTPStatus.GATEWAY_TIMEOUT, "The answer took longer than this server allows. Ask for fewer tokens.", "timeout")
    if isinstance(error, EngineClosed):
        record.unfinished("shutdown")
        return later("The server is shutting down.", "draining", _RETRY_S)
    if isinstance(error, Overloaded):
        record.unfinished("overloaded")
        return later("Too many requests are waiting.", "overloaded", error.retry_s, HTTPStatus.TOO_MANY_REQUESTS)
    if isinstance(error, TailmarkError):
        return refused(error, None)
    record.unfinished("failure")
    # What other errors say may hold a part of the prompt; where they were raised does not.
    what = str(error) if isinstance(error, EngineFailure) else type(error).__name__
    place = traceback.extract_tb(error.__traceback__)[-1:]
    note(
        "failure",
        logging.ERROR,
        id=record.name,
        error=what,
        at=[f"{frame.name}, line {frame.lineno} of {frame.filename}" for frame in place],
    )
    return APIError(
        HTTPStatus.INTERNAL_SERVER_ERROR, f"The answer could not be made; the server's log says why ({record.name}).", "failure"
    )


async def _while_there(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client goes.

    Raises:
        ClientGone: it went.
    """
    task, gone = asyncio.create_task(work), asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        for item in (task, gone):
            item.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
