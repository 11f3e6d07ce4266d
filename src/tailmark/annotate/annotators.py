"""Annotators: one per kind of evidence, each giving findings for one row. Where two find the same marker, the earlier one's holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from tailmark.errors import TaxonomyError
from tailmark.measure.code import code_type
from tailmark.measure.formats import measure_format
from tailmark.measure.language import measure_language
from tailmark.measure.lengths import Lengths, length_bucket, measure_lengths
from tailmark.records import MARKER_METADATA, Record
from tailmark.taxonomy import MarkerValue, Taxonomy

LENGTHS = frozenset({"length_tokens", "length_sentences", "length_paragraphs", "length_bucket"})
"""Always measured: a length that a source states was counted with some other tokenizer."""


class Finding(NamedTuple):
    """A value of one marker, and how sure its annotator is (0 to 1)."""

    value: MarkerValue
    confidence: float = 1.0


class NotMeasurable(Exception):
    """A row that no marker can be given, e.g. because its completion holds nothing visible."""


class Annotator(Protocol):
    """Finds markers of a row from one kind of evidence.

    Attributes:
        origin: the kind of evidence, stored beside each value.
        dropped: what it found but the taxonomy does not allow: (marker, value as text, why) to number of rows.
    """

    origin: str
    dropped: Counter[tuple[str, str, str]]

    def find(self, row: Record, known: Mapping[str, Finding]) -> dict[str, Finding]:
        """The row's markers. `known`: what annotators before this one found; it may build on that.

        Raises:
            NotMeasurable: the row cannot be annotated at all.
        """
        ...


class DatasetAnnotator:
    """What the source says of a row, under the metadata keys `marker.<name>`."""

    origin = "dataset"

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._taxonomy = taxonomy
        self.dropped: Counter[tuple[str, str, str]] = Counter()

    def find(self, row: Record, known: Mapping[str, Finding]) -> dict[str, Finding]:  # noqa: ARG002
        """Every marker in the metadata that the taxonomy allows; the others are counted in `dropped`."""
        stated = {key.removeprefix(MARKER_METADATA): text for key, text in row["metadata"].items() if key.startswith(MARKER_METADATA)}
        findings: dict[str, Finding] = {}
        for name, text in stated.items():
            if name in LENGTHS or not text:
                continue
            if name not in self._taxonomy.markers:
                self.dropped[name, "", "the taxonomy has no such marker"] += 1
                continue
            try:
                findings[name] = Finding(self._taxonomy.typed(name, text))
            except TaxonomyError:
                self.dropped[name, text, "the marker has no such value"] += 1
        return findings


class MeasuredAnnotator:
    """What can be measured of a completion: language, lengths, code type, format; only markers that the taxonomy has."""

    origin = "measured"

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._taxonomy = taxonomy
        lang = taxonomy.markers.get("lang")
        self._languages = tuple(lang.values) if lang else ()
        self.dropped: Counter[tuple[str, str, str]] = Counter()

    def find(self, row: Record, known: Mapping[str, Finding]) -> dict[str, Finding]:
        """The measured markers; lengths are counted in the language that is known or found."""
        found: dict[str, Finding] = {}
        if "lang" not in known:
            found |= self._language(row["completion"])
        lang = {**found, **known}.get("lang")
        found |= _lengths(measure_lengths(row["completion"], str(lang.value) if lang else None))
        if code := code_type(row["completion"]):
            found["code_type"] = Finding(code)
        if form := measure_format(row["completion"], row["prompt"][-1]["content"]):
            found["format"] = Finding(form)
        return {name: finding for name, finding in found.items() if name in self._taxonomy.markers and self._allowed(name, finding)}

    def _language(self, completion: str) -> dict[str, Finding]:
        language = measure_language(completion, self._languages)
        return {"lang": Finding(language.name, language.confidence)} if language else {}

    def _allowed(self, name: str, finding: Finding) -> bool:
        if self._taxonomy.allows(name, finding.value):
            return True
        is_number = self._taxonomy.markers[name].kind != "categorical"
        self.dropped[name, "" if is_number else str(finding.value), "the marker has no such value"] += 1
        return False


def _lengths(lengths: Lengths) -> dict[str, Finding]:
    if not lengths.tokens:
        raise NotMeasurable("the completion holds no word and no mark")
    return {
        "length_tokens": Finding(lengths.tokens),
        "length_sentences": Finding(lengths.sentences),
        "length_paragraphs": Finding(lengths.paragraphs),
        "length_bucket": Finding(length_bucket(lengths.tokens)),
    }


def annotators(taxonomy: Taxonomy) -> tuple[Annotator, ...]:
    """All annotators, by precedence."""
    return (DatasetAnnotator(taxonomy), MeasuredAnnotator(taxonomy))


def annotate_row(row: Record, by_precedence: tuple[Annotator, ...], taxonomy: Taxonomy) -> Record:
    """The row with `markers`, `origin` and `confidence`, each with every marker of the taxonomy as a key.

    Raises:
        NotMeasurable: see `Annotator.find`.
    """
    known: dict[str, Finding] = {}
    origin: dict[str, str] = {}
    for annotator in by_precedence:
        for name, finding in annotator.find(row, known).items():
            if name not in known:
                known[name], origin[name] = finding, annotator.origin
    kept = {name: finding for name, finding in known.items() if applies(taxonomy, name, known)}
    return row | {
        "markers": {name: kept[name].value if name in kept else None for name in taxonomy.markers},
        "origin": {name: origin[name] if name in kept else None for name in taxonomy.markers},
        "confidence": {name: kept[name].confidence if name in kept else None for name in taxonomy.markers},
    }


def applies(taxonomy: Taxonomy, name: str, known: Mapping[str, Finding]) -> bool:
    """Whether the marker makes sense for a row: no condition of its `applies_to` is known not to hold."""
    conditions = taxonomy.markers[name].applies_to
    return all(other not in known or known[other].value in values for other, values in conditions.items())
