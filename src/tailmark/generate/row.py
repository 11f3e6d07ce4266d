"""One completion while it is written: what is known of it, what is guessed, and when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tailmark.generate.grammar import Node
from tailmark.generate.loading import LoadedModel
from tailmark.generate.request import LIST_TOKENS, Answer, Request
from tailmark.generate.sampling import choose, uniform
from tailmark.generate.splitting import read_answer
from tailmark.taxonomy import LIST_CLOSE, LIST_OPEN

_TAIL = 24
"""Tokens looked at for the end of the list: its text is a dozen tokens at most, in any vocabulary."""


@dataclass
class Row:
    """One sequence being decoded.

    Attributes:
        prompt: as text; draws depend on it.
        known: tokens that the model has not seen yet: at first the prompt's.
        most: most tokens of the answer; the list has `LIST_TOKENS` beside them.
        list_only: stop where the marker list ends.
        draft: tokens that probably follow the known ones.
        tokens: what was written.
        node: where the list stands that is held to the taxonomy; None: none is.
        answer_from: number of tokens before the answer, None while in the list or undecided.
        passes: forward passes while in the list.
        blank: whether a list may not begin here: none is to be written, and so far there are only blanks.
        gap: what still belongs to the list where the answer's tokens begin: its newline, or nothing.
    """

    loaded: LoadedModel
    request: Request
    prompt: str
    known: list[int]
    most: int
    list_only: bool = False
    draft: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    node: Node | None = None
    answer_from: int | None = None
    passes: int = 0
    blank: bool = False
    gap: str = ""
    finished: bool = False

    def __post_init__(self) -> None:
        """Begin the completion as far as it is known."""
        if self.request.listing == "free" or not self.loaded.writes_lists:
            return
        if self.request.listing == "absent":
            self.answer_from, self.blank = 0, True
            self.finished = self.list_only
            return
        self.node = self.loaded.grammar.start(self.request.written, self.request.names)
        self._foresee()

    @property
    def done(self) -> bool:
        """Whether nothing is to be written any more."""
        if self.finished:
            return True
        if self.answer_from is None:
            return self.node is None and len(self.tokens) >= LIST_TOKENS
        return len(self.tokens) - self.answer_from >= self.most

    def point(self, ahead: int = 0) -> float:
        """Where on the distribution the token `ahead` places after the last one is drawn."""
        return uniform(self.request.sampling, self.prompt, len(self.tokens) + ahead) if self.request.sampling.temperature else 0.0

    def take(self, logits: torch.Tensor, last: int) -> int:
        """Write what the model chooses, as far as the draft was right and one token on; returns how many of its tokens were wrong.

        Args:
            logits: (kept positions, vocabulary); the last `len(draft) + 1` are the row's.
            last: the choice at the last position where nothing constrains it.
        """
        self.passes += self.answer_from is None
        draft, wrong = self.draft, 0
        for place in range(len(draft) + 1):
            token = last if self.node is None else self._among(self.node, logits[place - len(draft) - 1])
            if self.node is not None:
                self._write_listed(self.node, token)
            else:
                self.tokens.append(token)
                self._advance()
            if place < len(draft) and token != draft[place]:
                wrong = len(draft) - place
                break
            if self.done:
                break
        self.known, self.draft = self.tokens[-1:], []
        self._foresee()
        return wrong

    def answer(self) -> Answer:
        """What was written so far."""
        return read_answer(
            text_of(self.loaded.tokenizer, [token for token in self.tokens if token not in self.loaded.stop_ids]),
            tokens=len(self.tokens),
            finished=self.finished,
            stop=self.request.stop,
            list_tokens=len(self.tokens) if self.answer_from is None else self.answer_from,
            list_passes=self.passes,
        )

    def _foresee(self) -> None:
        """Write what the list leaves no choice about, and guess what follows."""
        while self.node is not None and len(self.node.options) == 1:
            token = next(iter(self.node.options))
            self.known.append(token)
            self._write_listed(self.node, token)
        if self.node is not None:
            self.draft = self.node.guess()

    def _among(self, node: Node, logits: torch.Tensor) -> int:
        """The model's choice among what the grammar allows."""
        options = list(node.options)
        return options[choose(logits[options][None], [self.request.sampling], [self.point()])[0]] if len(options) > 1 else options[0]

    def _write_listed(self, node: Node, token: int) -> None:
        self.tokens.append(token)
        self.node = node.options[token]
        if not self.node.options:
            self.node, self.answer_from = None, len(self.tokens)
            self.finished = self.list_only

    def _advance(self) -> None:
        """Take the newest token into account: end of turn, end of the list, no list at all, or a text to stop at."""
        tokenizer = self.loaded.tokenizer
        if self.tokens[-1] in self.loaded.stop_ids:
            self.finished = True
        elif self.answer_from is None:
            head = text_of(tokenizer, self.tokens[:_TAIL]).lstrip()
            opened = head.startswith(LIST_OPEN)
            if not opened and (len(self.tokens) >= _TAIL or not LIST_OPEN.startswith(head)):
                self.answer_from = 0
                self.finished = self.list_only
            elif LIST_CLOSE in (text := text_of(tokenizer, self.tokens[-_TAIL:])):
                self.answer_from = len(self.tokens)
                self.gap = "\n" if text.endswith(LIST_CLOSE) else ""
                self.finished = self.list_only
        else:
            self.blank = self.blank and not text_of(tokenizer, self.tokens).strip()
            self.finished = self._meets_stop(self.tokens[self.answer_from :])

    def _meets_stop(self, answer: Sequence[int]) -> bool:
        """Whether a stop text stands at the end. A token is at least a byte, so the newest ones hold the longest text."""
        if not self.request.stop:
            return False
        looked_at = max(len(item.encode()) for item in self.request.stop) + len(self.gap) + 1
        newest = text_of(self.loaded.tokenizer, answer[-looked_at:])
        if len(answer) <= looked_at:
            newest = newest.removeprefix(self.gap)
        return any(item in newest for item in self.request.stop)


def text_of(tokenizer: Any, tokens: Sequence[int]) -> str:
    """What tokens say, special ones left out."""
    return str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
