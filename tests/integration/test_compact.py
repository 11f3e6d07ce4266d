"""The compact rendering from rows to an exported model that generates: full, sharded, with adapters, with upper layers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from tailmark.base import stage as base
from tailmark.chat.vocabulary import marker_sources
from tailmark.config import Config
from tailmark.generate.decode import Request, generate
from tailmark.generate.loading import load_model
from tailmark.layout import Layout
from tailmark.prepare import stage as prepare
from tailmark.taxonomy import ListForm, render
from tailmark.train import stage as train
from tests.unit.test_prepare_stage import checkout, good_rows

WAYS: dict[str, dict[str, Any]] = {
    "zero_3": {"zero_stage": 3, "ranks": 2},
    "adapters": {"lora": {"rank": 2}, "weight_decay": 0.1},
    "upper_layers": {"trainable_layers": 1, "weight_decay": 0.1, "zero_stage": 2},
}


def config(root: Path, **options: Any) -> Config:
    return Config.model_validate(
        {
            "taxonomy": {"file": "taxonomy.yaml"},
            "base": {"source": "random:tiny"},
            "prepare": {"rendering": "compact", "rows_per_step": 16, "pack_length": 512},
            "train": {"precision": "fp32", "threads": 1, "warmup_steps": 1, "heldout_rows": 8, **options},
            "tracking": {"uri": f"sqlite:///{root}/mlflow.db"},
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_added_rows_are_trained_and_saved(tmp_path: Path, way: str) -> None:
    bare = Layout(tmp_path / "bare")
    base.run(config(tmp_path), bare)
    layout, _ = checkout(tmp_path / "checkout", bare.base, good_rows())
    chosen = config(tmp_path, **WAYS[way])
    prepare.run(chosen, layout, "marked")
    train.run(chosen, layout, "marked")
    folder = layout.trained("marked")
    sources = marker_sources(folder)
    before = load_file(bare.base / "model.safetensors")["model.embed_tokens.weight"].float()
    after = load_file(folder / "model.safetensors")["model.embed_tokens.weight"].float()
    started = torch.stack([before[list(parts)].mean(0) for parts in sources.values()]).bfloat16().float()
    assert (after[sorted(sources)] != started).any(1).all()
    assert torch.equal(after[: len(before)], before) == (way != "zero_3")
    assert {"rendering": "compact", "placement": "both"}.items() <= load_model(folder).info.model_dump().items()


@pytest.mark.slow
def test_the_exported_folder_reads_and_writes_compact_lists(tmp_path: Path) -> None:
    bare = Layout(tmp_path / "bare")
    base.run(config(tmp_path), bare)
    layout, _ = checkout(tmp_path / "checkout", bare.base, good_rows())
    chosen = config(tmp_path)
    prepare.run(chosen, layout, "marked")
    train.run(chosen, layout, "marked")
    loaded = load_model(layout.trained("marked"))
    given = {"domain": "Legal", "lang": "French"}
    answer = generate(loaded, [Request([{"role": "user", "content": "May I?"}], given)], max_new_tokens=8, batch_size=1)[0]
    assert "MARKER_LIST" not in answer.text
    stock = AutoTokenizer.from_pretrained(layout.trained("marked"))
    shown = stock.apply_chat_template([{"role": "user", "content": "May I?"}], tokenize=False, markers=given)
    assert f"May I?\n{render(given, ListForm('compact'))}<|im_end|>" in shown
