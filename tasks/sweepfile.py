"""What a sweep asks for: a file of members, as a list, as a grid, or both."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tailmark.config import load_config, read_params
from tailmark.errors import ConfigError
from tailmark.files import sha256_json
from tailmark.profiles import override, use_profile
from tasks import git
from tasks.parameters import AS_COMMITTED

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.=,-]*$", max_length=80)]


class SweepFile(BaseModel):
    """A sweep.

    Attributes:
        name: of its branches and of its run in MLflow.
        about: what the comparison is meant to show; it stands on the page.
        targets: what every member makes. `evaluate` compares and registers nothing.
        shared: options of all members.
        members: options by the member's name.
        grid: values by option; each combination is a member.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: _Name
    about: str = ""
    targets: tuple[str, ...] = ("evaluate",)
    shared: dict[str, Any] = {}
    members: dict[_Name, dict[str, Any]] = {}
    grid: dict[str, list[Any]] = {}

    @model_validator(mode="after")
    def _has_members(self) -> SweepFile:
        if not self.members and not self.grid:
            raise ValueError("it has neither `members` nor a `grid`")
        return self


@dataclass(frozen=True)
class Member:
    """One run of a sweep.

    Attributes:
        name: as the page shows it.
        run: name of the run and of its branch; the same commit and options give the same one.
        profile, overrides: what it runs with.
    """

    name: str
    run: str
    profile: str
    overrides: tuple[str, ...]


def read_sweep(path: Path) -> SweepFile:
    """Read a sweep's file.

    Raises:
        ConfigError: it is missing, or not as it should be.
    """
    try:
        return SweepFile.model_validate(read_params(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        fix = "docs/flows.md shows what it may hold; sweeps/dropout.yaml is one"
        raise ConfigError(f"The sweep cannot be read: {said}.", where=f"{path}: {place}" if place else str(path), fix=fix) from None


def members(sweep: SweepFile, home: Path, commit: str, profile: str) -> list[Member]:
    """The members, checked: their options exist and their values are possible at that commit.

    Raises:
        ConfigError: an option of a member is not right; the message names it.
    """
    asked = {**_grid(sweep), **sweep.members}
    found = [_member(sweep, name, {**sweep.shared, **options}, commit, profile) for name, options in asked.items()]
    for member in found:
        _check(member, home, commit)
    return found


def _grid(sweep: SweepFile) -> dict[str, dict[str, Any]]:
    combinations = [dict(zip(sweep.grid, values, strict=True)) for values in itertools.product(*sweep.grid.values())] if sweep.grid else []
    return {_described(options): options for options in combinations}


def _described(options: dict[str, Any]) -> str:
    return ",".join(f"{name.rpartition('.')[2]}={value}" for name, value in options.items())


def _member(sweep: SweepFile, name: str, options: dict[str, Any], commit: str, profile: str) -> Member:
    overrides = tuple(f"{option}={json.dumps(value)}" for option, value in sorted(options.items()))
    key = sha256_json([commit, profile, overrides, sweep.targets])[:8]
    safe = "".join(letter if letter.isalnum() or letter in "_-" else "-" for letter in name)
    return Member(name, f"sweep-{sweep.name}-{safe}-{key}", profile, overrides)


def _check(member: Member, home: Path, commit: str) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        wanted = ["params.yaml", *([f"params/{member.profile}.yaml"] if member.profile != AS_COMMITTED else [])]
        for path in wanted:
            text = git.file_at(home, commit, path)
            if text is not None:
                (root / path).parent.mkdir(exist_ok=True)
                (root / path).write_text(text, encoding="utf-8")
        try:
            if member.profile != AS_COMMITTED:
                use_profile(root, member.profile)
            override(root, member.overrides)
            load_config(root / "params.yaml")
        except ConfigError as error:
            where = f"member '{member.name}'"
            raise ConfigError(error.what, where=where, fix=error.fix) from None
