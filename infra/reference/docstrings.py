"""What a class's docstring says of it and of its attributes, those of the classes it comes from included."""

from __future__ import annotations

import inspect
import re
from functools import cache
from pathlib import Path

import griffe

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src"

_NAMES = re.compile(r"    ([a-z_]+(?:, [a-z_]+)*): (.*)")


def summary(cls: type) -> str:
    """The docstring up to its list of attributes."""
    return inspect.cleandoc(cls.__doc__ or "").partition("\n\nAttributes:")[0]


def flowing(text: str) -> str:
    """Docstring text as Markdown: outside of code, brackets that are no links are escaped."""
    parts = text.split("`")
    parts[::2] = [part.replace("[", "\\[").replace("<", "\\<") for part in parts[::2]]
    return "`".join(parts)


def line(text: str) -> str:
    """The same as one line, for a list or a table."""
    return flowing(" ".join(text.split())).replace("|", "\\|")


@cache
def package() -> griffe.Object:
    """The sources, read and not imported."""
    found = griffe.load("tailmark", search_paths=[SOURCES], allow_inspection=False)
    assert isinstance(found, griffe.Object)
    return found


def attributes(cls: type) -> dict[str, str]:
    """Attribute to what its docstring says: `name: text` or `one, other: text`, indented under `Attributes:`."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        _, _, block = inspect.cleandoc(base.__dict__.get("__doc__") or "").partition("\n\nAttributes:\n")
        names: list[str] = []
        for line in block.splitlines():
            if match := _NAMES.fullmatch(line):
                names = match[1].split(", ")
                found |= dict.fromkeys(names, match[2])
            elif line.startswith("        "):
                found |= {name: f"{found[name]}\n{line.strip()}" for name in names}
            else:
                break
    return found
