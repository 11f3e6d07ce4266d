"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from tailmark.errors import ModelError, StorageError
from tailmark.files import sha256_tree, staged_file, staged_folder, storage_errors, write_json


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_json(target, {"old": 1})
    with pytest.raises(RuntimeError), staged_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert "old" in target.read_text()
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with staged_folder(target) as folder:
        (folder / "a").write_text("1")
    with pytest.raises(KeyboardInterrupt), staged_folder(target) as folder:
        (folder / "b").write_text("2")
        raise KeyboardInterrupt
    assert [path.name for path in target.iterdir()] == ["a"]
    assert list(tmp_path.iterdir()) == [target]


def test_whoever_may_read_a_folder_may_read_its_files(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "model") as folder:
        folder.chmod(0o750)
        (folder / "weights").touch(mode=0o600)
    assert (tmp_path / "model" / "weights").stat().st_mode & 0o777 == 0o640


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for name in ("a", "b"):
        with staged_folder(target) as folder:
            (folder / name).write_text(name)
    assert [path.name for path in target.iterdir()] == ["b"]


def test_a_full_disk_is_said_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="The disk is full") as caught, staged_file(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "dvc gc" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_really_full_disk() -> None:
    """/dev/full refuses every write as a full disk does."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(StorageError, match="The disk is full"), storage_errors(full), full.open("w") as file:
        file.write("x")


def test_tree_hash_sees_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = sha256_tree(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = sha256_tree(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({first, second, sha256_tree(tmp_path)}) == 3


@pytest.fixture(scope="module")
def ended() -> int:
    """The id of a process that is no longer there."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_process_left_is_swept(tmp_path: Path, ended: int) -> None:
    leftover, other = tmp_path / f".out.{ended}.tmp", tmp_path / f".out.{os.getppid()}.tmp"
    leftover.mkdir()
    other.mkdir()
    with staged_folder(tmp_path / "out"):
        pass
    assert not leftover.exists()
    assert other.exists()


def test_a_file_that_a_killed_process_left_is_swept(tmp_path: Path, ended: int) -> None:
    names = [f".a.json.{ended}.tmp", f".a.json.{os.getpid()}.tmp", f".a.json.{os.getppid()}.tmp", f".b.json.{ended}.tmp"]
    for name in names:
        (tmp_path / name).write_text("half")
    write_json(tmp_path / "a.json", {})
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", *names[2:]}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_a_folder_moved_away_by_a_killed_process_comes_back_where_it_is_missing(
    tmp_path: Path, ended: int, *, there: bool, fails: bool
) -> None:
    target, old = tmp_path / "out", tmp_path / f".out.{ended}.old"
    old.mkdir()
    (old / "kept").write_text("old")
    if there:
        target.mkdir()
        (target / "kept").write_text("new")
    with pytest.raises(KeyboardInterrupt) if fails else storage_errors(target), staged_folder(target) as folder:
        (folder / "next").write_text("next")
        if fails:
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [target]
    found = {path.name: path.read_text() for path in target.iterdir()}
    assert found == ({"kept": "new" if there else "old"} if fails else {"next": "next"})


def test_the_folder_of_a_process_at_work_stays_moved_away(tmp_path: Path) -> None:
    old = tmp_path / f".out.{os.getppid()}.old"
    old.mkdir()
    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path / "out"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")], ids=["interrupt", "error"])
@pytest.mark.parametrize(("call", "after", "whole"), [(1, True, "old"), (2, False, "old"), (2, True, "new")])
def test_an_interrupt_between_the_renames_leaves_a_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, call: int, *, after: bool, whole: str
) -> None:
    """The interrupt comes before or just after the first or second rename of a replacement."""
    target, rename, calls = tmp_path / "out", Path.rename, 0
    with staged_folder(target) as folder:
        (folder / "old").touch()

    def interrupted(path: Path, to: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            raise error
        moved = rename(path, to)
        if calls == call:
            raise error
        return moved

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(type(error)), staged_folder(target) as folder:
        (folder / "new").touch()
    assert calls >= call
    assert [path.name for path in target.iterdir()] == [whole]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    "error",
    [
        Exception("No space left on device (os error 28)"),
        RuntimeError("I/O error: No space left on device"),
        ValueError("Error while serializing: I/O error: os error 28"),
        shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_full_disk_is_known_from_what_a_library_says(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(StorageError, match="The disk is full") as caught, storage_errors(tmp_path / "none" / "x"):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt("No space left on device"),
        ModelError("No space left on device"),
        RuntimeError("no space between words (os error 2)"),
        Exception("os error 280"),
        OSError(errno.EIO, "Input/output error"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_pass_untouched(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, storage_errors(tmp_path):
        raise error
    assert caught.value is error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_tokenizers_on_a_really_full_disk(tmp_path: Path) -> None:
    """It raises a bare Exception, without the errno."""
    full = tmp_path / "tokenizer.json"
    full.symlink_to("/dev/full")  # a library that renames over its target, run as root, would replace the device itself
    with pytest.raises(StorageError, match="The disk is full") as caught, storage_errors(full):
        Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(full))
    assert type(caught.value.__cause__) is Exception
