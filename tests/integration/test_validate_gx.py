"""Stage `validate` with the real Great Expectations."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tailmark.config import Config
from tailmark.errors import ConfigError, DataError, ValidationFailed
from tailmark.files import read_json, sha256_tree
from tailmark.layout import Layout
from tailmark.measure.lengths import length_bucket, measure_lengths
from tailmark.records import annotated_schema, read_table, write_shards
from tailmark.taxonomy import load_taxonomy
from tailmark.validate import stage
from tailmark.validate.accept import accept, accepted_path
from tailmark.validate.failing import FAILING

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
        "origin": {name: None if value is None else "measured" if "length" in name else "dataset" for name, value in markers.items()},
        "confidence": {name: None if value is None else 1.0 for name, value in markers.items()},
    }


@pytest.fixture(scope="module", autouse=True)
def _one_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One MLflow store for all runs of this file: making its tables takes seconds."""
    global STORE
    STORE = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


STORE = ""


def prepare(root: Path, change: Change | None = None, **options: Any) -> tuple[Config, Layout]:
    rows = [row(number) for number in range(1, 151)]
    for item in rows[30:31]:
        item["markers"]["domain"] = "Legal"
    if change:
        change(rows)
    layout = Layout(root)
    write_shards(layout.annotated / "rows", rows, annotated_schema(TAXONOMY))
    params = {"taxonomy": {"file": str(PAPER)}, "validate": {"min_tail_train": 1} | options, "tracking": {"uri": STORE}}
    return Config.model_validate(params), layout


def last_run() -> Run:
    client = MlflowClient(STORE)
    experiment = client.get_experiment_by_name("tailmark")
    assert experiment is not None
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"], max_results=1)[0]


def test_good_rows_pass_and_give_the_same_bytes_each_time(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config, layout = prepare(tmp_path)
    stage.run(config, layout)
    first = sha256_tree(layout.validated)
    stage.run(config, layout)
    assert sha256_tree(layout.validated) == first
    result = read_json(layout.validated / "result.json")
    assert result["success"]
    assert result["failed"] == {"stop": [], "warn": []}
    made = ["failing_rows.parquet", "passed.json", "profile.json", "report.html", "result.json"]
    assert sorted(path.name for path in layout.validated.iterdir()) == made
    assert read_table(layout.validated / "failing_rows.parquet", FAILING).num_rows == 0
    assert (layout.state / "data_docs" / "index.html").exists()
    assert "validat" in (layout.state / "data_docs" / "index.html").read_text(encoding="utf-8").lower()
    logged = last_run()
    assert (logged.info.status, logged.data.metrics["rows"], logged.data.metrics["failed_stop"]) == ("FINISHED", 150, 0)
    artifacts = {item.path for item in MlflowClient(STORE).list_artifacts(logged.info.run_id)}
    assert {"report.html", "data_docs", "result.json", "profile.json", "failing_rows.parquet"} <= artifacts
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


def set_measured(name: str, value: Any, number: int) -> Change:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[number - 1]["markers"][name] = value
        rows[number - 1]["origin"][name] = "measured"
        rows[number - 1]["confidence"][name] = 1.0

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
    "measured.format": (set_measured("format", "JSON", 116), ["0116"]),
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
    # Rows are numbered from 1 here and from 0 in the shard.
    assert all(f"{id} ({'made' if int(id) % 2 else 'found'}, part-00000.parquet row " in line for id in ids[:3])
    assert name in read_json(aside / "result.json")["failed"]["stop"]
    listed = read_table(aside / "failing_rows.parquet", FAILING).to_pylist()
    found = [item for item in listed if item["expectation"] == name]
    assert [item["id"] for item in found] == ids
    assert {item["shard"] for item in found} == {"part-00000.parquet"}
    if name != "ids.unique":
        assert [item["row"] for item in found] == [int(id) - 1 for id in ids]


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
    # Rows that say Klingon are not in the language they measure as either.
    assert set(found["warn"]) == {"language.completion", "language.prompt"}


def test_too_few_rows_stop(tmp_path: Path) -> None:
    config, layout = prepare(tmp_path, min_rows=1000)
    with pytest.raises(ValidationFailed, match=r"rows\.count: .*at least 1,000 rows; found 150"):
        stage.run(config, layout)


def test_completeness_looks_only_where_the_marker_applies(tmp_path: Path) -> None:
    config, layout = prepare(tmp_path, min_completeness={"code_type": 1.0})
    stage.run(config, layout)
    config, layout = prepare(tmp_path, set_marker("code_type", None, 7), min_completeness={"code_type": 1.0})
    with pytest.raises(ValidationFailed, match=r"completeness\.code_type.*1 of 1\d\d rows do not: 0007 \(made, part-00000.parquet row 6\)"):
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


# Groups that warn unless they are told to stop


def german(rows: list[dict[str, Any]]) -> None:
    for item in rows[:40]:
        item["completion"] = "Der Gemeinderat tagt jeden Dienstag im großen Saal des Rathauses."


def german_prompts(rows: list[dict[str, Any]]) -> None:
    for item in rows[40:80]:
        item["prompt"] = [{"role": "user", "content": "Bitte erkläre mir, wie der Gemeinderat gewählt wird und was er beschließt."}]


def guessed(rows: list[dict[str, Any]]) -> None:
    for item in rows[:90]:
        item["origin"]["domain"] = "classifier"


def scored(rows: list[dict[str, Any]]) -> None:
    for number, item in enumerate(rows):
        item["markers"] |= {"quality": float(number), "quality_bucket": "1" if number < 50 else "4"}
        for part, value in (("origin", "classifier"), ("confidence", 1.0)):
            item[part] |= {"quality": value, "quality_bucket": value}


WARNINGS: dict[str, tuple[Change, int]] = {
    "language.completion": (german, 40),
    "language.prompt": (german_prompts, 40),
    "origins.domain.classifier": (guessed, 90),
    "quality.quality_bucket": (scored, 75),
    "tail.domain.train": (set_marker("domain", "Medical", 11, 12), 2),
}


@pytest.fixture(scope="module")
def warned(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Where a run leaves its findings over rows in which every group fails that warns by default."""

    def change(rows: list[dict[str, Any]]) -> None:
        for apply, _ in WARNINGS.values():
            apply(rows)

    stop = ["schema", "ids"]
    config, layout = prepare(tmp_path_factory.mktemp("warnings"), change, stop=stop, min_tail_train=3, min_tail_heldout=0)
    stage.run(config, layout)
    return layout


@pytest.mark.parametrize("name", WARNINGS)
def test_a_group_that_warns_lists_all_its_rows(warned: Layout, name: str) -> None:
    result = read_json(warned.validated / "result.json")
    entry = next(item for item in result["expectations"] if item["name"] == name)
    listed = read_table(warned.validated / "failing_rows.parquet", FAILING).to_pylist()
    found = [item["id"] for item in listed if item["expectation"] == name]
    assert name in result["failed"]["warn"]
    assert len(found) == entry["failing"] >= WARNINGS[name][1]
    assert [text.split(" (")[0] for text in entry["first_rows"]] == found[: len(entry["first_rows"])]


def test_more_than_two_hundred_failing_rows_are_all_listed(tmp_path: Path) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows += [row(number) for number in range(151, 901)]
        for item in rows:
            item["markers"]["lang"] = "Klingon"

    config, layout = prepare(tmp_path, change, remeasure_rows=0)
    with pytest.raises(ValidationFailed, match=r"values\.lang.*900 of 900 rows"):
        stage.run(config, layout)
    listed = read_table(layout.state / "validation-failed" / "failing_rows.parquet", FAILING).to_pylist()
    assert [item["id"] for item in listed if item["expectation"] == "values.lang"] == [f"{number:04d}" for number in range(1, 901)]


def test_drift_is_measured_from_the_accepted_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, layout = prepare(tmp_path, stop=["drift"])
    stage.run(config, layout)
    assert "no accepted version" in capsys.readouterr().out
    gate = (layout.validated / "passed.json").read_bytes()
    accept(config, layout)
    stage.run(config, layout)
    assert (layout.validated / "passed.json").read_bytes() == gate
    by_name = {item["name"]: item for item in read_json(layout.validated / "result.json")["expectations"]}
    assert {item["observed"] for name, item in by_name.items() if name.startswith("drift.")} == {"0.000"}
    config, layout = prepare(tmp_path, set_marker("domain", "Medical", *range(1, 101)), stop=["drift"])
    with pytest.raises(ValidationFailed, match=r"drift\.domain: .*within 0\.15.*found 0\.[3-9]") as caught:
        stage.run(config, layout)
    assert "drift.lang" not in str(caught.value)
    assert "--accept" in str(caught.value)
    accept(config, layout)
    assert "Medical" in read_json(accepted_path(config, layout))["markers"]["domain"]["values"]
