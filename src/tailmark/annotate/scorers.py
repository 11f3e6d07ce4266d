"""Scores of completions by a model, the higher the better: a reward model, or a language model's likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from tailmark.config import Quality
from tailmark.logits import head_logits
from tailmark.records import Record
from tailmark.reward import RewardModel, batches, model_source, not_loadable

Pair = tuple[list[int], list[int]]
"""Token ids of what is given and of what is scored."""


class Scorer(Protocol):
    """Scores rows. `origin`: the kind of evidence a score is; `confidence`: stored beside each."""

    origin: str
    confidence: float | None

    def score(self, rows: Sequence[Record]) -> list[float | None]:
        """A score of each row, in order, to four digits; None where there is none."""
        ...


_PLACE = "annotate.quality.model"


def source_of(options: Quality, root: Path) -> str:
    """The folder of the model, or its id on the hub.

    Raises:
        ModelError: there is no such model, or it cannot be reached.
    """
    return model_source(options.model or "models/base", root, _PLACE)


def open_scorer(options: Quality, root: Path) -> Scorer:
    """The scorer that `annotate.quality` asks for, loaded.

    Raises:
        ModelError: the model cannot be loaded, or is no reward model.
    """
    if options.score == "reward":
        return RewardScorer(options, root)
    source = source_of(options, root)
    logging.set_verbosity_error()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32 if device.type == "cpu" else torch.bfloat16)
    except (OSError, ValueError) as error:
        raise not_loadable(options.model or "models/base", error, _PLACE) from None
    return LikelihoodScorer(model.to(device).eval(), tokenizer, options)


class RewardScorer:
    """Scores by a reward model."""

    origin = "classifier"
    confidence: float | None = None

    def __init__(self, options: Quality, root: Path) -> None:
        named = options.model or "models/base"
        self._model = RewardModel(named, root, max_tokens=options.max_tokens, batch_tokens=options.batch_tokens, place=_PLACE)

    def score(self, rows: Sequence[Record]) -> list[float | None]:
        """The model's output for each row."""
        return list(self._model.score([(row["prompt"], row["completion"]) for row in rows]))


class LikelihoodScorer:
    """Scores by a language model's mean log-probability of the completion's tokens.

    `likelihood`: given the prompt, in nats per token (0 at best). `ifd`: the loss given the prompt divided by the loss without it
    (Li et al., 2024, arXiv 2308.12032): how little the prompt helps. They select high values below 1; at 1 and above
    prompt and completion do not belong together, and the row gets no score.
    """

    origin = "measured"
    confidence: float | None = 1.0

    def __init__(self, model: Any, tokenizer: Any, options: Quality) -> None:
        self._model, self._tokenizer, self._options = model, tokenizer, options
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        self._start: list[int] = [] if start is None else [start]

    def score(self, rows: Sequence[Record]) -> list[float | None]:
        """The score of each row; None for an empty completion."""
        answers = [self._tokenizer(row["completion"], add_special_tokens=False)["input_ids"] for row in rows]
        given = self._losses([self._cut(self._prompt(row), answer) for row, answer in zip(rows, answers, strict=True)])
        if self._options.score == "likelihood":
            return [None if loss is None else round(-loss, 4) for loss in given]
        alone = self._losses([self._cut(self._start, answer) for answer in answers])
        return [_ifd(loss, own) for loss, own in zip(given, alone, strict=True)]

    def _prompt(self, row: Record) -> list[int]:
        if self._tokenizer.chat_template:
            text = self._tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
            return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        text = "\n\n".join(message["content"] for message in row["prompt"]) + "\n\n"
        return [*self._start, *self._tokenizer(text, add_special_tokens=False)["input_ids"]]

    def _cut(self, prompt: list[int], answer: list[int]) -> Pair:
        """The prompt loses its beginning first; of an answer that alone is too long the beginning is scored."""
        answer = answer[: self._options.max_tokens - 1]
        return prompt[-(self._options.max_tokens - len(answer)) :], answer

    @torch.inference_mode()
    def _losses(self, pairs: Sequence[Pair]) -> list[float | None]:
        """Mean negative log-probability of each second part's tokens, in nats; None where it has none."""
        losses: list[float | None] = [None] * len(pairs)
        for batch in batches([len(given) + len(scored) for given, scored in pairs], self._options.batch_tokens):
            ids, mask = padded([[*pairs[place][0], *pairs[place][1]] for place in batch], 0, self._model.device)
            hidden = self._model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            for row, place in enumerate(batch):
                given, scored = pairs[place]
                if scored:
                    states = hidden[row, len(given) - 1 : len(given) + len(scored) - 1]
                    logits = head_logits(self._model, states)
                    losses[place] = float(torch.nn.functional.cross_entropy(logits, torch.tensor(scored, device=logits.device)))
        return losses


def _ifd(given: float | None, alone: float | None) -> float | None:
    if given is None or alone is None or alone <= 0:
        return None
    ratio = round(given / alone, 4)
    return ratio if ratio < 1 else None


def padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, padded on the right."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return ids, mask
