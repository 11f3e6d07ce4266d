"""A tiny random model in the form of a trained one, for tests of what is asked of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from tailmark.base import stage as base_stage
from tailmark.chat import control_tokens, marker_template
from tailmark.config import Config
from tailmark.layout import Layout
from tailmark.modelfolder import ModelInfo, write_model_info
from tailmark.taxonomy import load_taxonomy

TAXONOMY = Path(__file__).parents[1] / "src/tailmark/taxonomy/paper.yaml"


def marked_model(root: Path, **info: Any) -> Path:
    """A model folder under `root`; `info`: what its `tailmark.json` says otherwise."""
    layout = Layout(root)
    base_stage.run(Config.model_validate({"base": {"source": "random:tiny"}}), layout)
    marked = layout.trained("marked")
    shutil.copytree(layout.base, marked)
    tokenizer = AutoTokenizer.from_pretrained(marked)
    tokenizer.chat_template = marker_template(tokenizer.chat_template, control=control_tokens(tokenizer))
    tokenizer.save_pretrained(marked)
    shutil.copy(TAXONOMY, marked / "taxonomy.yaml")
    said: dict[str, Any] = {
        "arm": "marked",
        "markers": ("code_type", "domain", "lang", "length_tokens"),
        "placement": "both",
        "dataset_dropout": 0.5,
        "sample_dropout": 0.5,
        "taxonomy": load_taxonomy(TAXONOMY).digest,
        "base": "random:tiny",
    }
    write_model_info(marked, ModelInfo(**said | info))
    return marked
