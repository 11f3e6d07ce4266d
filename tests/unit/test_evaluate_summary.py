"""Intervals of `metrics.json`: rows made from one text are not counted as independent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tailmark.config import Config
from tailmark.evaluate.sample import HeldOut, Row
from tailmark.evaluate.scores import Score
from tailmark.evaluate.summary import MIN_SLICE, Metrics, summarize
from tailmark.taxonomy import MarkerList

TEXTS = 24
LIFTS = np.random.default_rng(1).normal(0.3, 1.0, TEXTS)


def rows(groups: Sequence[str], domain: str = "Legal") -> list[Row]:
    question = ({"role": "user", "content": "?"},)
    return [Row(f"{number:032x}", question, "!", MarkerList({}), {"domain": domain}, False, group) for number, group in enumerate(groups)]


def metrics(found: Sequence[Row], lifts: Sequence[float]) -> Metrics:
    """Of a likelihood benchmark with these lifts, and the inference of a length with their sizes as errors."""
    scores = []
    for row, lift in zip(found, lifts, strict=True):
        scores += [Score(row, "likelihood", "baseline", "nll", 2.0 + lift), Score(row, "likelihood", "fixed", "nll", 2.0)]
        scores.append(Score(row, "inference", "inferred", "length_tokens", abs(lift), given={"length_tokens": 5}))
    return summarize(scores, HeldOut(tuple(found), {}, frozenset(), 0, ""), Config())


def copies(times: int, *, together: bool) -> Metrics:
    """Of every text's row `times` times over, as rows of one text or as texts of their own."""
    groups = [f"{text}" if together else f"{text}/{copy}" for text in range(TEXTS) for copy in range(times)]
    return metrics(rows(groups), [float(lift) for lift in np.repeat(LIFTS, times)])


@pytest.mark.parametrize("path", ["all", "head", "domain/Legal"])
def test_copies_of_a_text_neither_narrow_a_slice_nor_lower_its_p_value(path: str) -> None:
    once, together, apart = (_slice(copies(times, together=within), path) for times, within in ((1, True), (4, True), (4, False)))
    assert (together["low"], together["high"], together["p"]) == pytest.approx((once["low"], once["high"], once["p"]))
    assert (once["n"], together["n"]) == (TEXTS, 4 * TEXTS)
    assert apart["high"] - apart["low"] < 0.7 * (once["high"] - once["low"])
    assert apart["p"] < once["p"]


def _slice(content: Metrics, path: str) -> dict[str, float]:
    entry = content["likelihood"]["nll"]["fixed"]
    for name in path.split("/"):
        entry = entry[name]
    return dict(entry)


def test_copies_of_a_text_do_not_narrow_the_median() -> None:
    once, together, apart = (
        copies(times, together=within)["inference"]["length_tokens"] for times, within in ((1, True), (5, True), (5, False))
    )
    assert (together["low"], together["high"]) == pytest.approx((once["low"], once["high"]))
    assert apart["high"] - apart["low"] < 0.8 * (once["high"] - once["low"])


@pytest.mark.parametrize(("texts", "reported"), [(MIN_SLICE - 1, False), (MIN_SLICE, True)])
def test_texts_and_not_rows_make_a_slice(texts: int, reported: bool) -> None:
    found = rows([str(text) for text in range(texts) for _ in range(3)])
    modes = metrics(found, [float(number) for number in range(len(found))])["likelihood"]["nll"]
    assert ("domain" in modes["fixed"]) is reported
    assert "all" in modes["fixed"]


def test_one_text_is_not_compared() -> None:
    assert "likelihood" not in metrics(rows(["only"] * 20), [1.0] * 20)
