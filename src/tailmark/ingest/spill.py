"""Rows on their way to being sorted: written to one of many files by the head of their id, so that each file fits into memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from tailmark.records import Record

_HEAD = 2
_JOB_BYTES = 8 << 20


class Spilled(NamedTuple):
    """A row that waits, in the order of id and then of arrival."""

    id: str
    where: str
    record: Record


class Spill:
    """Files of lines `id, number, JSON`, each holding the ids with one head; sorted, a file's lines are in the order of the ids.

    Attributes:
        folder: where the files are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, IO[bytes]] = {}
        self._heads: set[str] = set()
        self._rows = 0

    def add(self, record: Record, where: str) -> None:
        """Take a row in; of rows with one id the first to come stands first."""
        text = json.dumps([where, record], ensure_ascii=False)
        head = record["id"][:_HEAD]
        if head not in self._files:
            self._heads.add(head)
            self._files[head] = (self.folder / head).open("ab")
        self._files[head].write(f"{record['id']}\t{self._rows:012d}\t{text}\n".encode())
        self._rows += 1

    def __len__(self) -> int:
        return self._rows

    def close(self) -> None:
        """Write out what is still in memory."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def jobs(self) -> Iterator[bytes]:
        """The lines of one file after the other, small files together. A file is removed when it has been read."""
        self.close()
        waiting = b""
        for head in sorted(self._heads):
            path = self.folder / head
            waiting += path.read_bytes()
            path.unlink()
            if len(waiting) >= _JOB_BYTES:
                yield waiting
                waiting = b""
        if waiting:
            yield waiting


def in_order(lines: bytes) -> Iterator[Spilled]:
    """The rows of a job, by id."""
    for line in sorted(lines.splitlines()):
        id, _, text = line.split(b"\t", 2)
        where, record = json.loads(text)
        yield Spilled(id.decode(), where, record)
