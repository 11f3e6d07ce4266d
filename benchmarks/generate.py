"""What a marker list costs before the answer: tokens, forward passes and time, as the model writes it and under the taxonomy's grammar.

    python benchmarks/generate.py models/marked --rows data/annotated/rows --prompts 32 --batches 1 16 --rounds 5 --threads 2

Every round answers the same held-out prompts in each way, one after the other, up to the answer's first token. `absent` writes no list, so
what the others take beyond it is the list's cost. Time is wall time and CPU time of the process; on a busy machine only the ratios of a
round say something, and those of CPU time more than those of wall time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from tailmark.errors import TaxonomyError
from tailmark.generate.decode import generate
from tailmark.generate.loading import LoadedModel, load_model
from tailmark.generate.request import Answer, Listing, Request
from tailmark.provenance import code_version, hardware
from tailmark.records import HELDOUT, read_rows

WAYS: tuple[Listing, ...] = ("absent", "free", "constrained")


class Took(NamedTuple):
    """Seconds of the wall clock and of the processor."""

    wall: float
    cpu: float


def timed(loaded: LoadedModel, requests: Sequence[Request], batch: int) -> tuple[Took, list[Answer]]:
    wall, cpu = time.perf_counter(), time.process_time()
    answers = generate(loaded, requests, max_new_tokens=1, batch_size=batch)
    return Took(time.perf_counter() - wall, time.process_time() - cpu), answers


def is_valid(loaded: LoadedModel, answer: Answer) -> bool:
    try:
        return bool(answer.markers) and all(loaded.taxonomy.typed(name, text) is not None for name, text in answer.markers.items())
    except TaxonomyError:
        return False


def measure(loaded: LoadedModel, prompts: Sequence[list[dict[str, str]]], batch: int, rounds: int) -> dict[str, object]:
    took: dict[str, list[Took]] = {way: [] for way in WAYS}
    answers: dict[str, list[Answer]] = {}
    for turn in range(rounds + 1):
        for way in WAYS:
            spent, answers[way] = timed(loaded, [Request(messages, listing=way) for messages in prompts], batch)
            if turn:  # the first round warms up
                took[way].append(spent)
    count = len(prompts)
    result: dict[str, object] = {"batch": batch}
    for way in ("free", "constrained"):
        result[way] = {
            "tokens": statistics.fmean(answer.list_tokens for answer in answers[way]),
            "passes": statistics.fmean(answer.list_passes for answer in answers[way]),
            "valid": statistics.fmean(is_valid(loaded, answer) for answer in answers[way]),
            "wall_ms": 1000 * statistics.median(costs(took, way, "wall")) / count,
            "cpu_ms": 1000 * statistics.median(costs(took, way, "cpu")) / count,
        }
    for clock in ("wall", "cpu"):
        ratios = [one / other for one, other in zip(costs(took, "constrained", clock), costs(took, "free", clock), strict=True)]
        result[f"{clock} ratio: least, median, most"] = [min(ratios), statistics.median(ratios), max(ratios)]
    return result


def costs(took: dict[str, list[Took]], way: str, clock: str) -> list[float]:
    """Per round what the list took: more than the same prompts without one."""
    return [getattr(one, clock) - getattr(none, clock) for one, none in zip(took[way], took["absent"], strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rows", type=Path, default=Path("data/annotated/rows"))
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    loaded = load_model(options.model)
    heldout = [row["prompt"] for row in read_rows(options.rows) if row["split"] == HELDOUT][: options.prompts]
    prompts = [[{"role": turn["role"], "content": turn["content"]} for turn in prompt] for prompt in heldout]
    print(json.dumps({"hardware": hardware(), "code": code_version(Path.cwd()), "prompts": len(prompts)}))
    for batch in options.batches:
        print(json.dumps(measure(loaded, prompts, batch, options.rounds)), flush=True)


if __name__ == "__main__":
    main()
