"""What was paid for: every valid answer under the hash of its request, and a ledger of what requests took."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tailmark.errors import DataError
from tailmark.files import storage_errors
from tailmark.llm.usage import Usage

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger (
    account TEXT PRIMARY KEY, requests INTEGER NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL
) WITHOUT ROWID;
"""
_SPEND = """
INSERT INTO ledger VALUES (?, ?, ?, ?) ON CONFLICT (account) DO UPDATE SET requests = requests + excluded.requests,
input_tokens = input_tokens + excluded.input_tokens, output_tokens = output_tokens + excluded.output_tokens
"""


class AnswerCache:
    """An SQLite file (None: memory). Each answer is stored in a transaction of its own together with what it took, so a kill loses none.

    Raises:
        DataError: the file is no cache of ours, or is corrupt.
        StorageError: the disk is full.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path or Path(":memory:")
        with storage_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._errors():
            self._database = sqlite3.connect(self._path, timeout=60, isolation_level=None)
            # With a write-ahead log a commit needs no flush to survive the death of the process, only that of the machine.
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.executescript(_SCHEMA)

    def get(self, key: str) -> Any:
        """The JSON value stored under a key; None: there is none."""
        with self._errors():
            row = self._database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    def record(self, account: str, usage: Usage, key: str | None = None, answer: Any = None) -> None:
        """Note what a request took and, where it brought a valid one, its answer (JSON)."""
        with self._errors(), self._transaction():
            self._database.execute(_SPEND, (account, usage.requests, usage.input_tokens, usage.output_tokens))
            if key is not None and answer is not None:
                self._database.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, json.dumps(answer, ensure_ascii=False)))

    def spent(self, account: str) -> Usage:
        """What the requests of an account took so far, over all runs."""
        with self._errors():
            row = self._database.execute(
                "SELECT requests, input_tokens, output_tokens FROM ledger WHERE account = ?", (account,)
            ).fetchone()
        return Usage(*row) if row else Usage()

    def __len__(self) -> int:
        with self._errors():
            return int(self._database.execute("SELECT count(*) FROM answers").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with storage_errors(self._path):
                yield
        except sqlite3.Error as error:
            raise DataError(
                f"The cache of LLM answers cannot be used: {error}.",
                where=str(self._path),
                fix="move the file away (the answers in it will be paid for again), or bring back a copy, then run the same command again",
            ) from None
