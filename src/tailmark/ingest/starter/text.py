"""Turn documentation markup into plain text."""

from __future__ import annotations

import html
import re

_ROLE = re.compile(r":[a-zA-Z:]+:`~?([^`<]+?)(?:\s*<[^`]*>)?`")
_RST_LINK = re.compile(r"`([^`<]+?)\s*<[^`>]+>`__?")
_MARKDOWN_LINK = re.compile(r"\[([^\]]+)\]\([^)\s]+\)")
_LITERAL = re.compile(r"``([^`]+)``")
_FOOTNOTE = re.compile(r"\s*\[[A-Za-z0-9]+\]_")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"(])")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|Dr|Mr|Mrs|St|No|al|approx|U\.S)\.|\b[A-Z]\.)$")


def plain(text: str) -> str:
    """Text without reStructuredText roles, links and footnotes; inline code keeps one pair of backquotes."""
    text = _LITERAL.sub(r"`\1`", _RST_LINK.sub(r"\1", _ROLE.sub(r"`\1`", text)))
    return _FOOTNOTE.sub("", _MARKDOWN_LINK.sub(r"\1", text))


def unwrap(text: str) -> str:
    """One line, single blanks."""
    return " ".join(text.split())


def without_tags(text: str) -> str:
    """Text without HTML tags and entities."""
    return html.unescape(_TAG.sub("", text))


def paragraphs(text: str) -> list[str]:
    """The blank-line separated blocks, unwrapped."""
    return [unwrap(block) for block in re.split(r"\n\s*\n", text) if block.strip()]


def first_sentence(text: str) -> str:
    """The first sentence of a paragraph; abbreviations do not end one."""
    parts = _SENTENCE.split(text)
    sentence = parts[0]
    for part in parts[1:]:
        if not _ABBREVIATION.search(sentence):
            break
        sentence += " " + part
    return sentence


def lead(text: str) -> list[str]:
    """The prose paragraphs at the head of a docstring: up to the first section, directive, list, example or formula."""
    found = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.strip().splitlines()
        section = len(lines) > 1 and re.fullmatch(r"[-=~^]{3,}", lines[1].strip())
        if section or re.match(r"\s*(\.\.|>>>|[-*+] |:\w|\d+\. |\|)", lines[0]) or re.search(r"::|\\|\n\s*[-*] ", block):
            break
        found.append(plain(unwrap(block)))
    return [block.rstrip(":") + "." if block.endswith(":") else block for block in found]


def clean_comment(comment: str) -> str:
    """The prose of a `//`, `#` or `/* */` comment: decoration, tags and code samples removed."""
    comment = re.sub(r"```.*?```", "", comment, flags=re.DOTALL)
    lines = [re.sub(r"^\s*(?:/\*\*?|\*+/?|//[/!]?<?|#+)\s?", "", line.rstrip()) for line in comment.splitlines()]
    prose: list[str] = []
    for line in lines:
        if re.match(r"\s*[@\\]\w+", line):
            break
        prose.append(re.sub(r"\s*\*/$", "", line))
    return plain(unwrap("\n".join(prose).replace("\\rst", "").replace("\\endrst", "")))
