"""What `validate` makes of a taxonomy and a config, before Great Expectations runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest

from tailmark.config import Config, ExpectationGroup
from tailmark.records import annotated_schema, write_shards
from tailmark.taxonomy import Taxonomy, load_taxonomy
from tailmark.validate import frame as frames
from tailmark.validate.suite import suite

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


def load(folder: Path, *rows: dict[str, Any]) -> pd.DataFrame:
    write_shards(folder, rows, annotated_schema(TAXONOMY))
    return frames.load(folder, TAXONOMY)


def test_every_marker_has_its_expectation() -> None:
    by_name = {item.name: item for item in suite(TAXONOMY, config())}
    for name, spec in TAXONOMY.markers.items():
        if spec.kind == "categorical":
            assert by_name[f"values.{name}"].arguments["value_set"] == list(spec.values)
        assert f"evidence.{name}.origin" in by_name
    assert by_name["ranges.length_tokens"].arguments["min_value"] == 1
    assert "ranges.quality" not in by_name


def test_names_are_unique_and_every_group_is_used() -> None:
    items = suite(TAXONOMY, config())
    assert len({item.name for item in items}) == len(items)
    assert {item.group for item in items} == set(get_args(ExpectationGroup))


def test_a_group_is_left_out_where_the_taxonomy_has_no_use_for_it() -> None:
    asked = Config.model_validate({"longtail": {"marker": "mood"}})
    groups = {item.group for item in suite(SMALL, asked)}
    assert groups == set(get_args(ExpectationGroup)) - {"ranges", "completeness", "lengths", "buckets"}


def test_thresholds_come_from_the_config() -> None:
    by_name = {item.name: item for item in suite(TAXONOMY, config(min_rows=7, min_completeness={"code_type": 0.25}, min_tail_heldout=3))}
    assert by_name["rows.count"].arguments == {"min_value": 7}
    assert by_name["completeness.code_type"].arguments["mostly"] == 0.25
    assert by_name["completeness.code_type"].only_where == {"domain": ("Code",)}
    assert "completeness.lang" not in by_name
    assert by_name["tail.domain"].arguments["min_value"] == 3
    assert not any(item.group == "lengths" for item in suite(TAXONOMY, config(remeasure_rows=0)))


def test_the_frame_has_the_columns_the_suite_expects(tmp_path: Path) -> None:
    frame = load(tmp_path, row("a", lang="English", length_tokens=4))
    assert list(frame.columns) == frames.columns(TAXONOMY)
    assert frame.loc[0, "completion_chars"] == len("One two three.")
    assert frame.loc[0, "last_role"] == "user"
    assert frame.loc[0, "markers.lang"] == "English"
    assert frame.loc[0, "origin.lang"] == "dataset"


def test_a_row_without_a_prompt_has_no_last_role(tmp_path: Path) -> None:
    frame = load(tmp_path, row("a"), row("b") | {"prompt": []})
    assert frame["last_role"].isna().tolist() == [False, True]


def test_the_expected_bucket_follows_the_tokens(tmp_path: Path) -> None:
    frame = load(tmp_path, *(row(str(count), length_tokens=count) for count in (1, 299, 300, 1001)), row("none"))
    frames.add_bucket(frame)
    assert frame["expected.length_bucket"].tolist()[:4] == ["concise", "concise", "medium", "long"]
    assert pd.isna(frame["expected.length_bucket"].iloc[4])


def test_tail_rows_carry_the_heldout_count_of_their_value(tmp_path: Path) -> None:
    train = [row(f"c{number:02d}", domain="Code") for number in range(30)]
    frame = load(tmp_path, *train, row("l1", domain="Legal"), row("l2", "heldout", domain="Legal"), row("m", domain="Medical"), row("n"))
    frames.add_tail(frame, "domain", 0.05)
    counts = dict(zip(frame["id"], frame["tail_heldout.domain"], strict=True))
    assert (counts["l1"], counts["l2"], counts["m"]) == (1, 1, 0)
    assert pd.isna(counts["c00"])
    assert pd.isna(counts["n"])


@pytest.mark.parametrize(("most", "measured"), [(2, 2), (5, 5), (50, 5)])
def test_a_sample_is_measured_again(tmp_path: Path, most: int, measured: int) -> None:
    frame = load(tmp_path, *(row(f"r{number}", lang="English", length_tokens=4) for number in range(5)))
    frames.add_remeasured(frame, tmp_path, ("length_tokens", "length_sentences"), most)
    assert frame["remeasured.length_tokens"].notna().sum() == measured
    assert set(frame["remeasured.length_tokens"].dropna()) == {4}
    assert set(frame["remeasured.length_sentences"].dropna()) == {1}
