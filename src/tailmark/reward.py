"""Reward models: any Hugging Face sequence classification with one output, the higher the better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from tailmark.errors import ModelError

Conversation = tuple[Sequence[Mapping[str, str]], str]
"""The messages of a prompt, and the answer to it."""


def model_source(named: str, root: Path, place: str) -> str:
    """The folder of a model, or its id on the hub; `place`: the option that names it.

    Raises:
        ModelError: there is no such model, or it cannot be reached.
    """
    source = str(root / named) if (root / named).is_dir() else named
    if source == named and Path(named).is_dir() and not Path(named).is_absolute():  # transformers would take that of the working directory
        raise not_loadable(named, OSError(f"there is no folder {named} in {root.resolve()}."), place)
    try:
        AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise not_loadable(named, error, place) from None
    return source


def not_loadable(named: str, error: Exception, place: str) -> ModelError:
    """The error of a model that is not there or cannot be read."""
    fix = "name a folder with config.json and weights, or an id on the hub that can be reached"
    if named == "models/base":
        fix = "run `tailmark base` first, or name another model"
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ModelError(f"The model cannot be loaded: {reason}", where=f"params.yaml: {place}: {named}", fix=fix)


class RewardModel:
    """Scores answers on the conversation in the model's own chat template; without one, on the pair of last message and answer.

    Args:
        named: a folder, relative to `root`, or an id on the hub.
        max_tokens: longer conversations lose their beginning.
        batch_tokens: tokens of one forward pass, padding included.
        place: the option that names the model, for errors.

    Raises:
        ModelError: the model cannot be loaded, or has more outputs than one.
    """

    def __init__(self, named: str, root: Path, *, max_tokens: int, batch_tokens: int, place: str) -> None:
        source = model_source(named, root, place)
        logging.set_verbosity_error()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(source, padding_side="right", truncation_side="left")
            self._model = AutoModelForSequenceClassification.from_pretrained(source, dtype=dtype).to(device).eval()
        except (OSError, ValueError) as error:
            raise not_loadable(named, error, place) from None
        if self._model.config.num_labels != 1:
            raise ModelError(
                f"The model has {self._model.config.num_labels} outputs; a reward model has one.",
                where=f"params.yaml: {place}: {named}",
                fix="name a reward model (sequence classification with one label)",
            )
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        if self._model.config.pad_token_id is None:
            self._model.config.pad_token_id = self._tokenizer.pad_token_id
        self._max_tokens, self._batch_tokens = max_tokens, batch_tokens

    @torch.inference_mode()
    def score(self, conversations: Sequence[Conversation]) -> list[float]:
        """The model's output for each, in order, to four digits."""
        encoded = [self._encoded(*item) for item in conversations]
        scores = [0.0] * len(encoded)
        for batch in batches([len(item["input_ids"]) for item in encoded], self._batch_tokens):
            inputs = self._tokenizer.pad([encoded[place] for place in batch], return_tensors="pt").to(self._model.device)
            rewards = self._model(**inputs).logits[:, 0].float().tolist()
            for place, reward in zip(batch, rewards, strict=True):
                scores[place] = round(reward, 4)
        return scores

    def _encoded(self, messages: Sequence[Mapping[str, str]], answer: str) -> dict[str, Any]:
        cut = {"truncation": True, "max_length": self._max_tokens}
        if self._tokenizer.chat_template:
            conversation = [*messages, {"role": "assistant", "content": answer}]
            text = self._tokenizer.apply_chat_template(conversation, tokenize=False)
            return dict(self._tokenizer(text, add_special_tokens=False, **cut))
        return dict(self._tokenizer(messages[-1]["content"], answer, **cut))


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
