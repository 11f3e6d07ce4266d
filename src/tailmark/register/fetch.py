"""The verified loader: how our own code opens a registered version. Files are compared, safetensors are read, nothing of it is run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from tailmark.config import Config
from tailmark.errors import ModelError
from tailmark.files import staged_folder, storage_errors
from tailmark.layout import Layout
from tailmark.modelfolder import read_model_info
from tailmark.register.manifest import ARTIFACTS, EVIDENCE, MODEL, Manifest, require_manifest, verify_version
from tailmark.register.registry import Registry, open_registry

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from tailmark.generate.loading import LoadedModel


@dataclass(frozen=True)
class Fetched:
    """A version whose files were compared with what was registered.

    Attributes:
        name, version: in the registry.
        folder: its files, on this machine.
    """

    name: str
    version: str
    folder: Path
    manifest: Manifest
    manifest_digest: str

    @property
    def model(self) -> Path:
        """The trained model's folder."""
        return self.folder / ARTIFACTS / MODEL

    @property
    def evidence(self) -> Path:
        """What the evaluation, the training and the data stages reported."""
        return self.folder / ARTIFACTS / EVIDENCE


def load_registered(config: Config, layout: Layout, reference: str) -> LoadedModel:
    """The model of a registered version (`models:/tailmark@champion`), verified, ready to generate.

    Raises:
        TrackingError: the store is away, or there is no such version.
        ModelError: a file is not what was registered.
    """
    from tailmark.generate.loading import load_model

    with open_registry(config, layout) as registry:
        fetched = fetch(registry, registry.resolve(reference))
    return load_model(fetched.model)


def fetch(registry: Registry, version: ModelVersion) -> Fetched:
    """The version's files under `layout.state/registry`, downloaded once and compared each time.

    Raises:
        ModelError: a file is not what was registered; what was downloaded is removed.
    """
    folder = copy_of(registry, version)
    noted = require_manifest(version.tags, _where(version))
    if folder.is_dir():
        try:
            manifest = verify(folder, version)
        except ModelError:
            shutil.rmtree(folder)  # a copy that was damaged here must not stand in the way of a whole one
            raise
    else:
        with staged_folder(folder) as staged, stored_files(registry, version) as stored:
            # A link is copied as a link, which `verify` refuses; followed, it would bring in a file from anywhere on this machine.
            shutil.copytree(stored, staged, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            manifest = verify(staged, version)
    return Fetched(str(version.name), str(version.version), folder, manifest, noted)


def copy_of(registry: Registry, version: ModelVersion) -> Path:
    """Where a version's files are kept here; another store can hold others under the same number, so the manifest is in the name.

    Raises:
        ModelError: the registry notes no manifest for it, or something that is no hash and does not belong into a path.
    """
    digest = require_manifest(version.tags, _where(version))
    return registry.layout.state / "registry" / version.name / f"{version.version}-{digest[:12]}"


def verify(folder: Path, version: ModelVersion) -> Manifest:
    """Compare a version's files with what was registered, and the model's with what training wrote.

    Raises:
        ModelError: they differ.
    """
    manifest = verify_version(folder, version.tags, _where(version))
    read_model_info(folder / ARTIFACTS / MODEL, verify=True)
    return manifest


def _where(version: ModelVersion) -> str:
    return f"models:/{version.name}/{version.version}"


@contextmanager
def stored_files(registry: Registry, version: ModelVersion) -> Iterator[Path]:
    """The version's files as the store holds them: in place where it is a folder of this machine, else downloaded.

    Raises:
        ModelError: the store has no files for this version.
    """
    import mlflow

    uri = registry.client.get_model_version_download_uri(version.name, str(version.version))
    local = urlparse(uri)
    if local.scheme == "file" and Path(unquote(local.path)).is_dir():
        yield Path(unquote(local.path))
        return
    registry.layout.state.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="download-", dir=registry.layout.state) as folder, storage_errors(Path(folder)):
        try:
            with redirect_stderr(StringIO()):
                mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=registry.uri)
        except OSError as error:
            raise ModelError(
                f"The files of the registered version cannot be read: {error}", where=uri, fix="run `dvc repro register` again"
            ) from error
        yield _root(Path(folder))


def _root(folder: Path) -> Path:
    """The downloaded version: the folder with `MLmodel`, in which MLflow may put it one level deeper."""
    return next((path.parent for path in sorted(folder.rglob("MLmodel"), key=lambda item: len(item.parts))), folder)
