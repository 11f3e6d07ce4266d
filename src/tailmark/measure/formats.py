"""The form of a text, where it can be parsed: values of the paper's marker `format`. What would have to be guessed is left open."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from xml.etree import ElementTree

from tailmark.measure.code import segments

_OPTION = re.compile(r"^\s*\(?([A-Ha-h1-9])[).:]\s+\S", re.MULTILINE)
_CHOICE = re.compile(r"(?:the )?(?:correct )?(?:answer|option)?(?: is)?:?\s*\(?([A-Ha-h1-9])(?:[).:](?:\s.*)?|\.?)", re.IGNORECASE)
_ITEM = re.compile(r"^\s*(?:[-*+•]|\(?\d{1,3}[.):])\s+\S")
_TABLE_RULE = re.compile(r"^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$")
_LATEX = re.compile(r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}|\$\$[^$]+\$\$|\\\[.+?\\\]|\\\(.+?\\\)|\$[^$\n]*\\[a-zA-Z]+[^$\n]*\$", re.DOTALL)
_MARKDOWN = (
    re.compile(r"(?:\A|\n[ \t]*\n)#{1,6} \S[^\n]*(?:\Z|\n[ \t]*\n)"),
    re.compile(r"(?<![\w*])\*\*(?=\S)[^*\n]+(?<=\S)\*\*(?![\w*])"),
    re.compile(r"(?<!\w)\[[^\]\n]+\]\((?:https?://|[./#])[^)\s]*\)"),
)


def measure_format(text: str, prompt: str = "") -> str | None:
    """The first that holds: JSON, XML, MCQAnswer, Tabular, Latex, Enumeration, Markdown; None where none does.

    JSON and XML: the whole text, or the only fenced block it consists of, parses. MCQAnswer: the text names one of the options listed in
    `prompt`. Tabular: a Markdown table with a row under its rule. Enumeration: at least two list items that make up at
    least half of the lines. ChainOfThought is never measured.
    """
    return next((name for name, holds in _FORMATS.items() if holds(text.strip(), prompt)), None)


def _content(text: str) -> str:
    """The inside of the fenced block a text consists of, else the text."""
    parts = segments(text)
    return parts[0].text.strip() if len(parts) == 1 else text


def _is_json(text: str, _prompt: str) -> bool:
    content = _content(text)
    if not content.startswith(("{", "[")):
        return False
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


def _is_xml(text: str, _prompt: str) -> bool:
    content = _content(text)
    # A document type can define entities that expand without bound; no answer needs one to be XML.
    if not content.startswith("<") or not content.endswith(">") or "<!DOCTYPE" in content or "<!ENTITY" in content:
        return False
    try:
        ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError):
        return False
    return True


def _is_choice(text: str, prompt: str) -> bool:
    options = {label.lower() for label in _OPTION.findall(prompt)}
    match = _CHOICE.fullmatch(text) if len(options) > 1 else None
    return match is not None and match[1].lower() in options


def _is_table(text: str, _prompt: str) -> bool:
    lines = text.splitlines()
    return any(
        _TABLE_RULE.match(rule) and "|" in head and "|" in row and _cells(head) == _cells(rule) == _cells(row)
        for head, rule, row in zip(lines, lines[1:], lines[2:], strict=False)
    )


def _cells(line: str) -> int:
    return line.strip().strip("|").count("|")


def _is_latex(text: str, _prompt: str) -> bool:
    return any(not segment.code and _LATEX.search(segment.text) for segment in segments(text))


def _is_list(text: str, _prompt: str) -> bool:
    lines = [line for segment in segments(text) if not segment.code for line in segment.text.splitlines() if line.strip()]
    items = sum(_ITEM.match(line) is not None for line in lines)
    return items >= 2 and 2 * items >= len(lines)


def _is_markdown(text: str, _prompt: str) -> bool:
    parts = segments(text)
    return any(segment.code or any(form.search(segment.text) for form in _MARKDOWN) for segment in parts)


_FORMATS: dict[str, Callable[[str, str], bool]] = {
    "JSON": _is_json,
    "XML": _is_xml,
    "MCQAnswer": _is_choice,
    "Tabular": _is_table,
    "Latex": _is_latex,
    "Enumeration": _is_list,
    "Markdown": _is_markdown,
}
