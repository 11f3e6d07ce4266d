"""What runs made, read from the DVC cache by branch, without checking anything out."""

from __future__ import annotations

import json
from pathlib import Path

from ruamel.yaml import YAML

from tasks.git import file_at
from tasks.graph import cache_path


def read_output(root: Path, revision: str, path: str) -> bytes | None:
    """An output that is a file, as a revision's `dvc.lock` names it; None where it was not made there or is not in the cache."""
    md5 = _locked(root, revision).get(path)
    return _read(root, md5) if md5 else None


def folder_files(root: Path, revision: str, folder: str) -> dict[str, Path] | None:
    """The files of an output that is a folder: path within it to place in the cache; None where one is not there."""
    md5 = _locked(root, revision).get(folder)
    listing = _read(root, md5) if md5 else None
    if listing is None:
        return None
    found = {str(item["relpath"]): cache_path(root, item["md5"]) for item in json.loads(listing)}
    return found if all(path.exists() for path in found.values()) else None


def _locked(root: Path, revision: str) -> dict[str, str]:
    text = file_at(root, revision, "dvc.lock")
    stages = YAML(typ="safe").load(text).get("stages", {}) if text else {}
    return {out["path"]: out["md5"] for entry in stages.values() for out in entry.get("outs", []) if "md5" in out}


def _read(root: Path, md5: str) -> bytes | None:
    place = cache_path(root, md5)
    return place.read_bytes() if place.exists() else None
