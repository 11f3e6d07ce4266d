"""What a decoding step costs with keys and values that grow in place, beside transformers' own cache, which is copied for every token.

    python benchmarks/cache.py models/base --rows 32 --columns 100 300 600 --threads 2

Both kinds take the same steps in turns, from the same number of tokens already read; the figures are medians of a step. On a busy machine
only the ratio says something.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.cache_utils import Cache

from tailmark.generate.cache import growing_cache
from tailmark.provenance import code_version, hardware

KINDS: dict[str, Callable[[], Cache]] = {"transformers": DynamicCache, "growing": growing_cache}


class Decoding:
    """A batch some way into its answers; what it has read is random, which costs the same."""

    def __init__(self, model: Any, cache: Cache, rows: int, columns: int) -> None:
        config = model.config
        shape = (rows, config.num_key_value_heads, columns, config.hidden_size // config.num_attention_heads)
        for layer in range(config.num_hidden_layers):
            cache.update(torch.randn(shape), torch.randn(shape), layer)
        self._model, self._cache = model, cache
        self._mask = torch.ones((rows, columns), dtype=torch.long)
        self._mask[: rows // 2, : columns // 3] = 0  # prompts of two lengths, so that the mask is used
        self._ids = torch.zeros((rows, 1), dtype=torch.long)

    def step(self) -> float:
        """Seconds of one token for every row."""
        start = time.perf_counter()
        self._mask = torch.cat([self._mask, torch.ones_like(self._ids)], 1)
        positions = (self._mask.cumsum(-1) - 1)[:, -1:]
        self._model(
            input_ids=self._ids, attention_mask=self._mask, position_ids=positions, past_key_values=self._cache, use_cache=True,
            logits_to_keep=1,
        )  # fmt: skip
        return time.perf_counter() - start


@torch.inference_mode()
def measure(model: Any, rows: int, columns: int, steps: int) -> dict[str, object]:
    running = {name: Decoding(model, kind(), rows, columns) for name, kind in KINDS.items()}
    took: dict[str, list[float]] = {name: [] for name in KINDS}
    for turn in range(steps + 2):
        for name, decoding in running.items():
            seconds = decoding.step()
            if turn >= 2:  # the first ones warm up
                took[name].append(seconds)
    medians = {f"{name}_ms": 1000 * statistics.median(seconds) for name, seconds in took.items()}
    ratios = [one / other for one, other in zip(took["transformers"], took["growing"], strict=True)]
    return {"rows": rows, "columns": columns, **medians, "ratio": statistics.median(ratios)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--columns", type=int, nargs="+", default=[100, 300, 600])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    print(json.dumps({"hardware": hardware(), "code": code_version(Path.cwd()), "threads": options.threads}))
    for columns in options.columns:
        print(json.dumps(measure(model, options.rows, columns, options.steps)), flush=True)


if __name__ == "__main__":
    main()
