"""Answers kept in a file while they are made, so that a run that was killed goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tailmark.files import sha256_json, storage_errors
from tailmark.generate.request import Answer, Request


def request_key(identity: str, request: Request, max_new_tokens: int) -> str:
    """Hash of all that an answer depends on.

    Args:
        identity: what the model is, e.g. a digest of its folder.
    """
    content = asdict(request)
    # The order of markers and of names has no meaning.
    content["names"] = sorted(request.names) if request.names is not None else None
    return sha256_json({"model": identity, "max_new_tokens": max_new_tokens, **_plain(content)})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


class AnswerStore:
    """A JSON Lines file to which answers are appended under their key; a line that a kill left half-written does not count.

    Raises:
        StorageError: the disk is full or the path cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Answer] = {}
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        for line in text.split("\n"):  # `splitlines` also splits at separators that JSON leaves in texts
            if entry := _entry(line):
                self._known[entry[0]] = entry[1]
        self._torn = bool(text) and not text.endswith("\n")

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Answer | None:
        """The answer kept under a key, if any."""
        return self._known.get(key)

    def add(self, answers: Mapping[str, Answer]) -> None:
        """Append answers, in one write."""
        lines = [json.dumps({"key": key, "answer": asdict(answer)}, ensure_ascii=False) + "\n" for key, answer in answers.items()]
        with storage_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write("\n" * self._torn + "".join(lines))
        self._torn = False
        self._known.update(answers)


def _entry(line: str) -> tuple[str, Answer] | None:
    try:
        entry = json.loads(line)
        return str(entry["key"]), Answer(**entry["answer"])
    except (ValueError, TypeError, KeyError):
        return None
