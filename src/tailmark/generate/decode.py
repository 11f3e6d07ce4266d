"""Batched greedy decoding that knows the marker list: its tokens do not count against the answer's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tailmark.chat import render_prompt, token_ids
from tailmark.console import Progress
from tailmark.generate.loading import LoadedModel
from tailmark.taxonomy import LIST_CLOSE, LIST_OPEN, MarkerValue, split_completion

LIST_TOKENS = 256
"""Most tokens of a marker list; a model that has not closed its list by then is stopped."""

_TAIL = 24
"""Tokens looked at for the end of the list: its text is a dozen tokens at most, in any vocabulary."""


@dataclass(frozen=True)
class Request:
    """What to ask: messages, and the markers to put into the prompt (None: no list)."""

    messages: Sequence[Mapping[str, str]]
    markers: Mapping[str, MarkerValue] | None = None


@dataclass(frozen=True)
class Answer:
    """What a model wrote.

    Attributes:
        text: the answer, never with the marker list.
        markers: name to value as text, from the list the model wrote before it.
        raw: everything it wrote.
        tokens: tokens generated, list and end of turn included.
        listed: whether it began a list; `closed`: whether it also ended it (true without a list).
        finished: whether it ended its turn (or its list, where only that was asked for) within the limit.
    """

    text: str
    markers: dict[str, str]
    raw: str
    tokens: int
    listed: bool
    closed: bool
    finished: bool


@dataclass
class _Row:
    """One sequence being decoded. `answer_from`: number of tokens before the answer, None while in the list or undecided."""

    index: int
    tokens: list[int] = field(default_factory=list)
    answer_from: int | None = None
    finished: bool = False


@dataclass(frozen=True)
class _Limits:
    answer: int
    list_only: bool
    stop_ids: frozenset[int]


def generate(
    loaded: LoadedModel,
    requests: Sequence[Request],
    *,
    max_new_tokens: int,
    batch_size: int,
    list_only: bool = False,
    what: str | None = None,
) -> list[Answer]:
    """Greedy answers, in the order of the requests.

    Args:
        max_new_tokens: most tokens of an answer; a marker list has `LIST_TOKENS` beside them, so that arms have equal room to answer.
        list_only: stop where the marker list ends.
        what: the name of the work, shown with its progress (None: nothing is shown).
    """
    prompts = token_ids(loaded.tokenizer, [render_prompt(loaded.tokenizer, item.messages, item.markers) for item in requests])
    limits = _Limits(max_new_tokens, list_only, loaded.stop_ids)
    progress = Progress(what, len(prompts), "prompts") if what else None
    answers: dict[int, Answer] = {}
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        for row in _decode(loaded, {index: prompts[index] for index in batch}, limits):
            answers[row.index] = _answer(loaded.tokenizer, row, loaded.stop_ids)
        if progress:
            progress.advance(len(batch))
    if progress:
        progress.close()
    return [answers[index] for index in range(len(prompts))]


def _answer(tokenizer: Any, row: _Row, stop_ids: frozenset[int]) -> Answer:
    written = [token for token in row.tokens if token not in stop_ids]
    raw = _text(tokenizer, written)
    parts = split_completion(raw)
    listed = raw.lstrip().startswith(LIST_OPEN)
    return Answer(parts.answer, parts.markers, raw, len(row.tokens), listed, parts.closed, row.finished)


def _text(tokenizer: Any, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


@torch.inference_mode()
def _decode(loaded: LoadedModel, prompts: Mapping[int, list[int]], limits: _Limits) -> list[_Row]:
    """Decode one batch, left-padded. Rows that are done leave the batch once a quarter of it is done."""
    rows = [_Row(index) for index in prompts]
    live = list(rows)
    ids, mask = _pad_left(list(prompts.values()), loaded.tokenizer.pad_token_id or 0, loaded.device)
    cache: Any = None
    while live:
        # Positions count real tokens only, so that a prompt's padding does not change its answer.
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = loaded.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        cache = output.past_key_values
        chosen = output.logits[:, -1].argmax(-1)
        for row, token in zip(live, chosen.tolist(), strict=True):
            if not _done(row, limits):
                row.tokens.append(token)
                _advance(loaded.tokenizer, row, limits)
        ids, mask = chosen[:, None], torch.cat([mask, mask.new_ones(len(live), 1)], 1)
        keep = [place for place, row in enumerate(live) if not _done(row, limits)]
        if len(keep) <= 0.75 * len(live):
            live = [live[place] for place in keep]
            if live:
                kept = torch.tensor(keep, device=ids.device)
                ids, mask = ids[kept], mask[kept]
                cache.batch_select_indices(kept)
    return rows


def _pad_left(prompts: Sequence[list[int]], pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, both (batch, longest)."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    return ids, mask


def _done(row: _Row, limits: _Limits) -> bool:
    if row.finished:
        return True
    if row.answer_from is None:
        return len(row.tokens) >= LIST_TOKENS
    return len(row.tokens) - row.answer_from >= limits.answer


def _advance(tokenizer: Any, row: _Row, limits: _Limits) -> None:
    """Take the newest token into account: end of turn, end of the list, or no list at all."""
    if row.tokens[-1] in limits.stop_ids:
        row.finished = True
    elif row.answer_from is None:
        head = _text(tokenizer, row.tokens[:_TAIL]).lstrip()
        opened = head.startswith(LIST_OPEN)
        if not opened and (len(row.tokens) >= _TAIL or not LIST_OPEN.startswith(head)):
            row.answer_from = 0
            row.finished = limits.list_only
        elif LIST_CLOSE in _text(tokenizer, row.tokens[-_TAIL:]):
            row.answer_from = len(row.tokens)
            row.finished = limits.list_only
