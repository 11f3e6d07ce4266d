"""How often are a bare prompt's markers written right, by a list that the model may leave out and by one that it has to write?

    python -m benchmarks.inferred --rows 280    # in a checkout, or a member's worktree, with a trained marked arm

A model that saw rows without any list (`prepare.list_dropout`) leaves the list out for some prompts, which count as wrong for every
marker. Held to the taxonomy, as `tailmark serve` does where it can, it writes one for each. Prints, for both, the share of right values of
each categorical marker (95 % interval over source texts) and how many prompts got no list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.probe import run
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.sample import Row
from tailmark.generate.decode import Answer, generate
from tailmark.generate.request import Listing, Request
from tailmark.statistics import share_interval

LISTINGS: tuple[Listing, ...] = ("free", "constrained")


def compared(bench: Bench, count: int) -> Iterator[dict[str, object]]:
    """A line for each way of writing lists and each categorical marker, over so many held-out rows."""
    rows = bench.draw(bench.heldout.rows, count, "likelihood")
    for listing in LISTINGS:
        requests, size = [Request(row.messages, listing=listing) for row in rows], bench.config.evaluate.batch_size
        answers = generate(bench.marked, requests, max_new_tokens=1, batch_size=size, list_only=True, what=f"{listing} lists")
        yield from ({"lists": listing, **line} for line in rates(rows, answers))


def rates(rows: Sequence[Row], answers: Sequence[Answer]) -> Iterator[dict[str, object]]:
    """Per categorical marker of the rows the share of right values, and the prompts without a list."""
    missing = sum(not answer.markers for answer in answers)
    names = sorted({name for row in rows for name, value in row.markers.items() if isinstance(value, str)})
    for name in names:
        asked = [(row, answer) for row, answer in zip(rows, answers, strict=True) if name in row.markers]
        right = [answer.markers.get(name) == row.markers[name] for row, answer in asked]
        share = share_interval(right, confidence=0.95, clusters=[row.group for row, _ in asked])
        found = {key: round(100 * getattr(share, key), 1) for key in ("mean", "low", "high")}
        yield {"marker": name, "right_percent": found, "n": share.n, "prompts_without_list": missing}


if __name__ == "__main__":
    run(compared, __doc__, rows=280)
