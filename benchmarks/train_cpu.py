"""Training speed on the CPU: forward and backward of one pack, by precision, trained layers and kind of attention.

    python benchmarks/train_cpu.py models/base --threads 2

`documents` is what training does (each document attends to itself alone), `mask` a block-diagonal mask over the whole pack, `padded` one
row a document. No optimizer step and no DeepSpeed: those cost under 5 % at this size.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM

from tailmark.config import Train
from tailmark.packs import Pack
from tailmark.provenance import code_version, hardware
from tailmark.train.data import Batch, to_batch
from tailmark.train.model import SupervisedModel, freeze_lower, load_model

LENGTHS = (45, 70, 100, 30, 55, 90, 65, 45)
"""Tokens of the documents of one pack, about as the starter corpus has them; half of each is supervised."""


def make_batch() -> Batch:
    rng = np.random.default_rng(0)
    kinds = np.concatenate([np.r_[np.zeros(length // 2), np.full(length - length // 2, 2)] for length in LENGTHS]).astype(np.int8)
    ids = rng.integers(100, 700, sum(LENGTHS)).astype(np.int32)
    rows = tuple(str(index) for index in range(len(LENGTHS)))
    return to_batch(Pack(0, ids, kinds, np.array(LENGTHS, np.int32), rows, np.zeros(len(LENGTHS), np.bool_)))


def documents(model: Any, batch: Batch) -> Tensor:
    losses: Tensor = SupervisedModel(model)(batch.input_ids, batch.position_ids, batch.lengths, batch.predicting, batch.targets)
    return losses.sum()


def mask(model: Any, batch: Batch) -> Tensor:
    document = torch.repeat_interleave(torch.arange(len(batch.lengths)), torch.tensor(batch.lengths))
    blocks = (document[:, None] == document[None]) & torch.ones(len(document), len(document), dtype=torch.bool).tril()
    output = model(
        input_ids=batch.input_ids, position_ids=batch.position_ids, attention_mask=blocks[None, None], logits_to_keep=batch.predicting
    )
    return F.cross_entropy(output.logits[0].float(), batch.targets, reduction="sum")


def padded(model: Any, batch: Batch) -> Tensor:
    parts = batch.input_ids[0].split(batch.lengths)
    ids = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
    present = torch.nn.utils.rnn.pad_sequence([torch.ones_like(part) for part in parts], batch_first=True)
    hidden = model.base_model(input_ids=ids, attention_mask=present).last_hidden_state[present.bool()]
    logits = model.get_output_embeddings()(hidden[batch.predicting])
    return F.cross_entropy(logits.float(), batch.targets, reduction="sum")


WAYS = {"documents": documents, "mask": mask, "padded": padded}


def load(folder: Path, way: str, options: Train) -> Any:
    if way == "documents":
        return load_model(folder, options)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[options.precision]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
    model.config.use_cache = False
    if options.trainable_layers:
        freeze_lower(model, options.trainable_layers)
    return model


def tokens_per_second(folder: Path, way: str, options: Train, repeats: int) -> float:
    model, batch = load(folder, way, options).train(), make_batch()
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        WAYS[way](model, batch).backward()
        best = min(best, time.perf_counter() - started)
        model.zero_grad()
    return sum(batch.lengths) / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--layers", nargs="+", type=int, default=[0, 10, 6], help="trained layers; 0: all")
    parser.add_argument("--attention", nargs="+", default=list(WAYS))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    machine, code = hardware(), code_version(Path(__file__).parent)
    print(f"{machine['processor']}, {given.threads} threads, torch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()})")
    print(f"commit {code['commit']}{' with changes' if code['dirty'] else ''}; {len(LENGTHS)} documents, {sum(LENGTHS)} tokens a pack")
    print(f"{'precision':<10} {'trained layers':<15} {'attention':<10} tokens/s")
    for precision in given.precision:
        for layers in given.layers:
            for way in given.attention:
                options = Train(precision=precision, trainable_layers=layers or None)
                rate = tokens_per_second(given.model, way, options, given.repeats)
                print(f"{precision:<10} {layers or 'all':<15} {way:<10} {rate:8.0f}", flush=True)


if __name__ == "__main__":
    main()
