"""Files that appear whole or not at all, and their hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tailmark.errors import StorageError, TailmarkError

_CHUNK = 1 << 20

# What libraries that hide the errno say: Rust's (safetensors, tokenizers), torch's and shutil's exceptions, SQLite.
_FULL = re.compile(r"no space left on device|disk quota exceeded|os error (28|122)\b|database or disk is full", re.IGNORECASE)


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
    """Turn a full disk, a quota or a missing permission into an error with a way out; whatever else is raised passes."""
    try:
        yield
    except TailmarkError:
        raise
    except Exception as error:
        if _is_full(error):
            free = shutil.disk_usage(_existing(path)).free / 2**20
            raise StorageError(
                f"The disk is full: {free:.0f} MiB are left.",
                where=str(path),
                fix="free some space (`dvc gc --workspace` drops cached data no longer used), then run the same command again",
            ) from error
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise StorageError("The path cannot be written.", where=str(path), fix="check its owner and permissions") from error
        raise


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return _FULL.search(str(error)) is not None


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
    temporary = _temporary(path)
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

    The old folder, if any, stays in place until the new one is complete. Whoever may read the folder may read its files: some libraries
    (safetensors) write them for their owner alone, and then no server under another account could open a model.
    """
    temporary = _temporary(path)
    try:
        with storage_errors(path):
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file() and not file.is_symlink():
                    file.chmod(file.stat().st_mode | temporary.stat().st_mode & 0o444)
                fsync_path(file)
            fsync_path(temporary)
            _swap(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` for what is too large for memory, removed when the block ends; what a killed process left is cleared up."""
    temporary = _temporary(path)
    try:
        with storage_errors(path):
            temporary.mkdir()
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    """The free temporary name of this process beside `path`."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _sweep(path: Path) -> None:
    """Clear up what processes that were killed left beside `path`: an old folder moved away comes back, unless the new one is there."""
    for old in _leftovers(path, ".old"):
        old.rename(old.with_suffix(".tmp") if path.exists() else path)
    for temporary in _leftovers(path, ".tmp"):
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def clear_folder(folder: Path) -> None:
    """Clear up unfinished files that processes that were killed left in a folder where every file is written once.

    Elsewhere the next one to write a file clears up beside it; here nobody writes one of the same name again.
    """
    for file in folder.glob(".*.tmp"):
        owner = file.name.split(".")[-2]
        if owner.isdigit() and not alive(int(owner)):
            file.unlink(missing_ok=True)


def _leftovers(path: Path, suffix: str) -> list[Path]:
    """What ended processes, or one that had this process's id before, left beside `path`."""
    prefix = f".{path.name}."
    owners = {
        file: file.name.removeprefix(prefix).removesuffix(suffix)
        for file in path.parent.iterdir()
        if file.name.startswith(prefix) and file.name.endswith(suffix)
    }
    return [file for file, owner in owners.items() if owner.isdigit() and (int(owner) == os.getpid() or not alive(int(owner)))]


def alive(process: int) -> bool:
    """Whether a process of this machine has this id."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _swap(new: Path, path: Path) -> None:
    """Put `new` in the place of `path`; interrupted between the renames, the old folder goes back."""
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        if path.exists():
            path.rename(old)
        new.rename(path)
    finally:
        # Only a whole folder is ever called .old, so that it can come back; what is to be removed takes the temporary's name.
        if old.exists():
            old.rename(new if path.exists() else path)
    fsync_path(path.parent)


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
