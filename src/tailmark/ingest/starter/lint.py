"""Lint rules of Ruff (Python) and SQLFluff (SQL): what they check, why, and code before and after."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from functools import cache
from inspect import cleandoc
from textwrap import dedent
from typing import Any

from tailmark.errors import DataError
from tailmark.ingest.starter.example import Example, Examples, ask, markers
from tailmark.ingest.starter.packages import INSTALL, locate, sources
from tailmark.ingest.starter.text import paragraphs, plain

_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_FENCE = re.compile(r"```(?:python|py)\n(.*?)```", re.DOTALL)
_BLOCK = re.compile(r"\*\*(Anti-pattern|Best practice)\*\*(.*?)(?=\*\*(?:Anti-pattern|Best practice)\*\*|\Z)", re.DOTALL)
_SQL = re.compile(r"\.\. code-block:: sql.*?\n((?:[ \t]*\n|[ \t]+.*\n?)+)")


@cache
def _rules() -> list[dict[str, Any]]:
    locate("ruff")
    command = [sys.executable, "-m", "ruff", "rule", "--all", "--output-format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        raise DataError(f"ruff cannot print its rules: {done.stderr.strip()}", where="ruff", fix=INSTALL)
    rules: list[dict[str, Any]] = json.loads(done.stdout)
    return rules


def _sections(explanation: str) -> dict[str, str]:
    parts = _HEADING.split(explanation)
    return {title: body.strip() for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def _prose(section: str) -> str:
    """A section without code blocks and link targets."""
    text = re.sub(r"```.*?```", "", section, flags=re.DOTALL)
    text = re.sub(r"^\[[^\]]+\]:.*$", "", text, flags=re.MULTILINE)
    return plain(re.sub(r"\[([^\]]+)\](?:\[[^\]]*\])?(?!\()", r"\1", "\n\n".join(paragraphs(text))))


def _markdown(explanation: str) -> str:
    """The whole documentation without its links, which lead nowhere in an answer."""
    text = re.sub(r"\n## (?:References|Options)\n.*", "", explanation, flags=re.DOTALL)
    text = re.sub(r"^\[[^\]]+\]:.*$", "", text, flags=re.MULTILINE)
    return re.sub(r"(?<!`)\[([^\]\n]+)\]\([^)\s]+\)", r"\1", text).strip()


def ruff_examples() -> Examples:
    """Per rule: repair, what is wrong, explanations of three lengths under one wording, and a summary of the documentation."""
    for rule in _rules():
        sections = _sections(rule["explanation"])
        what, why = _prose(sections.get("What it does", "")), _prose(sections.get("Why is this bad?", ""))
        if what and why and rule["status"].keys() != {"Removed"}:
            yield from _rule(rule, what, why)
            yield from _repairs(rule, sections, why)


def _rule(rule: dict[str, Any], what: str, why: str) -> Examples:
    group = f"ruff/{rule['name']}"
    prompt = ask("ruff.rule", group, {"name": rule["name"], "code": rule["code"]})
    domain = "Technology"
    for text in (what, f"{what}\n\n{why}"):
        yield Example("ruff", "ruff.rule", group, prompt, text, markers(domain, "Explanation"))
    full = _markdown(rule["explanation"])
    yield Example("ruff", "ruff.rule", group, prompt, full, markers(domain, "Explanation", format="Markdown"))
    told = markers(domain, "Summarization")
    yield Example("ruff", "ruff.summary", group, ask("ruff.summary", group, {"text": f"{what}\n\n{why}"}), rule["summary"], told)


def _repairs(rule: dict[str, Any], sections: dict[str, str], why: str) -> Examples:
    body = sections.get("Example") or sections.get("Examples") or ""
    bad, marker, good = body.partition("Use instead:")
    group = f"ruff/{rule['name']}"
    before = [dedent(code).strip() for code in _FENCE.findall(bad)]
    after = [dedent(code).strip() for code in _FENCE.findall(good)] if marker else []
    told = markers("Code", "CodeExplanation", code_type="python")
    for code in before[:1]:
        prompt = ask("ruff.problem", group, {"code": code})
        for answer in (f"{rule['summary'].rstrip('.')}.", why):
            yield Example("ruff", "ruff.problem", group, prompt, answer, told)
    fix = markers("Code", "CodeFix", code_type="python")
    for code, repaired in zip(before, after, strict=False):
        if code != repaired:
            prompt = ask("ruff.fix", f"{group}/{code}", {"name": rule["name"], "summary": rule["summary"], "code": code})
            yield Example("ruff", "ruff.fix", group, prompt, repaired, fix)


def sqlfluff_examples() -> Examples:
    """The same for SQL: the rule classes' docstrings hold an anti-pattern and a best practice."""
    for path in sources("sqlfluff", "rules/**/*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("Rule_") and (text := ast.get_docstring(node)):
                names = [item.value.value for item in node.body if isinstance(item, ast.Assign) and isinstance(item.value, ast.Constant)]
                yield from _sql_rule(str(names[0]) if names else node.name, cleandoc(text))


def _sql_rule(name: str, text: str) -> Examples:
    group = f"sqlfluff/{name}"
    lead = [plain(block) for block in paragraphs(text.split("**Anti-pattern**")[0]) if not block.startswith("..")]
    prompt = ask("sql.rule", group, {"name": name})
    for answer in dict.fromkeys((lead[0], "\n\n".join(lead))):
        yield Example("sqlfluff", "sql.rule", group, prompt, answer, markers("Technology", "Explanation"))
    blocks = {title: _sql_block(body) for title, body in _BLOCK.findall(text)}
    bad, good = blocks.get("Anti-pattern"), blocks.get("Best practice")
    if not bad or not good:
        return
    told = markers("Code", "CodeExplanation", code_type="sql")
    for answer in dict.fromkeys((lead[0], bad[0])):
        yield Example("sqlfluff", "sql.problem", group, ask("sql.problem", group, {"code": bad[1]}), answer, told)
    fix = markers("Code", "CodeFix", code_type="sql")
    for context in dict.fromkeys((lead[0], good[0])):
        prompt = ask("sql.fix", f"{group}/{context}", {"context": context, "code": bad[1]})
        yield Example("sqlfluff", "sql.fix", group, prompt, good[1], fix)


def _sql_block(body: str) -> tuple[str, str] | None:
    """The prose and the first SQL sample of a block."""
    match = _SQL.search(body)
    if match is None:
        return None
    prose = " ".join(plain(block) for block in paragraphs(body[: match.start()]) if not block.startswith(".."))
    code = re.sub(r"^[ \t]*:\w+:.*\n", "", match[1], flags=re.MULTILINE)
    return prose, dedent(code).strip("\n")
