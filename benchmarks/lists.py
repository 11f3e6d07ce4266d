"""Where do answers get worse: because of what the model's own list says, or because there is a list at all?

    python -m benchmarks.lists --rows 200    # in a checkout, or a member's worktree, with both trained arms

The prompts of the benchmark `heldout_prompts` are answered with the model's own list, with the right markers given in the prompt, and
without a list; and with lists of its own that are held to the taxonomy: any, one that may not hold the length, and one that holds the right
length (and else what the model likes). Each answer meets the baseline's before the offline judge (likeness to the reference, chrF++).
Prints wins less 50, in points, with 95 % intervals, over all, head and tail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.probe import run
from benchmarks.wins import Pair, contests
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.sample import Row
from tailmark.generate.request import Request

LENGTH = "length_tokens"


def ways(bench: Bench, rows: Sequence[Row]) -> Mapping[str, Pair]:
    """The requests of each way to ask; the baseline is asked the bare prompt."""
    lengths = {row.id: row.markers.get(LENGTH) for row in bench.heldout.rows}
    own = {row.id: lengths[row.id.partition("/")[2]] for row in rows}
    others = tuple(name for name in bench.marked.info.markers if name != LENGTH)
    bare = [Request(row.messages) for row in rows]
    asked = {
        "own list": bare,
        "right markers given": [Request(row.messages, row.markers) for row in rows],
        "own list, held to the taxonomy": [Request(row.messages, listing="constrained") for row in rows],
        "the same without length": [Request(row.messages, listing="constrained", names=others) for row in rows],
        "the same with the right length": [
            Request(row.messages, listing="constrained", written={LENGTH: length} if (length := own[row.id]) is not None else {})
            for row in rows
        ],
        "no list": [Request(row.messages, listing="absent") for row in rows],
    }
    return {name: (bare, requests) for name, requests in asked.items()}


def compared(bench: Bench, count: int) -> Iterator[dict[str, object]]:
    """The wins of every list."""
    return contests(bench, count, ways)


if __name__ == "__main__":
    run(compared, __doc__, rows=200)
