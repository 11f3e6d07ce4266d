"""The trained model as a plain Hugging Face folder, with taxonomy and description inside."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from tailmark.chat.vocabulary import extend_vocabulary, marker_sources
from tailmark.config import Config
from tailmark.files import read_json, staged_folder
from tailmark.layout import Arm, Layout
from tailmark.modelfolder import MARKER_USE, TAXONOMY, ModelInfo, forget_origin, write_model_info


def export(config: Config, layout: Layout, arm: Arm, state: dict[str, Tensor]) -> None:
    """Write `layout.trained(arm)`: weights in bf16, the tokenizer with its template, `taxonomy.yaml`, and `tailmark.json` last.

    Args:
        state: every parameter of the model, by its name in the model.
    """
    model: Any = AutoModelForCausalLM.from_pretrained(layout.base, dtype=torch.bfloat16)
    extend_vocabulary(model, marker_sources(layout.prepared(arm) / "tokenizer"))
    _stop_at_end_of_turn(model, layout.prepared(arm) / "tokenizer")
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected, f"parameters that the model does not have: {sorted(unexpected)}"
    untied = set(missing) - set(model.all_tied_weights_keys)
    assert not untied, f"parameters were not gathered: {sorted(untied)}"
    with staged_folder(layout.trained(arm)) as folder:
        model.save_pretrained(folder)
        shutil.copytree(layout.prepared(arm) / "tokenizer", folder, dirs_exist_ok=True)
        forget_origin(folder)
        shutil.copyfile(layout.root / config.taxonomy.file, folder / TAXONOMY)
        write_model_info(folder, ModelInfo(**read_json(layout.prepared(arm) / MARKER_USE), base=config.base.source))


def _stop_at_end_of_turn(model: Any, folder: Path) -> None:
    """Name the token that ends a turn among those generation stops at: some families' models end texts with another one (Gemma)."""
    stop = AutoTokenizer.from_pretrained(folder).eos_token_id
    known = model.generation_config.eos_token_id
    known = known if isinstance(known, list) else [known] if known is not None else []
    if stop not in known:
        model.generation_config.eos_token_id = [*known, stop]
