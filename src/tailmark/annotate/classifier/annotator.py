"""The classifier as an annotator: a value where it is sure enough, nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from tailmark.annotate.annotators import Finding
from tailmark.annotate.classifier.model import LinearModel, features
from tailmark.annotate.classifier.training import text_of
from tailmark.records import Record
from tailmark.taxonomy import Taxonomy


class ClassifierAnnotator:
    """Gives each marker that has no stronger evidence the likeliest value, with its calibrated probability as confidence."""

    origin = "classifier"

    def __init__(self, models: Mapping[str, LinearModel], taxonomy: Taxonomy, threshold: float) -> None:
        self._models, self._taxonomy, self._threshold = dict(models), taxonomy, threshold

    def annotate(self, rows: list[Record], known: list[dict[str, Finding]]) -> list[dict[str, Finding]]:
        """The markers it is sure enough of; each row's depend on that row alone."""
        found: list[dict[str, Finding]] = [{} for _ in rows]
        for name, model in self._models.items():
            missing = [number for number, findings in enumerate(known) if name not in findings]
            if not missing:
                continue
            texts = [text_of(rows[number], self._taxonomy.markers[name]) for number in missing]
            best, confidence = model.predict(features(texts))
            for number, place, sure in zip(missing, best.tolist(), confidence.tolist(), strict=True):
                if sure >= self._threshold:
                    found[number][name] = Finding(model.values[place], sure)
        return found
