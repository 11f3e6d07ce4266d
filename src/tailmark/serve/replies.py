"""An engine's events as the JSON of OpenAI's API, whole or in chunks."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tailmark.generate.request import Answer
from tailmark.serve.engine import Piece, Work
from tailmark.serve.models import Served
from tailmark.serve.record import Record
from tailmark.serve.streaming import AnswerText
from tailmark.taxonomy import LIST_CLOSE, LIST_OPEN, MarkerValue, split_completion

DONE = "data: [DONE]\n\n"


def event(content: Mapping[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False, separators=(',', ':'))}\n\n"


@dataclass(frozen=True)
class Lists:
    """What is said of markers beside the text."""

    markers: dict[str, MarkerValue]
    markers_asked: dict[str, MarkerValue] | None
    reasoning_content: str | None


@dataclass
class Reply:
    """One request's answer, as it is made.

    Attributes:
        answer: all of it, once it is there.
    """

    served: Served
    work: Work
    record: Record
    answer: Answer | None = None
    created: int = field(default_factory=lambda: int(time.time()))
    name: str = field(default_factory=lambda: uuid.uuid4().hex)

    async def run(self) -> AsyncGenerator[Lists | str, None]:
        """The lists once they are closed, then the text as it grows. `answer` is set when this ends.

        Raises:
            Overloaded, EngineFailure: see `Engine.stream`.
        """
        shown, opened = AnswerText(self.work.request.stop), False
        stream = self.served.engine.stream(self.work)
        try:
            async for item in stream:
                self.record.began()
                if isinstance(item, Piece):
                    text = shown.add(item.text)
                else:
                    self.answer, text = item.answer, shown.end(item.answer.text)
                if not opened and (shown.begun or self.answer):
                    opened = True
                    self.record.wrote()
                    yield self._lists(self.answer.raw if self.answer else shown.raw)
                if text:
                    yield text
        finally:
            await stream.aclose()
            self.record.ended(self.answer, len(self.work.tokens))

    def _lists(self, raw: str) -> Lists:
        written = raw.lstrip().startswith(LIST_OPEN)
        inside = raw.lstrip().removeprefix(LIST_OPEN).partition(LIST_CLOSE)[0].strip() if written else None
        asked = self.work.request.markers
        return Lists(self.served.typed(split_completion(raw).markers), None if asked is None else dict(asked), inside)

    @property
    def finish_reason(self) -> str:
        """Why it ended."""
        return "stop" if self.answer and self.answer.finished else "length"

    @property
    def usage(self) -> dict[str, Any]:
        """Tokens, the marker list's included."""
        assert self.answer is not None
        prompt, written, listed = len(self.work.tokens), self.answer.tokens, self.answer.list_tokens
        details = {"reasoning_tokens": listed, "list_tokens": listed}
        return {
            "prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written, "completion_tokens_details": details,
        }  # fmt: skip


class Form(Protocol):
    """How a kind of completion is written."""

    def whole(self, reply: Reply, lists: Lists, text: str) -> dict[str, Any]:
        """The answer in one."""
        ...

    def chunk(self, reply: Reply, item: Lists | str | None) -> dict[str, Any]:
        """A part of it; None: its end."""
        ...


class ChatForm:
    """Answers to conversations."""

    def whole(self, reply: Reply, lists: Lists, text: str) -> dict[str, Any]:
        """See `Form`."""
        message = {"role": "assistant", "content": text, "refusal": None, **vars(lists)}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}
        return {**_head(reply, "chatcmpl", "chat.completion"), "choices": [choice], "usage": reply.usage}

    def chunk(self, reply: Reply, item: Lists | str | None) -> dict[str, Any]:
        """See `Form`. The lists come with the first chunk."""
        delta: dict[str, Any] = {}
        if isinstance(item, Lists):
            delta = {"role": "assistant", "content": "", **vars(item)}
        elif item is not None:
            delta = {"content": item}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reply.finish_reason if item is None else None}
        return {**_head(reply, "chatcmpl", "chat.completion.chunk"), "choices": [choice]}


class TextForm:
    """Continuations of texts."""

    def whole(self, reply: Reply, lists: Lists, text: str) -> dict[str, Any]:
        """See `Form`."""
        choice = {"index": 0, "text": text, "markers": lists.markers, "logprobs": None, "finish_reason": reply.finish_reason}
        return {**_head(reply, "cmpl", "text_completion"), "choices": [choice], "usage": reply.usage}

    def chunk(self, reply: Reply, item: Lists | str | None) -> dict[str, Any]:
        """See `Form`. The lists come with the first chunk."""
        choice: dict[str, Any] = {"index": 0, "text": item if isinstance(item, str) else "", "logprobs": None}
        if isinstance(item, Lists):
            choice["markers"] = item.markers
        choice["finish_reason"] = reply.finish_reason if item is None else None
        return {**_head(reply, "cmpl", "text_completion"), "choices": [choice]}


def usage_chunk(form: Form, reply: Reply) -> dict[str, Any]:
    """The chunk after the last one, with the usage of all."""
    return {**form.chunk(reply, None), "choices": [], "usage": reply.usage}


def _head(reply: Reply, prefix: str, kind: str) -> dict[str, Any]:
    return {
        "id": f"{prefix}-{reply.name}", "object": kind, "created": reply.created, "model": reply.served.name,
        "system_fingerprint": reply.served.fingerprint,
    }  # fmt: skip
