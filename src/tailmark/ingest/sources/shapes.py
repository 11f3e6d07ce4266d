"""Conversations as their sources write them, and the examples they give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from tailmark.ingest.sources.reasons import Unusable
from tailmark.ingest.sources.values import checked

Turn = tuple[str, str]
"""Role and content."""

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_SHAREGPT_ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant"}
_KEYS = {"messages": ("role", "content", _ROLES), "sharegpt": ("from", "value", _SHAREGPT_ROLES)}


@dataclass(frozen=True)
class Example:
    """A prompt and its answer. `turn`: the number of the answer's turn, counted from 1, where a conversation gives several."""

    prompt: tuple[Turn, ...]
    completion: str
    turn: int | None = None


def turns(value: object, place: str, shape: Literal["messages", "sharegpt"]) -> list[Turn]:
    """A conversation's turns, with the roles system, user and assistant.

    Raises:
        Unusable: it is no list of turns, or a turn's role or content cannot be used.
    """
    role_key, content_key, roles = _KEYS[shape]
    if not isinstance(value, list) or not value:
        raise Unusable("bad_messages", f"{place} does not hold a list of turns")
    found = []
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, dict) or not isinstance(turn.get(role_key), str):
            raise Unusable("bad_messages", f"{place}: turn {number} has no '{role_key}'")
        role = roles.get(turn[role_key])
        if role is None:
            raise Unusable("unknown_role", f"{place}: turn {number} is of '{turn[role_key]}'; known are {', '.join(roles)}")
        found.append((role, _content(turn.get(content_key), f"{place}: turn {number}")))
    return found


def _content(value: Any, place: str) -> str:
    """Text, or a list of parts that all are text."""
    if isinstance(value, str):
        return checked(value, place)
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        raise Unusable("bad_messages", f"{place} has no text")
    texts = [part.get("text") for part in value if part.get("type") == "text"]
    if len(texts) < len(value) or not all(isinstance(text, str) for text in texts):
        raise Unusable("unsupported_content", f"{place} holds parts that are not text")
    return checked("".join(map(str, texts)), place)


def with_system(system: str, said: list[Turn]) -> list[Turn]:
    """The turns under a system message, unless they have one of their own."""
    return said if not system or (said and said[0][0] == "system") else [("system", system), *said]


def last_answer(said: list[Turn]) -> Example:
    """The conversation's last turn, which must be the assistant's, with all before it."""
    if all(role != "assistant" for role, _ in said):
        raise Unusable("no_assistant_turn", "no turn is the assistant's")
    if said[-1][0] != "assistant":
        raise Unusable("missing_completion", "the last turn is not the assistant's")
    return usable(Example(tuple(said[:-1]), said[-1][1]))


def every_answer(said: list[Turn]) -> Iterator[Example | Unusable]:
    """Each turn of the assistant with all before it, or why it cannot be used; and a last turn that nobody answered."""
    if all(role != "assistant" for role, _ in said):
        yield Unusable("no_assistant_turn", "no turn is the assistant's")
        return
    for place, (role, content) in enumerate(said):
        if role == "assistant":
            try:
                yield usable(Example(tuple(said[:place]), content, place + 1))
            except Unusable as problem:
                yield problem
    if said[-1][0] != "assistant":
        yield Unusable("unanswered_turn", "the last turn has no answer")


def usable(example: Example) -> Example:
    """The example itself.

    Raises:
        Unusable: its answer, the user's turn before it or an earlier turn is empty.
    """
    if not example.completion.strip():
        raise Unusable("empty_completion", "the completion is empty")
    if not example.prompt or example.prompt[-1][0] != "user" or not example.prompt[-1][1].strip():
        raise Unusable("empty_prompt", "there is no text of the user before the completion")
    if any(role != "system" and not content.strip() for role, content in example.prompt):
        raise Unusable("empty_turn", "an earlier turn is empty")
    return example
