"""The chemical elements: what they are, where they come from, what they are for (mendeleev)."""

from __future__ import annotations

import sqlite3

from tailmark.ingest.starter.example import Example, Examples, ask, markers
from tailmark.ingest.starter.packages import locate
from tailmark.ingest.starter.text import first_sentence, unwrap

PACKAGE = "mendeleev"
_COLUMNS = {"uses": "element.uses", "sources": "element.sources", "name_origin": "element.name", "discoverers": "element.discovery"}
_MIN_CHARS = 12


def examples() -> Examples:
    """Per element: a description, by first sentence and in full, and its uses, sources, name and discoverers."""
    path = locate(PACKAGE) / "elements.db"
    query = f"SELECT name, symbol, description, {', '.join(_COLUMNS)} FROM elements ORDER BY atomic_number"
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        rows = connection.execute(query).fetchall()
    finally:
        connection.close()
    for name, symbol, description, *facts in rows:
        yield from _element(name, symbol, description, dict(zip(_COLUMNS, facts, strict=True)))


def _element(name: str, symbol: str, description: str | None, facts: dict[str, str | None]) -> Examples:
    group, slots = f"element/{name}", {"name": name.lower(), "symbol": symbol}
    if description:
        text = unwrap(description)
        for answer in dict.fromkeys((first_sentence(text), text)):
            told = markers("Sciences", "Explanation")
            yield Example(PACKAGE, "element.describe", group, ask("element.describe", group, slots), answer, told)
    for column, kind in _COLUMNS.items():
        answer = unwrap(facts[column] or "")
        if len(answer) >= _MIN_CHARS:
            yield Example(PACKAGE, kind, group, ask(kind, group, slots), answer, markers("Sciences", "QuestionAnswering"))
