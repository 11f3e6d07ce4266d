"""Kinds of files and places: CSV, zstd, Parquet, memory:// and file:// and http://, Hugging Face data sets."""

from __future__ import annotations

import csv
import gzip
import json
import logging
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailmark.config import Source
from tailmark.errors import DataError
from tailmark.files import sha256_bytes
from tailmark.ingest.adapters import read_source, source_versions, unwatched
from tailmark.ingest.candidate import Candidate, Reject
from tailmark.ingest.sources.columns import Columns
from tailmark.ingest.sources.locations import SourceFile
from tailmark.ingest.sources.tables import read_csv

LINES = b"".join(json.dumps({"q": f"question {number}", "a": "A"}).encode() + b"\n" for number in range(3))


def source(path: str, kind: str = "jsonl", **options: Any) -> Source:
    return Source.model_validate({"kind": kind, "name": "mine", "path": path, "prompt": "q", "completion": "a", **options})


def prompts(rows: Iterator[Candidate | Reject]) -> list[str]:
    found = list(rows)
    assert all(isinstance(row, Candidate) for row in found), found
    return [row.prompt[0][1] for row in found if isinstance(row, Candidate)]


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


EXPECTED = [f"question {number}" for number in range(3)]


@pytest.mark.parametrize(("name", "pack"), [("x.jsonl", bytes), ("x.jsonl.gz", gzip.compress), ("x.ndjson.zst", zstd)])
@pytest.mark.parametrize("place", ["local", "memory", "file"])
def test_packed_lines_are_read_everywhere(tmp_path: Path, name: str, pack: Any, place: str) -> None:
    data = pack(LINES)
    if place == "memory":
        path = f"memory://{tmp_path.name}/{name}"
        with fsspec.open(path, "wb") as file:
            file.write(data)
    else:
        (tmp_path / name).write_bytes(data)
        path = name if place == "local" else (tmp_path / name).as_uri()
    rows = list(read_source(source(path), tmp_path))
    assert [row.where for row in rows] == [f"{path}:{number}" for number in (1, 2, 3)]
    assert prompts(iter(rows)) == EXPECTED


@pytest.mark.parametrize(
    ("name", "pack", "spoil"),
    [("x.jsonl.gz", gzip.compress, "cut"), ("x.jsonl.gz", gzip.compress, "flip"), ("x.jsonl.zst", zstd, "cut")],
)
def test_a_spoilt_file_is_an_error_that_names_it(tmp_path: Path, name: str, pack: Any, spoil: str) -> None:
    data = bytearray(pack(LINES * 2_000))
    if spoil == "cut":
        del data[-60:]
    else:
        data[len(data) // 2] ^= 0xFF
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match="read to its end") as caught:
        list(read_source(source(name), tmp_path))
    assert name in str(caught.value)


def test_several_frames_of_zstd_are_one_file(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl.zst").write_bytes(zstd(LINES) + zstd(LINES))
    assert prompts(read_source(source("x.jsonl.zst"), tmp_path)) == EXPECTED * 2


def test_remote_folders_and_globs_give_their_files_in_order(tmp_path: Path) -> None:
    base = f"memory://{tmp_path.name}"
    for name in ("b/2.jsonl", "b/1.jsonl.gz", "a.jsonl", "notes.txt"):
        with fsspec.open(f"{base}/{name}", "wb") as file:
            file.write(gzip.compress(LINES) if name.endswith(".gz") else LINES)
    assert len(prompts(read_source(source(base), tmp_path))) == 9
    found = [row.where for row in read_source(source(f"{base}/b/*.jsonl*"), tmp_path)]
    assert [where.rpartition("/")[2] for where in found] == [f"{name}:{n}" for name in ("1.jsonl.gz", "2.jsonl") for n in (1, 2, 3)]


def test_files_inside_a_zip_file_of_the_checkout(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("sets/b.jsonl", LINES)
        archive.writestr("sets/deep/a.jsonl", LINES)
    rows = list(read_source(source("zip://sets/**/*.jsonl::x.zip"), tmp_path))
    assert [row.where for row in rows] == [f"zip://sets/{name}.jsonl:{n}" for name in ("b", "deep/a") for n in (1, 2, 3)]


def test_a_folder_may_be_called_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").mkdir()
    (tmp_path / "x.jsonl" / "part-0.jsonl").write_bytes(LINES)
    with fsspec.open(f"memory://{tmp_path.name}/y.jsonl/part-0.jsonl", "wb") as file:
        file.write(LINES)
    assert prompts(read_source(source("x.jsonl"), tmp_path)) == EXPECTED
    assert prompts(read_source(source(f"memory://{tmp_path.name}/y.jsonl"), tmp_path)) == EXPECTED


@pytest.mark.parametrize(
    ("path", "shown"),
    [("../more/x[0-9].jsonl", "../more/x1.jsonl:1"), ("../more", "../more/x1.jsonl:1"), ("../m*/x1.jsonl", "../more/x1.jsonl:1")],
)
def test_files_are_shown_as_the_config_names_them(tmp_path: Path, path: str, shown: str) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "checkout").mkdir()
    (tmp_path / "more" / "x1.jsonl").write_bytes(LINES)
    for place in (path, str(tmp_path / "checkout" / path)):
        first = next(read_source(source(place), tmp_path / "checkout"))
        assert first.where == (shown if place is path else str(tmp_path / "checkout" / shown))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("memory://nowhere/x.jsonl", "nothing at this address"),
        ("memory://nowhere/folder", "names no file"),
        ("memory://nowhere/*.jsonl", "names no file"),
        ("none*.jsonl", "names no file"),
        ("nosuch://x.jsonl", "nosuch"),
        ("http://127.0.0.1:9/x.jsonl", "cannot be reached"),
    ],
)
def test_an_address_that_leads_nowhere_is_an_error_with_a_way_out(tmp_path: Path, path: str, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        list(read_source(source(path), tmp_path))
    assert caught.value.fix


def test_a_store_whose_package_is_missing_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="adlfs"):
        list(read_source(source("abfs://container/x.jsonl"), tmp_path))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        logging.getLogger(__name__).debug(format, *args)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_http_is_read_by_line_and_as_parquet(tmp_path: Path, web: str) -> None:
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(LINES))
    pq.write_table(pa.table({"q": EXPECTED, "a": ["A"] * 3}), tmp_path / "x.parquet")
    assert prompts(read_source(source(f"{web}/x.jsonl.gz"), tmp_path)) == EXPECTED
    assert prompts(read_source(source(f"{web}/x.parquet", "parquet"), tmp_path)) == EXPECTED
    with pytest.raises(DataError):
        list(read_source(source(f"{web}/none.jsonl"), tmp_path))


CSV = '\ufeffq,a,topic\r\n"Why, though?","two\r\nlines",law\r\nHow?,So.,\r\n\r\nWhen?,Now.,tax\r\n'


@pytest.mark.parametrize(("name", "pack"), [("x.csv", bytes), ("x.csv.gz", gzip.compress), ("x.csv.zst", zstd)])
def test_csv_has_quotes_and_lines_inside_cells(tmp_path: Path, name: str, pack: Any) -> None:
    (tmp_path / name).write_bytes(pack(CSV.encode()))
    rows = [row for row in read_source(source(name, "csv", markers={"domain": "topic"}), tmp_path) if isinstance(row, Candidate)]
    assert [(row.where, row.completion, row.metadata.get("marker.domain")) for row in rows] == [
        (f"{name}:2", "two\r\nlines", "law"),
        (f"{name}:4", "So.", None),
        (f"{name}:6", "Now.", "tax"),
    ]


def test_tabs_and_other_delimiters(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("q\ta\nWhy, though?\tSo.\n")
    (tmp_path / "x.csv").write_text("q;a\nWhy, though?;So.\n")
    assert prompts(read_source(source("x.tsv", "csv"), tmp_path)) == ["Why, though?"]
    assert prompts(read_source(source("x.csv", "csv", delimiter=";"), tmp_path)) == ["Why, though?"]


def test_bytes_in_csv_that_are_not_text_leave_alone(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"q,a,other\nWhy?,\xff,x\nHow?,So.,\xff\n")
    first, second = read_source(source("x.csv", "csv"), tmp_path)
    assert isinstance(first, Reject)
    assert (first.reason, first.where) == ("corrupt_encoding", "x.csv:2")
    first.row.encode()
    assert isinstance(second, Candidate)


def test_a_quote_that_is_never_closed_does_not_take_the_rest_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailmark.ingest.sources.tables._LONGEST_CELL", 1_000)
    (tmp_path / "x.csv").write_text('q,a\n"Why?,So.\n' + "How?,So.\n" * 1_000)
    rows = list(read_source(source("x.csv", "csv"), tmp_path))
    assert [(row.where, row.reason) for row in rows if isinstance(row, Reject)] == [("x.csv:2", "corrupt_csv")]
    assert len(rows) > 850


@pytest.mark.parametrize(("head", "says"), [("q,b", "no column 'a'"), ("q,a,a", "stands twice"), ("", "no column")])
def test_a_head_of_csv_that_does_not_fit_is_an_error(tmp_path: Path, head: str, says: str) -> None:
    (tmp_path / "x.csv").write_text(f"{head}\nWhy?,So.\n" if head else "")
    with pytest.raises(DataError, match=says):
        list(read_source(source("x.csv", "csv"), tmp_path))


@given(st.lists(st.tuples(st.text(alphabet='ab,"\n\r é', min_size=1), st.text(alphabet='ab,"\n\r é', min_size=1)), max_size=8))
def test_whatever_the_csv_module_writes_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("q", "a"), *rows])
    columns = Columns(source("x.csv", "csv"))
    assert [row for _, row in read_csv(SourceFile("x.csv", str(path)), columns, None)] == [{"q": q, "a": a} for q, a in rows]


def test_a_json_array_says_how_to_make_lines_of_it(tmp_path: Path) -> None:
    for text in ('[{"q": "Why?", "a": "So."}]', '[\n  {"q": "Why?"}\n]'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(DataError, match="jq -c"):
            list(read_source(source("x.json"), tmp_path))


def test_parquet_reads_nested_fields_and_leaves_out_text_that_is_none(tmp_path: Path) -> None:
    answers = pa.StringArray.from_buffers(3, pa.array([0, 1, 3, 4], pa.int32()).buffers()[1], pa.py_buffer(b"A\xff\xfeB"))
    table = pa.table({"q": [{"text": "Why?"}, {"text": "How?"}, {"text": "When?"}], "a": answers, "wide": ["x"] * 3})
    pq.write_table(table, tmp_path / "x.parquet")
    rows = list(read_source(source("x.parquet", "parquet", prompt="q.text"), tmp_path))
    assert [row.completion if isinstance(row, Candidate) else row.reason for row in rows] == ["A", "corrupt_encoding", "B"]


def test_a_data_set_folder_is_streamed_with_its_splits(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_bytes(LINES)
    (folder / "test.jsonl").write_bytes(LINES.replace(b"question", b"probe"))
    rows = list(read_source(source("set", "huggingface"), tmp_path))
    assert [row.where for row in rows] == [f"set/train:{number}" for number in (1, 2, 3)]
    assert prompts(iter(rows)) == EXPECTED
    assert prompts(read_source(source("set", "huggingface", split="test", limit=2), tmp_path)) == ["probe 0", "probe 1"]


@pytest.mark.parametrize(
    ("options", "says"),
    [({"split": "dev"}, "dev"), ({"completion": "answer"}, "no column 'answer'"), ({"path": "nobody/nothing"}, "cannot be opened")],
)
def test_a_data_set_that_is_not_there_is_an_error(tmp_path: Path, options: dict[str, str], says: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_bytes(LINES)
    with pytest.raises(DataError, match=says) as caught:
        list(read_source(source(**{"path": "set", "kind": "huggingface"} | options), tmp_path))
    assert caught.value.fix


def test_versions_tell_whether_a_file_changed(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(LINES)
    assert source_versions(source("x.jsonl"), tmp_path) == {"x.jsonl": {"bytes": len(LINES), "sha256": sha256_bytes(LINES)}}
    with fsspec.open(f"memory://{tmp_path.name}/v.jsonl", "wb") as file:
        file.write(LINES)
    assert list(source_versions(source(f"memory://{tmp_path.name}/v.jsonl"), tmp_path).values()) == [{"bytes": len(LINES)}]
    assert source_versions(source("org/name", "huggingface", revision="abc"), tmp_path) == {
        "org/name": {"split": "train", "revision": "abc"}
    }
    assert source_versions(Source(kind="starter"), tmp_path) == {}


@pytest.mark.parametrize(
    ("given", "watched"),
    [
        (source("sources/x.jsonl"), True),
        (source("../x.jsonl"), False),
        (source("s3://bucket/x.jsonl"), False),
        (source("org/name", "huggingface"), False),
        (source("org/name", "huggingface", revision="abc"), True),
        (Source(kind="starter"), True),
    ],
)
def test_what_dvc_does_not_see_is_said(tmp_path: Path, given: Source, watched: bool) -> None:
    assert (unwatched(given, tmp_path) is None) == watched
