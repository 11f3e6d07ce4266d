"""Annotators: one per kind of evidence. Of two that find the same marker the stronger holds: dataset > measured > classifier > llm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from tailmark.errors import TaxonomyError
from tailmark.measure.code import code_type
from tailmark.measure.formats import measure_format
from tailmark.measure.language import measure_language
from tailmark.measure.lengths import Lengths, Steps, length_bucket, length_steps, measure_lengths
from tailmark.records import MARKER_METADATA, Record
from tailmark.taxonomy import MarkerValue, Taxonomy

LENGTHS = frozenset({"length_tokens", "length_sentences", "length_paragraphs", "length_bucket"})
"""Always measured: a length that a source states was counted with some other tokenizer."""


class Finding(NamedTuple):
    """A value of one marker, and how sure its annotator is (0 to 1; None: it cannot say)."""

    value: MarkerValue
    confidence: float | None = 1.0


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


class ShardAnnotator(Protocol):
    """Finds markers of many rows at once: the classifier and the LLM, which are asked after the annotators above.

    Attributes:
        origin: the kind of evidence, stored beside each value.
    """

    origin: str

    def annotate(self, rows: list[Record], known: list[dict[str, Finding]]) -> list[dict[str, Finding]]:
        """The markers of each row, in order. `known`: what stronger evidence says of each; a marker found again is passed over.

        The result depends on the rows and on `known` alone, never on how the rows are cut into calls. A value the taxonomy does not
        allow is not returned.
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
        self._steps = length_steps(taxonomy)
        self.dropped: Counter[tuple[str, str, str]] = Counter()

    def find(self, row: Record, known: Mapping[str, Finding]) -> dict[str, Finding]:
        """The measured markers that are not known and can apply; lengths are counted in the language that is known or found."""
        completion = row["completion"]
        found: dict[str, Finding] = {}
        if self._wanted("lang", known):
            found |= self._language(completion)
        lang = known.get("lang") or found.get("lang")
        found |= _lengths(measure_lengths(completion, str(lang.value) if lang else None), self._steps)
        if self._wanted("code_type", known) and (code := code_type(completion)):
            found["code_type"] = Finding(code)
        if self._wanted("format", known) and (form := measure_format(completion, row["prompt"][-1]["content"])):
            found["format"] = Finding(form)
        return {name: finding for name, finding in found.items() if name in self._taxonomy.markers and self._allowed(name, finding)}

    def _wanted(self, name: str, known: Mapping[str, Finding]) -> bool:
        return name in self._taxonomy.markers and name not in known and applies(self._taxonomy, name, known)

    def _language(self, completion: str) -> dict[str, Finding]:
        language = measure_language(completion, self._languages)
        return {"lang": Finding(language.name, language.confidence)} if language else {}

    def _allowed(self, name: str, finding: Finding) -> bool:
        if self._taxonomy.allows(name, finding.value):
            return True
        is_number = self._taxonomy.markers[name].kind != "categorical"
        self.dropped[name, "" if is_number else str(finding.value), "the marker has no such value"] += 1
        return False


def _lengths(lengths: Lengths, steps: Steps) -> dict[str, Finding]:
    if not lengths.tokens:
        raise NotMeasurable("the completion holds no word and no mark")
    return {
        "length_tokens": Finding(lengths.tokens),
        "length_sentences": Finding(lengths.sentences),
        "length_paragraphs": Finding(lengths.paragraphs),
        "length_bucket": Finding(length_bucket(lengths.tokens, steps)),
    }


def annotators(taxonomy: Taxonomy) -> tuple[Annotator, ...]:
    """The annotators of single rows, by precedence."""
    return (DatasetAnnotator(taxonomy), MeasuredAnnotator(taxonomy))


def annotate_row(row: Record, by_precedence: tuple[Annotator, ...], taxonomy: Taxonomy) -> Record:
    """The row with `markers`, `origin` and `confidence`, each with every marker of the taxonomy as a key.

    Raises:
        NotMeasurable: see `Annotator.find`.
    """
    evidence = Evidence()
    for annotator in by_precedence:
        evidence.add(annotator.find(row, evidence.known), annotator.origin)
    return row | evidence.columns(taxonomy)


def add_findings(rows: list[Record], by_precedence: Iterable[ShardAnnotator], taxonomy: Taxonomy) -> list[Record]:
    """Annotated rows with what further annotators find; what is known already stays."""
    evidence = [Evidence.of(row) for row in rows]
    for annotator in by_precedence:
        found = annotator.annotate(rows, [item.known for item in evidence])
        for item, findings in zip(evidence, found, strict=True):
            item.add(findings, annotator.origin)
    return [row | item.columns(taxonomy) for row, item in zip(rows, evidence, strict=True)]


class Evidence:
    """What is known of one row, and from which kind of evidence: the first finding of a marker holds."""

    def __init__(self) -> None:
        self.known: dict[str, Finding] = {}
        self.origin: dict[str, str] = {}

    @classmethod
    def of(cls, row: Record) -> Evidence:
        """What an annotated row holds."""
        evidence = cls()
        for name, value in row["markers"].items():
            if value is not None:
                evidence.known[name] = Finding(value, row["confidence"][name])
                evidence.origin[name] = row["origin"][name]
        return evidence

    def add(self, found: Mapping[str, Finding], origin: str) -> None:
        """Take in what is not known yet."""
        for name, finding in found.items():
            if name not in self.known:
                self.known[name], self.origin[name] = finding, origin

    def columns(self, taxonomy: Taxonomy) -> Record:
        """`markers`, `origin` and `confidence` of the markers that apply."""
        kept = {name: finding for name, finding in self.known.items() if applies(taxonomy, name, self.known)}
        return {
            "markers": {name: kept[name].value if name in kept else None for name in taxonomy.markers},
            "origin": {name: self.origin[name] if name in kept else None for name in taxonomy.markers},
            "confidence": {name: kept[name].confidence if name in kept else None for name in taxonomy.markers},
        }


def applies(taxonomy: Taxonomy, name: str, known: Mapping[str, Finding]) -> bool:
    """Whether the marker makes sense for a row: no condition of its `applies_to` is known not to hold."""
    conditions = taxonomy.markers[name].applies_to
    return all(other not in known or known[other].value in values for other, values in conditions.items())
