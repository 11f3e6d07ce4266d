"""The repository's Markdown: its headings, links, code blocks and code in running text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("sources/*.md"), *ROOT.glob("src/**/*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]


class Block(NamedTuple):
    """A code block: its language (empty where it is indented), its text, and the page and line where it stands."""

    language: str
    text: str
    where: str


@cache
def tokens(page: str) -> tuple[Token, ...]:
    """A page as markdown-it reads it."""
    return tuple(MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text(encoding="utf-8")))


def blocks(page: str) -> Iterator[Block]:
    """The code blocks of a page."""
    for token in tokens(page):
        if token.type in ("fence", "code_block"):
            yield Block(token.info.strip(), token.content, f"{page}:{(token.map or [0])[0] + 1}")


def commands(page: str) -> Iterator[tuple[list[str], str]]:
    """Every line of a page's blocks that is a shell command, as words, with the place where it stands."""
    for block in blocks(page):
        if block.language not in ("", "sh", "bash", "console"):
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            text = re.sub(r"^(\$ )?([A-Z_]+=\S+ )*(\.venv/bin/)?", "", line)
            if re.match(r"(tailmark|make|dvc|python|pip|pytest|sbatch) ", text + " "):
                yield shlex.split(re.split(r" (?:&&|\|) ", text)[0], comments=True), block.where


def inline_code(page: str) -> Iterator[str]:
    """Code in running text."""
    for token in tokens(page):
        yield from (child.content for child in token.children or () if child.type == "code_inline")


def links(page: str) -> Iterator[str]:
    """Where links and pictures lead."""
    for token in tokens(page):
        for child in token.children or ():
            target = child.attrGet("href") or child.attrGet("src")
            if target:
                yield str(target)


def anchors(page: str) -> set[str]:
    """What can stand behind `#`, as forges and the site's tool derive it from headings."""
    content = [after.content for before, after in zip(tokens(page), tokens(page)[1:], strict=False) if before.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).lower()).replace(" ", "-") for text in content}
