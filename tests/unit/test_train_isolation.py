"""Whole models of several families: a document in a pack computes what it computes alone, or the family is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from tailmark.config import Train
from tailmark.errors import ModelError
from tailmark.train import memory
from tailmark.train.attention import IMPLEMENTATIONS, boundaries
from tailmark.train.model import load_model

WORDS = {"vocab_size": 60, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}
TINY = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, **HEADS, **WORDS}
LINEAR = dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2) | dict.fromkeys(
    ("linear_key_head_dim", "linear_value_head_dim"), 8
)
STATES = {"hidden_size": 16, "num_hidden_layers": 2, **WORDS}

APART = {
    "Llama": TINY,
    "Qwen2": TINY,
    "Qwen3": TINY | {"head_dim": 16},
    "Gemma": TINY | {"head_dim": 16},
    "Mistral": TINY,
    "Phi3": TINY,
    "SmolLM3": TINY,
    "Olmoe": TINY | {"num_experts": 2, "num_experts_per_tok": 1},
    "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, **WORDS},
    "GPTNeoX": {"intermediate_size": 16, "num_attention_heads": 2, **STATES},
}
TOGETHER: dict[str, tuple[dict[str, Any], str]] = {
    "Lfm2": (TINY | {"layer_types": ["conv", "full_attention"]}, "not plain attention"),
    "Qwen3_5Text": (TINY | LINEAR | {"head_dim": 16, "layer_types": ["linear_attention", "full_attention"]}, "not plain attention"),
    "Mamba": (STATES | {"state_size": 4}, "see each other"),
    "Falcon": (STATES | {"num_attention_heads": 2}, "a way of its own"),
    "GPTJ": ({"n_embd": 16, "n_layer": 2, "n_head": 2, "rotary_dim": 4, **WORDS}, "a way of its own"),
}


def _config(family: str, options: dict[str, Any]) -> Any:
    return getattr(transformers, f"{family}Config")(**options)


def _logits(model: Any, documents: list[torch.Tensor]) -> torch.Tensor:
    lengths = tuple(len(document) for document in documents)
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    told = boundaries(IMPLEMENTATIONS["sdpa"], lengths, torch.device("cpu"))
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.cat(documents)[None], position_ids=positions, use_cache=False, **told).logits[0]
    return logits


@pytest.mark.parametrize("family", APART)
def test_documents_of_a_pack_do_not_see_each_other(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(_config(family, APART[family]))
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * 0.3
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path, Train(precision="fp32")).eval()
    first, second = torch.randint(3, 60, (9,)), torch.randint(3, 60, (7,))
    alone, packed = _logits(loaded, [second]), _logits(loaded, [first, second])[9:]
    assert alone.std() > 0.01
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", TOGETHER)
def test_families_that_mix_tokens_otherwise_are_refused(family: str, tmp_path: Path) -> None:
    options, said = TOGETHER[family]
    _config(family, options).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=said):
        load_model(tmp_path, Train(precision="fp32"))
    with pytest.raises(ModelError, match=said):
        memory.empty_model(tmp_path, Train(precision="fp32"))


def test_attention_sinks_are_refused_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"intermediate_size": 16, "num_local_experts": 2, "num_experts_per_tok": 1, "head_dim": 16}
    AutoModelForCausalLM.from_config(_config("GptOss", TINY | small)).save_pretrained(tmp_path)
    for options in (Train(precision="fp32"), Train(precision="bf16", attention="varlen")):
        with pytest.raises(ModelError, match="sinks"):
            memory.empty_model(tmp_path, options)
    with pytest.raises(ModelError, match="sinks"):
        load_model(tmp_path, Train(precision="fp32"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ModelError, match="sinks"):
        load_model(tmp_path, Train(precision="bf16", attention="varlen", liger=False, compile=False))


def test_what_needs_single_layers_is_refused_where_they_are_not_found(tmp_path: Path) -> None:
    AutoModelForCausalLM.from_config(_config("GPT2", APART["GPT2"])).save_pretrained(tmp_path)
    for options in ({"trainable_layers": 1}, {"compile": True}):
        with pytest.raises(ModelError, match="decoder layers"):
            load_model(tmp_path, Train.model_validate({"precision": "fp32"} | options))


def test_the_final_norm_is_trained_under_other_names(tmp_path: Path) -> None:
    AutoModelForCausalLM.from_config(_config("GPTNeoX", APART["GPTNeoX"])).save_pretrained(tmp_path)
    model = load_model(tmp_path, Train(precision="fp32", trainable_layers=1))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert "gpt_neox.final_layer_norm.weight" in trained
    assert all(".layers.1." in name or "final_layer_norm" in name for name in trained)
