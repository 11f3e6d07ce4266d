"""Kinds of attention, kernels and adapters, each alone: what can be run without a GPU is run, the rest is told what a GPU would be told."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import varlen
from torch.nn.attention.flex_attention import flex_attention
from transformers import AutoModelForCausalLM

from tailmark.base.tiny import tiny_model, tiny_tokenizer
from tailmark.config import Lora, Train
from tailmark.errors import ConfigError, ModelError
from tailmark.train import kernels
from tailmark.train.attention import IMPLEMENTATIONS, attend_one_by_one, attend_varlen, block_mask, boundaries
from tailmark.train.kernels import choose
from tailmark.train.lora import merge
from tailmark.train.model import load_model

CPU = torch.device("cpu")
lengths = st.lists(st.integers(1, 40), min_size=1, max_size=6).map(tuple)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base")
    tiny_model(tiny_tokenizer(), 3).save_pretrained(path)
    return path


def _heads(tokens: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of four heads, keys and values of two."""
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(1, heads, tokens, 16, generator=generator) for heads in (4, 2, 2))
    return query, key, value


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@settings(max_examples=10, deadline=None)
@given(lengths, st.integers(0, 9))
def test_the_block_mask_is_each_document_alone(sizes: tuple[int, ...], seed: int) -> None:
    query, key, value = _heads(sum(sizes), seed)
    expected, _ = attend_one_by_one(torch.nn.Module(), query, key, value, None, document_lengths=sizes)
    found = flex_attention(query, key, value, block_mask=block_mask(sizes, CPU), enable_gqa=True)
    torch.testing.assert_close(found.transpose(1, 2), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 40, 300])
def test_in_bf16_gradients_are_as_near_to_those_of_fp32_as_bf16_allows(size: int) -> None:
    """Short documents are widened, long ones are not."""
    found = []
    for kind in (torch.float32, torch.bfloat16):
        heads = [part.to(torch.bfloat16).to(kind).requires_grad_() for part in _heads(size, 1)]
        attended, _ = attend_one_by_one(torch.nn.Module(), *heads, None, document_lengths=(size,))
        assert attended.dtype == kind
        attended.float().square().sum().backward()
        found.append([part.grad.float() for part in heads if part.grad is not None])
    for exact, rounded in zip(*found, strict=True):
        assert rounded.sub(exact).norm() <= 0.02 * exact.norm() + 1e-6


def _packed(query: Tensor, key: Tensor, value: Tensor, starts: Tensor, _: Tensor, longest: int, *_more: int, **options: object) -> Tensor:
    """What FlashAttention's kernel for packed documents computes, worked out one document at a time from the boundaries it is given."""
    assert (options["window_size"], options["enable_gqa"]) == ((-1, 0), True)
    assert starts.dtype == torch.int32
    bounds = starts.tolist()
    assert longest == max(end - start for start, end in itertools.pairwise(bounds))
    parts = []
    for start, end in itertools.pairwise(bounds):
        q, k, v = (tensor[start:end].transpose(0, 1) for tensor in (query, key, value))
        k, v = (tensor.repeat_interleave(2, 0) for tensor in (k, v))
        scores = (q @ k.transpose(1, 2)) / q.shape[-1] ** 0.5
        hidden = torch.ones(end - start, end - start, dtype=torch.bool).triu(1)
        parts.append((scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(parts)


@settings(max_examples=10, deadline=None)
@given(lengths, st.integers(0, 9))
def test_the_packed_kernel_is_told_where_documents_begin(sizes: tuple[int, ...], seed: int) -> None:
    query, key, value = _heads(sum(sizes), seed)
    expected, _ = attend_one_by_one(torch.nn.Module(), query, key, value, None, document_lengths=sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(varlen, "varlen_attn", _packed)
        told = boundaries(IMPLEMENTATIONS["varlen"], sizes, CPU)
        found, _ = attend_varlen(torch.nn.Module(), query, key, value, None, **told)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_capped_or_windowed_model_is_refused() -> None:
    query, key, value = _heads(20, 0)
    module = torch.nn.Module()
    for options in ({"softcap": 30.0}, {"sliding_window": 9}):
        with pytest.raises(ModelError, match="a window shorter than the documents"):
            attend_one_by_one(module, query, key, value, None, document_lengths=(10, 10), **options)  # type: ignore[arg-type]
    attended, _ = attend_one_by_one(module, query, key, value, None, document_lengths=(10, 10), sliding_window=10)
    assert attended.shape == (1, 20, 4, 16)


def test_a_cpu_needs_no_compiler_and_no_extra_package() -> None:
    for precision in ("fp32", "bf16"):
        assert choose(Train(precision=precision)) == kernels.Kernels("sdpa", liger=False, compile=False)


@pytest.mark.parametrize("options", [*({"attention": name} for name in ("varlen", "flex_attention", "flash_attention_2")), {"liger": True}])
def test_what_a_cpu_has_not_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="a GPU"):
        choose(Train.model_validate(options))


def test_a_gpu_gets_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    present = {"liger_kernel"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(kernels, "_installed", lambda name: name in present)
    assert choose(Train(precision="bf16")) == kernels.Kernels("varlen", liger=True, compile=True)
    assert choose(Train(precision="fp32")).attention == "flex_attention"
    assert not choose(Train(precision="bf16", zero_stage=3)).compile
    assert not choose(Train(precision="bf16", attention="sdpa")).compile
    assert choose(Train(precision="bf16", zero_stage=3, compile=True, liger=False)) == kernels.Kernels("varlen", liger=False, compile=True)
    with pytest.raises(ConfigError, match="not installed"):
        choose(Train(precision="bf16", attention="flash_attention_2"))
    with pytest.raises(ConfigError, match="bf16 only"):
        choose(Train(precision="fp32", attention="varlen"))


def test_an_older_torch_without_grouped_queries_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def before(query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor, max_q: int, max_k: int) -> None: ...

    monkeypatch.setattr(varlen, "varlen_attn", before)
    assert choose(Train(precision="bf16")).attention == "flex_attention"
    with pytest.raises(ConfigError, match="torch"):
        choose(Train(precision="bf16", attention="varlen"))


def test_merged_adapters_compute_what_the_adapters_did(folder: Path) -> None:
    options = Train(precision="fp32", lora=Lora(rank=3, alpha=6.0, targets=("q_proj", "down_proj")))
    assert options.lora is not None
    model = load_model(folder, options).eval()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all((".q_proj.lora_" in name) or (".down_proj.lora_" in name) for name in trained)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05)
        tokens = torch.arange(3, 23)[None]
        told = boundaries(IMPLEMENTATIONS["sdpa"], (20,), CPU)
        expected = model(tokens, **told).logits
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        before = plain(tokens).logits
        plain.load_state_dict(merge(dict(model.named_parameters()), options.lora), strict=False)
        plain.tie_weights()
        found = plain(tokens).logits
    assert (before - expected).abs().max() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_layers_that_are_not_there_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="No adapters can be put"):
        load_model(folder, Train(precision="fp32", lora=Lora(targets=("query",))))


@pytest.mark.parametrize(
    ("target", "said"),
    [("v_prj", "no layer named 'v_prj'"), ("embed_tokens", "not linear"), ("lm_head", "shares its weights with the emb")],
)
def test_a_target_whose_adapter_would_be_lost_is_refused(folder: Path, target: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_model(folder, Train(precision="fp32", lora=Lora(targets=("q_proj", target))))


def test_what_is_trained_is_said_once() -> None:
    with pytest.raises(ValueError, match="both say what is trained"):
        Train(lora=Lora(), trainable_layers=3)
