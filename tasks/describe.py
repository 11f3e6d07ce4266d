"""A stage as Prefect shows it: what it made, what it measured, and where to look."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tailmark import tracking
from tailmark.config import load_config
from tailmark.console import duration
from tailmark.files import read_json
from tailmark.layout import Layout
from tasks.graph import Stage
from tasks.workspace import Workspace

Outcome = Literal["ran", "restored", "unchanged"]

_MOST_METRICS = 40
_LOCK_S = 2.0
_PAGES = {"validate": {"report": "report.html", "Data Docs": "data_docs/index.html"}, "evaluate": {"report": "report.html"}}
"""Pages among the files of a stage's MLflow run."""


@dataclass(frozen=True)
class Result:
    """What a stage came to; tasks hand it on as JSON. `seconds`: wall time."""

    stage: str
    outcome: Outcome
    seconds: float


def artifact_key(name: str) -> str:
    """A stage's name in the characters Prefect allows."""
    return "stage-" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def describe(stage: Stage, root: Path, result: Result, links: dict[str, str] | None = None) -> str:
    """Markdown: how the stage went, where to look, what it made and what it measured."""
    parts = [f"# {stage.name}\n\n{stage.description}\n\n{result.outcome}, {duration(result.seconds)}\n"]
    if links:
        parts.append(" · ".join(f"[{name}]({url})" for name, url in links.items()) + "\n")
    made = _locked_outs(root, stage.name)
    if made:
        rows = [f"| `{item['path']}` | {item.get('size', 0):,} | `{item.get('md5', '')}` |" for item in made]
        parts.append("\n".join(["| output | bytes | md5 |", "|---|---:|---|", *rows]) + "\n")
    numbers = [(name, value) for path in stage.metrics for name, value in _numbers(root / path)]
    if numbers:
        rows = [f"| {name} | {value:.5g} |" for name, value in numbers[:_MOST_METRICS]]
        parts.append("\n".join(["| metric | value |", "|---|---:|", *rows]) + "\n")
        if len(numbers) > _MOST_METRICS:
            parts.append(f"and {len(numbers) - _MOST_METRICS} more in {', '.join(stage.metrics)}\n")
    return "\n".join(parts)


def links(stage: str, workspace: Workspace) -> dict[str, str]:
    """Where to look, by name: the stage's MLflow run and the pages among its files."""
    if workspace.parent is None:
        return {}
    config, layout = load_config(workspace.root / "params.yaml"), Layout(workspace.root)
    name, _, arm = stage.partition("@")
    run = tracking.find_run(config, layout, workspace.parent, name, arm or None)
    page = tracking.run_page(config, layout, run) if run else None
    if page is None:
        return {}
    return {"MLflow run": page, **{title: f"{page}/artifacts/{file}" for title, file in _PAGES.get(name, {}).items()}}


def _locked_outs(root: Path, name: str) -> list[dict[str, Any]]:
    """DVC does not write its lock file in one piece: while another stage's is under way, it may be empty or cut off."""
    lock = root / "dvc.lock"
    limit = time.monotonic() + _LOCK_S
    while lock.exists() and time.monotonic() < limit:
        with suppress(YAMLError, KeyError, TypeError):
            return list(YAML(typ="safe").load(lock.read_text(encoding="utf-8"))["stages"][name].get("outs", []))
        time.sleep(0.05)
    return []


def _numbers(path: Path) -> list[tuple[str, float]]:
    """The numbers in a metrics file, by dotted name."""
    return _leaves(read_json(path)) if path.suffix == ".json" and path.exists() else []


def _leaves(value: Any, name: str = "") -> list[tuple[str, float]]:
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, int | float):
        return [(name, float(value))]
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves(item, f"{name}.{key}" if name else str(key))]
    return []
