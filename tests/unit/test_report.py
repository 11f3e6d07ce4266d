"""The report's pieces: signs and sentences that say what the intervals say, pictures that are sound XML."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailmark.config import Mode
from tailmark.evaluate.report import charts, matrices, page, svg, verdict
from tailmark.evaluate.report.examples import picked_examples
from tailmark.evaluate.sample import Row
from tailmark.evaluate.scores import MEASURES, Measure, Score
from tailmark.evaluate.store import Facts
from tailmark.evaluate.table import MODE_WORDS, LiftRow, lift_table
from tailmark.taxonomy import MarkerList


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
    (first,) = verdict.sentences(lift_table(content), content, 0.95)
    assert first[0] == reading
    assert words in first[1]


def test_what_further_benchmarks_leave_open_is_told_together_and_what_they_decide_alone() -> None:
    def row(number: int, low: float = -0.1) -> LiftRow:
        return LiftRow("open", f"s{number}", f"Score {number}", "all", "fixed", "x", 1, 2, 0.1, low, 0.2, 9)

    shown = [verdict.sentences([row(0, 0.05), *(row(number) for number in range(1, last))], {"inference": {}}, 0.95) for last in (5, 6)]
    assert [[reading for reading, _ in item] for item in shown] == [["better", *["unclear"] * 4, "note"], ["better", "unclear", "note"]]
    assert shown[1][1][1].startswith("Too close to call in 5 further comparisons, in the table below: Score 1; Score 2;")


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
    rare = [{"marker": "domain", "mode": "fixed", "value": "<x>", "training_rows": 0, "lift": 0.1, "n": 3}]
    points = [{"mode": "fixed", "target": 5, "generated": 0, "row": "a"}]
    confused = [{"marker": "m", "actual": "<a>", "predicted": predicted, "row": "a"} for predicted in ("<a>", "(none)", "b & c")]
    sure = [{"marker": "<m>", "bin": 1, "confidence": 0.4, "accuracy": 0.5, "low": 0.2, "high": 0.8, "n": 9}]
    for picture in (
        charts.lift_picture(rows),
        charts.forest(slices, unit="nats", label="<&>", level=0.05),
        charts.rarity(rare, "domain", tail_below=50),
        charts.rarities(rare),
        matrices.confusion(confused, {"<a>": 5}, label="<&>", named="<&>"),
        matrices.reliability(sure, {"<m>": 0.1}),
        charts.lengths(points, {}),
    ):
        assert ElementTree.fromstring(picture).tag.endswith("svg")
        assert "nan" not in picture


@pytest.mark.parametrize(("low", "high", "words"), [(0.1, 0.4, "more than"), (-0.4, -0.1, "less than"), (-0.1, 0.2, "not clearly")])
def test_the_tail_is_told_by_its_difference_from_the_head(low: float, high: float, words: str) -> None:
    content = metrics(inferred=(0.2, 0.1, 0.3))
    slices = content["likelihood"]["nll"]["inferred"]
    slices["tail_minus_head"] = {"difference": (low + high) / 2, "low": low, "high": high, "n": 40}
    slices["rarity"] = {
        "lang": {"difference": 0.2, "low": 0.1, "high": 0.3, "n": 40},
        "task": {"difference": 0.9, "low": -1, "high": 3, "n": 40},
    }
    _, tail = verdict.sentences(lift_table(content), content, 0.95)
    assert words in tail[1]
    assert "same lang" in tail[1]
    assert "same task" not in tail[1]


def test_the_number_of_comparisons_is_corrected_for() -> None:
    content = metrics(inferred=(0.2, 0.1, 0.3), fixed=(0.2, 0.1, 0.3))
    content["likelihood"]["nll"]["inferred"]["all"]["p"] = 0.001
    content["likelihood"]["nll"]["fixed"]["all"]["p"] = 0.06
    notes = [sentence for reading, sentence in verdict.sentences(lift_table(content), content, 0.95) if reading == "note"]
    assert notes == ["Of so many comparisons some differ by chance. Corrected for their number (Holm), 1 of the 2 hold at 95\u00a0%."]


def test_a_benchmark_of_the_options_has_a_sentence_of_its_own() -> None:
    measure = Measure("code", "pass@1", "Programs that pass", "share", higher_is_better=True)
    content = {"code": {"pass@1": {"fixed": {"all": entry(0.25, 0.1, 0.4)}}}, "inference": {}}
    ((reading, sentence),) = verdict.sentences(lift_table(content, [measure]), content, 0.95)
    assert reading == "better"
    assert sentence.startswith("Programs that pass, given the markers: 75.0 against 50.0 (lift +25.0 points")


def test_a_slice_too_small_to_decide_says_what_it_would_have_seen() -> None:
    row = {"slice": "domain=Legal", "mode": "fixed", "n": 9, "lift": 0.1, "low": -0.1, "high": 0.3}
    unclear, chance, sure = row | {"mde": 0.25, "p_holm": 0.6}, row | {"low": 0.01, "p_holm": 0.2}, row | {"low": 0.05, "p_holm": 0.01}
    told = [charts.forest([item], unit="nats", label="", level=0.05) for item in (unclear, chance, sure)]
    assert "too few: would see 0.250 or more" in told[0]
    assert "not after correction, p = 0.20" in told[1]
    assert "holds, corrected p = 0.010" in told[2]


def test_every_mode_has_its_own_colour_shape_and_words() -> None:
    modes = ("baseline", *get_args(Mode))
    assert svg.COLOURS.keys() == svg.SHAPES.keys() == set(modes)
    assert len(set(svg.COLOURS.values())) == len(set(svg.SHAPES.values())) == len(modes)
    assert MODE_WORDS.keys() == set(get_args(Mode))


def test_the_rarest_values_of_a_large_matrix_stand_together() -> None:
    rows = [{"marker": "lang", "actual": f"v{number}", "predicted": f"v{number}", "row": str(number)} for number in range(30)]
    picture = matrices.confusion(rows, {f"v{number}": 100 - number for number in range(30)}, label="", named="")
    assert "v12<" in picture
    assert "v13<" not in picture
    assert ">others<" in picture


@pytest.mark.parametrize(
    ("benchmarks", "judged"),
    [
        ({}, False),
        ({"repair": [{"found": {}}], "length_instructed": [{"found": {"judges": {}}}], "quality_lever": [{"found": {}}]}, False),
        ({"arena": [{"found": {"judges": {"llm": {}}}}]}, True),
        ({"quality_lever": [{"found": {"judges": {"reward": {}}, "reward": {"verdict": "rises"}}}]}, True),
    ],
)
def test_the_report_knows_whether_a_judge_read_answers(benchmarks: dict[str, Any], judged: bool) -> None:
    assert page._judged(Facts("test", {}, (), 1, 1, 0, benchmarks=benchmarks)) is judged


def test_an_example_without_the_long_tail_marker_is_neither_head_nor_tail() -> None:
    measure = Measure("echo", "length", "Length", "characters")
    labels: list[tuple[dict[str, str], bool]] = [({"domain": "Legal"}, True), ({"domain": "Code"}, False), ({"lang": "French"}, False)]
    rows = [Row(str(place), ({"role": "user", "content": "?"},), "!", MarkerList({}), *one, "") for place, one in enumerate(labels)]
    scores = [Score(row, "echo", "baseline", "length", 1.0, answer="a") for row in rows]
    assert sorted(item.part for item in picked_examples(scores, [measure], "domain")) == ["", "head", "tail"]
