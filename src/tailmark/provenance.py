"""What produced a result: code, configuration, data, versions and hardware, written down when a stage starts."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tailmark.config import Config
from tailmark.files import clear_folder, write_json
from tailmark.layout import Arm, Layout
from tailmark.taxonomy import load_taxonomy

_STARTED = datetime.now(UTC)
"""One record per process and stage: writing it again replaces it."""


def record_start(stage: str, config: Config, layout: Layout, arm: Arm | None = None) -> Path:
    """Write what this run of a stage starts from, under `layout.state/provenance/`, and return the file.

    A run of `tailmark.tracking` writes it too, and stores it with the run.

    Raises:
        TaxonomyError: the taxonomy file is missing or malformed.
        StorageError: the disk is full or the folder cannot be written.
    """
    name = f"{stage}-{arm}" if arm else stage
    path = layout.state / "provenance" / name / f"{_STARTED:%Y%m%dT%H%M%SZ}-{os.getpid()}.json"
    clear_folder(path.parent)
    write_json(path, describe(stage, config, layout, arm))
    return path


def describe(stage: str, config: Config, layout: Layout, arm: Arm | None = None) -> dict[str, Any]:
    """The content of a provenance record."""
    taxonomy = layout.root / config.taxonomy.file
    return {
        "stage": stage,
        "arm": arm,
        "time": _STARTED.isoformat(timespec="seconds"),
        "command": sys.argv,
        "code": code_version(layout.root),
        "data": data_hashes(layout.root, f"{stage}@{arm}" if arm else stage),
        "config": config.model_dump(mode="json", by_alias=True),
        "taxonomy": load_taxonomy(taxonomy).digest if taxonomy.exists() else None,  # a stage that reads it says that it is missing
        "packages": _packages(),
        "hardware": hardware(),
    }


@cache
def _packages() -> dict[str, str]:
    """Name to version of everything installed; each name is read from a file, so it is asked once."""
    found = {item.name: item.version for item in metadata.distributions()}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def code_version(root: Path, apart_from: tuple[str, ...] = ("dvc.lock",)) -> dict[str, Any]:
    """`commit` (None outside git or before the first commit) and `dirty`: whether anything but the files `apart_from` differs from it."""
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    changes = _git(root, "status", "--porcelain", "--", ".", *(f":!{name}" for name in apart_from)) if commit else None
    return {"commit": commit, "dirty": bool(changes) if changes is not None else None}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def data_hashes(root: Path, stage: str) -> dict[str, str]:
    """The hashes in `dvc.lock` of what the stage reads from other stages: path to md5. Empty where DVC has not run."""
    made = locked_outputs(root)
    try:
        stages = YAML(typ="safe").load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    except (OSError, YAMLError, KeyError, TypeError):
        return {}
    name, _, item = stage.partition("@")
    entry = stages.get(name, {})
    deps = [str(path).replace("${item}", item) for path in entry.get("do", entry).get("deps", [])]
    sources = {path: _made_in(path, made) for path in sorted(deps)}
    return {source: made[source] for source in sources.values() if source}


def locked_outputs(root: Path) -> dict[str, str]:
    """The hash in `dvc.lock` of every output: path to md5. Empty where DVC has not run."""
    try:
        stages = YAML(typ="safe").load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"]
        return {item["path"]: item["md5"] for entry in stages.values() for item in entry.get("outs", []) if "md5" in item}
    except (OSError, YAMLError, KeyError, TypeError, AttributeError):
        return {}


def _made_in(path: str, made: Mapping[str, str]) -> str | None:
    """The output that is `path`, or the folder it lies in."""
    return next((str(place) for place in (Path(path), *Path(path).parents) if str(place) in made), None)


def hardware() -> dict[str, Any]:
    """Processor, cores, memory in GiB, and the GPUs where torch is loaded and sees any."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    torch = sys.modules.get("torch")
    gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if torch and torch.cuda.is_available() else []
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "gpus": gpus,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
