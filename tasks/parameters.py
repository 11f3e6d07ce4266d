"""What a run can be asked for, typed so that Prefect makes a form of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

_ROOT = Path(__file__).resolve().parent.parent

AS_COMMITTED = "as committed"
"""The profile of a run that takes `params.yaml` as the revision holds it."""


def _profiles() -> list[str]:
    return [AS_COMMITTED, *sorted(path.stem for path in (_ROOT / "params").glob("*.yaml"))]


def _stages() -> list[str]:
    """The stages of this checkout's `dvc.yaml`, for the form; another revision may have others."""
    try:
        stages = YAML(typ="safe").load((_ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    except (OSError, YAMLError, KeyError, TypeError):
        return []
    return [name for key, entry in stages.items() for name in _names(key, entry)]


def _names(key: str, entry: Any) -> list[str]:
    items = entry.get("foreach")
    return [key] if items is None else [f"{key}@{item}" for item in items]


Profile = Annotated[str, Field(json_schema_extra={"enum": _profiles()})]
StageName = Annotated[str, Field(json_schema_extra={"enum": _stages()})]
Uncommitted = Literal["refuse", "include", "ignore"]
Place = Literal["worktree", "checkout"]
Count = Annotated[int, Field(ge=1, le=64)]
Retries = Annotated[int, Field(ge=0, le=10)]
Hours = Annotated[float, Field(gt=0)]


class Request(BaseModel):
    """One run of the pipeline, as the flow `pipeline` explains it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: str = "HEAD"
    profile: str = AS_COMMITTED
    overrides: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    force: bool = False
    uncommitted: Uncommitted = "refuse"
    workspace: Place = "worktree"
    jobs: Count = 2
    retries: Retries = 2
    hours_per_stage: Hours = 48.0
    push: bool = True
    git_remote: str = ""
    root: Path = Path()
