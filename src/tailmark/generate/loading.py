"""A trained model, ready to generate: weights, tokenizer, taxonomy and what it was trained with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is first imported: our own progress is the only one shown

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from tailmark.chat import require_marker_template
from tailmark.errors import ModelError
from tailmark.hardware import native_bf16
from tailmark.modelfolder import TAXONOMY, ModelInfo, read_model_info
from tailmark.taxonomy import Taxonomy, load_taxonomy


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

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end a turn."""
        configured = self.model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        return frozenset(item for item in [*ids, self.tokenizer.eos_token_id] if item is not None)


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
