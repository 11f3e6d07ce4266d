"""`constraints.txt` is installed with `--no-deps`, so it must name everything that anything in it needs."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> set[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {canonical(line.partition("==")[0]) for line in lines if "==" in line}


def needs(name: str) -> set[str]:
    try:
        found = [Requirement(text) for text in distribution(name).requires or []]
    except PackageNotFoundError:  # for another platform
        return set()
    return {canonical(item.name) for item in found if item.marker is None or item.marker.evaluate({"extra": ""})}


def test_constraints_are_closed_under_dependencies() -> None:
    names = pinned()
    # torch's own libraries differ by platform and build; the installer completes them.
    missing = {(name, other) for name in names - {"torch"} for other in needs(name) - names}
    assert not missing, "run `make constraints`"


def test_constraints_cover_what_the_project_asks_for() -> None:
    assert needs("tailmark") <= pinned()
