"""Definitions of the FHIR standard for health records: clinical, and on contracts, consent and payment."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tailmark.ingest.starter.example import Example, Examples, ask, markers
from tailmark.ingest.starter.packages import sources
from tailmark.ingest.starter.text import first_sentence, paragraphs, unwrap

PACKAGE = "fhir.resources"

_CLINICAL = """adverseevent allergyintolerance bodystructure careplan careteam clinicalimpression condition detectedissue devicerequest
diagnosticreport encounter episodeofcare familymemberhistory genomicstudy goal imagingstudy immunization
immunizationrecommendation medication medicationadministration medicationdispense medicationknowledge medicationrequest
medicationstatement nutritionintake nutritionorder observation patient procedure riskassessment servicerequest specimen
visionprescription flag dosage substancedefinition"""
_LEGAL = "contract consent permission"
_FINANCE = "account chargeitem claim claimresponse coverage explanationofbenefit insuranceplan invoice paymentnotice paymentreconciliation"
DOMAINS = {file: domain for domain, files in (("Medical", _CLINICAL), ("Legal", _LEGAL), ("Finance", _FINANCE)) for file in files.split()}
_MIN_TITLE, _MAX_DESCRIPTION = 12, 1_500
_SKIPPED = {"id", "extension", "modifierExtension", "identifier", "text", "contained", "language", "meta", "implicitRules", "note"}


@dataclass(frozen=True)
class Element:
    """A field of a resource. `title`: a few words; `description`: a definition."""

    name: str
    title: str
    description: str


def examples() -> Examples:
    """Each resource and each of its elements, by title and by definition."""
    for path in sources(PACKAGE, "*.py"):
        if path.stem in DOMAINS:
            yield from _resource(path, DOMAINS[path.stem])


def _resource(path: Path, domain: str) -> Examples:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef):
            continue
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", node.name)
        text = [block for block in paragraphs(ast.get_docstring(node) or "") if not block.startswith("Disclaimer")]
        group = f"fhir/{node.name}"
        if text:
            prompt = ask("fhir.resource", group, {"name": name})
            for answer in dict.fromkeys((first_sentence(text[0]), " ".join(text))):
                yield Example(PACKAGE, "fhir.resource", group, prompt, answer, markers(domain, "Explanation", style="Formal"))
        for element in _elements(node):
            yield from _element(domain, name, element)


def _elements(node: ast.ClassDef) -> Iterator[Element]:
    for item in node.body:
        if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name) or not isinstance(item.value, ast.Call):
            continue
        told = {key.arg: key.value.value for key in item.value.keywords if isinstance(key.value, ast.Constant)}
        title, description = told.get("title"), told.get("description")
        if isinstance(title, str) and isinstance(description, str) and item.target.id not in _SKIPPED:
            yield Element(item.target.id, unwrap(title), unwrap(description))


def _element(domain: str, name: str, element: Element) -> Examples:
    if "|" in element.title or len(element.title) < _MIN_TITLE or not len(element.title) < len(element.description) <= _MAX_DESCRIPTION:
        return
    group = f"fhir/{element.description}"
    prompt = ask("fhir.field", group, {"name": name, "field": element.name})
    for answer in (element.title, element.description):
        yield Example(PACKAGE, "fhir.field", group, prompt, answer, markers(domain, "Explanation", style="Formal"))
    summary = ask("fhir.title", group, {"text": element.description})
    yield Example(PACKAGE, "fhir.title", group, summary, element.title, markers(domain, "Summarization", style="Formal"))
