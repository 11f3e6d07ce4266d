"""What of a completion may be shown while it is still being written: never a list, never the beginning of a stop text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tailmark.generate.row import text_of
from tailmark.taxonomy import LIST_CLOSE, LIST_OPEN, split_completion

_UNFINISHED = "\ufffd"
"""What a decoder writes for the first bytes of a character whose others are in the next token."""

_WRAPPERS = (LIST_OPEN[:-1], LIST_CLOSE[:-1])


class TokenText:
    """Text of tokens as they come, held back while its last character is not whole."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._tokens: list[int] = []
        self._from = self._shown = 0

    def add(self, tokens: Sequence[int]) -> str:
        """The text that these tokens add; it may come with a later one."""
        self._tokens += tokens
        before = text_of(self._tokenizer, self._tokens[self._from : self._shown])
        now = text_of(self._tokenizer, self._tokens[self._from :])
        if now.endswith(_UNFINISHED):
            return ""
        self._from, self._shown = self._shown, len(self._tokens)
        return now.removeprefix(before)


class AnswerText:
    """The answer's text as it grows. What was shown is always the beginning of what `generate.splitting.read_answer` makes of the whole.

    Args:
        stop: texts at which the answer ends.

    Attributes:
        stopped: whether it has met one of them.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = stop
        self._raw = self._shown = ""
        self.stopped = False

    @property
    def begun(self) -> bool:
        """Whether the list is closed, or there is none: from here on it is all known."""
        head = self._raw.lstrip()
        if head.startswith(LIST_OPEN):
            return LIST_CLOSE in head
        return not LIST_OPEN.startswith(head)

    @property
    def listed(self) -> bool:
        """Whether what was written begins with a list."""
        return self._raw.lstrip().startswith(LIST_OPEN)

    @property
    def raw(self) -> str:
        """All that was written so far."""
        return self._raw

    def add(self, text: str) -> str:
        """What can be shown beyond what was shown, now that `text` was written too."""
        self._raw += text
        return self._show(self._settled()) if self.begun else ""

    def end(self, answer: str) -> str:
        """What is left to show of the whole answer."""
        return self._show(answer)

    def _show(self, text: str) -> str:
        new, self._shown = text[len(self._shown) :], max(self._shown, text, key=len)
        return new

    def _settled(self) -> str:
        """The answer up to where what follows could still change it."""
        text = split_completion(self._raw[: len(self._raw) - _begun_at_end(self._raw, _WRAPPERS)]).answer
        ends = [place for item in self._stop if (place := text.find(item)) >= 0]
        self.stopped = bool(ends)
        return text[: min(ends)] if ends else text[: len(text) - _begun_at_end(text, self._stop)]


def _begun_at_end(text: str, wanted: Sequence[str]) -> int:
    """How many characters at the end of a text are the beginning, but not the whole, of one of the wanted ones."""
    longest = max((len(item) for item in wanted), default=1) - 1
    sizes = range(min(longest, len(text)), 0, -1)
    return next((size for size in sizes if any(len(item) > size and item.startswith(text[-size:]) for item in wanted)), 0)
