"""Where do answers get worse: because of what the model's own list says, or because there is a list at all?

    python -m benchmarks.lists                  # in a checkout, or a member's worktree, with both trained arms and the bench profile

The prompts of the benchmark `heldout_prompts` are answered with the model's own list, with the right markers given in the prompt, with a
list that may not hold the length, with one that holds the right length (and else what the model likes), and without a list. Each answer
meets the baseline's before the offline judge (likeness to the reference, chrF++). Prints wins less 50, in points, with 95 % intervals, over
all, head and tail.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tailmark.config import load_config
from tailmark.evaluate import stage
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.sample import Row
from tailmark.evaluate.scores import ScoredMode
from tailmark.evaluate.suite.base import Judged
from tailmark.evaluate.suite.registry import build
from tailmark.evaluate.suite.runner import row_of
from tailmark.evaluate.summary import slices_of
from tailmark.generate.request import Request
from tailmark.layout import Layout
from tailmark.provenance import code_version, hardware
from tailmark.statistics import paired_interval

LENGTH = "length_tokens"
SCORE = "win_reference"


def ways(bench: Bench, rows: Sequence[Row]) -> Mapping[str, list[Request]]:
    """The requests of each way to ask; `rows`: as the benchmark has them, without the reference's length."""
    lengths = {row.id: row.markers.get(LENGTH) for row in bench.heldout.rows}
    own = {row.id: lengths[row.id.partition("/")[2]] for row in rows}
    others = tuple(name for name in bench.marked.info.markers if name != LENGTH)
    return {
        "own list": [Request(row.messages) for row in rows],
        "right markers given": [Request(row.messages, row.markers) for row in rows],
        "own list without length": [Request(row.messages, listing="constrained", names=others) for row in rows],
        "own list with the right length": [
            Request(row.messages, listing="constrained", written={LENGTH: length} if (length := own[row.id]) is not None else {})
            for row in rows
        ],
        "no list": [Request(row.messages, listing="absent") for row in rows],
    }


def compared(bench: Bench, layout: Layout) -> Iterator[dict[str, object]]:
    """For every way the wins less 50, in points, their interval, and the number of wins, ties and losses."""
    (options,) = [item for item in bench.config.evaluate.benchmarks if item.kind == "open_ended" and item.name == "heldout_prompts"]
    made = build(options, bench, layout)
    assert isinstance(made, Judged)
    items = made.load()
    rows = [row_of(made.name, item, bench) for item in items]
    baseline = bench.answer("baseline", [Request(row.messages) for row in rows], made.name, options.max_new_tokens)
    mode: ScoredMode = "inferred"
    for name, requests in ways(bench, rows).items():
        answers = bench.answer(mode, requests, name, options.max_new_tokens)
        values = [item[SCORE] for item in made.judge(items, {"baseline": baseline, mode: answers})[mode]]
        for part in ("all", "head", "tail"):
            of = [(value, row.group) for value, row in zip(values, rows, strict=True) if part in _parts(row, bench)]
            yield {"list": name, "part": part, **_wins([value for value, _ in of], [group for _, group in of])}


def _parts(row: Row, bench: Bench) -> frozenset[str]:
    return frozenset(value for kind, value in slices_of(row, {}, bench.config.longtail.marker) if kind in {"all", "frequency"})


def _wins(values: Sequence[float], groups: Sequence[str]) -> dict[str, object]:
    """Wins less 50 in points, with the interval over source texts, and the number of each outcome."""
    rate = paired_interval([value - 0.5 for value in values], resamples=5000, confidence=0.95, seed=0, clusters=groups)
    lift, low, high = (round(100 * number, 1) for number in (rate.mean, rate.low, rate.high))
    counts = {what: list(values).count(value) for what, value in (("wins", 1.0), ("ties", 0.5), ("losses", 0.0))}
    return {"lift": lift, "low": low, "high": high, **counts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=Path, default=Path(".tailmark/experiment/lists.jsonl"), help="where answers are kept")
    options = parser.parse_args()
    layout = Layout(Path.cwd())
    print(json.dumps({"hardware": hardware(), "code": code_version(Path.cwd())}))
    bench = replace(stage.load_bench(load_config(Path("params.yaml")), layout), kept=options.answers)
    for line in compared(bench, layout):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
