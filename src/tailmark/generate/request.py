"""What is asked and what comes back: the vocabulary of `generate`, the same for a local model and an endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from tailmark.taxonomy import MarkerValue

LIST_TOKENS = 256
"""Most tokens of a marker list; a model that has not closed its list by then is stopped."""

Listing = Literal["free", "absent", "constrained"]
"""What the completion's marker list may be: `free` as the model likes, `absent` none, `constrained` one that the taxonomy allows."""


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen.

    Attributes:
        temperature: 0 takes the most likely token each time.
        top_p: draw from the most likely tokens that together have this probability.
        seed: of this request; equal requests with equal seeds have equal answers, whatever else is in the batch.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Request:
    """What to ask.

    Attributes:
        messages: the conversation, the last message the user's.
        markers: in the prompt (None: no list, empty: the empty list).
        listing: what the completion's list may be.
        written: markers that the completion's list holds in any case, at their place in it; needs a constrained list.
        names: the only markers that a constrained list may hold, those of `written` apart (None: all that the model was trained with).
        sampling: how tokens are chosen.
        stop: texts at which the answer ends; they are not part of it.
    """

    messages: Sequence[Mapping[str, str]]
    markers: Mapping[str, MarkerValue] | None = None
    listing: Listing = "free"
    written: Mapping[str, MarkerValue] = field(default_factory=dict)
    names: tuple[str, ...] | None = None
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.written and self.listing != "constrained":
            raise ValueError("markers can only be written into a constrained list")


@dataclass(frozen=True)
class Answer:
    """What a model wrote.

    Attributes:
        text: the answer, never with the marker list.
        markers: name to value as text, from the list the model wrote before it.
        raw: everything it wrote.
        tokens: tokens generated, list and end of turn included.
        listed: whether it began a list; `closed`: whether it also ended it (true without a list).
        finished: whether it ended its turn, or met a stop text, within the limit (or ended its list, where only that was asked for).
        list_tokens: how many of the tokens are the list's; `list_passes`: forward passes that they took (both 0 where not known).
    """

    text: str
    markers: dict[str, str]
    raw: str
    tokens: int
    listed: bool
    closed: bool
    finished: bool
    list_tokens: int = 0
    list_passes: int = 0


class Generator(Protocol):
    """Answers requests: a local model (`generate.local.LocalModel`) or an endpoint (`generate.endpoint.EndpointModel`)."""

    def answer(self, requests: Sequence[Request], *, max_new_tokens: int, what: str | None = None) -> list[Answer]:
        """Answers in the order of the requests.

        Args:
            max_new_tokens: most tokens of an answer; a marker list has its own allowance beside them.
            what: the name of the work, shown with its progress (None: nothing is shown).
        """
        ...
