"""The report's pieces: signs and sentences that say what the intervals say, pictures that are sound XML."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailmark.evaluate.report import charts, svg, verdict
from tailmark.evaluate.scores import MEASURES
from tailmark.evaluate.table import LiftRow, lift_table


def entry(lift: float, low: float, high: float) -> dict[str, float]:
    return {"lift": lift, "low": low, "high": high, "baseline": 0.5, "marked": 0.5 + lift, "n": 40, "p": 0.5}


def metrics(**lifts: tuple[float, float, float]) -> dict[str, Any]:
    nll = {mode: {name: entry(*values) for name in ("all", "head", "tail")} for mode, values in lifts.items()}
    return {"likelihood": {"nll": nll}, "inference": {}}


def test_lifts_are_positive_where_the_marked_model_is_better() -> None:
    for measure in MEASURES:
        better = (0.2, 0.6) if measure.higher_is_better else (0.6, 0.2)
        assert measure.lift(*better) > 0 > measure.lift(*reversed(better))


@pytest.mark.parametrize(
    ("values", "reading", "words"),
    [
        ((0.2, 0.1, 0.3), "better", "more likely than"),
        ((-0.2, -0.3, -0.1), "worse", "less likely than"),
        ((0.1, -0.1, 0.3), "unclear", "about as"),
    ],
)
def test_sentences_follow_the_interval(values: tuple[float, float, float], reading: str, words: str) -> None:
    content = metrics(inferred=values)
    first, tail = verdict.sentences(lift_table(content), content, 0.95)
    assert (first[0], tail[0]) == (reading, reading)
    assert words in first[1]


def test_the_headline_counts_and_leaves_the_control_out() -> None:
    rows = lift_table(metrics(inferred=(0.2, 0.1, 0.3), fixed=(-0.2, -0.3, -0.1), wrong=(-1, -2, -0.5)))
    assert verdict.headline(rows) == "Of 2 comparisons with its baseline, the marked model is better in 1 and worse in 1."
    undecided = lift_table(metrics(inferred=(0.0, -0.1, 0.1), wrong=(-1, -2, -0.5)))
    assert "too small" in verdict.headline(undecided)
    assert verdict.headline([]) == "Nothing could be compared."


def test_an_own_marker_is_told_against_the_most_frequent_value() -> None:
    content = {"own_markers": {"domain": {"inferred": {"all": entry(0.25, 0.1, 0.4)}}}, "inference": {"domain": {"accuracy": 0.75}}}
    ((reading, sentence),) = verdict.sentences(lift_table(content), content, 0.95)
    assert reading == "better"
    assert "right domain for 75\u00a0%" in sentence
    assert "right for 50\u00a0%" in sentence


def test_shares_are_shown_as_points() -> None:
    (row,) = lift_table({"language": {"pass": {"fixed": {"all": entry(0.25, 0.1, 0.4)}}}})
    assert (row.lift, row.low, row.high, row.unit) == (25.0, 10.0, 40.0, "points")


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_ticks_lie_within_and_are_few(low: float, span: float) -> None:
    found = svg.ticks(low, low + span, 7)
    assert len(found) <= 8
    assert all(low - span * 1e-6 <= value <= low + span * (1 + 1e-6) for value in found)


def test_zero_has_no_sign_and_minus_is_a_minus() -> None:
    assert [svg.signed(value, 2) for value in (0.0, -0.001, 0.5, -1.25)] == ["0.00", "0.00", "+0.50", "−1.25"]


def test_pictures_are_sound_and_escape_what_they_show() -> None:
    rows = [LiftRow("likelihood", "nll", "A <b> & c", "all", "fixed", "x", 1, 2, 0.1, -0.1, 0.2, 9)]
    slices = [{"slice": "domain=<x>&", "mode": "fixed", "n": 9, "lift": 0.1, "low": 0.0, "high": 0.2}]
    rare = [{"mode": "fixed", "domain": "<x>", "training_rows": 0, "lift": 0.1, "n": 3}]
    points = [{"mode": "fixed", "target": 5, "generated": 0, "row": "a"}]
    for picture in (
        charts.lift_picture(rows),
        charts.forest(slices, unit="nats", label="<&>"),
        charts.rarity(rare, "domain", tail_below=50),
        charts.lengths(points, {}),
    ):
        assert ElementTree.fromstring(picture).tag.endswith("svg")
        assert "nan" not in picture
