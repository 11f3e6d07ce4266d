"""Which programming language a program is in, by constructs that few other languages have."""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import islice
from pathlib import Path
from re import _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

from ruamel.yaml import YAML

_MOST_CHARS = 2_000
_POINTS = {"own": 3, "shared": 1}
_MOST_TIMES = 3
"""A construct counts at most that often, so that one habit does not outweigh the others."""
_LEAST, _MARGIN = 3, 1.25
"""Points that the best language needs, and its least ratio to the next."""

_FILE = Path(__file__).with_suffix(".yaml")


class _Construct(NamedTuple):
    """A construct of a language, and the points it is worth."""

    language: str
    points: int
    pattern: re.Pattern[str]


@cache
def _constructs() -> tuple[dict[str, list[_Construct]], list[_Construct]]:
    """The constructs by a text that they cannot do without, which is looked for first (ten times faster), and those that have none."""
    found: dict[str, dict[str, list[str]]] = YAML(typ="safe").load(_FILE.read_text(encoding="utf-8"))
    by_text: dict[str, list[_Construct]] = {}
    others = []
    for language, kinds in found.items():
        for kind, points in _POINTS.items():
            for text in kinds[kind]:
                construct = _Construct(language, points, re.compile(text, re.MULTILINE))
                for needed in (needs := _needs(_parser.parse(text))):
                    by_text.setdefault(needed, []).append(construct)
                others += [] if needs else [construct]
    return by_text, others


def _needs(pattern: Iterable[tuple[object, Any]]) -> frozenset[str]:
    """Literal texts one of which stands in everything that a parsed pattern matches: the longest choice there is; empty for none."""
    choices: list[frozenset[str]] = []
    run = ""
    for operator, argument in pattern:
        if str(operator) == "LITERAL":
            run += chr(argument)
            continue
        choices.append(frozenset({run} - {""}))
        run = ""
        if str(operator) == "SUBPATTERN" or (str(operator) == "MAX_REPEAT" and argument[0] > 0):
            choices.append(_needs(argument[-1]))
        elif str(operator) == "BRANCH":
            branches = [_needs(branch) for branch in argument[1]]
            choices.append(frozenset().union(*branches) if all(branches) else frozenset())
    choices.append(frozenset({run} - {""}))
    return max(choices, key=lambda texts: min(map(len, texts), default=0))


def program_language(code: str) -> str | None:
    """The language of a program by the names of the paper's marker `code_type`; None where its constructs do not tell.

    A construct counts at most three times. What has no clear winner is Python where it parses as such.
    """
    code = code[:_MOST_CHARS]
    points = _points(code)
    if points["typescript"] >= _POINTS["own"]:  # all of JavaScript is TypeScript too
        points["typescript"] += points.pop("javascript", 0)
    if points["cpp"] >= 2 * _POINTS["own"]:  # and nearly all of C is C++
        points["cpp"] += points.pop("c", 0)
    (first, most), (_, next_most) = (sorted(points.items(), key=lambda item: (-item[1], item[0])) + [("", 0)] * 2)[:2]
    if most >= _LEAST and most >= _MARGIN * next_most:
        return first
    return "python" if _is_python(code) else None


def _points(code: str) -> Counter[str]:
    """Points by language."""
    by_text, others = _constructs()
    possible = {construct for text, constructs in by_text.items() if text in code for construct in constructs}
    points: Counter[str] = Counter()
    for language, each, pattern in [*possible, *others]:
        points[language] += each * sum(1 for _ in islice(pattern.finditer(code), _MOST_TIMES))
    return points


def _is_python(code: str) -> bool:
    """Whether the text is a Python program with at least one statement that is more than a word or a value."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    telling = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.For, ast.While, ast.If, ast.With)
    return any(isinstance(statement, telling) for statement in body)
