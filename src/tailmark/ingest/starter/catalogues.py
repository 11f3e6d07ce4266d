"""Interface messages of Django and Wagtail with their translations (GNU gettext catalogues)."""

from __future__ import annotations

import gettext
import re
from pathlib import Path

from tailmark.ingest.sampling import unit_hash
from tailmark.ingest.starter.example import Example, Examples, ask, markers
from tailmark.ingest.starter.languages import LOCALES
from tailmark.ingest.starter.packages import locate
from tailmark.ingest.starter.text import unwrap, without_tags

_ALIASES = {
    "Chinese": ("zh_Hans", "zh_CN", "zh"),
    "Hebrew": ("he", "he_IL"),
    "Indonesian": ("id", "id_ID"),
    "Portuguese": ("pt_BR", "pt_PT", "pt"),
}
_LANGUAGES_PER_MESSAGE = 6
_MIN_LETTERS = 24
_SLOT = re.compile(r"%\(\w+\)\w|%[sdif]|\{\w*\}|&\w+;")
_UNCLEAR = ("django/conf/", "django/contrib/humanize/", "django/contrib/flatpages/", "wagtail/contrib/forms/")


def read_catalogue(path: Path) -> dict[str, str]:
    """Message to translation of a compiled catalogue; plural forms and contexts are left out."""
    with path.open("rb") as file:
        entries: dict[object, str] = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    return {source: text for source, text in entries.items() if isinstance(source, str) and source and "\x04" not in source and text}


def usable(text: str) -> bool:
    """A sentence without slots that a program would fill in."""
    return not _SLOT.search(text) and "\n" not in text.strip()


def examples() -> Examples:
    """Each message of some length in a few languages drawn for it, and one of them back to the original."""
    for package in ("django", "wagtail"):
        root = locate(package)
        for folder in sorted(path for path in root.rglob("locale") if path.is_dir()):
            for name in ("django.mo", "djangojs.mo"):
                yield from _folder(package, folder, name)


def _folder(package: str, folder: Path, name: str) -> Examples:
    place = f"{package}/{folder.relative_to(locate(package)).as_posix()}"
    domain = "Unspecified" if place.startswith(_UNCLEAR) else "Technology"
    translations: dict[str, dict[str, str]] = {}
    for lang, locale in LOCALES.items():
        for alias in _ALIASES.get(lang, (locale,)):
            path = folder / alias / "LC_MESSAGES" / name
            if lang != "English" and path.is_file():
                for source, text in read_catalogue(path).items():
                    translations.setdefault(source, {}).setdefault(lang, text)
    for source in sorted(translations):
        if len(source) >= _MIN_LETTERS and usable(source):
            yield from _message(package, domain, source, translations[source])


def _message(package: str, domain: str, source: str, translations: dict[str, str]) -> Examples:
    original = unwrap(without_tags(source))
    group = f"message/{original}"
    drawn = sorted(translations, key=lambda lang: unit_hash(group, lang))[:_LANGUAGES_PER_MESSAGE]
    for number, lang in enumerate(drawn):
        text = unwrap(without_tags(translations[lang]))
        if not usable(text) or text == original:
            continue
        if number == 0:
            prompt = ask("catalogue.source", group, {"text": text})
            yield Example(package, "catalogue.source", group, prompt, original, markers(domain, "Translation"))
        else:
            told = markers(domain, "Translation", lang=lang, source="Translation")
            yield Example(package, "catalogue.localise", group, ask("catalogue.localise", group, {"text": original}), text, told)
