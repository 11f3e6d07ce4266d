from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tailmark.config import Config
from tailmark.errors import DataError
from tailmark.files import read_json, sha256_tree
from tailmark.ingest.stage import run
from tailmark.layout import Layout
from tailmark.records import QUARANTINE, RECORD, RowIdentity, read_rows, read_table

TAXONOMY = Path(__file__).parents[2] / "src" / "tailmark" / "taxonomy" / "paper.yaml"
DOMAINS = ["Code"] * 18 + ["Legal", "Medical"]


def rows(number: int = 200) -> list[dict[str, Any]]:
    return [{"q": f"question {index}", "a": f"answer {index}", "topic": DOMAINS[index % 20], "why": "text"} for index in range(number)]


def ingest(root: Path, lines: list[dict[str, Any]] | list[str], **options: Any) -> Layout:
    (root / "mine.jsonl").write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    source = {"kind": "jsonl", "name": "mine", "path": "mine.jsonl", "prompt": "q", "completion": "a", "markers": {"domain": "topic"}}
    config = Config.model_validate({"taxonomy": {"file": str(TAXONOMY)}, "ingest": {"sources": [source], **options}})
    layout = Layout(root)
    run(config, layout)
    return layout


def test_rows_are_records_sorted_by_id_and_every_tail_value_is_held_out(tmp_path: Path) -> None:
    layout = ingest(tmp_path, rows())
    found = list(read_rows(layout.ingested / "rows", RECORD))
    assert [row["id"] for row in found] == sorted(row["id"] for row in found)
    assert len(found) == 200
    held = {row["metadata"]["marker.domain"] for row in found if row["split"] == "heldout"}
    assert held == {"Code", "Legal", "Medical"}
    assert sum(row["split"] == "heldout" for row in found) in range(19, 24)


def test_every_row_that_left_stands_in_the_quarantine_and_the_identity_adds_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad: list[Any] = ["{", {"q": "no answer"}, {"q": "long", "a": "x" * 5_000, "topic": "Code"}]
    layout = ingest(tmp_path, [*rows(100), *rows(3), *bad], max_completion_chars=4_000)  # type: ignore[list-item]
    left = read_table(layout.ingested / "quarantine.parquet", QUARANTINE).to_pylist()
    assert sorted((row["where"], row["reason"]) for row in left) == [
        ("mine.jsonl:101", "duplicate"),
        ("mine.jsonl:102", "duplicate"),
        ("mine.jsonl:103", "duplicate"),
        ("mine.jsonl:104", "corrupt_json"),
        ("mine.jsonl:105", "missing_completion"),
        ("mine.jsonl:106", "completion_too_long"),
    ]
    report = read_json(layout.ingested / "report.json")
    identity = RowIdentity(**report["identity"])
    assert identity == RowIdentity(rows_in=106, kept=100, duplicates=3, quarantined=3)
    assert report["sources"]["mine"] == report["identity"]
    assert str(identity) in capsys.readouterr().out


def test_a_subset_counts_what_it_left_out_and_does_not_quarantine_it(tmp_path: Path) -> None:
    layout = ingest(tmp_path, rows(), rows=40, stratify=["domain"])
    report = read_json(layout.ingested / "report.json")
    assert RowIdentity(**report["identity"]) == RowIdentity(rows_in=200, kept=40, not_sampled=160)
    assert report["quarantine"] == {}
    assert set(report["markers"]["domain"]) == {"Code", "Legal", "Medical"}
    assert sum(sum(cell.values()) for cell in report["markers"]["domain"].values()) == 40


def test_the_same_rows_in_another_order_give_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = ingest(tmp_path / "a", rows())
    second = ingest(tmp_path / "b", list(reversed(rows())))
    assert sha256_tree(first.ingested / "rows") == sha256_tree(second.ingested / "rows")
    reports = [read_json(layout.ingested / "report.json") for layout in (first, second)]
    assert reports[0].pop("files") != reports[1].pop("files")
    assert reports[0] == reports[1]


def test_an_identity_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(AssertionError, match="5 rows in, 4 accounted for"):
        RowIdentity(rows_in=5, kept=1, duplicates=1, quarantined=1, not_sampled=1).check("test")


def test_no_row_left_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing_completion"):
        ingest(tmp_path, [{"q": "Why?", "a": None, "topic": "Code"}])
    assert not (tmp_path / "data" / "ingested").exists()


def test_a_failed_run_leaves_the_earlier_result_as_it_was(tmp_path: Path) -> None:
    layout = ingest(tmp_path, rows())
    before = sha256_tree(layout.ingested)
    with pytest.raises(DataError):
        ingest(tmp_path, [{"q": "Why?", "a": "So.", "other": 1}])
    assert sha256_tree(layout.ingested) == before
