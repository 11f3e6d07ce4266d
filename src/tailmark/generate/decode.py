"""Batched decoding that knows the marker list: its tokens do not count against the answer's, and it can be held to the taxonomy.

In one forward pass a row takes in as many tokens as are known: its prompt, what the grammar leaves no choice about, and guesses of what
probably follows, which are then checked against the model's own choice and taken back where it chose otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jinja2 import TemplateError
from torch.nn import functional

from tailmark.chat import render_prompt, token_ids
from tailmark.console import Progress
from tailmark.errors import DataError, ModelError
from tailmark.generate.cache import growing_cache
from tailmark.generate.loading import LoadedModel
from tailmark.generate.request import LIST_TOKENS, Answer, Request
from tailmark.generate.row import Row
from tailmark.generate.sampling import choose

__all__ = ["LIST_TOKENS", "Answer", "Batch", "Request", "generate", "generate_batches", "prompt_text", "require_full_attention"]

_SHORT = 128
"""Tokens below which it costs little to fill a prompt up."""


def generate(
    loaded: LoadedModel,
    requests: Sequence[Request],
    *,
    max_new_tokens: int,
    batch_size: int,
    list_only: bool = False,
    what: str | None = None,
) -> list[Answer]:
    """Answers, in the order of the requests.

    Args:
        max_new_tokens: most tokens of an answer; a marker list has `LIST_TOKENS` beside them, so that arms have equal room to answer.
        list_only: stop where the marker list ends.
        what: the name of the work, shown with its progress (None: nothing is shown).
    """
    progress = Progress(what, len(requests), "prompts") if what else None
    answers: dict[int, Answer] = {}
    for batch in generate_batches(loaded, requests, max_new_tokens=max_new_tokens, batch_size=batch_size, list_only=list_only):
        answers |= batch
        if progress:
            progress.advance(len(batch))
    if progress:
        progress.close()
    return [answers[index] for index in range(len(requests))]


def generate_batches(
    loaded: LoadedModel, requests: Sequence[Request], *, max_new_tokens: int, batch_size: int, list_only: bool = False
) -> Iterator[dict[int, Answer]]:
    """Answers by the place of their request, batch by batch, those with the longest prompts first.

    Raises:
        DataError: the model's template refuses a conversation.
        ModelError: a constrained list is asked of a model that does not attend to all that came before.
    """
    require_full_attention(loaded, requests)
    texts = [prompt_text(loaded, item) for item in requests]
    prompts = token_ids(loaded.tokenizer, texts)
    for places in _alike(list(map(len, prompts)), batch_size):
        rows = [Row(loaded, requests[place], texts[place], prompts[place], max_new_tokens, list_only) for place in places]
        batch = Batch(loaded, rows)
        while batch.rows:
            batch.step()
            batch.leave(unless_left=0.75)
        yield {place: row.answer() for place, row in zip(places, rows, strict=True)}


def _alike(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Places of prompts in batches, the longest first; each at least half as long as its batch's longest, or short.

    Every row is filled up to the longest: one prompt of 4,000 tokens among thirty of 200 would cost as much as thirty of 4,000.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if batch and (len(batch) == batch_size or lengths[place] < lengths[batch[0]] / 2 > _SHORT):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def prompt_text(loaded: LoadedModel, request: Request) -> str:
    """The request's conversation and markers as the model's template writes them.

    Raises:
        DataError: the template refuses the conversation.
    """
    try:
        return render_prompt(loaded.tokenizer, request.messages, request.markers)
    except TemplateError as error:
        raise DataError(
            f"The model's chat template refuses the conversation: {error}.",
            where=f"prompt {request.messages[-1]['content'][:60]!r}",
            fix="leave out what it refuses, often a system message or two turns of one speaker in a row",
        ) from None


def require_full_attention(loaded: LoadedModel, requests: Sequence[Request]) -> None:
    """Guesses are taken back by masking them out of the cache, which only attention over all that came before leaves without a trace.

    Raises:
        ModelError: a list is to be constrained, and a layer of the model keeps a window or a state instead.
    """
    if not (loaded.writes_lists and any(item.listing == "constrained" for item in requests)):
        return
    if kinds := loaded.partial_attention:
        raise ModelError(
            f"Lists cannot be constrained: the model does not attend to all that came before ({', '.join(sorted(kinds))}).",
            where=str(loaded.folder),
            fix="use the modes absent, inferred, fixed, on-the-fly or wrong without --constrained",
        )


class Batch:
    """Rows that are decoded together, left-padded; those of another batch can join between two passes.

    Args:
        chunk: most tokens of a row that one pass takes in before its first choice (None: all): long prompts then hold nobody up.
    """

    def __init__(self, loaded: LoadedModel, rows: Sequence[Row] = (), chunk: int | None = None) -> None:
        self.rows = [row for row in rows if not row.done]
        self._loaded, self._chunk = loaded, chunk
        self._mask = torch.empty((len(self.rows), 0), dtype=torch.long, device=loaded.device)
        self._cache: Any = None if loaded.partial_attention else growing_cache()  # None: the model makes one of its own kinds of layers

    @property
    def reading(self) -> list[bool]:
        """Per row whether the next pass takes in only a part of its prompt."""
        return [self._chunk is not None and len(row.known) > self._chunk for row in self.rows]

    @torch.inference_mode()
    def step(self) -> None:
        """One forward pass: every row writes at least one token, but for those whose prompt is not all read yet."""
        rows, reading = self.rows, self.reading
        feeds = [row.known[: self._chunk] if part else [*row.known, *row.draft] for row, part in zip(rows, reading, strict=True)]
        logits = self._forward(feeds, keep=1 + max(len(row.draft) for row in rows))
        last = choose(logits[:, -1], [row.request.sampling for row in rows], [row.point(len(row.draft)) for row in rows])
        for place, row in enumerate(rows):
            if reading[place]:
                row.known = row.known[len(feeds[place]) :]
            elif not row.done:
                wrong = row.take(logits[place], last[place])
                self._mask[place, self._mask.shape[1] - wrong :] = 0

    def _forward(self, feeds: Sequence[list[int]], keep: int) -> torch.Tensor:
        """Logits (rows, keep, vocabulary) of the last tokens fed; those that no row may write are barred."""
        loaded = self._loaded
        ids, fed = _pad_left(feeds, loaded.tokenizer.pad_token_id or 0, loaded.device)
        self._mask = torch.cat([self._mask, fed], 1)
        # Positions count real tokens only, so that neither a prompt's padding nor a wrong guess changes its answer.
        positions = (self._mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = loaded.model(
            input_ids=ids, attention_mask=self._mask, position_ids=positions, past_key_values=self._cache, use_cache=True,
            logits_to_keep=keep,
        )  # fmt: skip
        self._cache = output.past_key_values
        if barred := [place for place, row in enumerate(self.rows) if row.blank]:
            output.logits[[[place] for place in barred], -1, [loaded.list_starts]] = -torch.inf
        logits: torch.Tensor = output.logits
        return logits

    def leave(self, unless_left: float = 1.0) -> None:
        """Let go of rows that are done, as soon as no more than the share `unless_left` goes on (it copies the cache)."""
        still = [place for place, row in enumerate(self.rows) if not row.done]
        if len(still) == len(self.rows) or len(still) > unless_left * len(self.rows):
            return
        self.rows = [self.rows[place] for place in still]
        if self.rows:
            kept = torch.tensor(still, device=self._mask.device)
            self._mask = self._mask[kept]
            self._cache.batch_select_indices(kept)

    @torch.inference_mode()
    def join(self, other: Batch) -> None:
        """Take over the rows of another batch. A model that does not attend to all that came before can only join an empty one."""
        if not self.rows:
            self.rows, self._mask, self._cache = other.rows, other._mask, other._cache
            return
        for batch in (self, other):
            batch.trim()
        self.rows = self.rows + other.rows
        self._mask = _stack(self._mask[..., None], other._mask[..., None])[..., 0]
        for mine, new in zip(self._cache.layers, other._cache.layers, strict=True):
            mine.keys, mine.values = _stack(mine.keys, new.keys), _stack(mine.values, new.values)

    @torch.inference_mode()
    def trim(self) -> None:
        """Leave out the columns before the first token of the longest row (of a model that attends to all that came before)."""
        first = int(self._mask.any(0).int().argmax())
        self._mask = self._mask[:, first:]
        for layer in self._cache.layers:
            layer.keys, layer.values = layer.keys[..., first:, :], layer.values[..., first:, :]


def _stack(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Two tensors (rows, ..., length, width) below each other, the shorter one filled up with zeros before its start."""
    longest = max(one.shape[-2], other.shape[-2])
    return torch.cat([functional.pad(item, (0, 0, longest - item.shape[-2], 0)) for item in (one, other)])


def _pad_left(prompts: Sequence[list[int]], pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, both (batch, longest)."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    return ids, mask
