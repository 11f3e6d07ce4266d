"""How the documents of a pack are kept apart, by kind of attention. None of them lets a document see another one."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AttentionInterface

from tailmark.errors import ModelError

IMPLEMENTATIONS = {
    "sdpa": "tailmark_sdpa",
    "varlen": "tailmark_varlen",
    "flash_attention_2": "flash_attention_2",
    "flex_attention": "flex_attention",
}
"""Our names to those that transformers knows; the last two are its own."""

_WIDENED = 256
"""Tokens of the longest document that is computed in fp32 where a CPU computes in bf16."""

_ATTENTION_LAYERS = {"full_attention", "sliding_attention"}


def register() -> None:
    """Make our two kinds known to transformers. It builds no mask for kinds that it does not know."""
    AttentionInterface.register(IMPLEMENTATIONS["sdpa"], attend_one_by_one)
    AttentionInterface.register(IMPLEMENTATIONS["varlen"], attend_varlen)


def require_attention_only(config: Any, where: str) -> None:
    """Refuse a model whose tokens reach others by more than the attention that keeps documents apart, such as convolutions or a state.

    Raises:
        ModelError: documents of a pack would see each other.
    """
    family = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    other = sorted(set(getattr(config.get_text_config(), "layer_types", None) or ()) - _ATTENTION_LAYERS)
    if family is None:
        what = f"'{config.model_type}' is no causal language model that transformers knows."
    elif other:
        what = f"The base model has layers that are not plain attention ({', '.join(other)}): documents of a pack would see each other."
    elif family._is_stateful or not family._supports_attention_backend:
        what = f"{family.__name__} mixes tokens in a way of its own: documents of a pack would see each other."
    else:
        return
    raise ModelError(what, where=where, fix="use a base model with plain causal attention, such as Llama, Qwen 2 and 3, Mistral or SmolLM")


def require_no_sinks(model: Any, where: str) -> None:
    """Refuse a model whose attention has sinks (gpt-oss), which our two kinds do not compute.

    Raises:
        ModelError: it has.
    """
    if any(name.rpartition(".")[2] == "sinks" for name, _ in model.named_parameters()):
        raise _has_sinks(where)


def _has_sinks(where: str) -> ModelError:
    fix = "use a base model with plain causal attention"
    return ModelError("The base model's attention has sinks, which this kind does not compute.", where=where, fix=fix)


def boundaries(implementation: str, lengths: tuple[int, ...], device: torch.device) -> dict[str, Any]:
    """What a model with this kind of attention must be told of a pack beside its tokens and positions.

    Args:
        implementation: a value of `IMPLEMENTATIONS`.
        lengths: tokens of each document.
    """
    if implementation == IMPLEMENTATIONS["sdpa"]:
        return {"document_lengths": lengths}
    if implementation == IMPLEMENTATIONS["flex_attention"]:
        return {"attention_mask": block_mask(lengths, device)}
    starts = torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)
    longest = max(lengths)
    return {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts, "max_length_q": longest, "max_length_k": longest}


def block_mask(lengths: tuple[int, ...], device: torch.device) -> Any:
    """FlexAttention's mask of a pack: a token sees the tokens before it in its own document. Blocks without such a pair are skipped."""
    from torch.nn.attention.flex_attention import create_block_mask

    document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(device)

    def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (document[query] == document[key]) & (query >= key)

    # Not compiled, the mask is worked out token by token before it is cut into blocks: too much for long packs.
    return create_block_mask(sees, None, None, len(document), len(document), device=str(device), _compile=device.type == "cuda")


def attend_one_by_one(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    *,
    document_lengths: tuple[int, ...],
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention, one document after the other: no mask of tokens x tokens is built, no pair of two documents computed.

    On a CPU this was the fastest of the ways tried (docs/decisions.md).

    Args:
        query: [1, heads, tokens, head size]; `key` and `value` may have fewer heads (grouped queries).
        document_lengths: tokens of each document; their sum is the number of tokens.

    Returns:
        [1, tokens, heads, head size].

    Raises:
        ModelError: the model's attention is not plainly causal.
    """
    _require_plain(module, softcap, s_aux, sliding_window, max(document_lengths))
    grouped = query.shape[1] != key.shape[1]
    documents = zip(*(tensor.split(document_lengths, dim=2) for tensor in (query, key, value)), strict=True)
    parts = []
    for document in documents:
        q, k, v = _widened(document)
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped)
        parts.append(attended.to(query.dtype))
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _widened(document: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """In fp32 if it is short and trained on in bf16 on a CPU: there the kernel's backward pass takes two to three times as long in bf16."""
    query = document[0]
    slow = query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.requires_grad
    return tuple(part.float() for part in document) if slow and query.shape[2] <= _WIDENED else document


def attend_varlen(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    *,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """FlashAttention over all documents at once, with the kernel that torch brings along (GPUs, bf16).

    Args:
        query: [1, heads, tokens, head size]; `key` and `value` may have fewer heads (grouped queries).
        cu_seq_lens_q: int32 [documents + 1], where each document starts, and the number of tokens.
        max_length_q: tokens of the longest document.

    Returns:
        [1, tokens, heads, head size].

    Raises:
        ModelError: the model's attention is not plainly causal.
    """
    from torch.nn.attention import varlen

    _require_plain(module, softcap, s_aux, sliding_window, max_length_q, dropout)
    attended: Tensor = varlen.varlen_attn(  # type: ignore[assignment]  # a tuple only if more than the values is asked for
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        cu_seq_lens_q,
        cu_seq_lens_q,
        max_length_q,
        max_length_q,
        scale=scaling,
        window_size=(-1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return attended[None], None


def _require_plain(
    module: nn.Module, softcap: float | None, sinks: Tensor | None, window: int | None, longest: int, dropout: float = 0.0
) -> None:
    where = f"base model, {type(module).__name__}"
    if sinks is not None:
        raise _has_sinks(where)
    if softcap is None and (window is None or longest <= window) and not dropout:
        return
    raise ModelError(
        "The base model's attention drops out, caps its scores, or has a window shorter than the documents; this kind does not do that.",
        where=where,
        fix="use a base model with plain causal attention, a `prepare.pack_length` in its window, or `train.attention: flash_attention_2`",
    )
