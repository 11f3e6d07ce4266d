"""What decodes: one small protocol, behind which stands a model of this machine (`serve.local`) or another server (`serve.remote`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from tailmark.generate.request import Answer, Listing, Request


@dataclass(frozen=True)
class Work:
    """One request, checked and rendered.

    Attributes:
        request: how it is to be answered: list, sampling, stop texts.
        prompt: the rendered prompt; draws depend on it.
        tokens: its tokens. Engines take these and not the text, which a message could have made look like a control token.
        max_new_tokens: most tokens of the answer; a marker list has `LIST_TOKENS` beside them.
    """

    request: Request
    prompt: str
    tokens: tuple[int, ...]
    max_new_tokens: int


@dataclass(frozen=True)
class Piece:
    """Text that the model wrote since the last piece, a marker list included; whole characters only.

    Attributes:
        text: may be empty where a request has just begun.
    """

    text: str


@dataclass(frozen=True)
class End:
    """The last event of a request: all that the model wrote. The texts of its pieces are the beginning of `answer.raw`."""

    answer: Answer


class Overloaded(Exception):
    """The queue is full.

    Attributes:
        retry_s: seconds after which a place is likely to be free.
    """

    def __init__(self, retry_s: int) -> None:
        super().__init__(f"try again in {retry_s} s")
        self.retry_s = retry_s


class EngineFailure(Exception):
    """Decoding failed; the message is for the log, not for the client."""


class EngineClosed(EngineFailure):
    """The engine was told to end."""


class Engine(Protocol):
    """Decodes for one model, many requests at a time."""

    @property
    def listings(self) -> frozenset[Listing]:
        """What it can make of lists: leave them free, leave them out (mode `absent`), hold them to the taxonomy (`forced`)."""
        ...

    @property
    def context(self) -> int | None:
        """Most tokens of prompt and completion together, where it is less than what the model was made for."""
        ...

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        ...

    @property
    def running(self) -> int:
        """Requests that are being decoded."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it can answer at all."""
        ...

    def stream(self, work: Work) -> AsyncGenerator[Piece | End, None]:
        """Pieces as they are written, then one `End`. Closing the generator gives the request's place free at the next step.

        Raises:
            Overloaded: the queue is full; at the first step of the generator.
            EngineFailure: decoding failed.
        """
        ...

    def close(self) -> None:
        """Let go of the model. Requests that are still there end with `EngineClosed`."""
        ...
