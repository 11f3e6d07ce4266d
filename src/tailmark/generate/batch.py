"""Answers to a file of prompts: JSON Lines in, JSON Lines out, and a run that was killed goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tailmark.console import say
from tailmark.errors import DataError
from tailmark.files import write_text
from tailmark.generate.command import Asking, Options, content
from tailmark.generate.modes import Tagger, check_markers

_FIX = 'write one JSON object a line: {"prompt": "..."} or {"messages": [...]}, with "markers" and "id" where you like'
_ROLES = ("system", "user", "assistant")


def run(prompts: Path, out: Path, options: Options, *, tagger: Tagger | None = None) -> None:
    """Answer every line of `prompts` and write `out`, one line for each, in the same order.

    Answers are kept beside `out` while they are made and put into it when all are there.

    Raises:
        DataError: a line is not a prompt.
        TaxonomyError: a line asks for a marker or value that the model does not know.
    """
    asking = Asking(options, tagger)
    rows = read_prompts(prompts)
    markers = [
        check_markers(row.get("markers") or {}, *asking.known, where=f"{prompts}, line {number}") for number, row in enumerate(rows, 1)
    ]
    requests = asking.requests([row["messages"] for row in rows], markers)
    store = out.with_name(f".{out.name}.answers")
    answers = asking.generator(store).answer(requests, max_new_tokens=options.max_new_tokens, what="answering")
    lines = []
    for row, request, answer in zip(rows, requests, answers, strict=True):
        named = {"id": row["id"]} if "id" in row else {}
        lines.append(json.dumps({**named, "messages": row["messages"], **content(answer, request)}, ensure_ascii=False) + "\n")
    write_text(out, "".join(lines))
    store.unlink(missing_ok=True)
    say(f"{len(rows):,} answers: {out}")


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of prompts, each with its `messages`.

    Raises:
        DataError: the file is missing or empty, or a line is not a prompt; the error names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The file of prompts cannot be read: {error}.", where=str(path), fix="give a UTF-8 file, JSON Lines") from None
    if lines == [""]:
        raise DataError("The file of prompts is empty.", where=str(path), fix=_FIX)
    return [_row(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or not isinstance(row.get("markers") or {}, dict):
        raise DataError("The line is not a prompt.", where=where, fix=_FIX)
    messages = [{"role": "user", "content": row["prompt"]}] if isinstance(row.get("prompt"), str) else row.get("messages")
    if not isinstance(messages, list) or not messages or not all(_is_message(item) for item in messages):
        raise DataError("The line has neither a `prompt` nor `messages` of the known form.", where=where, fix=_FIX)
    return {**row, "messages": messages}


def _is_message(item: object) -> bool:
    return isinstance(item, dict) and item.get("role") in _ROLES and isinstance(item.get("content"), str)
