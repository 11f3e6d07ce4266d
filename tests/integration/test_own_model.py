"""The way of docs/own-model.md: a folder with another family's model, from `base.source` to a trained model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from tailmark.base.tiny import tiny_tokenizer
from tailmark.config import load_config
from tailmark.files import read_json
from tailmark.generate.loading import load_model
from tailmark.layout import Layout
from tailmark.profiles import use_profile

ROOT = Path(__file__).resolve().parents[2]


def own_model(folder: Path) -> None:
    """A small random Qwen 2: biases in its attention, untied vocabulary head."""
    tokenizer = tiny_tokenizer()
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=False, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.mark.slow
def test_another_familys_folder_becomes_a_marked_model(tmp_path: Path) -> None:
    from tailmark.annotate import stage as annotate
    from tailmark.base import stage as base
    from tailmark.ingest import stage as ingest
    from tailmark.prepare import stage as prepare
    from tailmark.train import stage as train
    from tailmark.validate import stage as validate

    for name in ("params", "docs/examples"):
        shutil.copytree(ROOT / name, tmp_path / name)
    own_model(tmp_path / "bases" / "mine")
    use_profile(tmp_path, "support")
    params = tmp_path / "params.yaml"
    params.write_text(params.read_text().replace("source: random:tiny", "source: bases/mine"))
    config, layout = load_config(params), Layout(tmp_path)
    for run in (ingest.run, annotate.run, validate.run, base.run):
        run(config, layout)
    prepare.run(config, layout, "marked")
    train.run(config, layout, "marked")

    marked = layout.trained("marked")
    assert read_json(marked / "config.json")["model_type"] == "qwen2"
    loaded = load_model(marked)
    assert loaded.info.base == "bases/mine"
    start = AutoModelForCausalLM.from_pretrained(layout.base).state_dict()
    moved = [name for name, tensor in loaded.model.state_dict().items() if not torch.equal(tensor.float(), start[name].float())]
    assert len(moved) == len(start)
