"""What `validate` makes of a taxonomy, a config and annotated rows, before Great Expectations runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest

from tailmark.config import Config, ExpectationGroup
from tailmark.records import annotated_schema, write_shards, write_table
from tailmark.taxonomy import Taxonomy, load_taxonomy
from tailmark.validate import derived
from tailmark.validate.failing import FAILING, broken, failing_table, looked_at, named
from tailmark.validate.rows import Annotated, columns, load
from tailmark.validate.suite import Expectation, suite

PAPER = Path(__file__).resolve().parents[2] / "src" / "tailmark" / "taxonomy" / "paper.yaml"
TAXONOMY = load_taxonomy(PAPER)
SMALL = Taxonomy.model_validate(
    {"name": "small", "markers": {"mood": {"kind": "categorical", "definition": "Mood.", "values": {"calm": "Calm.", "loud": "Loud."}}}}
)


def config(**validate: Any) -> Config:
    return Config.model_validate({"validate": validate})


def row(id: str, split: str = "train", **markers: Any) -> dict[str, Any]:
    values = dict.fromkeys(TAXONOMY.markers) | markers
    return {
        "id": id,
        "prompt": [{"role": "user", "content": "Hi."}],
        "completion": "  One two three.  ",
        "source_name": "test",
        "license": "MIT",
        "split": split,
        "metadata": [],
        "markers": values,
        "origin": {name: None if value is None else "dataset" for name, value in values.items()},
        "confidence": {name: None if value is None else 1.0 for name, value in values.items()},
    }


def loaded(folder: Path, *rows: dict[str, Any], sample: int = 0) -> Annotated:
    write_shards(folder, rows, annotated_schema(TAXONOMY))
    return load(folder, TAXONOMY, sample)


# The suite


def test_every_marker_has_its_expectation() -> None:
    by_name = {item.name: item for item in suite(TAXONOMY, config())}
    for name, spec in TAXONOMY.markers.items():
        if spec.kind == "categorical":
            assert by_name[f"values.{name}"].arguments["value_set"] == list(spec.values)
            assert by_name[f"origins.{name}.classifier"].arguments["mostly"] == 0.5
        assert f"evidence.{name}.origin" in by_name
    assert by_name["ranges.length_tokens"].arguments["min_value"] == 1
    assert "ranges.quality" not in by_name


def test_names_are_unique_and_every_group_is_used() -> None:
    items = suite(TAXONOMY, config(), drifting=["domain"])
    assert len({item.name for item in items}) == len(items)
    assert {item.group for item in items} == set(get_args(ExpectationGroup))


def test_a_group_is_left_out_where_the_taxonomy_has_no_use_for_it() -> None:
    asked = Config.model_validate({"longtail": {"marker": "mood"}})
    groups = {item.group for item in suite(SMALL, asked)}
    assert groups == {"schema", "ids", "rows", "split", "values", "evidence", "origins", "tail"}


def test_thresholds_come_from_the_config() -> None:
    asked = config(
        min_rows=7, min_completeness={"code_type": 0.25}, min_tail_heldout=3, min_tail_train=9, max_origin={"llm": 0.2}, max_drift=0.3
    )
    by_name = {item.name: item for item in suite(TAXONOMY, asked, drifting=["lang"])}
    assert by_name["rows.count"].arguments == {"min_value": 7}
    assert by_name["completeness.code_type"].arguments["mostly"] == 0.25
    assert by_name["completeness.code_type"].only_where == {"domain": ("Code",)}
    assert "completeness.lang" not in by_name
    assert by_name["tail.domain"].arguments["min_value"] == 3
    assert by_name["tail.domain.train"].arguments["min_value"] == 9
    assert by_name["origins.task.llm"].arguments["mostly"] == 0.8
    assert by_name["drift.lang"].arguments["max_value"] == 0.3


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        ({"remeasure_rows": 0}, {"lengths", "measured", "language"}),
        ({"min_agreement": {}}, {"language", "quality"}),
        ({"max_origin": {}}, {"origins"}),
    ],
)
def test_what_is_not_asked_for_is_not_looked_at(options: dict[str, Any], gone: set[str]) -> None:
    before, after = ({item.group for item in suite(TAXONOMY, asked)} for asked in (config(), config(**options)))
    assert before - after == gone


# The rows


def test_the_frame_has_the_columns_the_suite_expects(tmp_path: Path) -> None:
    frame = loaded(tmp_path, row("a", lang="English", length_tokens=4)).frame
    assert list(frame.columns) == columns(TAXONOMY)
    assert frame.loc[0, "completion_chars"] == len("One two three.")
    assert frame.loc[0, "last_role"] == "user"
    assert frame.loc[0, "markers.lang"] == "English"
    assert frame.loc[0, "origin.lang"] == "dataset"


def test_a_row_without_a_prompt_has_no_last_role(tmp_path: Path) -> None:
    two = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    frame = loaded(tmp_path, row("a"), row("b") | {"prompt": []}, row("c") | {"prompt": two}, row("d")).frame
    assert [None if pd.isna(role) else role for role in frame["last_role"]] == ["user", None, "assistant", "user"]


def test_values_of_all_shards_come_together_and_rows_can_be_found(tmp_path: Path) -> None:
    for number, names in enumerate([("English", None), ("French", "English", "Dutch")]):
        rows = [row(f"{number}{place}", lang=name) for place, name in enumerate(names)]
        write_shards(tmp_path / "one", rows, annotated_schema(TAXONOMY))
        (tmp_path / "one" / "part-00000.parquet").replace(tmp_path / f"part-{number:05d}.parquet")
    rows = load(tmp_path, TAXONOMY)
    assert [None if pd.isna(value) else value for value in rows.frame["markers.lang"]] == ["English", None, "French", "English", "Dutch"]
    assert named(np.array([1, 2, 4]), rows) == [
        "01 (test, part-00000.parquet row 1)",
        "10 (test, part-00001.parquet row 0)",
        "12 (test, part-00001.parquet row 2)",
    ]


def test_the_first_rows_of_every_value_are_examples(tmp_path: Path) -> None:
    rows = loaded(tmp_path, *(row(f"{number}", domain="Code" if number < 5 else "Legal") for number in range(6)), row("none"))
    assert {key: [item["id"] for item in found] for key, found in rows.examples.items()} == {
        ("domain", "Code"): ["0", "1"],
        ("domain", "Legal"): ["5"],
    }


@pytest.mark.parametrize(("most", "measured"), [(0, 0), (2, 2), (5, 5), (50, 5)])
def test_a_sample_is_drawn(tmp_path: Path, most: int, measured: int) -> None:
    rows = loaded(tmp_path, *(row(f"r{number}") for number in range(5)), sample=most)
    assert len(rows.sample) == measured
    assert all(rows.frame["id"].iloc[position] == item["id"] for position, item in rows.sample.items())


# What expectations compare the rows to


def test_the_expected_bucket_follows_the_tokens(tmp_path: Path) -> None:
    frame = loaded(
        tmp_path, *(row(str(count), length_tokens=count, length_bucket="long") for count in (1, 299, 300, 1001)), row("none")
    ).frame
    derived.add_bucket(frame, TAXONOMY)
    assert frame["expected.length_bucket"].tolist()[:4] == ["concise", "concise", "medium", "long"]
    assert pd.isna(frame["expected.length_bucket"].iloc[4])
    assert frame["markers.length_bucket"].tolist()[:4] == ["long"] * 4


def test_tail_rows_carry_the_counts_of_their_value(tmp_path: Path) -> None:
    train = [row(f"c{number:02d}", domain="Code") for number in range(30)]
    others = [
        row("l1", domain="Legal"),
        row("l2", "heldout", domain="Legal"),
        row("m", domain="Medical"),
        row("f", "heldout", domain="Finance"),
    ]
    frame = loaded(tmp_path, *train, *others, row("n"), row("u", domain="Unspecified")).frame
    derived.add_tail(frame, "domain", 0.05)
    heldout, trained = (dict(zip(frame["id"], frame[f"tail_{split}.domain"], strict=True)) for split in ("heldout", "train"))
    assert (heldout["l1"], heldout["l2"], heldout["m"], heldout["f"]) == (1, 1, 0, 1)
    assert (trained["l1"], trained["m"], trained["f"]) == (1, 1, 0)
    assert all(pd.isna(heldout[id]) for id in ("c00", "n", "u"))


def test_quartiles_are_those_of_the_language(tmp_path: Path) -> None:
    rows = [row(f"e{n}", lang="English", quality=float(n), quality_bucket=str(4 - n // 25)) for n in range(100)]
    rows += [row(f"f{n}", lang="French", quality=1000.0 + n, quality_bucket=str(4 - n // 25)) for n in range(100)]
    rows += [row("x", lang="Dutch", quality=1.0, quality_bucket=None), row("y", lang="Dutch", quality=None, quality_bucket="1")]
    frame = loaded(tmp_path, *rows).frame
    derived.add_quartile_gap(frame)
    gaps = dict(zip(frame["id"], frame["quartile_gap"], strict=True))
    assert {gaps[f"{lang}{n}"] for lang in "ef" for n in range(100)} == {0}
    assert pd.isna(gaps["x"])
    assert pd.isna(gaps["y"])


def test_scores_of_another_origin_are_on_another_scale(tmp_path: Path) -> None:
    rows = [
        row(f"{kind}{n:02d}", lang="English", quality=scale * n, quality_bucket=str(4 - n // 10))
        for kind, scale in (("a", 1.0), ("b", 90.0))
        for n in range(40)
    ]
    for item in rows[40:]:
        item["origin"]["quality"] = "classifier"
    frame = loaded(tmp_path, *rows).frame
    derived.add_quartile_gap(frame)
    assert set(frame["quartile_gap"]) == {0}


def test_held_out_rows_are_ranked_among_the_training_rows(tmp_path: Path) -> None:
    rows = [row(f"t{n:03d}", lang="English", quality=float(n), quality_bucket=str(4 - n // 25)) for n in range(100)]
    rows += [row(f"x{n:03d}", "heldout", lang="English", quality=float(n), quality_bucket="1") for n in range(80, 100)]
    frame = loaded(tmp_path, *rows).frame
    derived.add_quartile_gap(frame)
    assert set(frame["quartile_gap"]) == {0}


def test_a_wrong_quartile_shows(tmp_path: Path) -> None:
    rows = [row(f"{n:03d}", lang="English", quality=float(n), quality_bucket="1" if n < 10 else str(4 - n // 25)) for n in range(100)]
    frame = loaded(tmp_path, *rows).frame
    derived.add_quartile_gap(frame)
    assert frame.loc[frame["quartile_gap"] > 0, "quartile_gap"].tolist() == [3] * 10


def test_equal_scores_may_be_in_any_quarter_they_reach(tmp_path: Path) -> None:
    rows = [row(f"{n}", lang="English", quality=1.0, quality_bucket=str(1 + n % 4)) for n in range(20)]
    frame = loaded(tmp_path, *rows).frame
    derived.add_quartile_gap(frame)
    assert set(frame["quartile_gap"]) == {0}


def test_the_sample_is_measured_again(tmp_path: Path) -> None:
    french = row("b", lang="English", format="JSON", task="Translation") | {
        "completion": "Le conseil municipal se réunit chaque mardi matin à la mairie."
    }
    french["origin"]["format"] = "measured"
    rows = loaded(tmp_path, row("a", lang="English", length_tokens=4, format="JSON"), french, sample=9)
    derived.add_measured(rows, TAXONOMY, {"task": ("Translation",)})
    frame = rows.frame
    assert frame["measured.length_tokens"].tolist()[0] == 4
    assert frame["measured.lang"].tolist()[1] == "French"
    # The first row has its format from its source, so there is nothing to compare.
    assert [None if pd.isna(value) else value for value in frame["measured.format"]] == [None, derived.NOTHING]
    item = Expectation("measured", "format", "", "ExpectColumnPairValuesToBeEqual", _pair("format", "measured"))
    assert broken(item, frame).tolist() == [1]


def _pair(marker: str, part: str) -> dict[str, Any]:
    return {"column_A": f"markers.{marker}", "column_B": f"{part}.{marker}", "ignore_row_if": "either_value_is_missing"}


def test_the_prompt_language_is_left_open_where_a_translation_is_asked_for(tmp_path: Path) -> None:
    prompt = [{"role": "user", "content": "Please explain how the city council is elected and what it decides every year."}]
    asked = row("a", lang="French", task="Explanation") | {"prompt": prompt}
    rows = loaded(tmp_path, asked, row("b", lang="French", task="Translation") | {"prompt": prompt}, sample=2)
    derived.add_measured(rows, TAXONOMY, {"task": ("Translation",)})
    assert rows.frame["prompt.lang"].tolist()[0] == "English"
    assert pd.isna(rows.frame["prompt.lang"].iloc[1])


# The rows that break an expectation

CASES: dict[str, tuple[str, dict[str, Any], list[int], int]] = {
    "in set": ("ExpectColumnValuesToBeInSet", {"column": "c", "value_set": ["a"]}, [1], 3),
    "not in set": ("ExpectColumnValuesToNotBeInSet", {"column": "c", "value_set": ["a"]}, [0, 3], 3),
    "present": ("ExpectColumnValuesToNotBeNull", {"column": "c"}, [2], 4),
    "unique": ("ExpectColumnValuesToBeUnique", {"column": "c"}, [0, 3], 3),
    "between": ("ExpectColumnValuesToBeBetween", {"column": "n", "min_value": 2, "max_value": 3}, [0, 3], 3),
    "at least": ("ExpectColumnValuesToBeBetween", {"column": "n", "min_value": 2}, [0], 3),
    "pair": ("ExpectColumnPairValuesToBeEqual", {"column_A": "c", "column_B": "d", "ignore_row_if": "either_value_is_missing"}, [3], 2),
}


@pytest.mark.parametrize("name", CASES)
def test_every_kind_finds_its_rows(name: str) -> None:
    kind, arguments, expected, considered = CASES[name]
    frame = pd.DataFrame(
        {
            "c": pd.Categorical(["a", "b", None, "a"], categories=["a", "b"]),
            "d": pd.Categorical(["a", None, "b", "b"], categories=["a", "b"]),
            "n": pd.array([1, 2, None, 9], dtype="Int64"),
        }
    )
    item = Expectation("values", "c", "", kind, arguments)
    assert broken(item, frame).tolist() == expected
    assert looked_at(item, frame) == considered


def test_every_failing_row_is_listed_with_its_place(tmp_path: Path) -> None:
    rows = loaded(tmp_path, *(row(f"{number:04d}", lang="Klingon" if number % 2 else "English") for number in range(1000)))
    item = next(item for item in suite(TAXONOMY, config()) if item.name == "values.lang")
    table = failing_table(item, "stop", broken(item, rows.frame), rows)
    assert table.schema.equals(FAILING)
    assert table.num_rows == 500
    assert table["id"].to_pylist() == [f"{number:04d}" for number in range(1, 1000, 2)]
    assert table["row"].to_pylist() == list(range(1, 1000, 2))
    assert set(table["shard"].to_pylist()) == {"part-00000.parquet"}
    assert set(table["value"].to_pylist()) == {"Klingon"}
    write_table(tmp_path / "failing.parquet", table)
