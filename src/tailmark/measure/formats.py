"""The form of a text, where it can be parsed: values of the paper's marker `format`. What would have to be guessed is left open."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from xml.etree import ElementTree

from tailmark.measure.code import INLINE, segments

_OPTION = re.compile(r"(?:^|(?<=[\s;,]))\(?([A-Ha-h]|[1-9])[).:]\s+\S", re.MULTILINE)
_ASKS_TO_CHOOSE = re.compile(r"\b(?:choose|choice|choices|option|options|select|pick|which)\b", re.IGNORECASE)
_CHOICE = re.compile(
    r"(?:the )?(?:correct )?(?:answer|option|choice)?(?: is)?:?\s*\(?([A-Ha-h1-9])(?:[).:](?:\s[^\n]*)?|\.?)", re.IGNORECASE
)
_BULLET = re.compile(r"^(\s*)([-*+•‣◦–])\s+\S")
_NUMBER = re.compile(r"^(\s*)\(?(?:step )?(\d{1,3}|[a-z])[.):]\s+\S", re.IGNORECASE)
_TABLE_RULE = re.compile(r"^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$")
_GRID_RULE = re.compile(r"^\s*\+(?:[-=]{2,}\+)+\s*$", re.MULTILINE)
_LATEX = re.compile(
    r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}|\$\$[^$]+\$\$|\\\[.+?\\\]|\\\(.+?\\\)|\\(?:frac|sqrt|boxed|text|mathbb|mathrm)\{"
    r"|(?<![\w$\\])\$(?=\S)[^$\n]*(?:\\[a-zA-Z]+|[\^_][\w{])[^$\n]*(?<=\S)\$(?![\w$])",
    re.DOTALL,
)
_MARKDOWN = (
    re.compile(r"(?:\A|\n[ \t]*\n)#{1,6} \S[^\n]*(?:\Z|\n[ \t]*\n)"),
    re.compile(r"(?<![\w*])\*\*(?=\S)[^*\n]+(?<=\S)\*\*(?![\w*])"),
    re.compile(r"(?<!\w)\[[^\]\n]+\]\((?:https?://|[./#])[^)\s]*\)"),
)
_THOUGHT = re.compile(r"\s*<(think|thinking|reasoning)>.*?\S.*?</\1>\s*\S", re.DOTALL | re.IGNORECASE)
_STEP = re.compile(r"^\W*step (\d{1,2})\b\W", re.MULTILINE | re.IGNORECASE)
_CONCLUSION = re.compile(
    r"^#### ?\S[^\n]*$|\\boxed\{|\b(?:the|our|my) (?:final |correct )?(?:answer|result|solution) (?:is|must be|=)"
    r"|^\W*(?:final )?answer\W*:",
    re.MULTILINE | re.IGNORECASE,
)
_REASONING = re.compile(
    r"(?:^|(?<=[.!?:]\s)|(?<=\n))(?:first|second|third|then|next|now|so|since|because|therefore|thus|hence|finally|this means"
    r"|we know|we have|we get|let(?:'s| us)|if)\b",
    re.IGNORECASE,
)
_END_CHARS = 200
"""A conclusion stands within that many characters of the end."""


def measure_format(text: str, prompt: str = "") -> str | None:
    """The first that holds: JSON, XML, MCQAnswer, ChainOfThought, Tabular, Latex, Enumeration, Markdown; None where none does.

    JSON and XML: the whole text, or the only fenced block it consists of, parses (also as JSON lines). MCQAnswer: the text names one of
    the options listed in `prompt`. ChainOfThought: marked thoughts before an answer, or numbered steps or three sentences that open
    with words of reasoning, and a stated result at the end (English). Tabular: a Markdown or grid table, or lines of equally many tabs.
    Latex: an environment or a formula outside of code. Enumeration: at least two items, one after the other, that make up half of the
    lines.
    """
    text = text.strip()
    return next((name for name, holds in _FORMATS.items() if holds(text, prompt)), None) if text else None


def _content(text: str) -> str:
    """The inside of the fenced block a text consists of, else the text."""
    parts = segments(text)
    return parts[0].text.strip() if len(parts) == 1 else text


def _is_json(text: str, _prompt: str) -> bool:
    content = _content(text)
    if not (content.startswith(("{", "[")) and content.endswith(("}", "]"))):
        return False
    lines = content.splitlines()
    return _parses(content) or (len(lines) > 1 and all(line.startswith(("{", "[")) and _parses(line) for line in lines))


def _parses(text: str) -> bool:
    try:
        json.loads(text)
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
    match = _CHOICE.fullmatch(text)
    return match is not None and match[1].lower() in _options(prompt)


def _options(prompt: str) -> set[str]:
    """The labels of the options a prompt lists: from the first letter, or from 1 where it asks to choose, without a gap."""
    found = {label.lower() for label in _OPTION.findall(prompt)}
    for row in ("abcdefgh", "123456789" if _ASKS_TO_CHOOSE.search(prompt) else ""):
        labels = row[: next((place for place, label in enumerate(row) if label not in found), len(row))]
        if len(labels) > 1:
            return set(labels)
    return set()


def _is_reasoning(text: str, _prompt: str) -> bool:
    if _THOUGHT.match(text):
        return True
    if not _CONCLUSION.search(text[-_END_CHARS:]):
        return False
    steps = [int(number) for number in _STEP.findall(text)]
    return _counts_up(steps) or len(_REASONING.findall(text)) > 2


def _counts_up(numbers: list[int]) -> bool:
    return len(numbers) > 1 and numbers == list(range(1, len(numbers) + 1))


def _is_table(text: str, _prompt: str) -> bool:
    if "|" in text:
        lines = text.splitlines()
        if any(
            _TABLE_RULE.match(rule) and "|" in head and "|" in row and _cells(head) == _cells(rule) == _cells(row)
            for head, rule, row in zip(lines, lines[1:], lines[2:], strict=False)
        ):
            return True
    return len(_GRID_RULE.findall(text)) > 1 or ("\t" in text and _has_columns(text.splitlines()))


def _cells(line: str) -> int:
    return line.strip().strip("|").count("|")


def _has_columns(lines: list[str]) -> bool:
    """Whether each of at least two lines has equally many tabs between its cells, and no cell is empty at a line's beginning."""
    tabs = {line.strip().count("\t") for line in lines}
    return len(lines) > 1 and len(tabs) == 1 and tabs != {0} and not any(line[:1].isspace() for line in lines)


def _is_latex(text: str, _prompt: str) -> bool:
    if "\\" not in text and "$" not in text:
        return False
    return any(not segment.code and _LATEX.search(INLINE.sub(" ", segment.text)) for segment in segments(text))


def _is_list(text: str, _prompt: str) -> bool:
    if "\n" not in text:
        return False
    lines = [line for segment in segments(text) if not segment.code for line in segment.text.splitlines()]
    most = inside = 0
    labels = [""]
    open_item = False
    for line in lines:
        indent, label = _item(line)
        if label and _follows(label, labels):
            labels.append(label)
            inside, open_item = inside + 1, True
        elif not line.strip():
            open_item = False
        elif not label and len(labels) > 1 and (open_item or indent):
            inside += 1  # an item that goes on
        else:
            labels, inside, open_item = (["", label], 1, True) if label else ([""], 0, False)
        if len(labels) > 2:
            most = max(most, inside)
    return 2 * most >= sum(1 for line in lines if line.strip()) and most > 0


def _item(line: str) -> tuple[int, str]:
    """The line's indent and its label as a list item: the bullet, or the number or letter; empty for another line."""
    match = _BULLET.match(line) or _NUMBER.match(line)
    return (len(match[1]), match[2].lower()) if match else (len(line) - len(line.lstrip()), "")


def _follows(label: str, labels: list[str]) -> bool:
    """Whether an item can come after those before it: a bullet after anything, a number or letter after the one before it."""
    if not label.isalnum():
        return True
    last = next((other for other in reversed(labels) if other.isalnum()), "")
    if label.isdigit():
        return (int(last) + 1 if last.isdigit() else 1) == int(label) or label == "1"
    return label == (chr(ord(last) + 1) if len(last) == 1 and last.isalpha() else "a")


def _is_markdown(text: str, _prompt: str) -> bool:
    parts = segments(text)
    return any(segment.code or any(form.search(segment.text) for form in _MARKDOWN) for segment in parts)


_FORMATS: dict[str, Callable[[str, str], bool]] = {
    "JSON": _is_json,
    "XML": _is_xml,
    "MCQAnswer": _is_choice,
    "ChainOfThought": _is_reasoning,
    "Tabular": _is_table,
    "Latex": _is_latex,
    "Enumeration": _is_list,
    "Markdown": _is_markdown,
}
