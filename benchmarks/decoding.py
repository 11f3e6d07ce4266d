"""Does the way in which tokens are chosen decide who wins?

    python -m benchmarks.decoding --rows 200    # in a checkout, or a member's worktree, with both trained arms

Evaluations decode greedily. Here the prompts of the benchmark `heldout_prompts` are also answered by sampling, both arms at one
temperature, each prompt with a seed of its own (held lists stand in `benchmarks.lists`). Each answer of the marked model meets the
baseline's before the offline judge (likeness to the reference, chrF++). Prints wins less 50, in points, with 95 % intervals, over all, head
and tail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from benchmarks.probe import run
from benchmarks.wins import Pair, contests
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.sample import Row
from tailmark.generate.request import Request, Sampling

TEMPERATURE, TOP_P = 0.7, 0.95


def ways(bench: Bench, rows: Sequence[Row]) -> Mapping[str, Pair]:
    """The requests of each way to ask; both arms choose tokens alike."""
    bare, given = [Request(row.messages) for row in rows], [Request(row.messages, row.markers) for row in rows]
    seed = 1000 * bench.config.seed
    listed = {"own list": bare, "right markers given": given}
    greedy = {f"{name}; greedy": (bare, asked) for name, asked in listed.items()}
    return greedy | {f"{name}; sampled": (sampled(bare, seed), sampled(asked, seed)) for name, asked in listed.items()}


def sampled(requests: Sequence[Request], seed: int) -> list[Request]:
    """The same requests, their tokens drawn: the first with this seed, the next with the seed after it."""
    return [replace(asked, sampling=Sampling(TEMPERATURE, TOP_P, seed + place)) for place, asked in enumerate(requests)]


def compared(bench: Bench, count: int) -> Iterator[dict[str, object]]:
    """The wins of every way."""
    return contests(bench, count, ways)


if __name__ == "__main__":
    run(compared, __doc__, rows=200)
