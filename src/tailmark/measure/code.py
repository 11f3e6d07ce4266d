"""Code inside a text: fenced blocks, and which programming language they say they are in."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

_FENCE = re.compile(
    r"^(?P<indent> {0,3})(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*)\n(?P<body>.*?)(?:^ {0,3}(?P=fence)[`~]*[ \t]*$|\Z)",
    re.MULTILINE | re.DOTALL,
)
_INLINE = re.compile(r"`[^`\n]+`|https?://\S+")
_SYMBOLS = frozenset("{}()[];=<>_$#/\\|&+*@~^`")
_CODE_SHARE = 0.08
"""Share of `_SYMBOLS` among a text's visible characters. In 3,000 program texts 95 of 100 have more, in 3,000 package
descriptions and 2,300 prompts in 15 languages fewer than 1 of 100."""

_ALIASES = {
    "python": "py python2 python3 py3 ipython pycon python-repl",
    "javascript": "js jsx node mjs ecmascript",
    "cpp": "c++ cxx cc hpp h++",
    "cobol": "cob cbl",
    "java": "",
    "go": "golang",
    "rust": "rs",
    "swift": "",
    "csharp": "c# cs dotnet",
    "php": "",
    "typescript": "ts tsx",
    "shell": "sh bash zsh ksh fish console shell-session shellsession terminal",
    "c": "h",
    "kotlin": "kt kts",
    "ruby": "rb irb",
    "haskell": "hs",
    "sql": "mysql postgresql postgres psql sqlite plsql tsql",
}
_CODE_TYPES = {alias: name for name, aliases in _ALIASES.items() for alias in [name, *aliases.split()]}


@dataclass(frozen=True)
class Segment:
    """A stretch of a text: prose, or the inside of a fenced block with the first word of its info string."""

    text: str
    code: bool
    info: str = ""


def segments(text: str) -> list[Segment]:
    """The text's prose and fenced blocks, in order; the fences themselves are left out. A fence that never closes runs to the end."""
    found: list[Segment] = []
    end = 0
    for match in _FENCE.finditer(text) if "```" in text or "~~~" in text else ():
        found.append(Segment(text[end : match.start()], code=False))
        found.append(Segment(match["body"], code=True, info=(match["info"].split() or [""])[0].lower().strip("{}.")))
        end = match.end()
    found.append(Segment(text[end:], code=False))
    return [segment for segment in found if segment.text.strip()]


def prose(text: str) -> str:
    """The text without its fenced blocks, inline code and addresses."""
    return _INLINE.sub(" ", "\n\n".join(segment.text for segment in segments(text) if not segment.code))


def looks_like_code(text: str) -> bool:
    """Whether the text's density of brackets and operators is a program's, not prose's."""
    visible = [character for character in text if not character.isspace()]
    return sum(character in _SYMBOLS for character in visible) > _CODE_SHARE * len(visible)


def code_type(text: str) -> str | None:
    """The programming language most lines of the fenced blocks are declared to be in; None where no block declares a known one.

    The names are those of the paper's marker `code_type`; common aliases (`py`, `c++`, `bash`) are understood.
    """
    lines: Counter[str] = Counter()
    for segment in segments(text):
        name = _CODE_TYPES.get(segment.info) if segment.code else None
        if name:
            lines[name] += len(segment.text.splitlines())
    return max(lines, key=lambda name: lines[name], default=None)
