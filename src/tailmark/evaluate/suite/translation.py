"""Held-out translations by chrF and BLEU (sacrebleu, Post 2018, arXiv 1804.08771), and by COMET where a model of it is at hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sacrebleu

from tailmark.config import Translation
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.scores import Measure, ScoredMode
from tailmark.evaluate.suite.base import Item, Judged, sample
from tailmark.evaluate.suite.prompts import heldout_item
from tailmark.generate.request import Answer
from tailmark.layout import Layout

_TOKENIZERS = {"Chinese": "zh", "Japanese": "char", "Korean": "char", "Thai": "char"}
"""How BLEU splits languages that `13a` does not split: what needs no dictionary."""

_COMET_BATCH = 8


class TranslationBenchmark(Judged):
    """Rows whose task is Translation, asked as they stand; scores of an answer against the row's own translation.

    `chrf` and `bleu` (0 to 100) are of the single sentence, for paired comparisons; those of all answers together, which other reports
    give, stand under `found`.
    """

    name = "translation"

    def __init__(self, options: Translation, bench: Bench, layout: Layout) -> None:
        self._options, self._bench, self._root = options, bench, layout.root
        self.files: dict[str, dict[str, str | int]] = {}
        self.not_run: dict[str, str] = {}
        self.found: dict[str, Any] = {}
        self.measures = [
            Measure(self.name, "chrf", "Translation, chrF", "chrF", higher_is_better=True),
            Measure(self.name, "bleu", "Translation, BLEU of sentences", "BLEU", higher_is_better=True),
        ]
        if options.comet:
            self.measures.append(Measure(self.name, "comet", "Translation, COMET", "COMET", higher_is_better=True))

    def load(self) -> Sequence[Item]:
        """The held-out rows of that task."""
        rows = [row for row in self._bench.heldout.rows if row.labels.get("task") == "Translation"]
        if not rows:
            self.not_run["translation"] = "no held-out row has the task Translation"
        return sample([heldout_item(row) for row in rows], self._options.limit, self._bench.config.seed)

    def score(self, item: Item, answer: Answer) -> Mapping[str, float]:
        """chrF and BLEU of one answer."""
        text, reference = answer.text.strip(), [item.reference]
        bleu = sacrebleu.sentence_bleu(text, reference, tokenize=_tokenizer(item))
        return {"chrf": sacrebleu.sentence_chrf(text, reference).score, "bleu": bleu.score}

    def judge(
        self, items: Sequence[Item], answers: Mapping[ScoredMode, Sequence[Answer]]
    ) -> Mapping[ScoredMode, Sequence[Mapping[str, float]]]:
        """COMET of every answer where it is asked for; on the way, the scores of all answers together."""
        texts = {mode: [answer.text.strip() for answer in given] for mode, given in answers.items()}
        self.found["corpus"] = {mode: corpus_scores(items, given) for mode, given in texts.items()}
        self.found["sacrebleu"] = sacrebleu.__version__
        if not self._options.comet:
            return {}
        if find_spec("comet") is None:
            self.not_run["COMET"] = "unbabel-comet is not installed"
            return {}
        return self._comet(self._options.comet, items, texts)

    def _comet(
        self, name: str, items: Sequence[Item], texts: Mapping[ScoredMode, Sequence[str]]
    ) -> dict[ScoredMode, list[Mapping[str, float]]]:
        from comet import download_model, load_from_checkpoint

        local = self._root / Path(name)
        model = load_from_checkpoint(str(local) if local.exists() else download_model(name))
        found: dict[ScoredMode, list[Mapping[str, float]]] = {}
        for mode, given in texts.items():
            asked = [
                {"src": item.messages[-1]["content"], "mt": text, "ref": item.reference} for item, text in zip(items, given, strict=True)
            ]
            gpus = int(self._bench.marked.device.type == "cuda")
            scores = model.predict(asked, batch_size=_COMET_BATCH, gpus=gpus, progress_bar=False).scores
            found[mode] = [{"comet": float(score)} for score in scores]
        return found


def corpus_scores(items: Sequence[Item], texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """chrF and BLEU of all answers of a language together, by language; `all` is the mean over the languages."""
    by_language: dict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        by_language[item.labels.get("lang", "unknown")].append(place)
    found = {}
    for language, places in sorted(by_language.items()):
        given, references = [texts[place] for place in places], [[items[place].reference for place in places]]
        bleu = sacrebleu.corpus_bleu(given, references, tokenize=_tokenizer(items[places[0]]))
        found[language] = {"chrf": round(sacrebleu.corpus_chrf(given, references).score, 3), "bleu": round(bleu.score, 3), "n": len(places)}
    mean = {name: round(sum(entry[name] for entry in found.values()) / len(found), 3) for name in ("chrf", "bleu")}
    return {"all": {**mean, "n": len(items)}, **found}


def _tokenizer(item: Item) -> str:
    return _TOKENIZERS.get(item.labels.get("lang", ""), "13a")
