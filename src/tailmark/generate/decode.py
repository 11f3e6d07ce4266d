"""Batched decoding that knows the marker list: its tokens do not count against the answer's, and it can be held to the taxonomy.

In one forward pass a row takes in as many tokens as are known: its prompt, what the grammar leaves no choice about, and guesses of what
probably follows, which are then checked against the model's own choice and taken back where it chose otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jinja2 import TemplateError

from tailmark.chat import render_prompt, token_ids
from tailmark.console import Progress
from tailmark.errors import DataError, ModelError
from tailmark.generate.grammar import Node
from tailmark.generate.loading import LoadedModel
from tailmark.generate.request import LIST_TOKENS, Answer, Request
from tailmark.generate.sampling import choose, uniform
from tailmark.generate.splitting import read_answer
from tailmark.taxonomy import LIST_CLOSE, LIST_OPEN

__all__ = ["LIST_TOKENS", "Answer", "Request", "generate", "generate_batches"]

_TAIL = 24
"""Tokens looked at for the end of the list: its text is a dozen tokens at most, in any vocabulary."""


@dataclass
class _Row:
    """One sequence being decoded.

    Attributes:
        known: tokens that the model has not seen yet: at first the prompt's.
        draft: tokens that probably follow them.
        tokens: what was written.
        node: where the list stands that is held to the taxonomy; None: none is.
        answer_from: number of tokens before the answer, None while in the list or undecided.
        passes: forward passes while in the list.
        blank: whether a list may not begin here: none is to be written, and so far there are only blanks.
    """

    index: int
    request: Request
    prompt: str
    known: list[int]
    draft: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    node: Node | None = None
    answer_from: int | None = None
    passes: int = 0
    blank: bool = False
    finished: bool = False

    def point(self, ahead: int = 0) -> float:
        """Where on the distribution the token `ahead` places after the last one is drawn."""
        return uniform(self.request.sampling, self.prompt, len(self.tokens) + ahead) if self.request.sampling.temperature else 0.0


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
    if loaded.writes_lists and any(item.listing == "constrained" for item in requests):
        _require_full_attention(loaded)
    texts = [_prompt(loaded, item) for item in requests]
    prompts = token_ids(loaded.tokenizer, texts)
    limits = _Limits(max_new_tokens, list_only, loaded.stop_ids)
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
    for start in range(0, len(order), batch_size):
        batch = [_Row(index, requests[index], texts[index], prompts[index]) for index in order[start : start + batch_size]]
        rows = [_start(loaded, row, limits) for row in batch]
        _decode(loaded, rows, limits)
        yield {row.index: _answer(loaded.tokenizer, row, loaded.stop_ids) for row in rows}


def _prompt(loaded: LoadedModel, request: Request) -> str:
    try:
        return render_prompt(loaded.tokenizer, request.messages, request.markers)
    except TemplateError as error:
        raise DataError(
            f"The model's chat template refuses the conversation: {error}.",
            where=f"prompt {request.messages[-1]['content'][:60]!r}",
            fix="leave out what it refuses, often a system message or two turns of one speaker in a row",
        ) from None


def _require_full_attention(loaded: LoadedModel) -> None:
    """Guesses are taken back by masking them out of the cache, which only attention over all that came before leaves without a trace.

    Raises:
        ModelError: a layer of the model keeps a window or a state instead.
    """
    text = loaded.model.config.get_text_config()
    window = getattr(text, "sliding_window", None)
    slides = window is not None and window < getattr(text, "max_position_embeddings", math.inf)
    kinds = set(getattr(text, "layer_types", None) or (["sliding_attention"] if slides else [])) - {"full_attention"}
    kinds -= set() if slides else {"sliding_attention"}
    kinds |= {"state"} if getattr(loaded.model, "_is_stateful", False) else set()
    if kinds:
        raise ModelError(
            f"Lists cannot be constrained: the model does not attend to all that came before ({', '.join(sorted(kinds))}).",
            where=str(loaded.folder),
            fix="use the modes absent, inferred, fixed, on-the-fly or wrong without --constrained",
        )


def _start(loaded: LoadedModel, row: _Row, limits: _Limits) -> _Row:
    """Begin the completion as far as it is known."""
    if row.request.listing == "free" or not loaded.writes_lists:
        return row
    if row.request.listing == "absent":
        row.answer_from, row.blank = 0, True
        row.finished = limits.list_only
        return row
    row.node = loaded.grammar.start(row.request.written, row.request.names)
    _foresee(row, limits)
    return row


def _answer(tokenizer: Any, row: _Row, stop_ids: frozenset[int]) -> Answer:
    return read_answer(
        _text(tokenizer, [token for token in row.tokens if token not in stop_ids]),
        tokens=len(row.tokens),
        finished=row.finished,
        stop=row.request.stop,
        list_tokens=len(row.tokens) if row.answer_from is None else row.answer_from,
        list_passes=row.passes,
    )


def _text(tokenizer: Any, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


@torch.inference_mode()
def _decode(loaded: LoadedModel, rows: Sequence[_Row], limits: _Limits) -> None:
    """Decode one batch, left-padded. Rows that are done leave the batch once a quarter of it is done."""
    live = [row for row in rows if not _done(row, limits)]
    mask = torch.empty((len(live), 0), dtype=torch.long, device=loaded.device)
    cache: Any = None
    while live:
        ids, fed = _pad_left([[*row.known, *row.draft] for row in live], loaded.tokenizer.pad_token_id or 0, loaded.device)
        mask = torch.cat([mask, fed], 1)
        # Positions count real tokens only, so that neither a prompt's padding nor a wrong guess changes its answer.
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        keep = 1 + max(len(row.draft) for row in live)
        output = loaded.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=keep
        )
        cache = output.past_key_values
        if barred := [place for place, row in enumerate(live) if row.blank]:
            output.logits[[[place] for place in barred], -1, [loaded.list_starts]] = -torch.inf
        last = choose(output.logits[:, -1], [row.request.sampling for row in live], [row.point(len(row.draft)) for row in live])
        for place, row in enumerate(live):
            wrong = 0 if _done(row, limits) else _take(loaded.tokenizer, row, output.logits[place], last[place], limits)
            mask[place, mask.shape[1] - wrong :] = 0
        still = [place for place, row in enumerate(live) if not _done(row, limits)]
        if len(still) <= 0.75 * len(live):
            live = [live[place] for place in still]
            if live:
                kept = torch.tensor(still, device=ids.device)
                mask = mask[kept]
                cache.batch_select_indices(kept)


def _pad_left(prompts: Sequence[list[int]], pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, both (batch, longest)."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    return ids, mask


def _take(tokenizer: Any, row: _Row, logits: torch.Tensor, last: int, limits: _Limits) -> int:
    """Write what the model chooses, as far as the draft was right and one token on; returns how many of its tokens were wrong.

    Args:
        logits: (kept positions, vocabulary); the last `len(row.draft) + 1` are the row's.
        last: the choice at the last position where nothing constrains it.
    """
    row.passes += row.answer_from is None
    draft, wrong = row.draft, 0
    for place in range(len(draft) + 1):
        token = last if row.node is None else _among(row.node, row, logits[place - len(draft) - 1])
        if row.node is not None:
            _write_listed(row, token, limits)
        else:
            row.tokens.append(token)
            _advance(tokenizer, row, limits)
        if place < len(draft) and token != draft[place]:
            wrong = len(draft) - place
            break
        if _done(row, limits):
            break
    row.known, row.draft = row.tokens[-1:], []
    _foresee(row, limits)
    return wrong


def _foresee(row: _Row, limits: _Limits) -> None:
    """Write what the list leaves no choice about, and guess what follows."""
    while row.node is not None and len(row.node.options) == 1:
        token = next(iter(row.node.options))
        row.known.append(token)
        _write_listed(row, token, limits)
    if row.node is not None:
        row.draft = row.node.guess()


def _among(node: Node, row: _Row, logits: torch.Tensor) -> int:
    """The model's choice among what the grammar allows."""
    options = list(node.options)
    return options[choose(logits[options][None], [row.request.sampling], [row.point()])[0]] if len(options) > 1 else options[0]


def _write_listed(row: _Row, token: int, limits: _Limits) -> None:
    assert row.node is not None
    row.tokens.append(token)
    row.node = row.node.options[token]
    if not row.node.options:
        row.node, row.answer_from = None, len(row.tokens)
        row.finished = limits.list_only


def _done(row: _Row, limits: _Limits) -> bool:
    if row.finished:
        return True
    if row.answer_from is None:
        return row.node is None and len(row.tokens) >= LIST_TOKENS
    return len(row.tokens) - row.answer_from >= limits.answer


def _advance(tokenizer: Any, row: _Row, limits: _Limits) -> None:
    """Take the newest token into account: end of turn, end of the list, no list at all, or a text to stop at."""
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
    else:
        row.blank = row.blank and not _text(tokenizer, row.tokens).strip()
        row.finished = _meets_stop(tokenizer, row.tokens[row.answer_from :], row.request.stop)


def _meets_stop(tokenizer: Any, tokens: Sequence[int], stop: Sequence[str]) -> bool:
    """Whether one of the texts stands at the end. A token is at least a byte, so the newest ones hold the longest text."""
    if not stop:
        return False
    newest = _text(tokenizer, tokens[-max(len(item.encode()) for item in stop) - 1 :])
    return any(item in newest for item in stop)
