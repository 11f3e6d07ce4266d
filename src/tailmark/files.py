"""Files that appear whole or not at all, and their hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tailmark.errors import StorageError

_CHUNK = 1 << 20


def sha256_bytes(data: bytes) -> str:
    """Hex digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex digest of a file, read in chunks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """Hex digest of a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256_bytes(text.encode())


def sha256_tree(folder: Path) -> str:
    """Hex digest of a folder: of the sorted (relative path, file digest) pairs."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return sha256_json([[path.relative_to(folder).as_posix(), sha256_file(path)] for path in files])


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a quota or a missing permission into an error with a way out."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(_existing(path)).free / 2**20
            raise StorageError(
                f"The disk is full: {free:.0f} MiB are left.",
                where=str(path),
                fix="free some space (`dvc gc --workspace` drops cached data no longer used), then run the same command again",
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise StorageError("The path cannot be written.", where=str(path), fix="check its owner and permissions") from error
        raise


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def fsync_path(path: Path) -> None:
    """Flush a file or folder to disk, so that a rename after it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with storage_errors(path):
            yield temporary
            fsync_path(temporary)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that replaces it when the block ends well and is removed when it does not.

    The old folder, if any, stays in place until the new one is complete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with storage_errors(path):
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                fsync_path(file)
            fsync_path(temporary)
            _swap(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sweep(path: Path) -> None:
    """Remove what processes that were killed left beside `path`."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        owner = leftover.name.removesuffix(".tmp").rpartition(".")[2]
        if leftover.is_dir() and owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(leftover, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _swap(new: Path, path: Path) -> None:
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.exists():
        path.rename(old)
    new.rename(path)
    fsync_path(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file by rename."""
    with staged_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON by rename: sorted keys, two spaces, so that a diff can be read."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
