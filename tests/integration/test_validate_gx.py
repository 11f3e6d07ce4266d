"""Stage `validate` with the real Great Expectations."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tailmark.config import Config
from tailmark.errors import ConfigError, DataError, ValidationFailed
from tailmark.files import read_json, sha256_tree
from tailmark.layout import Layout
from tailmark.measure.lengths import length_bucket, measure_lengths
from tailmark.records import annotated_schema, read_table, write_shards
from tailmark.taxonomy import load_taxonomy
from tailmark.validate import stage
from tailmark.validate.stage import FAILING

PAPER = Path(__file__).resolve().parents[2] / "src" / "tailmark" / "taxonomy" / "paper.yaml"
TAXONOMY = load_taxonomy(PAPER)
Change = Callable[[list[dict[str, Any]]], None]


def row(number: int) -> dict[str, Any]:
    completion = f"This is answer number {number}. It has two sentences."
    lengths = measure_lengths(completion, "English")
    markers = dict.fromkeys(TAXONOMY.markers) | {
        "lang": "English",
        "domain": "Code" if number % 30 else "Legal",
        "code_type": "python" if number % 30 else None,
        "length_tokens": lengths.tokens,
        "length_sentences": lengths.sentences,
        "length_paragraphs": lengths.paragraphs,
        "length_bucket": length_bucket(lengths.tokens),
    }
    return {
        "id": f"{number:04d}",
        "prompt": [{"role": "user", "content": f"Say something about {number}."}],
        "completion": completion,
        "source_name": "made" if number % 2 else "found",
        "license": "MIT",
        "split": "heldout" if number % 10 == 0 else "train",
        "metadata": [],
        "markers": markers,
        "origin": {name: None if value is None else "measured" for name, value in markers.items()},
        "confidence": {name: None if value is None else 1.0 for name, value in markers.items()},
    }


def prepare(root: Path, change: Change | None = None, **options: Any) -> tuple[Config, Layout]:
    rows = [row(number) for number in range(1, 151)]
    for item in rows[30:31]:
        item["markers"]["domain"] = "Legal"
    if change:
        change(rows)
    layout = Layout(root)
    write_shards(layout.annotated / "rows", rows, annotated_schema(TAXONOMY))
    return Config.model_validate({"taxonomy": {"file": str(PAPER)}, "validate": options}), layout


def test_good_rows_pass_and_give_the_same_bytes_each_time(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config, layout = prepare(tmp_path)
    stage.run(config, layout)
    first = sha256_tree(layout.validated)
    stage.run(config, layout)
    assert sha256_tree(layout.validated) == first
    result = read_json(layout.validated / "result.json")
    assert result["success"]
    assert result["failed"] == {"stop": [], "warn": []}
    assert sorted(path.name for path in layout.validated.iterdir()) == ["failing_rows.parquet", "result.json"]
    assert read_table(layout.validated / "failing_rows.parquet", FAILING).num_rows == 0
    assert (layout.state / "data_docs" / "index.html").exists()
    assert "validat" in (layout.state / "data_docs" / "index.html").read_text(encoding="utf-8").lower()
    shown = capfd.readouterr()
    assert "Calculating Metrics" not in shown.out + shown.err
    assert not re.search("warning", shown.err, re.IGNORECASE)
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"


def set_marker(name: str, value: Any, *numbers: int) -> Change:
    def change(rows: list[dict[str, Any]]) -> None:
        for number in numbers:
            rows[number - 1]["markers"][name] = value

    return change


def set_field(name: str, value: Any, *numbers: int) -> Change:
    def change(rows: list[dict[str, Any]]) -> None:
        for number in numbers:
            rows[number - 1][name] = value

    return change


def set_evidence(part: str, value: Any, number: int) -> Change:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[number - 1][part]["lang"] = value

    return change


DEFECTS: dict[str, tuple[Change, list[str]]] = {
    "ids.unique": (set_field("id", "0107", 108), ["0107", "0107"]),
    "split.values": (set_field("split", "test", 105), ["0105"]),
    "schema.completion": (set_field("completion", " \n", 104), ["0104"]),
    "schema.prompt_present": (set_field("prompt", [], 103), ["0103"]),
    "schema.prompt": (set_field("prompt", [{"role": "assistant", "content": "Hi."}], 102), ["0102"]),
    "values.lang": (set_marker("lang", "Klingon", *range(40, 80)), [f"{number:04d}" for number in range(40, 80)]),
    "ranges.length_sentences": (set_marker("length_sentences", 0, 111), ["0111"]),
    "lengths.length_paragraphs": (set_marker("length_paragraphs", 2, 112), ["0104", "0112"]),
    "buckets.length_bucket": (set_marker("length_bucket", "long", 113), ["0113"]),
    "completeness.lang": (set_marker("lang", None, *range(1, 31)), [f"{number:04d}" for number in range(1, 31)]),
    "evidence.lang.origin": (set_evidence("origin", "guess", 114), ["0114"]),
    "evidence.lang.confidence": (set_evidence("confidence", 1.5, 115), ["0115"]),
}


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Layout]:
    """What a run over rows with every defect says, and where it leaves its findings."""

    def change(rows: list[dict[str, Any]]) -> None:
        for apply, _ in DEFECTS.values():
            apply(rows)

    config, layout = prepare(tmp_path_factory.mktemp("defects"), change)
    layout.validated.mkdir(parents=True)
    with pytest.raises(ValidationFailed) as caught:
        stage.run(config, layout)
    return str(caught.value), layout


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_stops_with_its_rows(failed: tuple[str, Layout], name: str) -> None:
    message, layout = failed
    ids = DEFECTS[name][1]
    aside = layout.state / "validation-failed"
    line = next(line for line in message.splitlines() if line.strip().startswith(f"{name}: "))
    assert f"{len(ids):,} of " in line
    assert all(f"{id} (" in line for id in ids[:3])
    assert name in read_json(aside / "result.json")["failed"]["stop"]
    listed = read_table(aside / "failing_rows.parquet", FAILING).to_pylist()
    assert [item["id"] for item in listed if item["expectation"] == name] == ids


def test_a_failure_says_where_to_look_and_leaves_no_output(failed: tuple[str, Layout]) -> None:
    message, layout = failed
    assert str(layout.state / "validation-failed" / "failing_rows.parquet") in message
    assert "validate.stop" in message
    assert not layout.validated.exists()


def test_nothing_but_the_defects_fails(failed: tuple[str, Layout]) -> None:
    _, layout = failed
    found = read_json(layout.state / "validation-failed" / "result.json")["failed"]
    # The blank completion (0104) and the count of no sentence also show when lengths are measured again.
    assert set(found["stop"]) == set(DEFECTS) | {"lengths.length_tokens", "lengths.length_sentences"}
    assert found["warn"] == []


def test_too_few_rows_stop(tmp_path: Path) -> None:
    config, layout = prepare(tmp_path, min_rows=1000)
    with pytest.raises(ValidationFailed, match=r"rows\.count: .*at least 1,000 rows; found 150"):
        stage.run(config, layout)


def test_completeness_looks_only_where_the_marker_applies(tmp_path: Path) -> None:
    config, layout = prepare(tmp_path, min_completeness={"code_type": 1.0})
    stage.run(config, layout)
    config, layout = prepare(tmp_path, set_marker("code_type", None, 7), min_completeness={"code_type": 1.0})
    with pytest.raises(ValidationFailed, match=r"completeness\.code_type.*1 of 1\d\d rows do not: 0007 \(made\)"):
        stage.run(config, layout)


def test_a_tail_value_without_heldout_rows_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, layout = prepare(tmp_path, set_marker("domain", "Medical", 11, 12))
    stage.run(config, layout)
    result = read_json(layout.validated / "result.json")
    assert not result["success"]
    assert result["failed"] == {"stop": [], "warn": ["tail.domain"]}
    listed = read_table(layout.validated / "failing_rows.parquet", FAILING).to_pylist()
    assert [(item["id"], item["value"], item["severity"]) for item in listed] == [("0011", "0", "warn"), ("0012", "0", "warn")]
    assert "warning: tail.domain" in capsys.readouterr().out


def test_severity_is_the_users_choice(tmp_path: Path) -> None:
    config, layout = prepare(tmp_path, set_marker("lang", "Klingon", 4), stop=["rows"])
    stage.run(config, layout)
    assert read_json(layout.validated / "result.json")["failed"]["warn"] == ["values.lang"]


def test_a_later_success_clears_what_failed(tmp_path: Path) -> None:
    config, layout = prepare(tmp_path, set_marker("lang", "Klingon", 4))
    with pytest.raises(ValidationFailed):
        stage.run(config, layout)
    config, layout = prepare(tmp_path)
    stage.run(config, layout)
    assert not (layout.state / "validation-failed").exists()
    assert read_json(layout.validated / "result.json")["success"]


def test_rows_of_another_taxonomy_are_refused(tmp_path: Path) -> None:
    config, layout = prepare(tmp_path)
    other = tmp_path / "other.yaml"
    other.write_text("name: o\nmarkers: {domain: {kind: categorical, definition: D., values: {a: A.}}}\n", encoding="utf-8")
    with pytest.raises(DataError, match="expected columns"):
        stage.run(config.model_copy(update={"taxonomy": config.taxonomy.model_copy(update={"file": other})}), layout)


def test_a_long_tail_marker_must_be_in_the_taxonomy(tmp_path: Path) -> None:
    config, layout = prepare(tmp_path)
    asked = config.model_copy(update={"longtail": config.longtail.model_copy(update={"marker": "length_tokens"})})
    with pytest.raises(ConfigError, match="not a categorical marker") as caught:
        stage.run(asked, layout)
    assert "domain" in str(caught.value)
