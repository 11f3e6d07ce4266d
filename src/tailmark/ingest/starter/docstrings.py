"""What documented functions do: weather (MetPy), mathematics (SymPy), money (NumPy Financial)."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from tailmark.ingest.starter.example import Example, Examples, ask, markers
from tailmark.ingest.starter.packages import sources
from tailmark.ingest.starter.text import first_sentence, lead


@dataclass(frozen=True)
class Library:
    """Where a package's documented functions are, and what they are about."""

    package: str
    module: str
    pattern: str
    domain: str


LIBRARIES = (
    Library("metpy", "metpy", "calc/*.py", "Sciences"),
    Library("metpy", "metpy", "interpolate/*.py", "Sciences"),
    Library("numpy-financial", "numpy_financial", "_financial.py", "Finance"),
    *(
        Library("sympy", "sympy", f"{folder}/**/*.py", "Math")
        for folder in ("functions", "ntheory", "geometry", "sets", "stats", "combinatorics")
    ),
)
_SECTIONS = {"parameters", "returns", "examples", "explanation", "references", "notes", "see also", "attributes", "usage"}
_MIN_CHARS = 40


def examples() -> Examples:
    """Each documented name, explained by its first sentence and by its whole lead."""
    for library in LIBRARIES:
        for path in sources(library.package, library.pattern):
            if "tests" not in path.parts:
                yield from _module(library, ast.parse(path.read_text(encoding="utf-8")))


def _module(library: Library, tree: ast.Module) -> Examples:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and (text := ast.get_docstring(node)):
            yield from _rows(library, node.name, text)


def _explanation(text: str) -> list[str]:
    """The lead, and for SymPy's layout the section `Explanation` after it."""
    head = lead(text)
    _, found, rest = text.partition("Explanation\n===========\n")
    return head + (lead(rest) if found else [])


def _rows(library: Library, name: str, text: str) -> Examples:
    prose = [block for block in _explanation(text) if block.casefold() not in _SECTIONS]
    if not prose or len(" ".join(prose)) < _MIN_CHARS:
        return
    group = f"{library.package}/{name}"
    prompt = ask("docs.explain", group, {"name": name, "package": library.module})
    for answer in dict.fromkeys((first_sentence(prose[0]), "\n\n".join(prose))):
        yield Example(library.package, f"docs.{library.package}", group, prompt, answer, markers(library.domain, "Explanation"))
