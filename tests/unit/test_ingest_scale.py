"""Rows that wait on disk come out as if all had been in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailmark.config import Config, Engine
from tailmark.engine import mapper
from tailmark.files import read_json, scratch_folder, sha256_file, sha256_tree
from tailmark.ingest import spill, stage, store
from tailmark.ingest.candidate import Candidate
from tailmark.ingest.reading import to_record
from tailmark.ingest.settle import Work, prepare_worker, settle
from tailmark.ingest.spill import Spill
from tailmark.ingest.store import Store, read_stream, to_stream
from tailmark.layout import Layout
from tailmark.records import QUARANTINE, RECORD, Quarantine, Record, read_rows, read_table, write_shards

ROOT = Path(__file__).parents[2]
TEXT = st.text(st.sampled_from('ab\n\t\r\u2028é漢\\"'), min_size=1, max_size=3)
ROWS = st.lists(st.tuples(TEXT, TEXT), max_size=40)


def records(given: list[tuple[str, str]]) -> list[Record]:
    return [to_record("mine", Candidate("", (("user", prompt),), completion, "MIT")) for prompt, completion in given]


@given(ROWS, st.sampled_from([1, 300, 1 << 20]))
@settings(deadline=None)
def test_sorting_by_way_of_files_equals_sorting_in_memory(
    tmp_path_factory: pytest.TempPathFactory, given: list[tuple[str, str]], job_bytes: int
) -> None:
    waiting = Spill(tmp_path_factory.mktemp("spill"))
    found = records(given)
    for number, record in enumerate(found):
        waiting.add(record, f"file:{number}")
    with pytest.MonkeyPatch.context() as patch, mapper(Engine(workers=1), 0, prepare_worker, (Work(1, (), None),)) as run:
        patch.setattr(spill, "_JOB_BYTES", job_bytes)
        settled = list(run(settle, waiting.jobs()))
    first: dict[str, tuple[Record, str]] = {}
    for number, record in enumerate(found):
        first.setdefault(record["id"], (record, f"file:{number}"))
    assert [row for done in settled for row in read_stream(done.rows)] == [first[id] for id in sorted(first)]
    repeated = sorted(f"file:{number}" for number, record in enumerate(found) if first[record["id"]][1] != f"file:{number}")
    assert sorted(row.where for done in settled for row in done.left) == repeated
    assert sum(len(done.facts) for done in settled) == len(first)


@given(st.lists(st.integers(0, 7), min_size=1, max_size=6), st.data())
@settings(deadline=None, max_examples=40)
def test_stored_rows_are_written_as_if_they_had_been_in_memory(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("store")
    rows = records([("é" * number, f"answer {number}") for number in range(sum(sizes))])
    kept, heldout = (data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))) for _ in range(2))
    kept = kept if any(kept) else [True] * len(rows)
    (root / "rows").mkdir()
    stored, start = Store(root / "rows"), 0
    for size in sizes:
        stored.append(to_stream([(row, "somewhere") for row in rows[start : start + size]]), size)
        start += size
    expected = [{**row, "split": "heldout" if out else "train"} for row, keep, out in zip(rows, kept, heldout, strict=True) if keep]
    for name in ("out", "expected"):
        (root / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "ROWS_PER_SHARD", 5)
        patch.setattr("tailmark.records.ROWS_PER_SHARD", 5)
        stored.write(root / "out", np.array(kept, np.bool_), np.array(heldout, np.bool_))
        if expected:
            write_shards(root / "expected", expected, RECORD)
    assert sha256_tree(root / "out") == sha256_tree(root / "expected")
    assert list(read_rows(root / "out", RECORD)) == expected if expected else True


def lines(number: int) -> list[dict[str, Any]]:
    domains = ["Code"] * 18 + ["Legal", "Medical"]
    return [
        {"q": f"question {index % (number - 20)}", "a": f"answer {index % (number - 20)}", "d": domains[index % 20]}
        for index in range(number)
    ]


def ingest(root: Path, number: int, **options: Any) -> Layout:
    root.mkdir()
    (root / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines(number)), encoding="utf-8")
    source = {"kind": "jsonl", "name": "mine", "path": "mine.jsonl", "prompt": "q", "completion": "a", "markers": {"domain": "d"}}
    taxonomy = {"file": str(ROOT / "src" / "tailmark" / "taxonomy" / "paper.yaml")}
    stage.run(Config.model_validate({"taxonomy": taxonomy, "ingest": {"sources": [source]}, **options}), Layout(root))
    return Layout(root)


def test_any_number_of_workers_and_jobs_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sha256_tree(ingest(tmp_path / "one", 300).ingested)
    monkeypatch.setattr(stage, "_FEW", 0)
    monkeypatch.setattr(spill, "_JOB_BYTES", 4_000)
    assert sha256_tree(ingest(tmp_path / "two", 300, engine={"workers": 2}).ingested) == whole
    assert sha256_tree(ingest(tmp_path / "three", 300, engine={"workers": 3}).ingested) == whole


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="ray is optional: pip install -r requirements-ray.txt")
    whole = sha256_tree(ingest(tmp_path / "one", 300).ingested)
    monkeypatch.setattr(stage, "_FEW", 0)
    monkeypatch.setattr(spill, "_JOB_BYTES", 4_000)
    engine = {"kind": "ray", "address": "local", "workers": 2}
    assert sha256_tree(ingest(tmp_path / "ray", 300, engine=engine).ingested) == whole


def test_scratch_is_gone_after_a_run(tmp_path: Path) -> None:
    layout = ingest(tmp_path / "one", 40)
    assert [path.name for path in layout.state.iterdir()] == ["provenance"]
    with pytest.raises(RuntimeError), scratch_folder(layout.state / "more") as folder:
        (folder / "file").write_text("text")
        raise RuntimeError
    assert not folder.exists()


def test_contaminated_and_near_rows_leave_with_their_reason(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    words = " ".join(f"word{number}" for number in range(30))
    texts = [words, f"{words} more", "The evaluation asks: which run of words is this?", "something else entirely"]
    rows = [{"q": f"q{number}", "a": text} for number, text in enumerate(texts)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "eval.jsonl").write_text(json.dumps({"t": "Which run of words is this, do you think?"}), encoding="utf-8")
    source = {"kind": "jsonl", "name": "mine", "path": "mine.jsonl", "prompt": "q", "completion": "a"}
    told = {"ngram": 6, "sets": [{"name": "held", "path": "eval.jsonl", "fields": ["t"]}]}
    config = Config.model_validate({"ingest": {"sources": [source], "decontaminate": told}})
    stage.run(config, layout)
    left = read_table(layout.ingested / "quarantine.parquet", QUARANTINE).to_pylist()
    (near,) = (row for row in left if row["reason"] == "near_duplicate")
    (dirty,) = (row for row in left if row["reason"] == "contaminated")
    assert dirty["where"] == "mine.jsonl:3"
    assert "held: which run of words is this" in dirty["detail"]
    assert near["where"] in ("mine.jsonl:1", "mine.jsonl:2")
    (kept,) = (row["id"] for row in read_rows(layout.ingested / "rows") if row["completion"].startswith("word0"))
    assert near["detail"].endswith(kept)
    report = read_json(layout.ingested / "report.json")
    assert report["sources"]["mine"] | {"rows_in": 0} == {
        "rows_in": 0, "kept": 2, "duplicates": 0, "near_duplicates": 1, "contaminated": 1, "quarantined": 0, "not_sampled": 0,
    }  # fmt: skip
    found = report["contamination"]["held"]
    assert (found["rows"], found["ngrams"], found["examples"]) == (
        1,
        [{"ngram": "which run of words is this", "rows": 1}],
        ["mine.jsonl:3"],
    )
    assert report["near_duplicates"]["found"] == 1


def filled(number: int) -> Quarantine:
    quarantine = Quarantine("test")
    for place in range(number):
        quarantine.add(id="", source_name="ab"[place % 2], where=f"{place}", reason="odd" if place % 3 else "even", detail="", row="x" * 50)
    return quarantine


def test_a_quarantine_that_outgrows_memory_holds_every_row_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailmark.records._QUARANTINE_ROWS", 7)
    quarantine = filled(100)
    assert (len(quarantine), quarantine.counts()) == (100, {"even": 34, "odd": 66})
    assert quarantine.counts_by_source() == {"a": {"even": 17, "odd": 33}, "b": {"even": 17, "odd": 33}}
    quarantine.write(tmp_path / "quarantine.parquet")
    assert [row["where"] for row in read_table(tmp_path / "quarantine.parquet", QUARANTINE).to_pylist()] == list(map(str, range(100)))
    filled(100).write(tmp_path / "again.parquet")
    assert sha256_file(tmp_path / "again.parquet") == sha256_file(tmp_path / "quarantine.parquet")


def test_long_rows_do_not_pile_up_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailmark.records._QUARANTINE_CHARS", 200)
    quarantine = filled(50)
    assert len(quarantine._recent) < 5
    assert len(quarantine) == 50


def test_an_empty_quarantine_is_a_table_without_rows(tmp_path: Path) -> None:
    Quarantine("test").write(tmp_path / "quarantine.parquet")
    assert read_table(tmp_path / "quarantine.parquet") == pa.Table.from_pylist([], schema=QUARANTINE)
