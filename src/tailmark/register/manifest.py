"""What a registered version is and where it came from, with the sha256 of every file: `manifest.json`, written last, checked at loading."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from tailmark.errors import ModelError
from tailmark.files import sha256_file, write_text

MANIFEST, MODEL, EVIDENCE, CARD = "manifest.json", "marked", "evidence", "README.md"
ARTIFACTS, CODE = "artifacts", "code"
MANIFEST_TAG, ENVELOPE_TAG = "manifest", "envelope"

_SHA256 = re.compile(r"[0-9a-f]{64}")

_NOTED_BY_MLFLOW = "registered_model_meta"
"""MLflow writes this file beside a version that it downloads. Nothing here reads it."""

_PLAIN = frozenset(
    {".safetensors", ".json", ".jinja", ".yaml", ".txt", ".md", ".html", ".csv", ".parquet", ".lock", ".py", ".css", ".model"}
)
_PLAIN_NAMES = frozenset({"MLmodel", "py.typed"})
"""Files that hold data or source. Whatever else lies in a version could be unpickled or run by a library that finds it."""


class Lineage(BaseModel):
    """Where a version came from.

    Attributes:
        commit: of the code; None outside git.
        dirty: whether anything but `params.yaml` and `dvc.lock` differed from it.
        lock: sha256 of `dvc.lock`; None where DVC did not run.
        outputs: DVC's hash of each output that `dvc.lock` names: path to md5.
        params: the options that data and model depend on.
        run: MLflow's id of the run that registered it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    commit: str | None
    dirty: bool | None
    lock: str | None
    outputs: dict[str, str]
    params: dict[str, Any]
    run: str


class Manifest(BaseModel):
    """The content of `manifest.json`.

    Attributes:
        model: digest of the trained folder's `tailmark.json`, which holds the sha256 of weights, tokenizer, template and taxonomy.
        evidence: sha256 of the evaluation's `metrics.json`.
        taxonomy: digest of the taxonomy.
        markers, placement, dataset_dropout, sample_dropout, base: as in `tailmark.json`.
        quality_percentiles: language to bucket to the quality that a caller asks for when it wants that bucket; empty without scores.
        files: sha256 of every other file of the version that registration wrote, by path in the version.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    model: str
    evidence: str
    taxonomy: str
    base: str
    markers: tuple[str, ...]
    placement: str
    dataset_dropout: float
    sample_dropout: float
    quality_percentiles: dict[str, dict[str, float]]
    lineage: Lineage
    files: dict[str, str]


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file of a folder, by relative path; what Python compiled from code there is left out: nothing here runs it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths}


def write_manifest(path: Path, manifest: Manifest) -> str:
    """Write `manifest.json`; returns its sha256, which the registry keeps apart from the files."""
    write_text(path, json.dumps(manifest.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    return sha256_file(path)


def noted_manifest(tags: Mapping[str, str]) -> str | None:
    """sha256 of the version's manifest as the registry notes it; None where it notes none, or anything but a sha256.

    Whoever may write tags chooses this text, so it is looked at before it becomes part of a path or of a log entry.
    """
    noted = tags.get(MANIFEST_TAG, "")
    return noted if _SHA256.fullmatch(noted) else None


def envelope(folder: Path) -> dict[str, str]:
    """sha256 of the files that MLflow wrote around ours (`MLmodel`, requirements): those the manifest cannot name."""
    ours = (f"{ARTIFACTS}/", f"{CODE}/")
    return {name: digest for name, digest in hashes(folder).items() if not name.startswith(ours) and name != _NOTED_BY_MLFLOW}


def verify_version(folder: Path, tags: Mapping[str, str], where: str) -> Manifest:
    """The manifest of a version's files, after every file was compared with it and with the registry's tags (about 1 s a GB).

    Args:
        folder: all files of the version.
        tags: the version's tags in the registry.
        where: the version as errors name it.

    Raises:
        ModelError: a file is missing, changed, foreign, a link, or of a kind that can run code when it is loaded; or a tag is not as
            registration writes it.
    """
    noted, around = require_manifest(tags, where), _noted_envelope(tags, where)
    _require_plain(folder, where)
    found = hashes(folder)
    path = f"{ARTIFACTS}/{MANIFEST}"
    if found.get(path) != noted:
        raise _mismatch(path, "has changed" if path in found else "is missing", where)
    manifest = _read(folder / path, where)
    expected = {**manifest.files, **around, path: noted}
    found.pop(_NOTED_BY_MLFLOW, None)
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            state = "has changed" if name in found and name in expected else "is missing" if name in expected else "was added later"
            raise _mismatch(name, state, where)
    return manifest


def require_manifest(tags: Mapping[str, str], where: str) -> str:
    """As `noted_manifest`.

    Raises:
        ModelError: the registry notes none, or something else.
    """
    noted = noted_manifest(tags)
    if noted is not None:
        return noted
    if MANIFEST_TAG in tags:
        raise _changed_tag(MANIFEST_TAG, "is not a sha256", where)
    raise ModelError(
        "The registered version has no manifest, so its files cannot be checked.",
        where=where,
        fix="it is older than manifests or was not registered by tailmark: run `dvc repro register` to register the model again",
    )


def _noted_envelope(tags: Mapping[str, str], where: str) -> dict[str, str]:
    try:
        return TypeAdapter(dict[str, str]).validate_json(tags.get(ENVELOPE_TAG, ""))
    except ValidationError:
        raise _changed_tag(ENVELOPE_TAG, "does not hold the hashes of the files around the model", where) from None


def _changed_tag(name: str, state: str, where: str) -> ModelError:
    return ModelError(
        f"The registered version's tag '{name}' {state}.",
        where=where,
        fix="someone changed it: see who can write to the registry, and run `dvc repro register` to register the model again",
    )


def _require_plain(folder: Path, where: str) -> None:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if "__pycache__" in path.parts:
            continue
        if path.is_symlink():
            raise _mismatch(name, "is a link", where)
        if path.is_file() and path.suffix not in _PLAIN and path.name not in _PLAIN_NAMES | {_NOTED_BY_MLFLOW}:
            raise _mismatch(name, "is of a kind that does not belong there (nothing is unpickled)", where)


def _read(path: Path, where: str) -> Manifest:
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise ModelError(
            f"The version's manifest cannot be read: {str(error).splitlines()[0]}.", where=where, fix="run `dvc repro register` again"
        ) from None


def _mismatch(name: str, state: str, where: str) -> ModelError:
    return ModelError(
        f"The registered version is not what was registered: '{name}' {state}.",
        where=where,
        fix="do not use it; see who can write to the artifact store, and run `dvc repro register` to register the model again",
    )
