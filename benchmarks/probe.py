"""What the probes of a trained pair share: their options, what they say of the machine, and a line of JSON for each result."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from tailmark.config import load_config
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.stage import load_bench
from tailmark.layout import Layout
from tailmark.provenance import code_version, hardware

Lines = Callable[[Bench, int], Iterable[dict[str, object]]]
"""The results for so many held-out rows."""


def run(lines: Lines, about: str | None, rows: int) -> None:
    """Run a probe of the checkout, or the member's worktree, that is the current folder.

    Args:
        about: what `--help` says.
        rows: how many held-out rows are read where `--rows` does not say.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=rows, help="held-out rows, balanced over head and tail where there are more")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(json.dumps({"hardware": hardware(), "code": code_version(Path(__file__).parent)}))
    layout = Layout(Path.cwd())
    for line in lines(load_bench(load_config(layout.root / "params.yaml"), layout), given.rows):
        print(json.dumps(line), flush=True)
