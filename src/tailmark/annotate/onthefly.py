"""Markers for a bare prompt (the paper's on-the-fly mode): what its answer should have, as far as that can be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tailmark.annotate.annotators import Finding, applies
from tailmark.config import LLM
from tailmark.measure.code import code_type
from tailmark.measure.language import measure_language
from tailmark.taxonomy import Taxonomy

NEVER = frozenset({"quality", "quality_bucket", "source"})
"""What no prompt asks for: the paper's tagger writes the other ten."""


class OnTheFly:
    """Finds markers of prompts.

    An LLM comes first: only it reads what the prompt wants (`Translate into French`). Where it leaves a marker open, or there is none, the
    language of the answer is taken to be the prompt's, and its programming language that of the code in the prompt.

    Args:
        options: the section `annotate.llm` (None: measure only); its `markers` do not matter here.
        state: where answers that were paid for are kept.
    """

    def __init__(self, taxonomy: Taxonomy, options: LLM | None, state: Path) -> None:
        self._taxonomy = taxonomy
        self._fields = tuple(name for name in sorted(taxonomy.markers) if name not in NEVER)
        self._llm = None
        if options is not None:
            from tailmark.annotate.llm import LLMAnnotator

            self._llm = LLMAnnotator.open(options.model_copy(update={"markers": self._fields}), taxonomy, state, bare=True)

    def find(self, prompts: Sequence[Sequence[Mapping[str, str]]]) -> list[dict[str, tuple[Finding, str]]]:
        """Per prompt (messages, the last one the user's) its markers, each with the kind of evidence; nothing that does not apply.

        Raises:
            EndpointError, BudgetExceeded: see `LLMAnnotator.annotate`.
        """
        asked: list[dict[str, Finding]] = [{} for _ in prompts]
        if self._llm is not None:
            asked = self._llm.annotate([{"prompt": [dict(turn) for turn in messages]} for messages in prompts], [{} for _ in prompts])
        return [self._merged(messages, found) for messages, found in zip(prompts, asked, strict=True)]

    def _merged(self, messages: Sequence[Mapping[str, str]], asked: Mapping[str, Finding]) -> dict[str, tuple[Finding, str]]:
        measured = {name: finding for name, finding in self._measured(messages[-1]["content"]).items() if name not in asked}
        known = {**measured, **asked}
        return {
            name: (known[name], "measured" if name in measured else "llm")
            for name in self._fields
            if name in known and applies(self._taxonomy, name, known)
        }

    def _measured(self, text: str) -> dict[str, Finding]:
        found: dict[str, Finding] = {}
        lang = self._taxonomy.markers.get("lang")
        if lang is not None and (language := measure_language(text, tuple(lang.values))):
            found["lang"] = Finding(language.name, language.confidence)
        if code := code_type(text):
            found["code_type"] = Finding(code)
        return {name: finding for name, finding in found.items() if self._taxonomy.allows(name, finding.value)}
