"""The tables of the paper's experiment, from evaluations as a member's branch holds them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import lengths
from benchmarks.paper import (
    CLAIMS,
    _told,
    confusion_table,
    inference_table,
    length_table,
    lift_table,
    plot,
    rarity_table,
    tail_table,
    training_table,
)
from benchmarks.pooled import seeds_together
from tailmark.evaluate.store import EXAMPLES
from tasks.sweepfile import read_sweep

ROOT = Path(__file__).resolve().parents[2]


def entry(lift: float, half: float) -> dict[str, float]:
    return {"baseline": 0.5, "marked": 0.5 + lift, "lift": lift, "low": lift - half, "high": lift + half, "n": 20}


def evaluation(lift: float) -> dict[str, Any]:
    share = {"accuracy": 0.75, "low": 0.5, "high": 0.9, "majority": 0.25, "n": 20}
    metrics: dict[str, Any] = {"inference": {"domain": share, "length_tokens": {"relative_error": 0.1}}}
    for claim in CLAIMS:
        metrics.setdefault(claim.benchmark, {}).setdefault(claim.score, {}).setdefault(claim.mode, {})[claim.slice] = entry(lift, 0.1)
    measures = [{"benchmark": "language_confusion", "score": "line", "title": "", "unit": "share", "higher_is_better": True}]
    counts = {"steps": 3, "tokens": 1000, "supervised_tokens": 10, "trainable_parameters": 5}
    trained = {**counts, "heldout_first": {"answer": 3.0}, "heldout_last": {"answer": 2.0}}
    return {"metrics": metrics, "benchmarks": {"measures": measures}, "trainings": {"baseline": trained}, "examples": None}


def test_a_lift_is_bold_where_its_interval_leaves_zero_out() -> None:
    lines = list(lift_table({"sure": evaluation(0.25), "unsure": evaluation(0.05), "worse": evaluation(-0.2)}))
    line = next(text for text in lines if "lines all pass | fixed" in text)
    assert "50.0 to 75.0: **+25.0 (15.0 to 35.0)**; n 20" in line
    assert "50.0 to 55.0: +5.0 (-5.0 to 15.0); n 20" in line
    assert "**-20.0 (-30.0 to -10.0)**" in line
    assert "0.500 to 0.750" in next(text for text in lines if "nats per token | absent" in text), "what is no share keeps its unit"
    assert len(lines) == 2 + len(CLAIMS)


def test_a_benchmark_that_nobody_ran_has_no_line() -> None:
    one = evaluation(0.1)
    del one["metrics"]["humanevalpack"]
    assert not any("HumanEvalPack" in line for line in lift_table({"a": one}))


def test_markers_stand_beside_chance_and_the_paper() -> None:
    line = list(inference_table({"0_50": evaluation(0.1)}))[-1]
    assert line.startswith("| 0_50 | **75.0** (50 to 90; chance 25, paper 3.3; n 20) |")
    assert list(training_table({"a": evaluation(0.1)}))[-1] == "| a | baseline | 3 | 1,000 | 10 | 5 | 3.000, 2.000 |"


def test_a_gain_that_grows_with_rarity_is_bold_where_its_interval_leaves_zero_out() -> None:
    one = evaluation(0.1)
    slope = {"difference": 0.1, "low": 0.05, "high": 0.2, "n": 20}
    one["metrics"]["likelihood"]["nll"]["fixed"]["rarity"] = {"domain": slope, "task": {**slope, "low": -0.1}}
    assert list(rarity_table({"a": one}))[2:] == ["| a | fixed | **+0.100 (0.050 to 0.200)**; n 20 | +0.100 (-0.100 to 0.200); n 20 |  |"]


def test_the_tail_stands_beside_the_head() -> None:
    one, other = evaluation(0.1), evaluation(0.1)
    one["metrics"]["heldout_prompts"]["win_reference"]["inferred"]["tail_minus_head"] = {
        "difference": -0.2,
        "low": -0.3,
        "high": -0.1,
        "n": 40,
    }
    assert list(tail_table({"a": one, "b": other}))[2:] == ["| a | **-20.0 (-30.0 to -10.0)**; n 40 |  |  |  |"]


def test_what_an_evaluation_was_not_meant_to_measure_has_no_line() -> None:
    few = evaluation(0.1)
    few["metrics"]["likelihood"]["nll"]["wrong"]["all"]["n"] = 8
    assert not any("another row's markers" in line for line in lift_table({"a": few}))


def test_a_language_counts_where_the_prompt_shows_it() -> None:
    def row(task: str, lang: str, value: float, number: int, score: str = "lang") -> dict[str, Any]:
        texts = dict.fromkeys(("markers", "written", "reference", "mode", "arm", "prompt"), "{}")
        slices, given = json.dumps({"task": task, "lang": lang}), json.dumps({"lang": lang})
        of = {"benchmark": "inference", "score": score, "row_id": str(number), "group": str(number), "tail": False}
        return {**texts, **of, "value": value, "slices": slices, "given": given, "answer": None}

    rows = [row("Summarization", "French", 1.0, 1), row("Summarization", "English", 0.0, 2), row("CodeFix", "English", 1.0, 3)]
    rows += [row("Explanation", "English", 1.0, 4), row("Translation", "French", 0.0, 5), row("CodeFix", "English", 0.0, 6, "domain")]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLES), file)
    assert _told(file.getvalue()).startswith("**66.7** (")
    assert _told(file.getvalue()).endswith("; chance 67; n 3)")
    assert _told(None) == ""


def test_seeds_are_pooled_over_rows_with_texts_that_both_held_out_drawn_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.pooled.MIN_SLICE", 1)

    labels = {0: {}, 4: {"domain": "Legal", "task": "Explanation"}}

    def row(mode: str, number: int, value: float, tail: bool) -> dict[str, Any]:
        texts = dict.fromkeys(("markers", "written", "given", "reference", "arm", "prompt"), "{}")
        of = {"benchmark": "likelihood", "score": "nll", "mode": mode, "row_id": str(number), "group": f"text {number}", "tail": tail}
        return {**texts, **of, "value": value, "slices": json.dumps(labels.get(number, {"domain": "Code"})), "answer": None}

    def seed(gains: dict[int, float]) -> dict[str, Any]:
        rows = [row("baseline", number, 2.0, number > 2) for number in gains]
        rows += [row("fixed", number, 2.0 - gain, number > 2) for number, gain in gains.items()]
        file = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLES), file)
        return {**evaluation(0.1), "examples": file.getvalue()}

    of = ("likelihood", "nll", "fixed")
    keys = [(*of, "all"), (*of, "head"), (*of, "tail"), (*of, "open"), (*of, "shown"), ("length", "error", "fixed", "all")]
    given = {"a": seed({0: 0.1, 1: 0.2, 3: 0.6}), "a,seed=18": seed({1: 0.4, 4: 0.2}), "b": seed({1: 0.0})}
    (name, pooled), *others = seeds_together(given, keys).items()
    assert (name, others) == ("a, 2 seeds", [])
    parts = pooled["metrics"]["likelihood"]["nll"]["fixed"]
    lifts = {part: (round(item["lift"], 6), item["n"]) for part, item in parts.items()}
    assert lifts == {"all": (0.3, 5), "head": (0.3, 2), "tail": (0.4, 2), "open": (0.2, 1), "shown": (0.325, 4)}
    assert parts["head"]["low"] == parts["head"]["high"], "one text is one cluster, whichever seed held it out"
    assert parts["tail"]["low"] < 0.4 < parts["tail"]["high"]
    assert "length" not in pooled["metrics"], "a measure that nobody took has no line"
    (half,) = seeds_together({"a": seed({1: 0.2}), "a,seed=18": seed({})}, keys).values()
    assert half["metrics"] == {}, "what one seed alone has is not called both seeds'"


def test_language_confusion_is_told_apart_by_the_language_of_its_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.pooled.MIN_SLICE", 1)

    def row(mode: str, part: str, value: float) -> dict[str, Any]:
        texts = dict.fromkeys(("markers", "written", "given", "reference", "arm", "prompt", "slices"), "{}")
        of = {"benchmark": "language_confusion", "score": "line", "mode": mode, "row_id": f"language_confusion/{part}/okapi/fr/1"}
        return {**texts, **of, "group": part, "tail": False, "value": value, "answer": None}

    rows = [row(mode, part, value) for part in ("monolingual", "crosslingual") for mode, value in (("baseline", 0.0), ("fixed", 1.0))]
    rows[-1]["value"] = 0.0
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLES), file)
    of = ("language_confusion", "line", "fixed")
    keys = [(*of, part) for part in ("all", "monolingual", "crosslingual")]
    both = seeds_together({name: {**evaluation(0.1), "examples": file.getvalue()} for name in ("a", "a,seed=18")}, keys)["a, 2 seeds"]
    parts = both["metrics"]["language_confusion"]["line"]["fixed"]
    assert {part: (item["lift"], item["n"]) for part, item in parts.items()} == {
        "all": (0.5, 4),
        "monolingual": (1, 2),
        "crosslingual": (0, 2),
    }
    monkeypatch.setattr("benchmarks.pooled.MIN_SLICE", 2)
    few = seeds_together({name: {**evaluation(0.1), "examples": file.getvalue()} for name in ("a", "a,seed=18")}, keys)["a, 2 seeds"]
    assert set(few["metrics"]["language_confusion"]["line"]["fixed"]) == {"all"}, "a slice of one text has no interval"


def test_a_list_that_names_the_language_is_told_from_an_answer_that_keeps_to_it() -> None:
    def row(mode: str, number: int, value: float, written: str, part: str = "crosslingual") -> dict[str, Any]:
        texts = {
            **dict.fromkeys(("markers", "given", "reference", "arm", "prompt"), "{}"),
            "written": written,
            "slices": '{"lang": "French"}',
        }
        of = {"benchmark": "language_confusion", "score": "line", "mode": mode, "row_id": f"language_confusion/{part}/okapi/fr/{number}"}
        return {**texts, **of, "group": str(number), "tail": False, "value": value, "answer": None}

    french, english = '{"lang": "French", "task": "Rewrite"}', '{"lang": "English"}'
    rows = [row("baseline", number, 1.0, "{}") for number in (1, 2, 3, 4)] + [row("baseline", 9, 0.0, "{}")]
    rows += [
        row("inferred", 1, 1.0, french),
        row("inferred", 2, 0.0, french),
        row("inferred", 3, 0.5, english),
        row("inferred", 4, 0.0, ""),
    ]
    rows += [row("inferred", 7, 1.0, french), row("inferred", 1, 1.0, french, part="monolingual")]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLES), file)
    lines = list(confusion_table({"a": {**evaluation(0.1), "examples": file.getvalue()}, "b": evaluation(0.1)}))
    assert lines[2:] == ["| a | inferred | 4 | 100 %, 25 % | 2 | 100 %, 50 % |"], "a prompt counts where both arms' answers do"


def test_lengths_that_follow_are_told_from_lengths_that_do_not() -> None:
    def row(benchmark: str, mode: str, asked: int, made: float, written: str = "{}") -> dict[str, Any]:
        of = {"benchmark": benchmark, "mode": mode, "row_id": str(asked), "group": str(asked), "tail": False, "value": made}
        score = "length_tokens" if benchmark == "inference" else "tokens"
        marker = json.dumps({"length_tokens": asked})
        texts = dict.fromkeys(("slices", "reference", "arm", "prompt"), "{}")
        return {**texts, **of, "score": score, "markers": marker, "given": marker, "written": written, "answer": None}

    rows = [row("length_alone", "fixed", 10 * number, 11.0 * number) for number in (1, 2, 4)]
    rows += [row("length_alone", "baseline", 10 * number, 20.0) for number in (1, 2, 4)]
    rows += [row("inference", "inferred", 60, 0.1, '{"length_tokens": "060"}'), row("inference", "inferred", 30, 1.0, "{}")]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLES), file)
    table = list(length_table({"a": {**evaluation(0.1), "examples": file.getvalue()}}))
    assert table[2] == "| a | nothing | 20 | 20 |  | 33 % | 3 |"
    assert table[3] == "| a | the marker | 20 | 22 | 1.00 | 100 % | 3 |"
    assert table[4] == "| a | *no answer: what the list says* | 60 | 60 |  | 100 % | 1 |"
    assert lengths.cells(None) == []


@pytest.mark.parametrize("file", ["paper.yaml", "paper-gpu.yaml"])
def test_every_benchmark_of_a_sweep_is_in_the_table(file: str) -> None:
    named = {str(item.get("name", item["kind"])) for item in read_sweep(ROOT / "sweeps" / file).members["50_50"]["evaluate.benchmarks"]}
    assert named - {claim.benchmark for claim in CLAIMS} <= {"translation", "length_buckets"}


def test_the_picture_has_the_papers_lifts_beside_ours(tmp_path: Path) -> None:
    plot({"a": evaluation(0.2)}, tmp_path / "lifts.svg")
    drawn = (tmp_path / "lifts.svg").read_text()
    assert drawn.startswith("<?xml")
    assert "paper (7B)" in drawn
