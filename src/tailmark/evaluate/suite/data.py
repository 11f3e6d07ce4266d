"""Benchmark files: JSON lines, local or at any address that fsspec opens (`hf://` is the hub), each with its digest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec

from tailmark.errors import DataError

_FIX = "correct `path` under `evaluate.benchmarks` in params.yaml"


class Files:
    """Reads the files of one benchmark and remembers what they were.

    Args:
        root: the checkout, to which a local path is relative.
        path: a file, a glob, or a URL.

    Attributes:
        digests: file, as the options name it, to its size and sha256; complete once all was read.
    """

    def __init__(self, root: Path, path: str) -> None:
        self._root, self._path = root, path
        self.digests: dict[str, dict[str, str | int]] = {}

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Name and content, unpacked, of every file, in the order of their names.

        Raises:
            DataError: there is none, or one cannot be read.
        """
        for file in self._open():
            name = self._name(file)
            try:
                with file as stream:
                    content: bytes = stream.read()
            # Each store and codec has exceptions of its own; none of them is ours.
            except Exception as error:
                raise DataError(f"A benchmark's file cannot be read: {_short(error)}", where=name, fix=_FIX) from None
            self.digests[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            yield name, content

    def jsonl(self) -> Iterator[dict[str, Any]]:
        """The objects of all files.

        Raises:
            DataError: a line is no JSON object.
        """
        for name, content in self.contents():
            for number, line in enumerate(content.splitlines(), 1):
                if line.strip():
                    yield _object(line, f"{name}, line {number}")

    def _open(self) -> list[Any]:
        try:
            found = list(fsspec.open_files(self._rooted(), "rb", compression="infer"))
        except Exception as error:
            raise DataError(f"A benchmark's address cannot be opened: {_short(error)}", where=self._path, fix=_FIX) from None
        if not found:
            raise DataError("A benchmark's path names no file.", where=self._path, fix=_FIX)
        return sorted(found, key=lambda file: str(file.path))

    def _rooted(self) -> str:
        """The local file at the end of an address is relative to the checkout."""
        *chain, last = self._path.split("::")
        return "::".join([*chain, last if "://" in last else str(self._root / Path(last).expanduser())])

    def _name(self, file: Any) -> str:
        """As the options name it, so that no folder of this machine stands in a report."""
        if "::" in self._path:
            return f"{file.path}::{self._path.split('::')[-1]}"
        if "://" in self._path:
            return str(file.full_name)
        # A glob's files may have one name in several folders.
        return os.path.relpath(file.path, self._root) if any(sign in self._path for sign in "*?[") else self._path


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"A benchmark's line is not JSON: {error}", where=where, fix="fetch the file again") from None
    if not isinstance(row, dict):
        raise DataError(f"A benchmark's line holds a {type(row).__name__}, not an object.", where=where, fix="fetch the file again")
    return row


def _short(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
