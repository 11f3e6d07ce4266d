"""How far answers follow the length that is asked for, and lists the length of the answer to come.

A model that always makes answers of about the usual length is not far off on average, so an error alone does not show whether the marker
moves anything. The correlation of asked and made lengths (of their logarithms: 10 to 20 counts as 50 to 100) does.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.markdown import table

MARKER = "length_tokens"
CLOSE = 0.15
"""What counts as met: tokens off the target, as a share of it."""

_COLUMNS = ("benchmark", "mode", "score", "value", "markers", "given", "written")
_ASKED = (
    ("length", "baseline", "words"),
    ("length", "inferred", "words, and the model's own list"),
    ("length_alone", "baseline", "nothing"),
    ("length_alone", "fixed", "the marker"),
)
"""What an answer was asked by: `length` says the target in words, `length_alone` does not."""


def lines(members: Mapping[str, Sequence[Sequence[str]]]) -> Iterator[str]:
    """The table: a line for each way of asking of each member (see `cells`)."""
    head = ("member", "asked by", "asked, median", "made, median", "correlation", f"within {100 * CLOSE:.0f} %", "n")
    return table(head, ([name, *line] for name, found in members.items() for line in found))


def cells(examples: bytes | None) -> list[list[str]]:
    """A member's lines: of all ways to ask, and last of the lists that bare prompts got; `examples`: examples.parquet."""
    if examples is None:
        return []
    rows = pq.read_table(io.BytesIO(examples), columns=list(_COLUMNS)).to_pylist()
    made = [(words, _answers(rows, benchmark, mode)) for benchmark, mode, words in _ASKED]
    return [_cells(words, pairs) for words, pairs in [*made, ("*no answer: what the list says*", _lists(rows))] if pairs]


def _answers(rows: Sequence[Mapping[str, Any]], benchmark: str, mode: str) -> list[tuple[float, float]]:
    """Tokens asked for and made."""
    of = [row for row in rows if (row["benchmark"], row["mode"], row["score"]) == (benchmark, mode, "tokens")]
    return [(float(json.loads(row["markers"])[MARKER]), row["value"]) for row in of]


def _lists(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Tokens of the reference and tokens that the model's own list says; a list without a number is left out."""
    of = [row for row in rows if (row["benchmark"], row["score"]) == ("inference", MARKER)]
    pairs = [(json.loads(row["given"])[MARKER], json.loads(row["written"]).get(MARKER, "")) for row in of]
    return [(float(true), float(written)) for true, written in pairs if str(written).isdecimal()]


def _cells(words: str, pairs: Sequence[tuple[float, float]]) -> list[str]:
    asked, made = np.array(pairs).T
    within = np.mean(np.abs(made - asked) <= CLOSE * asked)
    logs = np.log(np.maximum(asked, 1)), np.log(np.maximum(made, 1))
    moves = np.std(logs[0]) > 0 and np.std(logs[1]) > 0
    correlation = f"{np.corrcoef(*logs)[0, 1]:.2f}" if moves else ""
    return [words, f"{median(asked):.0f}", f"{median(made):.0f}", correlation, f"{100 * within:.0f} %", str(len(pairs))]
