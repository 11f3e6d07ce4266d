"""Stage `annotate`: what is stated comes before what is measured, and no row is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailmark.annotate import passes, stage
from tailmark.annotate.annotators import Finding, annotate_row, annotators
from tailmark.annotate.report import Dropped, most_dropped
from tailmark.config import Config
from tailmark.errors import DataError, TaxonomyError
from tailmark.files import read_json, sha256_tree
from tailmark.layout import Layout
from tailmark.records import QUARANTINE, RECORD, annotated_schema, read_rows, read_table, record_id, write_shards, write_table
from tailmark.taxonomy import Taxonomy, load_taxonomy

PAPER = Path(__file__).resolve().parents[2] / "src" / "tailmark" / "taxonomy" / "paper.yaml"
TAXONOMY = load_taxonomy(PAPER)
GERMAN = "Der Hund schläft unter dem Tisch und träumt. Die Katze wacht."

OTHER = """
name: other
markers:
  mood: {kind: categorical, definition: How it sounds., values: {calm: Calm., loud: Loud.}}
  stars: {kind: integer, definition: Stars., minimum: 1, maximum: 5}
  length_tokens: {kind: integer, definition: Length., maximum: 10}
"""


def record(completion: str, number: int = 0, **markers: str) -> dict[str, Any]:
    prompt = [{"role": "user", "content": f"Prompt {number}"}]
    metadata = {f"marker.{name}": value for name, value in markers.items()}
    return {
        "id": record_id(prompt, completion),
        "prompt": prompt,
        "completion": completion,
        "source_name": "test",
        "license": "MIT",
        "split": "train",
        "metadata": {"page": "7"} | metadata,
    }


def annotated(row: dict[str, Any], taxonomy: Taxonomy = TAXONOMY) -> dict[str, Any]:
    return annotate_row(row, annotators(taxonomy), taxonomy)


def ingested(root: Path, rows: list[dict[str, Any]], taxonomy: Path = PAPER) -> tuple[Config, Layout]:
    layout = Layout(root)
    plain = [row | {"metadata": sorted(row["metadata"].items())} for row in sorted(rows, key=lambda row: row["id"])]
    write_shards(layout.ingested / "rows", plain, RECORD)
    return Config.model_validate({"taxonomy": {"file": str(taxonomy)}, "annotate": {"workers": 1}}), layout


def test_what_the_source_states_holds_over_what_is_measured() -> None:
    row = annotated(record(GERMAN, lang="Dutch", domain="Culture"))
    assert row["markers"]["lang"] == "Dutch"
    assert row["origin"] == dict.fromkeys(TAXONOMY.markers) | {
        "lang": "dataset", "domain": "dataset", "length_tokens": "measured", "length_sentences": "measured",
        "length_paragraphs": "measured", "length_bucket": "measured",
    }  # fmt: skip
    assert row["confidence"]["lang"] == 1.0


def test_what_is_not_stated_is_measured() -> None:
    row = annotated(record(GERMAN))
    assert row["markers"]["lang"] == "German"
    assert (row["markers"]["length_tokens"], row["markers"]["length_sentences"]) == (13, 2)
    assert row["markers"]["length_bucket"] == "concise"
    assert 0.5 <= row["confidence"]["lang"] <= 1


def test_lengths_are_measured_whatever_the_source_states() -> None:
    row = annotated(record(GERMAN, length_tokens="999", length_bucket="medium"))
    assert row["markers"]["length_tokens"] == 13
    assert row["markers"]["length_bucket"] == "concise"
    assert row["origin"]["length_tokens"] == "measured"


@pytest.mark.parametrize(
    ("domain", "expected"), [("Code", "python"), (None, "python"), ("Culture", None)], ids=["holds", "not known", "does not hold"]
)
def test_a_marker_stands_only_where_it_applies(domain: str | None, expected: str | None) -> None:
    stated = {"domain": domain} if domain else {}
    row = annotated(record("```python\nprint(1)\n```", **stated))
    assert row["markers"]["code_type"] == expected
    assert (row["origin"]["code_type"] is None) == (row["confidence"]["code_type"] is None) == (expected is None)


def test_a_value_the_taxonomy_does_not_have_is_dropped_and_counted() -> None:
    by_precedence = annotators(TAXONOMY)
    rows = [record(GERMAN, lang="german", domain="Astrology", shade="red", task="") for _ in range(2)]
    result = passes.annotate_rows(rows, by_precedence, TAXONOMY)
    assert result.dropped == {
        ("lang", "german", "the marker has no such value"): 2,
        ("domain", "Astrology", "the marker has no such value"): 2,
        ("shade", "", "the taxonomy has no such marker"): 2,
    }
    first = result.table.to_pylist()[0]
    assert first["markers"]["domain"] is None
    assert (first["markers"]["lang"], first["origin"]["lang"]) == ("German", "measured")
    assert passes.annotate_rows(rows[:1], by_precedence, TAXONOMY).dropped.total() == 3


def test_a_taxonomy_of_ones_own_needs_no_code(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(OTHER, encoding="utf-8")
    records = [record("One two.", 1, mood="calm", stars="4"), record("word " * 20, 2, stars="9")]
    config, layout = ingested(tmp_path, records, tmp_path / "other.yaml")
    stage.run(config, layout)
    rows = {row["prompt"][0]["content"]: row["markers"] for row in read_rows(layout.annotated / "rows")}
    assert rows["Prompt 1"] == {"mood": "calm", "stars": 4, "length_tokens": 3}
    assert rows["Prompt 2"] == {"mood": None, "stars": None, "length_tokens": None}
    dropped = read_json(layout.annotated / "report.json")["dropped"]
    assert {(item["marker"], item["value"]) for item in dropped} == {("stars", "9"), ("length_tokens", "")}


def test_every_row_is_kept_or_set_aside_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, layout = ingested(tmp_path, [record(GERMAN, 1), record(" \n\u3000", 2), record("Good day.", 3, lang="English")])
    stage.run(config, layout)
    table = read_table(layout.annotated / "rows" / "part-00000.parquet", annotated_schema(TAXONOMY))
    assert table.num_rows == 2
    assert table["id"].to_pylist() == sorted(table["id"].to_pylist())
    (left,) = read_table(layout.annotated / "quarantine.parquet", QUARANTINE).to_pylist()
    assert (left["stage"], left["reason"]) == ("annotate", "not_measurable")
    assert left["where"].startswith("part-00000.parquet row ")
    assert "Prompt 2" in left["row"]
    report = read_json(layout.annotated / "report.json")
    assert report["rows"] == {"in": 3, "kept": 2, "quarantined": 1}
    assert report["markers"]["lang"]["values"]["German"] == 1
    assert report["markers"]["lang"]["origins"] == {"dataset": 0.5, "measured": 0.5}
    assert report["markers"]["length_tokens"]["spread"] == {"minimum": 3, "p10": 3, "median": 3, "p90": 13, "maximum": 13}
    assert report["markers"]["style"]["completeness"] == 0
    assert "3 in = 2 kept + 0 duplicates + 0 contaminated + 1 quarantined" in capsys.readouterr().out


def test_the_number_of_processes_does_not_change_a_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [GERMAN, "Good morning, everyone. How are you?", "print(sum(x[i] for i in range(10)))", "猫在桌子上睡觉。", " "]
    completions = [f"{text}\n\n{number}" if text.strip() else " " * number for number, text in enumerate(texts * 12, 1)]
    config, layout = ingested(tmp_path, [record(text, number, domain="Code") for number, text in enumerate(completions)])
    monkeypatch.setattr(stage, "_FEW", 1)
    monkeypatch.setattr(passes, "SLICE", 7)
    digests = []
    for workers in (1, 2):
        asked = config.model_copy(update={"annotate": config.annotate.model_copy(update={"workers": workers})})
        stage.run(asked, layout)
        digests.append(sha256_tree(layout.annotated))
    assert digests[0] == digests[1]
    assert read_json(layout.annotated / "report.json")["rows"] == {"in": 60, "kept": 48, "quarantined": 12}


class Says:
    """A shard annotator that says the same of every row."""

    def __init__(self, origin: str, **found: str) -> None:
        self.origin, self.found = origin, {name: Finding(value, 0.8) for name, value in found.items()}

    def annotate(self, rows: list[dict[str, Any]], known: list[dict[str, Finding]]) -> list[dict[str, Finding]]:  # noqa: ARG002
        return [dict(self.found) for _ in rows]


def test_stronger_evidence_holds_whoever_speaks_later() -> None:
    table = passes.annotate_rows([record(GERMAN, domain="Culture"), record("```\nx\n```", 1)], annotators(TAXONOMY), TAXONOMY).table
    later = (Says("classifier", domain="Legal", task="Rewrite"), Says("llm", task="Translation", style="Formal", lang="Dutch"))
    stated, open_row = passes.with_findings(table, later, TAXONOMY).to_pylist()
    assert (stated["markers"]["domain"], stated["origin"]["domain"]) == ("Culture", "dataset")
    assert (stated["markers"]["lang"], stated["origin"]["lang"]) == ("German", "measured")
    assert (open_row["markers"]["domain"], open_row["origin"]["domain"]) == ("Legal", "classifier")
    assert (open_row["markers"]["task"], open_row["origin"]["task"]) == ("Rewrite", "classifier")
    assert (open_row["markers"]["style"], open_row["origin"]["style"]) == ("Formal", "llm")
    assert open_row["confidence"]["style"] == pytest.approx(0.8)


def test_a_marker_goes_when_later_evidence_says_that_it_does_not_apply() -> None:
    table = passes.annotate_rows([record("```python\nprint(1)\n```")], annotators(TAXONOMY), TAXONOMY).table
    assert table.to_pylist()[0]["markers"]["code_type"] == "python"
    (row,) = passes.with_findings(table, (Says("classifier", domain="Culture"),), TAXONOMY).to_pylist()
    assert row["markers"]["code_type"] is row["origin"]["code_type"] is row["confidence"]["code_type"] is None


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs requirements-ray.txt")
    config, layout = ingested(tmp_path, [record(f"{GERMAN} {number}", number) for number in range(40)])
    stage.run(config, layout)
    digest = sha256_tree(layout.annotated)
    engine = config.engine.model_copy(update={"kind": "ray", "address": "local", "workers": 2})
    stage.run(config.model_copy(update={"engine": engine}), layout)
    assert sha256_tree(layout.annotated) == digest


def test_a_corrupt_shard_leaves_the_earlier_result_alone(tmp_path: Path) -> None:
    config, layout = ingested(tmp_path, [record(GERMAN)])
    stage.run(config, layout)
    before = sha256_tree(layout.annotated)
    (layout.ingested / "rows" / "part-00000.parquet").write_bytes(b"PAR1 not a table")
    with pytest.raises(DataError, match="corrupt"):
        stage.run(config, layout)
    assert sha256_tree(layout.annotated) == before
    assert [path.name for path in layout.annotated.parent.iterdir() if path.name.startswith(".")] == []


def test_a_shard_with_other_columns_is_refused(tmp_path: Path) -> None:
    config, layout = ingested(tmp_path, [record(GERMAN)])
    write_table(layout.ingested / "rows" / "part-00000.parquet", pa.table({"id": ["a"]}))
    with pytest.raises(DataError, match="expected columns"):
        stage.run(config, layout)


def test_a_missing_taxonomy_is_found_before_anything_runs(tmp_path: Path) -> None:
    config, layout = ingested(tmp_path, [record(GERMAN)], tmp_path / "none.yaml")
    with pytest.raises(TaxonomyError, match="no such taxonomy file"):
        stage.run(config, layout)
    assert not layout.annotated.exists()


@settings(deadline=None)  # the first example loads models
@given(st.text(max_size=200), st.dictionaries(st.sampled_from([*TAXONOMY.markers, "other"]), st.text(max_size=12), max_size=5))
def test_whatever_the_row_every_value_is_one_the_taxonomy_allows(completion: str, markers: dict[str, str]) -> None:
    result = passes.annotate_rows([record(completion, **markers)], annotators(TAXONOMY), TAXONOMY)
    if result.problems:
        assert not completion.strip()
        return
    (row,) = result.table.to_pylist()
    for name, value in row["markers"].items():
        assert value is None or TAXONOMY.allows(name, value)
        assert (value is None) == (row["origin"][name] is None) == (row["confidence"][name] is None)


def test_the_report_of_dropped_values_stays_short() -> None:
    dropped = Dropped({("tag", f"value {number:03d}", "no"): 200 - number for number in range(100)})
    short = most_dropped(dropped, most=10)
    assert len(short) == 11
    assert short[0] == (("tag", "value 000", "no"), 200)
    assert short[-1] == (("tag", "(others)", "no"), dropped.total() - sum(range(191, 201)))
