"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tailmark.errors import StorageError
from tailmark.files import sha256_tree, staged_file, staged_folder, write_json


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
    from tailmark.files import storage_errors

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


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    leftover, other = tmp_path / f".out.{ended.pid}.tmp", tmp_path / f".out.{os.getppid()}.tmp"
    leftover.mkdir()
    other.mkdir()
    with staged_folder(tmp_path / "out"):
        pass
    assert not leftover.exists()
    assert other.exists()
