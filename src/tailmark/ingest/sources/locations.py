"""Where a source's rows lie: local files, folders and globs, and whatever fsspec can open. Credentials come from the environment."""

from __future__ import annotations

import glob
import gzip
import io
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import fsspec
import pyarrow as pa
from fsspec import AbstractFileSystem

from tailmark.config import Source
from tailmark.errors import DataError, TailmarkError
from tailmark.files import sha256_file

_PLAIN = {"jsonl": (".jsonl", ".ndjson"), "csv": (".csv", ".tsv"), "parquet": (".parquet",)}
_PACKED = ("", ".gz", ".zst")
_URL = re.compile(r"[a-z0-9+]+(://|::)", re.IGNORECASE)
_CORRECT = "correct `path` under `ingest.sources` in params.yaml"
_FETCH = "fetch or write the file again"


@dataclass(frozen=True)
class SourceFile:
    """One file of a source.

    Attributes:
        name: as people know it, and as it stands in the quarantine: no folder of this machine unless the config names it.
        path: where it is, for `system`.
        system: the fsspec file system; None for a local file.
    """

    name: str
    path: str
    system: AbstractFileSystem | None = None

    def open(self) -> AbstractContextManager[BinaryIO]:
        """The file as it is."""
        return cast(AbstractContextManager[BinaryIO], self.system.open(self.path, "rb") if self.system else open(self.path, "rb"))

    @contextmanager
    def unpacked(self) -> Iterator[BinaryIO]:
        """The file's content: what its name says is gzip or zstd is unpacked on the way."""
        with self.open() as file:
            if self.name.endswith(".gz"):
                yield cast(BinaryIO, gzip.GzipFile(fileobj=file))
            elif self.name.endswith(".zst"):
                stream = pa.CompressedInputStream(pa.PythonFile(cast(io.IOBase, file), mode="r"), "zstd")
                yield cast(BinaryIO, io.BufferedReader(stream))
            else:
                yield file

    def version(self) -> dict[str, str | int]:
        """What tells whether it changed: its size, and the sha256 of a local file or the entity tag of a remote one."""
        if self.system is None:
            return {"bytes": Path(self.path).stat().st_size, "sha256": sha256_file(Path(self.path))}
        with reading(self.name):
            told = self.system.info(self.path)
        found: dict[str, str | int] = {"bytes": told["size"]} if isinstance(told.get("size"), int) else {}
        tag = told.get("ETag") or told.get("etag")
        return found | ({"etag": str(tag).strip('"')} if tag else {})


@contextmanager
def reading(name: str, problem: str = "A source file cannot be read to its end") -> Iterator[None]:
    """Turn whatever a file, a codec or a remote store raises into an error with a way out."""
    try:
        yield
    except TailmarkError:
        raise
    except FileNotFoundError:
        what = "There is nothing at this address, or it cannot be reached." if is_url(name) else "A source file is gone."
        raise DataError(what, where=name, fix=_CORRECT) from None
    except ImportError as error:
        raise DataError(f"This kind of address needs one more package: {error}.", where=name, fix="install it with pip") from None
    # Each store and codec has exceptions of its own; none of them is ours.
    except Exception as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        fix = f"{_FETCH}, or give the store's credentials in the environment" if is_url(name) else _FETCH
        raise DataError(f"{problem}: {detail}", where=name, fix=fix) from None


def is_url(path: str) -> bool:
    """Whether fsspec has to open it."""
    return _URL.match(path) is not None


def source_files(source: Source, root: Path) -> list[SourceFile]:
    """The files that a source's `path` names, in order: one file, those in a folder, those that a glob matches.

    Args:
        root: the checkout, to which a local path is relative.

    Raises:
        DataError: there are none, or the address cannot be reached.
    """
    assert source.path is not None
    found = _remote(source.path, source.kind, root) if is_url(source.path) else _local(source.path, source.kind, source.name, root)
    if not found:
        suffixes = " or ".join(_PLAIN[source.kind])
        raise DataError(
            f"The path of source '{source.name}' names no file ending in {suffixes}.",
            where=source.path,
            fix=_CORRECT,
        )
    return sorted(found, key=lambda file: file.name)


def _local(given: str, kind: str, name: str | None, root: Path) -> list[SourceFile]:
    given = str(Path(given).expanduser())
    path = root / given
    if path.is_file():
        return [SourceFile(given, str(path))]
    if path.is_dir():
        names = [str(Path(given) / item.relative_to(path)) for item in path.rglob("*")]
    elif glob.has_magic(given):
        names = glob.glob(given, root_dir=root, recursive=True)
    else:
        raise DataError(f"The path of source '{name}' does not exist.", where=given, fix=_CORRECT)
    return [SourceFile(item, str(root / item)) for item in names if _is_kind(item, kind) and (root / item).is_file()]


def _is_kind(name: str, kind: str) -> bool:
    packed = _PACKED if kind != "parquet" else ("",)
    return name.lower().endswith(tuple(plain + pack for plain in _PLAIN[kind] for pack in packed))


def _remote(given: str, kind: str, root: Path) -> list[SourceFile]:
    with reading(given, "A source address cannot be opened"):
        system, path = fsspec.core.url_to_fs(_rooted(given, root))
        if glob.has_magic(path):
            found = system.glob(path)
        elif _is_file(system, path, kind):
            return [SourceFile(given, path, system)]
        else:
            found = system.find(path)
        return [SourceFile(_address(system, item), item, system) for item in found if _is_kind(item, kind)]


def _rooted(given: str, root: Path) -> str:
    """`zip://*.csv::data.zip` with the local file at its end relative to the checkout."""
    *chain, last = given.split("::")
    return "::".join([*chain, last if not chain or "://" in last else str(root / last)])


def _is_file(system: AbstractFileSystem, path: str, kind: str) -> bool:
    # Some stores take a failed connection for a missing file; `info` raises.
    return bool(system.info(path)["type"] == "file" if _is_kind(path, kind) else system.isfile(path))


def _address(system: AbstractFileSystem, path: str) -> str:
    return str(system.unstrip_protocol(path))


def unwatched(source: Source, root: Path) -> str | None:
    """What a person should know about changes of the source's files, where DVC does not see them."""
    if source.kind == "starter":
        return None
    assert source.path is not None
    if is_url(source.path) or (source.kind == "huggingface" and not (root / source.path).exists()):
        if source.revision:
            return None
        return "DVC does not see changes at this address; after one, run `dvc repro --force ingest` (docs/sources.md)"
    if (root / Path(source.path).expanduser()).resolve().is_relative_to(root.resolve() / "sources"):
        return None
    return "DVC does not see these files change, it watches sources/; after a change, `dvc repro --force ingest` (docs/sources.md)"
