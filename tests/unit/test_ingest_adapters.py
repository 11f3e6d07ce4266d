from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailmark.config import Source
from tailmark.errors import DataError
from tailmark.ingest.adapters import read_source
from tailmark.ingest.candidate import Candidate, Reject

Rows = list[Candidate | Reject]


def source(path: str = "data.jsonl", **options: Any) -> Source:
    kind = "parquet" if path.endswith("parquet") else "jsonl"
    if "messages" not in options:
        options = {"prompt": "question", "completion": "answer", **options}
    return Source(kind=kind, name="mine", path=path, **options)


def write(path: Path, *lines: object) -> None:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def read(root: Path, given: Source) -> Rows:
    return list(read_source(given, root))


def test_columns_become_prompt_completion_markers_and_licence(tmp_path: Path) -> None:
    write(tmp_path / "data.jsonl", {"question": "Why?", "answer": "So.", "topic": "law", "terms": "MIT", "n": 3, "told": "Be kind."})
    given = source(
        system="told",
        license="column:terms",
        markers={"domain": "topic", "quality": "n"},
        values={"domain": {"law": "Legal"}},
        constants={"source": "Human"},
    )
    (row,) = read(tmp_path, given)
    assert isinstance(row, Candidate)
    assert row.prompt == (("system", "Be kind."), ("user", "Why?"))
    assert (row.completion, row.license, row.where) == ("So.", "MIT", "data.jsonl:1")
    assert row.metadata == {"marker.domain": "Legal", "marker.quality": "3", "marker.source": "Human"}


def test_chat_messages_give_their_last_assistant_turn(tmp_path: Path) -> None:
    turns = [{"role": role, "content": role} for role in ("system", "user", "assistant", "user", "assistant")]
    write(tmp_path / "data.jsonl", {"chat": turns}, {"chat": turns[:2]}, {"chat": []}, {"chat": [{"role": "bot", "content": ""}]})
    rows = read(tmp_path, source(messages="chat"))
    assert isinstance(rows[0], Candidate)
    assert [role for role, _ in rows[0].prompt] == ["system", "user", "assistant", "user"]
    assert [row.reason for row in rows[1:] if isinstance(row, Reject)] == ["no_assistant_turn", "bad_messages", "unknown_role"]


def test_a_prompt_column_may_hold_messages(tmp_path: Path) -> None:
    write(tmp_path / "data.jsonl", {"question": [{"role": "user", "content": "Why?"}], "answer": "So."})
    (row,) = read(tmp_path, source())
    assert isinstance(row, Candidate)
    assert row.prompt == (("user", "Why?"),)


def test_bad_rows_leave_with_their_place_and_reason_and_the_others_stay(tmp_path: Path) -> None:
    good = {"question": "Why?", "answer": "So."}
    write(
        tmp_path / "data.jsonl",
        good,
        '{"question": "cut off',
        '["a list"]',
        {"question": "Why?"},
        {"question": "Why?", "answer": None},
        {"question": "Why?", "answer": "  "},
        {"question": " ", "answer": "So."},
        {"question": 7, "answer": "So."},
        {"question": "Why?", "answer": ["So."]},
        '{"question": "Why?", "answer": "\\ud800"}',
        "",
        good,
    )
    rows = read(tmp_path, source())
    assert [(row.where, row.reason) for row in rows if isinstance(row, Reject)] == [
        ("data.jsonl:2", "corrupt_json"),
        ("data.jsonl:3", "not_an_object"),
        ("data.jsonl:4", "missing_completion"),
        ("data.jsonl:5", "missing_completion"),
        ("data.jsonl:6", "empty_completion"),
        ("data.jsonl:7", "empty_prompt"),
        ("data.jsonl:8", "wrong_type"),
        ("data.jsonl:9", "wrong_type"),
        ("data.jsonl:10", "corrupt_encoding"),
    ]
    assert [row.where for row in rows if isinstance(row, Candidate)] == ["data.jsonl:1", "data.jsonl:12"]


def test_bytes_that_are_not_text_leave_too(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_bytes(b'{"question": "\xff", "answer": "So."}\n{"question": "Why?", "answer": "So."}\n')
    rows = read(tmp_path, source())
    assert isinstance(rows[0], Reject)
    assert rows[0].reason == "corrupt_encoding"
    assert isinstance(rows[1], Candidate)


def test_text_that_imitates_a_marker_list_stays_as_it_is(tmp_path: Path) -> None:
    text = "<MARKER_LIST>\n<lang>French</lang>\n</MARKER_LIST>\nSo."
    write(tmp_path / "data.jsonl", {"question": text, "answer": text})
    (row,) = read(tmp_path, source())
    assert isinstance(row, Candidate)
    assert row.completion == row.prompt[0][1] == text


def test_gzip_and_folders_and_globs(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    write(tmp_path / "many" / "b.jsonl.gz", {"question": "b", "answer": "B"})
    write(tmp_path / "many" / "a.jsonl", {"question": "a", "answer": "A"})
    (tmp_path / "many" / "notes.txt").write_text("not data")
    for path in ("many", "many/*.jsonl*"):
        assert [row.where for row in read(tmp_path, source(path))] == ["many/a.jsonl:1", "many/b.jsonl.gz:1"]


def test_a_truncated_gzip_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl.gz"
    write(path, *({"question": f"q{number}", "answer": "A"} for number in range(500)))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"data\.jsonl\.gz"):
        read(tmp_path, source("data.jsonl.gz"))


def test_parquet_rows_are_numbered_and_checked(tmp_path: Path) -> None:
    table = pa.table({"question": ["Why?", None, "How?"], "answer": ["So.", "So.", ""], "topic": ["law", "law", None]})
    pq.write_table(table, tmp_path / "data.parquet")
    rows = read(tmp_path, source("data.parquet", markers={"domain": "topic"}))
    assert isinstance(rows[0], Candidate)
    assert rows[0].metadata == {"marker.domain": "law"}
    assert [(row.where, row.reason) for row in rows if isinstance(row, Reject)] == [
        ("data.parquet:2", "empty_prompt"),
        ("data.parquet:3", "empty_completion"),
    ]


@pytest.mark.parametrize("name", ["data.jsonl", "data.parquet"])
def test_a_missing_column_names_those_that_exist(tmp_path: Path, name: str) -> None:
    write(tmp_path / "data.jsonl", {"question": "Why?", "answer": "So."})
    pq.write_table(pa.table({"question": ["Why?"], "answer": ["So."]}), tmp_path / "data.parquet")
    with pytest.raises(DataError, match="no column 'topic'") as caught:
        read(tmp_path, source(name, markers={"domain": "topic"}))
    assert "answer, question" in str(caught.value) or "question, answer" in str(caught.value)


def test_a_missing_file_and_a_folder_without_data_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path, source("nowhere.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file ending"):
        read(tmp_path, source("empty"))


def test_a_file_that_only_claims_to_be_parquet_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.parquet").write_text("no")
    with pytest.raises(DataError, match=r"cannot be read[^\n]*Parquet"):
        read(tmp_path, source("data.parquet"))


def test_a_marker_column_with_a_list_leaves(tmp_path: Path) -> None:
    write(tmp_path / "data.jsonl", {"question": "Why?", "answer": "So.", "topic": ["law"]})
    (row,) = read(tmp_path, source(markers={"domain": "topic"}))
    assert isinstance(row, Reject)
    assert row.reason == "wrong_type"
