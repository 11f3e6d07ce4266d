"""What is said of inferred markers, on cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tailmark.config import Config
from tailmark.evaluate.marker_metrics import confusion_rows, inference_metrics, reliability_rows, value_rows
from tailmark.evaluate.sample import Row
from tailmark.evaluate.scores import Score
from tailmark.taxonomy import MarkerList

Named = tuple[str, str | None, float]


def scores(found: list[Named]) -> list[Score]:
    """Inference of `domain` for (label, value written, its probability), a row each."""
    result = []
    for number, (label, written, probability) in enumerate(found):
        row = Row(f"{number:032x}", ({"role": "user", "content": "?"},), "!", MarkerList({}), {}, False, str(number))
        given, listed = {"domain": label}, {} if written is None else {"domain": written}
        result.append(Score(row, "inference", "inferred", "domain", float(label == written), given=given, written=listed))
        if written is not None:
            result.append(Score(row, "confidence", "inferred", "domain", probability, given=given, written=listed))
    return result


FOUND: list[Named] = [("Code", "Code", 0.9), ("Code", "Code", 0.8), ("Code", "Math", 0.6), ("Math", "Code", 0.5), ("Math", None, 0.0)]


def test_accuracy_and_calibration_by_hand() -> None:
    entry = inference_metrics(scores(FOUND), Config())["domain"]
    assert (entry["accuracy"], entry["majority"], entry["written"], entry["n"]) == (0.4, 0.6, 4, 5)
    assert entry["confidence"] == pytest.approx(0.7)
    assert entry["overconfidence"] == pytest.approx(0.2)
    assert entry["overconfidence_low"] < 0.2 < entry["overconfidence_high"]
    assert entry["ece"] == pytest.approx(0.2)  # too few rows for more than one bin
    assert entry["brier"] == pytest.approx((0.01 + 0.04 + 0.36 + 0.25) / 4, abs=1e-6)


def test_a_model_that_knows_how_sure_to_be_has_no_error_and_another_has() -> None:
    random = np.random.default_rng(1)
    sure = random.uniform(0.1, 1.0, 2000)
    right = random.random(2000) < sure
    known = [("Code", "Code" if hit else "Math", float(value)) for hit, value in zip(right, sure, strict=True)]
    assert inference_metrics(scores(known), Config())["domain"]["ece"] < 0.04
    boasting = [(label, written, 0.99) for label, written, _ in known]
    entry = inference_metrics(scores(boasting), Config())["domain"]
    assert entry["ece"] == pytest.approx(0.99 - right.mean(), abs=1e-5)
    assert entry["overconfidence_low"] > 0.3


def test_reliability_bins_hold_every_row_once_and_rise() -> None:
    random = np.random.default_rng(2)
    found = [("Code", "Code", float(value)) for value in random.random(97)]
    rows = reliability_rows(scores(found), Config())
    assert sum(row["n"] for row in rows) == 97
    assert max(row["n"] for row in rows) - min(row["n"] for row in rows) <= 1
    assert [row["confidence"] for row in rows] == sorted(row["confidence"] for row in rows)


def test_confusion_and_values() -> None:
    rows = confusion_rows(scores(FOUND))
    assert [(row["actual"], row["predicted"]) for row in rows] == [(label, written or "(none)") for label, written, _ in FOUND]
    code, maths = value_rows(scores(FOUND), {"domain": {"Code": 30, "Math": 4}}, Config())
    assert (code["value"], code["n"], code["written"], code["training_rows"]) == ("Code", 3, 3, 30)
    assert code["recall"] == code["precision"] == pytest.approx(2 / 3, abs=1e-6)
    assert (maths["recall"], maths["precision"], maths["training_rows"]) == (0.0, 0.0, 4)
    assert maths["low"] == 0 < maths["high"]
