"""What was hit: which evaluation set, by how many rows, in which runs of words."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tailmark.ingest.decontaminate import Hit, Index

_MOST_NGRAMS, _MOST_EXAMPLES = 20, 5


class Contamination:
    """Counts the hits of every evaluation set.

    Attributes:
        index: None where no evaluation set is configured.
    """

    def __init__(self, index: Index | None) -> None:
        self.index = index
        self._rows: Counter[str] = Counter()
        self._sources: dict[str, Counter[str]] = {}
        self._ngrams: dict[str, Counter[str]] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, hit: Hit, source: str, where: str) -> None:
        """Count one row's hit in one evaluation set."""
        self._rows[hit.name] += 1
        self._sources.setdefault(hit.name, Counter())[source] += 1
        self._ngrams.setdefault(hit.name, Counter())[hit.ngram] += 1
        examples = self._examples.setdefault(hit.name, [])
        if len(examples) < _MOST_EXAMPLES:
            examples.append(where)

    def report(self) -> dict[str, Any]:
        """Evaluation set to its texts and runs, and the rows, sources, runs and examples it was hit by.

        `ngrams` are those by which most rows were found first, at most 20; `other_ngrams` counts the rest.
        """
        if self.index is None:
            return {}
        return {name: self._of(self.index, place) for place, name in enumerate(self.index.names)}

    def _of(self, index: Index, place: int) -> dict[str, Any]:
        name = index.names[place]
        found = sorted(self._ngrams.get(name, Counter()).items(), key=lambda item: (-item[1], item[0]))
        return {
            "texts": index.texts[place],
            "texts_too_short": index.too_short[place],
            "runs": index.runs[place],
            "rows": self._rows[name],
            "sources": dict(self._sources.get(name, {})),
            "ngrams": [{"ngram": ngram, "rows": rows} for ngram, rows in found[:_MOST_NGRAMS]],
            "other_ngrams": max(len(found) - _MOST_NGRAMS, 0),
            "examples": self._examples.get(name, []),
        }

    def lines(self) -> list[str]:
        """Lines for the console."""
        if self.index is None:
            return []
        return [
            f"  evaluation set {name}: {self._rows[name]:,} rows share {self.index.ngram} words or a whole text with it"
            for name in self.index.names
        ]
