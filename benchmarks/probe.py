"""What the probes of a trained pair share: their options, what they say of the machine, and a line of JSON for each result."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from tailmark.config import load_config
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.stage import load_bench, place_of_answers
from tailmark.files import write_text
from tailmark.layout import Layout
from tailmark.provenance import code_version, hardware

Lines = Callable[[Bench, int], Iterable[dict[str, object]]]
"""The results for so many held-out rows."""


def run(lines: Lines, about: str | None, rows: int) -> None:
    """Run a probe of the checkout, or the member's worktree, that is the current folder. Answers of one that was killed are not made again.

    Args:
        about: what `--help` says.
        rows: how many held-out rows are read where `--rows` does not say.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=rows, help="held-out rows, balanced over head and tail where there are more")
    parser.add_argument("--out", type=Path, help="a file for the lines, written when all of them are there")
    given = parser.parse_args()
    layout = Layout(Path.cwd())
    bench = load_bench(load_config(layout.root / "params.yaml"), layout)
    answers = place_of_answers(bench, layout).with_suffix(f".{Path(sys.argv[0]).stem}.jsonl")  # no other's, who may be at work
    kept = []
    for line in ({"hardware": hardware(), "code": code_version(Path(__file__).parent)}, *lines(replace(bench, kept=answers), given.rows)):
        kept.append(json.dumps(line))
        print(kept[-1], flush=True)
    if given.out:
        write_text(given.out, "\n".join(kept) + "\n")
    answers.unlink(missing_ok=True)
