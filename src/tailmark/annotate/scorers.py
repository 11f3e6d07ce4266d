"""Scores of completions by a model, the higher the better: a reward model, or a language model's likelihood."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from tailmark.config import Quality
from tailmark.errors import ModelError
from tailmark.records import Record

Pair = tuple[list[int], list[int]]
"""Token ids of what is given and of what is scored."""


class Scorer(Protocol):
    """Scores rows. `origin`: the kind of evidence a score is; `confidence`: stored beside each."""

    origin: str
    confidence: float | None

    def score(self, rows: Sequence[Record]) -> list[float | None]:
        """A score of each row, in order, to four digits; None where there is none."""
        ...


def model_source(options: Quality, root: Path) -> str:
    """The folder of the model, or its id on the hub.

    Raises:
        ModelError: there is no such model, or it cannot be reached.
    """
    named = options.model or "models/base"
    source = str(root / named) if (root / named).is_dir() else named
    try:
        AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise _not_there(named, error) from None
    return source


def _not_there(named: str, error: Exception) -> ModelError:
    fix = "name a folder with config.json and weights, or an id on the hub that can be reached"
    if named == "models/base":
        fix = "run `tailmark base` first, or name another model"
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ModelError(f"The model for quality cannot be loaded: {reason}", where=f"params.yaml: annotate.quality.model: {named}", fix=fix)


def open_scorer(options: Quality, root: Path) -> Scorer:
    """The scorer that `annotate.quality` asks for, loaded.

    Raises:
        ModelError: the model cannot be loaded, or is no reward model.
    """
    source = model_source(options, root)
    logging.set_verbosity_error()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = AutoModelForSequenceClassification if options.score == "reward" else AutoModelForCausalLM
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = kind.from_pretrained(source, dtype=torch.float32 if device.type == "cpu" else torch.bfloat16).to(device).eval()
    except (OSError, ValueError) as error:
        raise _not_there(options.model or "models/base", error) from None
    if options.score == "reward":
        return RewardScorer(model, tokenizer, options)
    return LikelihoodScorer(model, tokenizer, options)


class RewardScorer:
    """Scores by a sequence-classification model with one output, on the conversation in the model's own chat template; without one,
    on the pair of prompt and completion."""

    origin = "classifier"
    confidence: float | None = None

    def __init__(self, model: Any, tokenizer: Any, options: Quality) -> None:
        if model.config.num_labels != 1:
            raise ModelError(
                f"The model has {model.config.num_labels} outputs; a reward model has one.",
                where=f"params.yaml: annotate.quality.model: {options.model}",
                fix="name a reward model (sequence classification with one label)",
            )
        self._model, self._tokenizer, self._options = model, tokenizer, options
        tokenizer.padding_side, tokenizer.truncation_side = "right", "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        if model.config.pad_token_id is None:
            model.config.pad_token_id = tokenizer.pad_token_id

    @torch.inference_mode()
    def score(self, rows: Sequence[Record]) -> list[float | None]:
        """The model's output for each row."""
        encoded = [self._encoded(row) for row in rows]
        scores: list[float | None] = [None] * len(rows)
        for batch in batches([len(item["input_ids"]) for item in encoded], self._options.batch_tokens):
            inputs = self._tokenizer.pad([encoded[place] for place in batch], return_tensors="pt").to(self._model.device)
            rewards = self._model(**inputs).logits[:, 0].float().tolist()
            for place, reward in zip(batch, rewards, strict=True):
                scores[place] = round(reward, 4)
        return scores

    def _encoded(self, row: Record) -> dict[str, list[int]]:
        cut = {"truncation": True, "max_length": self._options.max_tokens}
        if self._tokenizer.chat_template:
            messages = [*row["prompt"], {"role": "assistant", "content": row["completion"]}]
            text = self._tokenizer.apply_chat_template(messages, tokenize=False)
            return dict(self._tokenizer(text, add_special_tokens=False, **cut))
        return dict(self._tokenizer(row["prompt"][-1]["content"], row["completion"], **cut))


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
                    logits = self._model.get_output_embeddings()(states).float()
                    losses[place] = float(torch.nn.functional.cross_entropy(logits, torch.tensor(scored, device=logits.device)))
        return losses


def _ifd(given: float | None, alone: float | None) -> float | None:
    if given is None or alone is None or alone <= 0:
        return None
    ratio = round(given / alone, 4)
    return ratio if ratio < 1 else None


def batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Places in batches of rows of similar length, the longest first, at most `most` tokens each with padding (or one row)."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > most:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, padded on the right."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return ids, mask
