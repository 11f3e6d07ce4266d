"""Shorter prompts for rows that do not fit a pack (`prepare.too_long: truncate_prompt`).

Earlier turns leave first, the oldest exchange before the others: the answer follows the last turn. Then the longest message left loses its
middle, because an instruction stands at the beginning or at the end of a text. Answers stay whole: half an answer would teach to stop in
the middle of it, or not to stop at all, and its length would no longer be what its markers say.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tailmark.chat import Messages, token_ids
from tailmark.taxonomy import escape

GAP = "\n[...]\n"
"""What stands where a message lost its middle."""
_SHORTEST = 64
"""Tokens that a message keeps: with fewer, little of it would be left to answer."""
_LESS = 0.9
"""What is kept of a text that was still too long: tokens are counted in the whole text, and its parts may have more."""


def shorter_prompts(tokenizer: Any, messages: Messages, excess: int) -> Iterator[Messages]:
    """Prompts that are shorter and shorter, until nothing more can leave.

    Args:
        messages: the prompt.
        excess: tokens of the row that do not fit. The lengths of what is yielded are estimates: try each, in order.
    """
    before = _tokens(tokenizer, messages)
    while (fewer := _without_first_exchange(messages)) is not None:
        messages = fewer
        yield messages
    excess -= before - _tokens(tokenizer, messages)
    longest = max(range(len(messages)), key=lambda index: len(messages[index]["content"]))
    (ids,) = token_ids(tokenizer, [escape(messages[longest]["content"])])
    keep = min(len(ids) - excess, len(ids) - 1)
    while keep >= _SHORTEST:
        text = _without_middle(messages[longest]["content"], keep / len(ids))
        yield [{**message, "content": text} if index == longest else message for index, message in enumerate(messages)]
        keep = int(keep * _LESS)


def _tokens(tokenizer: Any, messages: Messages) -> int:
    return sum(map(len, token_ids(tokenizer, [escape(message["content"]) for message in messages])))


def _without_first_exchange(messages: Messages) -> Messages | None:
    """The conversation without its first user turn and what follows up to the next; None where there is one user turn only."""
    turns = [index for index, message in enumerate(messages) if message["role"] == "user"]
    return [*messages[: turns[0]], *messages[turns[1] :]] if len(turns) > 1 else None


def _without_middle(text: str, share: float) -> str:
    kept = max(int(len(text) * share) - len(GAP), 2)
    return text[: kept - kept // 2].rstrip() + GAP + text[len(text) - kept // 2 :].lstrip()
