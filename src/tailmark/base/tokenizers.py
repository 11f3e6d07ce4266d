"""What a GGUF file says of a tokenizer and the conversion to a fast tokenizer leaves out."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

from tokenizers import pre_tokenizers

_KEY = b"tokenizer.ggml.pre"
_STRING = 8
_DIGITS_FIRST = "smollm"


def pre_tokenizer_name(file: Path) -> str:
    """How the model's text is split before BPE, as the GGUF header names it; empty where it does not.

    Only this key is looked up: reading the whole header takes 5 s for 49k tokens. A string is its length (uint64) and its bytes; a
    value is its type (uint32), then itself.
    """
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        key = struct.pack("<Q", len(_KEY)) + _KEY
        start = data.find(key) + len(key)
        if start < len(key):
            return ""
        kind, length = struct.unpack_from("<IQ", data, start)
        return data[start + 12 : start + 12 + length].decode() if kind == _STRING else ""


def restore_digits(tokenizer: Any, file: Path) -> Any:
    """The tokenizer, splitting every digit off first where the model was trained so (SmolLM).

    The conversion keeps the byte-level split only; blanks before a digit would then be cut otherwise than in training.
    """
    if pre_tokenizer_name(file) == _DIGITS_FIRST:
        backend = tokenizer.backend_tokenizer
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer])
    return tokenizer
