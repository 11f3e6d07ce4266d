"""Put the families together: clean, deduplicate, and draw the paper's mix of domains."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

from tailmark.console import track
from tailmark.ingest.candidate import Candidate
from tailmark.ingest.sampling import even
from tailmark.ingest.starter import (
    catalogues,
    causal,
    chatterbot,
    cldr,
    docstrings,
    elements,
    fhir,
    holidays,
    law,
    lint,
    mathematics,
    other_code,
    payments,
    python_code,
)
from tailmark.ingest.starter.example import Example, Examples
from tailmark.ingest.starter.packages import PINS, locate

BUILDERS: dict[str, Callable[[], Examples]] = {
    "conversations": chatterbot.examples,
    "interface messages": catalogues.examples,
    "holidays": holidays.examples,
    "names and dates": cldr.examples,
    "Python lint rules": lint.ruff_examples,
    "SQL lint rules": lint.sqlfluff_examples,
    "algorithms": python_code.algorithms_examples,
    "HumanEval": python_code.human_eval_examples,
    "other code": other_code.examples,
    "documentation": docstrings.examples,
    "health records": fhir.examples,
    "payments": payments.examples,
    "social science data": causal.examples,
    "elements": elements.examples,
    "law": law.examples,
    "mathematics": mathematics.examples,
}

ROWS = 9_000
SHARES = {
    "Code": 0.272,
    "Culture": 0.16,
    "Technology": 0.156,
    "Conversation": 0.125,
    "Unspecified": 0.077,
    "Math": 0.067,
    "SocialSciences": 0.045,
    "Sciences": 0.035,
    "Finance": 0.023,
    "Medical": 0.022,
    "Legal": 0.013,
}
"""The paper's mix of domains, read off its figure; Unspecified stands for the rest."""

WEIGHTS = {"ruff.fix": 6, "catalogue.localise": 4, "holidays.list": 2, "algorithms.write": 2, "docs.sympy": 2}
"""Kinds that get more than an even part of their domain."""

_MIN_COMPLETION, _MAX_COMPLETION, _MAX_PROMPT = 16, 4_000, 2_500
"""In characters; a Chinese, Japanese or Korean one counts as three."""
_WIDE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")
_PER_COMPLETION, _PER_PROMPT = 2, 8
"""Most examples that may share an answer, and a prompt."""

_BROKEN = re.compile("\ufffd|<<<<<<<|\x00")


def versions() -> dict[str, dict[str, str]]:
    """Version and licence of every package the corpus is made of."""
    return {name: {"version": pin.version, "license": pin.license} for name, pin in sorted(PINS.items())}


def build() -> Iterator[Candidate]:
    """The corpus, in a fixed order.

    Raises:
        DataError: a package is missing or has another version.
    """
    for name in PINS:
        locate(name)
    found: dict[tuple[object, ...], Example] = {}
    for _, builder in track(BUILDERS.items(), "reading packages", len(BUILDERS), "families"):
        for example in builder():
            if _clean(example):
                found.setdefault((example.history, example.prompt, example.completion), example)
    for number, example in enumerate(_mix(_thinned(list(found.values())))):
        yield _candidate(number, example)


def _clean(example: Example) -> bool:
    """Whole text of a bearable size."""
    prompt, completion = example.prompt.strip(), example.completion.strip()
    weight = len(completion) + 2 * len(_WIDE.findall(completion))
    sized = prompt and weight >= _MIN_COMPLETION and len(completion) <= _MAX_COMPLETION and len(prompt) <= _MAX_PROMPT
    return bool(sized) and prompt != completion and not _BROKEN.search(prompt + completion)


def _thinned(examples: list[Example]) -> list[Example]:
    """At most a few examples per answer and per prompt."""
    answers: Counter[str] = Counter()
    prompts: Counter[object] = Counter()
    kept = []
    for example in sorted(examples, key=_rank):
        if answers[example.completion] < _PER_COMPLETION and prompts[example.history, example.prompt] < _PER_PROMPT:
            kept.append(example)
            answers[example.completion] += 1
            prompts[example.history, example.prompt] += 1
    return kept


def _mix(examples: list[Example]) -> list[Example]:
    """Each domain up to its share; within it, families, then kinds, then languages as evenly as they allow."""
    by_domain: dict[str, list[Example]] = {domain: [] for domain in SHARES}
    for example in examples:
        by_domain[example.markers["domain"]].append(example)
    keys = (_family, lambda item: item.kind, lambda item: item.markers.get("lang", ""))
    return [
        example
        for domain, share in SHARES.items()
        for example in sorted(even(by_domain[domain], round(ROWS * share), keys, _rank, WEIGHTS), key=_rank)
    ]


def _family(example: Example) -> str:
    """The kind, but all topics of conversation are one family."""
    return "chatterbot" if example.kind.startswith("chatterbot.") else example.kind


def _rank(example: Example) -> tuple[float, str, str, str]:
    return example.rank


def _candidate(number: int, example: Example) -> Candidate:
    pin = PINS[example.package]
    metadata = {f"marker.{name}": value for name, value in example.markers.items()}
    metadata |= {"package": example.package, "version": pin.version, "kind": example.kind, "group": example.group}
    return Candidate(
        where=f"starter:{number}",
        prompt=(*example.history, ("user", example.prompt.strip())),
        completion=example.completion.strip("\n").rstrip(),
        license=pin.license,
        metadata=metadata,
    )
