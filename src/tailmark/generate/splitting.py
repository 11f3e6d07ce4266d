"""From what a model wrote to an answer without any marker list."""

from __future__ import annotations

from collections.abc import Sequence

from tailmark.generate.request import Answer
from tailmark.taxonomy import LIST_OPEN, split_completion


def read_answer(raw: str, *, tokens: int, finished: bool, stop: Sequence[str] = (), list_tokens: int = 0, list_passes: int = 0) -> Answer:
    """Take apart what a model wrote, end of turn left out.

    Args:
        list_tokens: how many tokens its list has, `list_passes`: forward passes they took; they count only where there is a list.
    """
    parts = split_completion(raw)
    listed = raw.lstrip().startswith(LIST_OPEN)
    ends = [parts.answer.find(item) for item in stop]
    return Answer(
        text=parts.answer[: min((end for end in ends if end >= 0), default=None)],
        markers=parts.markers,
        raw=raw,
        tokens=tokens,
        listed=listed,
        closed=parts.closed,
        finished=finished,
        list_tokens=list_tokens if listed else 0,
        list_passes=list_passes if listed else 0,
    )
