"""The quality that stands for a bucket."""

from __future__ import annotations

from pathlib import Path

from tailmark.files import write_json
from tailmark.quality import percentiles_of, quality_percentiles, with_quality
from tailmark.records import annotated_schema, write_shards
from tailmark.taxonomy import load_taxonomy
from tests.marked_model import TAXONOMY


def annotated(folder: Path, values: list[tuple[str, float | None, str | None, str | None]]) -> Path:
    """Rows of (split, quality, bucket, lang)."""
    schema = annotated_schema(load_taxonomy(TAXONOMY))
    nothing = {field.name: None for field in schema.field("markers").type}
    rows = [
        {
            "id": f"{number:032x}", "prompt": [{"role": "user", "content": "a"}], "completion": "b", "source_name": "s", "license": "l",
            "split": split, "metadata": {}, "origin": nothing, "confidence": nothing,
            "markers": {**nothing, "quality": quality, "quality_bucket": bucket, "lang": lang},
        }
        for number, (split, quality, bucket, lang) in enumerate(values)
    ]  # fmt: skip
    write_shards(folder, rows, schema)
    return folder


def test_the_95th_percentile_of_a_bucket_by_language(tmp_path: Path) -> None:
    french = [float(number) for number in range(101)]
    rows = [("train", value, "1", "French") for value in french] + [("train", -value, "4", "Greek") for value in french]
    rows += [("heldout", 1e6, "1", "French"), ("train", None, "1", "French"), ("train", 5.0, None, "French"), ("train", 200.0, "1", None)]  # type: ignore[list-item]
    found = quality_percentiles(annotated(tmp_path / "rows", rows))  # type: ignore[arg-type]
    assert found == {"*": {"1": 96.0, "4": -5.0}, "French": {"1": 95.0}, "Greek": {"4": -5.0}}


def test_a_score_that_no_row_has_is_not_asked_for(tmp_path: Path) -> None:
    """A model has seen its scores with few digits."""
    rows = [("train", value, "1", None) for value in (0.1234, 0.2345, 0.9871)]
    assert quality_percentiles(annotated(tmp_path / "rows", rows)) == {"*": {"1": 0.9871}}  # type: ignore[arg-type]


def test_only_a_bucket_without_a_score_gets_one() -> None:
    percentiles = {"*": {"1": 0.9, "2": 0.5}, "French": {"1": 0.8}}
    assert with_quality({"quality_bucket": "1", "lang": "French"}, percentiles) == {"quality_bucket": "1", "lang": "French", "quality": 0.8}
    assert with_quality({"quality_bucket": "2", "lang": "French"}, percentiles)["quality"] == 0.5
    assert with_quality({"quality_bucket": "1"}, percentiles)["quality"] == 0.9
    for markers in ({"quality_bucket": "4"}, {"quality_bucket": "1", "quality": 0.1}, {"lang": "French"}):
        assert with_quality(markers, percentiles) == markers


def test_they_are_found_beside_the_model(tmp_path: Path) -> None:
    model = tmp_path / "models" / "marked"
    assert percentiles_of(model) == {}
    annotated(tmp_path / "data" / "annotated" / "rows", [("train", 0.5, "2", "Greek")])
    assert percentiles_of(model) == {"*": {"2": 0.5}, "Greek": {"2": 0.5}}
    model.mkdir(parents=True)
    write_json(model.parent / "manifest.json", {"quality_percentiles": {"*": {"1": 0.7}}})
    assert percentiles_of(model) == {"*": {"1": 0.7}}
