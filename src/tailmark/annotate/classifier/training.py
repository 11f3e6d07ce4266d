"""Trains the classifiers on the rows whose source states a marker, and measures what they are worth on rows they have not seen."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tailmark.annotate.classifier.model import LinearModel, best_temperature, calibration_error, features, fit
from tailmark.annotate.passes import records
from tailmark.config import Classifier
from tailmark.console import say
from tailmark.errors import DataError
from tailmark.files import sha256_bytes
from tailmark.records import TRAIN, Record, read_table
from tailmark.taxonomy import MarkerSpec, Taxonomy

_CALIBRATION = 0.2
_SLICE = 5_000
_OPENING_CHARS = 200


class Labelled(NamedTuple):
    """A row whose source states the marker. `opening`: how its prompt begins; rows of one kind of request share it."""

    id: str
    text: str
    value: str
    opening: str
    train: bool


class Trained(NamedTuple):
    """A marker's classifier and what is known of it, for the report."""

    model: LinearModel
    report: dict[str, Any]


def text_of(row: Record, spec: MarkerSpec) -> str:
    """What a marker is read from: the last turn of the prompt, the completion, or both where the taxonomy says metadata."""
    prompt = str(row["prompt"][-1]["content"])
    if spec.read_from == "prompt":
        return prompt
    return str(row["completion"]) if spec.read_from == "completion" else f"{prompt}\n\n{row['completion']}"


def train(shards: Iterable[Path], taxonomy: Taxonomy, options: Classifier) -> dict[str, Trained]:
    """Train one classifier a marker.

    Raises:
        DataError: a marker has not two values with `min_rows` labelled training rows.
        TaxonomyError: `options` names a marker that the taxonomy does not have.
    """
    names = sorted(set(options.markers))
    for name in names:
        if taxonomy.spec(name).kind != "categorical":
            raise DataError(
                f"Marker '{name}' is a number; the classifier finds categorical markers.",
                where="params.yaml: annotate.classifier.markers",
                fix=f"take '{name}' out",
            )
    found = collect(shards, taxonomy, names, options.max_rows)
    return {name: train_marker(name, found[name], options) for name in names}


def collect(shards: Iterable[Path], taxonomy: Taxonomy, names: Sequence[str], most: int) -> dict[str, list[Labelled]]:
    """Labelled rows by marker: of each value and split the `most` first by id, which is a hash and so draws at random."""
    kept: dict[tuple[str, str, bool], list[Labelled]] = defaultdict(list)
    for row in _rows(shards):
        for name in names:
            if row["origin"][name] == "dataset":
                prompt = row["prompt"][-1]["content"].strip()
                opening = prompt.split("\n", 1)[0][:_OPENING_CHARS]
                item = Labelled(row["id"], text_of(row, taxonomy.markers[name]), row["markers"][name], opening, row["split"] == TRAIN)
                cell = kept[name, item.value, item.train]
                cell.append(item)
                if len(cell) >= 2 * most:
                    cell.sort()
                    del cell[most:]
    found: dict[str, list[Labelled]] = {name: [] for name in names}
    for (name, _, _), cell in sorted(kept.items()):
        found[name].extend(sorted(cell)[:most])
    return found


def _rows(shards: Iterable[Path]) -> Iterator[Record]:
    for path in shards:
        table = read_table(path)
        for start in range(0, table.num_rows, _SLICE):
            yield from records(table.slice(start, _SLICE))


def train_marker(name: str, rows: list[Labelled], options: Classifier) -> Trained:
    """Train on most of the training rows, set the temperature on the others, and measure on the held-out rows.

    Raises:
        DataError: fewer than two values have `min_rows` training rows.
    """
    training = Counter(row.value for row in rows if row.train)
    values = tuple(sorted(value for value, count in training.items() if count >= options.min_rows))
    few = {value: count for value, count in sorted(training.items()) if count < options.min_rows}
    if len(values) < 2:
        counts = ", ".join(f"{value} {count}" for value, count in sorted(training.items())) or "no row at all"
        raise DataError(
            f"Too few labelled training rows for a classifier of '{name}': {counts}; two values need {options.min_rows} each.",
            where="params.yaml: annotate.classifier",
            fix=f"map more of the sources' fields to '{name}', lower `min_rows`, or take '{name}' out of `markers`",
        )
    if few:
        say(f"  classifier {name}: too few labelled rows, never given: {', '.join(f'{value} {count}' for value, count in few.items())}")
    known = [row for row in rows if row.value in values]
    seen, unseen = _split([row for row in known if row.train])
    heldout = [row for row in known if not row.train]
    model = fit(features([row.text for row in seen]), [row.value for row in seen], values)
    if unseen:
        scores = model.scores(features([row.text for row in unseen]))
        model = replace(model, temperature=best_temperature(scores, _places(unseen, values)))
    report = {
        "threshold": options.threshold,
        "temperature": model.temperature,
        "training_rows": len(seen),
        "too_few_rows": few,
        "heldout": measure(model, heldout, options.threshold),
        "new_prompts": measure(model, unseen, options.threshold),
    }
    return Trained(model, report)


def _split(rows: list[Labelled]) -> tuple[list[Labelled], list[Labelled]]:
    """Rows to train on and rows to calibrate on: prompts that begin alike are on one side, so that calibration sees new ones.

    Every value keeps rows to train on.
    """
    aside = {row.opening for row in rows if int(sha256_bytes(row.opening.encode())[:8], 16) < _CALIBRATION * 2**32}
    whole = {row.value for row in rows} - {row.value for row in rows if row.opening not in aside}
    seen = [row for row in rows if row.opening not in aside or row.value in whole]
    return seen, [row for row in rows if row.opening in aside and row.value not in whole]


def _places(rows: Sequence[Labelled], values: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([values.index(row.value) for row in rows], dtype=np.int64)


def measure(model: LinearModel, rows: list[Labelled], threshold: float) -> dict[str, Any]:
    """Accuracy of all rows and of those it answers, coverage (the share it answers), calibration error, and both by value.

    Of a value, `answered` are rows of it that get any answer and `right` those that get this one; `given` are the rows that get it.
    """
    if not rows:
        return {"rows": 0}
    best, confidence = model.predict(features([row.text for row in rows]))
    right, answered = best == _places(rows, model.values), confidence >= threshold
    by_value = {}
    for place, value in enumerate(model.values):
        own = np.array([row.value == value for row in rows])
        by_value[value] = {
            "rows": int(own.sum()),
            "answered": int((own & answered).sum()),
            "right": int((own & answered & right).sum()),
            "given": int(((best == place) & answered).sum()),
        }
    return {
        "rows": len(rows),
        "accuracy": round(float(right.mean()), 4),
        "answered": int(answered.sum()),
        "coverage": round(float(answered.mean()), 4),
        "accuracy_answered": round(float(right[answered].mean()), 4) if answered.any() else None,
        "calibration_error": round(calibration_error(confidence, right), 4),
        "values": by_value,
    }
