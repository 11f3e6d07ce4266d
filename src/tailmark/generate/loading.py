"""A trained model, ready to generate: weights, tokenizer, taxonomy and what it was trained with."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is first imported: our own progress is the only one shown

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from tailmark.chat import require_marker_template
from tailmark.errors import ModelError
from tailmark.files import sha256_json
from tailmark.generate.grammar import ListGrammar
from tailmark.hardware import native_bf16
from tailmark.modelfolder import TAXONOMY, ModelInfo, read_model_info
from tailmark.taxonomy import LIST_OPEN, Taxonomy, load_taxonomy


@dataclass(frozen=True)
class LoadedModel:
    """A model on its device, in evaluation mode, with what belongs to it."""

    model: Any
    tokenizer: Any
    info: ModelInfo
    taxonomy: Taxonomy
    folder: Path

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self.model.device)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end a turn."""
        configured = self.model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        return frozenset(item for item in [*ids, self.tokenizer.eos_token_id] if item is not None)

    @cached_property
    def grammar(self) -> ListGrammar:
        """The lists that the model may write where they are constrained."""
        return ListGrammar(self.tokenizer, self.taxonomy, self.info.markers, self.info.form)

    @cached_property
    def list_starts(self) -> list[int]:
        """Tokens with which a list can begin, blanks before it included."""
        near = [token for text, token in self.tokenizer.get_vocab().items() if LIST_OPEN[0] in text and len(text) <= 2 * len(LIST_OPEN)]
        texts = {token: self.tokenizer.decode([token], skip_special_tokens=False).strip() for token in near}
        return sorted(token for token, text in texts.items() if text and LIST_OPEN.startswith(text))

    @cached_property
    def digest(self) -> str:
        """Hash of all that its answers depend on, the hardware apart."""
        return sha256_json(self.info.model_dump(mode="json"))

    @cached_property
    def partial_attention(self) -> frozenset[str]:
        """Kinds of layers that do not attend to all that came before: they keep a window or a state instead."""
        text = self.model.config.get_text_config()
        window = getattr(text, "sliding_window", None)
        slides = window is not None and window < getattr(text, "max_position_embeddings", math.inf)
        kinds = set(getattr(text, "layer_types", None) or (["sliding_attention"] if slides else [])) - {"full_attention"}
        kinds -= set() if slides else {"sliding_attention"}
        return frozenset(kinds | ({"state"} if getattr(self.model, "_is_stateful", False) else set()))

    @property
    def writes_lists(self) -> bool:
        """Whether its completions begin with a list."""
        return bool(self.info.markers) and self.info.placement != "prompt"


def load_model(folder: Path) -> LoadedModel:
    """Load a model folder that `tailmark train` wrote.

    Raises:
        ModelError: the folder is missing, incomplete, was not written by tailmark, or its template takes no markers.
        TaxonomyError: its taxonomy is malformed.
    """
    info = read_model_info(folder)
    logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        require_marker_template(tokenizer, folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=compute_dtype()).to(device).eval()
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(
            f"The model cannot be loaded: {(str(error) or repr(error)).splitlines()[0]}",
            where=str(folder),
            fix="run `dvc checkout`, or `dvc repro` to train again",
        ) from error
    return LoadedModel(model, tokenizer, info, load_taxonomy(folder / TAXONOMY), folder)


def compute_dtype() -> torch.dtype:
    """bf16 where the hardware computes in it, else fp32."""
    return torch.bfloat16 if native_bf16() else torch.float32
