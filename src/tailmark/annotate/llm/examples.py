"""Few-shot examples, in the language of the prompt where there are some (paper: in-language few-shot)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tailmark.errors import TaxonomyError
from tailmark.measure.language import CODES, measure_language
from tailmark.taxonomy import Taxonomy
from tailmark.taxonomy.schema import Example

OWN = Path(__file__).with_name("examples.yaml")

ByLanguage = dict[str, dict[str, tuple[Example, ...]]]
"""Language, then marker, to examples."""


class Examples:
    """The taxonomy's examples, and those of a file by language.

    Args:
        file: a mapping language (English name) to marker to value to a prompt that has it; None: our own file, used for a marker of
            the taxonomy where it has exactly that marker's values.

    Raises:
        TaxonomyError: the file is missing or malformed, or names a language, marker or value that is not known.
    """

    def __init__(self, taxonomy: Taxonomy, file: Path | None) -> None:
        self._taxonomy = taxonomy
        self._by_language = _read(OWN if file is None else file, taxonomy, skip_others=file is None)
        self._languages = ("English", *self._by_language)

    def language(self, text: str) -> str | None:
        """The language of a text, if the file has examples in it."""
        if not self._by_language:
            return None
        found = measure_language(text, self._languages)
        return found.name if found and found.name in self._by_language else None

    def of(self, marker: str, lang: str | None) -> tuple[Example, ...]:
        """The marker's examples in a language, else those of the taxonomy."""
        return self._by_language.get(lang or "", {}).get(marker) or self._taxonomy.markers[marker].examples


def _read(path: Path, taxonomy: Taxonomy, *, skip_others: bool) -> ByLanguage:
    try:
        data = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TaxonomyError(
            "There is no such file of examples.", where=str(path), fix="correct `annotate.llm.examples` in params.yaml"
        ) from None
    except (YAMLError, UnicodeDecodeError) as error:
        detail = " ".join(str(error).split("To suppress")[0].split())
        raise TaxonomyError(f"The examples cannot be read: {detail}", where=str(path), fix="mend the YAML at that place") from None
    found: ByLanguage = {}
    for lang, markers in _mapping(data, path, "the file").items():
        if lang not in CODES:
            raise _malformed(path, f"'{lang}' is not a language's English name")
        for marker, texts in _mapping(markers, path, lang).items():
            values = _mapping(texts, path, f"{lang}.{marker}")
            if skip_others and (marker not in taxonomy.markers or set(values) != set(taxonomy.markers[marker].values)):
                continue
            found.setdefault(lang, {})[marker] = tuple(_example(marker, value, text, taxonomy, path) for value, text in values.items())
    return found


def _example(marker: str, value: str, text: object, taxonomy: Taxonomy, path: Path) -> Example:
    try:
        taxonomy.typed(marker, value)
    except TaxonomyError as error:
        raise TaxonomyError(error.what, where=str(path), fix=error.fix) from None
    if not isinstance(text, str) or not text.strip():
        raise _malformed(path, f"the example of {marker}={value} is not text")
    return Example(text=text, value=value)


def _mapping(value: object, path: Path, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _malformed(path, f"{what} does not hold a mapping")
    return {str(key): item for key, item in value.items()}


def _malformed(path: Path, problem: str) -> TaxonomyError:
    fix = "write language, marker, value and a prompt that has it, e.g. `French: {domain: {Legal: ...}}`"
    return TaxonomyError(f"The examples are malformed: {problem}.", where=str(path), fix=fix)
