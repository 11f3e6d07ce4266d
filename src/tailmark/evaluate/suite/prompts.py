"""Where the prompts of the instruction benchmarks come from: held-out rows, or a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from tailmark.config import Mode
from tailmark.errors import DataError
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.sample import Row
from tailmark.evaluate.scores import ScoredMode
from tailmark.evaluate.suite.base import Item
from tailmark.evaluate.suite.data import Files
from tailmark.files import sha256_json

OF_THE_REFERENCE = frozenset({"length_bucket", "length_paragraphs", "length_sentences", "length_tokens", "quality", "quality_bucket"})
"""Markers that say of the reference answer what only it can tell."""

CONTROL_MODES: tuple[ScoredMode, ...] = tuple(mode for mode in get_args(Mode) if mode != "wrong")
"""Of benchmarks that ask for something: with the wrong markers nothing would be asked for that an answer could be held to."""

_IDS, _PROMPTS = ("uid", "question_id", "id"), ("prompt", "original_instruction", "instruction")


def heldout_items(bench: Bench, limit: int | None, purpose: str) -> list[Item]:
    """Held-out rows, as many of the tail as of the head where there are enough; all of them without a limit."""
    rows = list(bench.heldout.rows) if limit is None else bench.draw(bench.heldout.rows, limit, purpose)
    return [heldout_item(row) for row in rows]


def heldout_item(row: Row) -> Item:
    """A row whose completion is the reference.

    Its markers are those that a user could know beforehand. Length and quality of the reference answer are none of them: a judge that
    looks at the reference would reward the marked model for having been told.
    """
    markers = {name: value for name, value in row.markers.items() if name not in OF_THE_REFERENCE}
    return Item(row.id, row.messages, row.completion, markers, row.labels, row.group, {"lang": row.lang})


def file_items(files: Files) -> list[Item]:
    """One item per JSON object with a prompt; `data` holds the object.

    Raises:
        DataError: the file is missing, or an object has no prompt.
    """
    return [_file_item(row, number) for number, row in enumerate(files.jsonl(), 1)]


def _file_item(row: Mapping[str, Any], number: int) -> Item:
    prompt = _first(row, _PROMPTS)
    if not isinstance(prompt, str) or not prompt.strip():
        raise DataError(
            f"Row {number} of a benchmark has no prompt.", where=", ".join(sorted(row)), fix=f"name it one of: {', '.join(_PROMPTS)}"
        )
    name = _first(row, _IDS) or sha256_json(dict(row))[:16]
    return Item(str(name), ({"role": "user", "content": prompt},), data=dict(row))


def _first(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((row[name] for name in names if row.get(name)), None)
