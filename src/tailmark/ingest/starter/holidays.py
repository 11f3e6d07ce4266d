"""Holidays of countries and exchanges, in the languages of their catalogues."""

from __future__ import annotations

from tailmark.ingest.sampling import unit_hash
from tailmark.ingest.starter.catalogues import read_catalogue, usable
from tailmark.ingest.starter.cldr import display_names
from tailmark.ingest.starter.example import Example, Examples, ask, markers
from tailmark.ingest.starter.languages import BY_CODE
from tailmark.ingest.starter.packages import sources

PACKAGE = "holidays"
_SHORTEST, _LONGEST = 3, 14
_NAMES_PER_CATALOGUE = 3


def examples() -> Examples:
    """A list of holidays per country and language, and single names with their translation."""
    places = display_names("English", "territories")
    for path in sources(PACKAGE, "locale/*/LC_MESSAGES/*.mo"):
        lang = BY_CODE.get(path.parent.parent.name.split("_")[0])
        code = path.stem
        place = places.get(code, code)
        if lang is None:
            continue
        pairs = {source: text for source, text in read_catalogue(path).items() if usable(source) and usable(text) and "(" not in text}
        yield from _list(lang, code, place, sorted(set(pairs.values())))
        if code in places:
            yield from _names(lang, code, place, pairs)


def _list(lang: str, code: str, place: str, names: list[str]) -> Examples:
    group = f"holidays/{code}"
    names = sorted(names, key=lambda name: unit_hash(group, name))
    count = min(len(names), _SHORTEST + int(unit_hash("count", group, lang) * (_LONGEST - _SHORTEST + 1)))
    if count < _SHORTEST:
        return
    kind, domain = ("holidays.list", "Culture") if len(code) == 2 else ("holidays.market", "Finance")
    told = markers(domain, "QuestionAnswering", lang=lang, format="Enumeration")
    prompt = ask(kind, group, {"place": place})
    yield Example(PACKAGE, kind, group, prompt, "\n".join(f"- {name}" for name in names[:count]), told)


def _names(lang: str, code: str, place: str, pairs: dict[str, str]) -> Examples:
    renamed = [source for source, text in pairs.items() if source != text and len(text) > 12]
    for source in sorted(renamed, key=lambda name: unit_hash(code, name))[:_NAMES_PER_CATALOGUE]:
        group = f"holidays/{code}/{source}"
        told = markers("Culture", "Translation", lang=lang, source="Translation")
        yield Example(PACKAGE, "holidays.name", group, ask("holidays.name", group, {"place": place, "text": source}), pairs[source], told)
