"""Courts, law reports and journals of the United States, and terms of software licences."""

from __future__ import annotations

import json
import re
from typing import Any

from tailmark.ingest.starter.example import Example, Examples, ask, markers
from tailmark.ingest.starter.packages import installed_file, locate
from tailmark.ingest.starter.text import unwrap

_ABBREVIATIONS = 60
_CLAUSE = re.compile(r"^(\d+)\. ((?:[^\n]+\n?)+)", re.MULTILINE)
_UNSURE = re.compile(r"https?:|See:|\$\{|not sure|Not sure|information|mistaken|Removed|Potentially", re.IGNORECASE)


def examples() -> Examples:
    """All of them; the paper's domain Legal."""
    yield from _courts()
    for file in ("reporters", "laws", "journals"):
        yield from _abbreviations(file)
    yield from _licences()


def _courts() -> Examples:
    courts = json.loads((locate("courts-db") / "data" / "courts.json").read_text(encoding="utf-8"))
    seen: set[str] = set()
    for court in sorted(courts, key=lambda court: str(court["id"])):
        note = unwrap(court.get("notes") or "")
        if len(note) < 30 or _UNSURE.search(note) or note in seen:
            continue
        seen.add(note)
        group = f"court/{court['id']}"
        prompt = ask("law.court", group, {"name": court["name"], "place": court.get("location") or "the United States"})
        yield Example("courts-db", "law.court", group, prompt, note, markers("Legal", "Explanation"))


def _abbreviations(file: str) -> Examples:
    """Publications whose name says more than the abbreviation does."""
    path = locate("reporters-db") / "data" / f"{file}.json"
    entries: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
    named = {text: entry[0]["name"] for text, entry in entries.items() if len(entry[0]["name"].split()) > 4}
    for text in sorted(named, key=lambda text: (-len(named[text]), text))[:_ABBREVIATIONS]:
        group = f"law/{text}"
        prompt = ask("law.abbreviation", group, {"text": text})
        yield Example("reporters-db", f"law.{file}", group, prompt, unwrap(named[text]), markers("Legal", "QuestionAnswering"))


def _licences() -> Examples:
    """The numbered clauses of Python's licence, and the whole of two permissive ones."""
    told = markers("Legal", "QuestionAnswering", style="Formal")
    text = installed_file("django", "LICENSE.python").read_text(encoding="utf-8")
    text = text[text.index("PYTHON SOFTWARE FOUNDATION LICENSE") :]
    for number, match in enumerate(_CLAUSE.finditer(text)):
        clause = unwrap(match[2])
        group = f"licence/python/{number}"
        if len(clause) > 120:
            prompt = ask("law.clause", group, {"title": " ".join(clause.split()[:6])})
            yield Example("django", "law.clause", group, prompt, clause, told)
    for package in ("stripe", "wagtail"):
        terms = installed_file(package, "LICENSE").read_text(encoding="utf-8").strip()
        group = f"licence/{package}"
        yield Example(package, "law.text", group, ask("law.text", group, {"name": package}), terms, told)
