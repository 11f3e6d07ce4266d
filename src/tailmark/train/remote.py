"""Checkpoints at a URL (`train.upload`): written so that they are complete or not there, verified by reading them back."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import fsspec

from tailmark.errors import CheckpointError, ConfigError, StorageError
from tailmark.files import fsync_path, read_json
from tailmark.train.checkpoint import MANIFEST, damage
from tailmark.train.job import Job

_CHUNK = 1 << 20


class Remote:
    """The checkpoints of one training under `<url>/<name of the scratch folder>/`, one folder each, its manifest written last.

    Raises:
        ConfigError: the URL's file system is unknown or its package is not installed.
    """

    def __init__(self, job: Job, url: str) -> None:
        self.url = f"{url.rstrip('/')}/{job.scratch.name}"
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"Checkpoints cannot be copied there: {error}",
                where=f"train.upload: {url}",
                fix="install the file system's package (s3: `pip install -r requirements-s3.txt`), or set train.upload to null",
            ) from None

    def names(self) -> list[str]:
        """The complete checkpoints, newest first."""
        self._fs.invalidate_cache()
        try:
            folders = self._fs.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        names = sorted((folder.rstrip("/").rsplit("/", 1)[-1] for folder in folders), reverse=True)
        return [name for name in names if name.startswith("step-") and self._fs.exists(f"{self._root}/{name}/{MANIFEST}")]

    def send(self, folder: Path, keep: int) -> None:
        """Copy a checkpoint, read it back, and drop all but the newest `keep`.

        Raises:
            OSError, StorageError: it did not arrive whole. Other exceptions of the storage's client pass.
        """
        files: dict[str, dict[str, Any]] = read_json(folder / MANIFEST)["files"]
        target = f"{self._root}/{folder.name}"
        for name in files:
            self._put(folder / name, f"{target}/{name}")
            if self._digest(f"{target}/{name}") != files[name]["sha256"]:
                raise StorageError(f"'{name}' came back changed.", where=f"{self.url}/{folder.name}")
        self._put(folder / MANIFEST, f"{target}/{MANIFEST}")
        for old in self.names()[keep:]:
            # The manifest first: what is being removed must not look complete.
            self._fs.rm(f"{self._root}/{old}/{MANIFEST}")
            self._fs.rm(f"{self._root}/{old}", recursive=True)

    def _put(self, file: Path, target: str) -> None:
        self._fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
        self._fs.put_file(str(file), target)

    def _digest(self, path: str) -> str:
        digest = hashlib.sha256()
        with self._fs.open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def fetch(self, checkpoints: Path) -> Path | None:
        """Bring the newest whole checkpoint into the folder; None where there is none at all.

        Raises:
            CheckpointError: there are some and all are damaged.
            StorageError: the storage cannot be reached.
        """
        problems = {}
        try:
            for name in self.names():
                temporary = checkpoints / f".{name}"
                self._get(name, temporary)
                problem = damage(temporary)
                if problem is None:
                    temporary.rename(checkpoints / name)
                    fsync_path(checkpoints)
                    return checkpoints / name
                shutil.rmtree(temporary)
                problems[name] = problem
        except Exception as error:  # every storage's client has exceptions of its own
            raise StorageError(
                f"The storage of the checkpoints cannot be read: {error}",
                where=self.url,
                fix="mend that and run the same command again, or set train.upload to null to train from the start",
            ) from error
        if problems:
            listed = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
            fix = "remove that folder, or set train.upload to null, to train from the start"
            raise CheckpointError(f"No checkpoint there can be used ({listed}).", where=self.url, fix=fix)
        return None

    def _get(self, name: str, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        source = f"{self._root}/{name}"
        self._fs.get_file(f"{source}/{MANIFEST}", str(folder / MANIFEST))
        for file in read_json(folder / MANIFEST)["files"]:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            if self._fs.exists(f"{source}/{file}"):
                self._fs.get_file(f"{source}/{file}", str(folder / file))
