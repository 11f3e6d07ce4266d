"""What the training benchmarks share: documents, models, and our loop on one device without a launcher."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from tailmark.config import Config
from tailmark.layout import Layout
from tailmark.packs import Pack, PackReader, write_packs
from tailmark.prepare.packing import first_fit_decreasing
from tailmark.train.engine import init_ranks, make_engine
from tailmark.train.head import sliceable
from tailmark.train.job import Job
from tailmark.train.loop import Loop, Progress
from tailmark.train.model import GradientWatch, SupervisedModel, load_model

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 1024, "tie_word_embeddings": True,
    },
    "smollm2-fifth": {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 9, "num_key_value_heads": 3,
        "vocab_size": 9830, "tie_word_embeddings": True,
    },
    "smollm2-135m": {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
        "vocab_size": 49152, "tie_word_embeddings": True,
    },
    "llama-1.7b": {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24, "num_attention_heads": 32, "num_key_value_heads": 32,
        "vocab_size": 49152, "tie_word_embeddings": True,
    },
}  # fmt: skip
"""Llama models by name: SmolLM2's shapes of 135M and 1.7B parameters, a fifth of the layers and the vocabulary of the former, and one for
tests."""

LENGTHS = {
    0.005: 152, 0.05: 168, 0.1: 177, 0.2: 193, 0.3: 212, 0.4: 229, 0.5: 245, 0.6: 261, 0.7: 280, 0.8: 309, 0.9: 375, 0.95: 468, 0.97: 546,
    0.98: 610, 0.99: 772, 0.995: 982,
}  # fmt: skip
SUPERVISED_SHARE = 0.54
"""Tokens of a row of the bench data, marked arm, by quantile (189,022 rows, mean 270), and the part of them that is supervised."""

FIRST_TOKEN = 10


def random_documents(rows: int, seed: int = 0) -> list[Pack]:
    """Documents of random tokens with the lengths of the bench data's rows."""
    rng = np.random.default_rng(seed)
    lengths = np.interp(rng.random(rows), list(LENGTHS), list(LENGTHS.values())).astype(np.int32)
    return [_random_document(rng, index, int(length)) for index, length in enumerate(lengths)]


def _random_document(rng: np.random.Generator, index: int, length: int) -> Pack:
    prompt = round(length * (1 - SUPERVISED_SHARE))
    kinds = np.r_[np.zeros(prompt), np.full(length - prompt, 2)].astype(np.int8)
    tokens = rng.integers(FIRST_TOKEN, 700, length).astype(np.int32)
    return Pack(0, tokens, kinds, np.array([length], np.int32), (f"row-{index}",), np.zeros(1, np.bool_))


def prepared_documents(file: Path, rows: int) -> list[Pack]:
    """The rows of a prepared epoch's first steps, one document each, in no order: within its step a pack has rows of like length."""
    found: list[Pack] = []
    reader = PackReader(file)
    for number in range(len(reader)):
        pack = reader[number]
        ends = np.cumsum(pack.lengths)
        for index, (end, length) in enumerate(zip(ends, pack.lengths, strict=True)):
            part, one = slice(int(end - length), int(end)), slice(index, index + 1)
            found.append(Pack(0, pack.input_ids[part], pack.kinds[part], pack.lengths[one], pack.row_ids[one], pack.tail[one]))
        if len(found) >= rows and pack.step > 0:
            break
    return sorted(found, key=lambda document: document.row_ids)[:rows]


def pack(documents: Sequence[Pack], step: int, capacity: int) -> list[Pack]:
    """The documents of one step in as few packs as `tailmark prepare` makes of them."""
    bins = first_fit_decreasing([len(document.input_ids) for document in documents], capacity)
    return [_join([documents[index] for index in chosen], step) for chosen in bins]


def _join(parts: Sequence[Pack], step: int) -> Pack:
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ("input_ids", "kinds", "lengths", "tail")}
    return Pack(step, row_ids=tuple(row for part in parts for row in part.row_ids), **joined)


def random_model(shape: str, folder: Path) -> Path:
    """Write a Llama model with random weights (bf16) and return its folder."""
    if not (folder / "config.json").exists():
        # Drawn on the GPU where there is one: two billion numbers take a CPU half a minute.
        with torch.random.fork_rng(), torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            torch.manual_seed(0)
            config = LlamaConfig(max_position_embeddings=32768, **SHAPES[shape])
            AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def write_project(root: Path, documents: Sequence[Pack], rows_per_step: int, pack_length: int) -> Layout:
    """Prepared packs of the marked arm under `root`, as the loop reads them; the last step may be smaller."""
    layout = Layout(root)
    steps = [documents[start : start + rows_per_step] for start in range(0, len(documents), rows_per_step)]
    packs = [made for step, rows in enumerate(steps) for made in pack(rows, step, pack_length)]
    for name in ("train/epoch-000.arrow", "heldout.arrow"):
        write_packs(layout.prepared("marked") / name, packs, {"arm": "marked"})
    return layout


def our_loop(layout: Layout, model: Path, train: dict[str, Any], pack_length: int) -> Loop:
    """The loop that `tailmark train` runs, in this process: as the only rank, or as the one that torchrun made it."""
    if "RANK" not in os.environ:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    config = Config.model_validate({"prepare": {"pack_length": pack_length}, "train": train})
    job = Job(config, layout, "marked", {"config": "benchmark"})
    job.scratch.mkdir(parents=True, exist_ok=True)
    device = init_ranks()
    loaded = load_model(model, config.train)
    watch = GradientWatch(loaded)
    supervised = SupervisedModel(loaded, sliced=sliceable(loaded, config.train.zero_stage))
    return Loop(job, make_engine(supervised, config.train), watch, device, threading.Event())


def run_steps(loop: Loop, steps: int) -> None:
    """Train the first steps, from wherever the weights are."""
    loop.progress = Progress()
    for _ in range(steps):
        loop.step()
