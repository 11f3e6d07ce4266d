"""Names of countries, languages, currencies and dates in the taxonomy's languages (Unicode CLDR, through Babel)."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from datetime import date, timedelta
from functools import cache
from typing import Any, Literal

from tailmark.ingest.sampling import unit_hash
from tailmark.ingest.starter.example import Example, Examples, ask, markers
from tailmark.ingest.starter.languages import LOCALES
from tailmark.ingest.starter.packages import locate

PACKAGE = "babel"
Table = Literal["territories", "languages", "currencies"]

_LISTS: dict[Table, tuple[str, str, int]] = {
    "territories": ("cldr.territories", "Culture", 150),
    "languages": ("cldr.tongues", "Culture", 80),
    "currencies": ("cldr.currencies", "Finance", 40),
}
"""Per table: kind, domain, number of lists."""

_LANGUAGES_PER_LIST = 5
_SHORTEST, _LONGEST = 3, 14
_DATES = 60
_FIRST_DAY = date(1950, 1, 1)


@cache
def _locale(lang: str) -> Any:
    locate(PACKAGE)
    from babel import Locale

    return Locale.parse(LOCALES[lang])


@cache
def display_names(lang: str, table: Table) -> dict[str, str]:
    """Code to name in a language, for plain two- or three-letter codes."""
    names: dict[str, str] = dict(getattr(_locale(lang), table))
    return {code: name for code, name in names.items() if code.isalpha() and len(code) in (2, 3) and name != code}


def examples() -> Examples:
    """Lists of names, dates written out, calendars, and the places that share a currency."""
    for table in _LISTS:
        yield from _lists(table)
    yield from _dates()
    yield from _calendars()
    yield from _currency_users()


def _drawn_languages(group: str, number: int = _LANGUAGES_PER_LIST) -> list[str]:
    return sorted(LOCALES, key=lambda lang: unit_hash(group, lang))[:number]


def _lists(table: Table) -> Examples:
    kind, domain, lists = _LISTS[table]
    codes = sorted(set.intersection(*(set(display_names(lang, table)) for lang in LOCALES)))
    for number in range(lists):
        group = f"{kind}/{number}"
        length = _SHORTEST + int(unit_hash("length", group) * (_LONGEST - _SHORTEST + 1))
        chosen = sorted(codes, key=lambda code: unit_hash(group, code))[:length]
        prompt = ask(kind, group, {"codes": ", ".join(chosen)})
        for lang in _drawn_languages(group):
            names = [display_names(lang, table)[code] for code in chosen]
            told = markers(domain, "InformationExtraction", lang=lang, format="Enumeration")
            yield Example(PACKAGE, kind, group, prompt, _listed(group, names), told)


def _listed(group: str, names: Sequence[str]) -> str:
    """One name a line, bulleted or numbered as the group has it."""
    numbered = unit_hash("style", group) < 0.5
    return "\n".join(f"{number}. {name}" if numbered else f"- {name}" for number, name in enumerate(names, 1))


def _dates() -> Examples:
    from babel.dates import format_date

    for number in range(_DATES):
        group = f"cldr.date/{number}"
        day = _FIRST_DAY + timedelta(days=int(unit_hash(group) * 36_500))
        prompt = ask("cldr.date", group, {"date": day.isoformat()})
        for lang in _drawn_languages(group, 4):
            told = markers("Unspecified", "QuestionAnswering", lang=lang)
            yield Example(PACKAGE, "cldr.date", group, prompt, format_date(day, "full", locale=_locale(lang)), told)


def _calendar_names(lang: str, table: str) -> dict[int, str]:
    """Number to name, in the form that stands alone where the language has one.

    Read from the language's own file: Babel resolves inherited calendar names to those of whichever locale was loaded first.
    """
    from babel.localedata import resolve_locale_filename

    with open(resolve_locale_filename(LOCALES[lang].split("_")[0]), "rb") as file:
        own = pickle.load(file)[table]
    names: dict[int, str] = own.get("stand-alone", {}).get("wide") or own["format"]["wide"]
    return names


def _calendars() -> Examples:
    tables = {"months of the year": "months", "days of the week": "days", "quarters of a year": "quarters"}
    for lang in LOCALES:
        for what, table in tables.items():
            names = _calendar_names(lang, table)
            group = f"cldr.calendar/{what}"
            completion = "\n".join(names[index] for index in sorted(names))
            told = markers("Culture", "QuestionAnswering", lang=lang, format="Enumeration")
            yield Example(PACKAGE, "cldr.calendar", group, ask("cldr.calendar", f"{group}/{lang}", {"what": what}), completion, told)


def _currency_users() -> Examples:
    from babel.core import get_global

    users: dict[str, list[str]] = {}
    for territory, currencies in sorted(get_global("territory_currencies").items()):
        for code in {entry[0] for entry in currencies if entry[2] is None and entry[3]}:
            users.setdefault(code, []).append(territory)
    for code in sorted(code for code, places in users.items() if len(places) > 1):
        group = f"cldr.currency_users/{code}"
        prompt = ask("cldr.currency_users", group, {"currency": display_names("English", "currencies").get(code, code)})
        for lang in _drawn_languages(group):
            names = [display_names(lang, "territories")[place] for place in users[code] if place in display_names(lang, "territories")]
            told = markers("Finance", "QuestionAnswering", lang=lang, format="Enumeration")
            yield Example(PACKAGE, "cldr.currency_users", group, prompt, "\n".join(f"- {name}" for name in names), told)
