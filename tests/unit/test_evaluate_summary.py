"""Intervals of `metrics.json`: rows made from one text are not counted as independent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tailmark.config import Config
from tailmark.evaluate.sample import Row
from tailmark.evaluate.scores import Measure, Score
from tailmark.evaluate.store import Facts
from tailmark.evaluate.summary import MIN_SLICE, Metrics, summarize
from tailmark.statistics import holm
from tailmark.taxonomy import MarkerList

TEXTS = 24
TRAINED = {"domain": {"Code": 700, "Culture": 220, "Legal": 40, "Medical": 40}}
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
    return summarize(scores, Facts("test", TRAINED, ("Legal", "Medical"), 1000, len(found), 0), Config())


def copies(times: int, *, together: bool) -> Metrics:
    """Of every text's row `times` times over, as rows of one text or as texts of their own."""
    groups = [f"{text}" if together else f"{text}/{copy}" for text in range(TEXTS) for copy in range(times)]
    return metrics(rows(groups), [float(lift) for lift in np.repeat(LIFTS, times)])


@pytest.mark.parametrize("path", ["all", "head"])
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
    found = [*rows([str(text) for text in range(texts) for _ in range(3)]), *rows(["other"], "Code")]
    modes = metrics(found, [float(number) for number in range(len(found))])["likelihood"]["nll"]
    assert ("domain" in modes["fixed"]) is reported
    assert "all" in modes["fixed"]


def test_one_text_is_not_compared() -> None:
    assert "likelihood" not in metrics(rows(["only"] * 20), [1.0] * 20)


def sliced(domains: dict[str, float], each: int = 20) -> Metrics:
    """The `fixed` slices of rows in these domains, whose lifts have these means."""
    noise = np.random.default_rng(3).normal(0, 0.2, each)
    found, lifts = [], []
    for domain, mean in domains.items():
        tail = TRAINED["domain"][domain] < 50
        found += [replace(row, id=f"{domain}{row.id}", tail=tail) for row in rows([f"{domain}{number}" for number in range(each)], domain)]
        lifts += [mean + float(value) for value in noise]
    slices: Metrics = metrics(found, lifts)["likelihood"]["nll"]["fixed"]
    return slices


def test_the_tail_is_held_against_the_head() -> None:
    slices = sliced({"Code": 0.0, "Culture": 0.1, "Legal": 0.5, "Medical": 0.5})
    contrast = slices["tail_minus_head"]
    assert contrast["difference"] == pytest.approx(slices["tail"]["lift"] - slices["head"]["lift"], abs=1e-5)
    assert 0 < contrast["low"] < contrast["difference"] < contrast["high"]
    growth = slices["rarity"]["domain"]
    assert growth["low"] > 0
    assert growth["difference"] == pytest.approx(0.5 / np.log10(700 / 40), rel=0.2)
    assert sliced({"Code": 0.3, "Legal": 0.3})["tail_minus_head"]["low"] < 0


def test_deciles_follow_training_frequency_and_are_no_family_of_their_own() -> None:
    slices = sliced({"Code": 0.0, "Culture": 0.1, "Legal": 0.5, "Medical": 0.5})
    assert slices["decile"].keys() == {"01", "02", "07"}
    assert slices["decile"]["01"]["n"] == 40
    assert "p_holm" not in slices["decile"]["01"]
    corrected = [slices["domain"][name]["p_holm"] for name in slices["domain"]] + [slices[name]["p_holm"] for name in ("head", "tail")]
    p_values = [slices["domain"][name]["p"] for name in slices["domain"]] + [slices[name]["p"] for name in ("head", "tail")]
    assert corrected == pytest.approx(holm(p_values), abs=1e-5)


def test_a_slice_says_what_it_could_have_shown() -> None:
    small, large = (sliced({"Code": 0.0, "Culture": 0.0}, each=each)["domain"]["Code"]["mde"] for each in (10, 90))
    assert large < small / 2


def test_a_value_that_all_rows_have_is_no_slice() -> None:
    assert "domain" not in sliced({"Code": 0.0})


def test_rows_without_a_value_of_the_long_tail_marker_are_neither_head_nor_tail() -> None:
    """As if they were not there, but in the whole."""
    known = [replace(row, id=f"k{row.id}", tail=number % 2 == 0) for number, row in enumerate(rows([f"{text}" for text in range(40)]))]
    others = [replace(row, labels={"lang": "French"}) for row in rows([f"other {text}" for text in range(40)])]
    lifts = [float(value) for value in np.random.default_rng(4).normal(0.2, 1, 80)]
    alone = metrics(known, lifts[:40])["likelihood"]["nll"]["fixed"]
    together = metrics([*known, *others], lifts)["likelihood"]["nll"]["fixed"]
    for name in ("head", "tail_minus_head"):
        assert together[name]["n"] == alone[name]["n"]
        assert together[name]["low"] == alone[name]["low"]
    assert together["all"]["n"] == 80


def test_a_win_rate_is_never_above_all() -> None:
    win = Measure("arena", "win_llm", "Wins", "share", higher_is_better=True)
    scores = [
        Score(row, "arena", mode, "win_llm", value)
        for row in rows([f"{text}" for text in range(20)])
        for mode, value in (("baseline", 0.5), ("fixed", 1.0))
    ]
    entry = summarize(scores, Facts("test", TRAINED, (), 1000, 20, 0), Config(), [win])["arena"]["win_llm"]["fixed"]["all"]
    assert (entry["lift"], entry["high"]) == (0.5, 0.5)
    assert entry["low"] < 0.5
