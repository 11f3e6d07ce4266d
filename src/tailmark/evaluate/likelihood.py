"""How likely a model finds the reference answer: teacher forced, in nats per token of the answer and its end of turn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tailmark.chat import end_of_turn, render_list, render_prompt, token_ids
from tailmark.console import Progress
from tailmark.generate.loading import LoadedModel
from tailmark.logits import head_logits
from tailmark.taxonomy import ListForm, MarkerValue, escape
from tailmark.taxonomy.markers import value_place


@dataclass(frozen=True)
class Scored:
    """A reference answer under a prompt.

    Attributes:
        given: the markers in the prompt (None: no list).
        written: the markers at the head of the completion, as if the model had written them (None: no list).
    """

    messages: Sequence[Mapping[str, str]]
    answer: str
    given: Mapping[str, MarkerValue] | None = None
    written: Mapping[str, MarkerValue] | None = None


@dataclass(frozen=True)
class Likelihood:
    """What one forward pass says of an answer and the list before it.

    Attributes:
        nll: of the answer, in nats per token; the prompt and the marker list are not counted.
        values: where asked for, per marker of the list at its head the probability of its value given all that stands before it.
    """

    nll: float
    values: dict[str, float]


@dataclass(frozen=True)
class _Tokens:
    """One item as tokens. `spans`: per marker of the list whose value is scored, the places of its tokens in it, as (from, to)."""

    prompt: list[int]
    listed: list[int]
    answer: list[int]
    spans: dict[str, tuple[int, int]]

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.listed) + len(self.answer)


def score_answers(loaded: LoadedModel, items: Sequence[Scored], *, batch_size: int, what: str, values: bool = False) -> list[Likelihood]:
    """How likely each answer is, and with `values` each value of the list before it, from one forward pass an item."""
    rows = _tokenized(loaded.tokenizer, items, loaded.info.form, values)
    order = sorted(range(len(items)), key=lambda place: (-rows[place].length, place))
    found: dict[int, Likelihood] = {}
    progress = Progress(what, sum(row.length for row in rows), "tokens")
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        found |= dict(zip(batch, _score_batch(loaded, [rows[place] for place in batch]), strict=True))
        progress.advance(sum(rows[place].length for place in batch))
    progress.close()
    return [found[place] for place in range(len(items))]


def answer_nll(loaded: LoadedModel, items: Sequence[Scored], *, batch_size: int, what: str) -> list[float]:
    """Negative log-likelihood of each answer, in nats per token; the prompt and the marker list are not counted."""
    return [item.nll for item in score_answers(loaded, items, batch_size=batch_size, what=what)]


def _tokenized(tokenizer: Any, items: Sequence[Scored], form: ListForm, values: bool) -> list[_Tokens]:
    prompts = token_ids(tokenizer, [render_prompt(tokenizer, item.messages, item.given) for item in items])
    texts = [render_list(item.written, form) for item in items]
    lists = token_ids(tokenizer, texts)
    answers = token_ids(tokenizer, [escape(item.answer) + end_of_turn(tokenizer) for item in items])
    spans = [_value_spans(tokenizer, text, item.written or {}) if values else {} for text, item in zip(texts, items, strict=True)]
    return [_Tokens(*parts) for parts in zip(prompts, lists, answers, spans, strict=True)]


def _value_spans(tokenizer: Any, text: str, written: Mapping[str, MarkerValue]) -> dict[str, tuple[int, int]]:
    """Tokens that hold a value or the bracket after it: `Law` is another value than `Lawful` only by what follows."""
    if not written:
        return {}
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    spans = {}
    for name in written:
        start, end = value_place(text, name)
        places = [place for place, (first, last) in enumerate(offsets) if first < end and last > start]
        spans[name] = (places[0], places[-1] + 1)
    return spans


@torch.inference_mode()
def _score_batch(loaded: LoadedModel, rows: Sequence[_Tokens]) -> list[Likelihood]:
    """Padded on the right, where causal attention keeps padding from changing anything. Only what is scored meets the output layer."""
    width = max(row.length for row in rows)
    ids = torch.tensor([[*row.prompt, *row.listed, *row.answer, *[0] * (width - row.length)] for row in rows], device=loaded.device)
    mask = torch.tensor([[1] * row.length + [0] * (width - row.length) for row in rows], device=loaded.device)
    hidden = loaded.model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    result = []
    for place, row in enumerate(rows):
        scored = [*row.listed, *row.answer] if row.spans else row.answer
        # The state before a token predicts it.
        states = hidden[place, row.length - len(scored) - 1 : row.length - 1]
        target = torch.tensor(scored, device=loaded.device)
        losses = torch.nn.functional.cross_entropy(head_logits(loaded.model, states), target, reduction="none")
        values = {name: math.exp(-float(losses[first:last].sum())) for name, (first, last) in row.spans.items()}
        result.append(Likelihood(float(losses[-len(row.answer) :].mean()), values))
    return result
