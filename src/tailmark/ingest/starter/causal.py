"""Data sets of social science and what their variables mean (causaldata)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tailmark.ingest.starter.example import Example, Examples, ask, markers
from tailmark.ingest.starter.packages import sources
from tailmark.ingest.starter.text import paragraphs, unwrap

PACKAGE = "causaldata"
_VARIABLE = re.compile(r"^\s{6,}([A-Za-z_][\w.]*)\s+[-–]\s+(\S.+)$", re.MULTILINE)
_MEDICAL = {"nhefs", "nhefs_codebook", "nhefs_complete", "organ_donations", "thornton_hiv", "snow", "training_bias_reduction"}
_FINANCE = {"google_stock", "credit_cards", "mortgages"}


def examples() -> Examples:
    """Per data set: description, title, variables, source; per variable its meaning."""
    for path in sources(PACKAGE, "*/data.py"):
        yield from _data_set(path.parent.name, _constants(path))


def _constants(path: Path) -> dict[str, str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {"TITLE": ast.get_docstring(tree) or ""}
    for item in tree.body:
        if isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name) and isinstance(item.value, ast.Constant):
            named[item.targets[0].id] = str(item.value.value)
    return named


def _data_set(name: str, told: dict[str, str]) -> Examples:
    domain = "Medical" if name in _MEDICAL else "Finance" if name in _FINANCE else "SocialSciences"
    group, title = f"causaldata/{name}", unwrap(told["TITLE"]).rstrip(".")
    slots = {"name": name, "title": title}
    short, full = unwrap(told.get("DESCRSHORT", "")), "\n\n".join(paragraphs(told.get("DESCRLONG", "")))
    for answer in dict.fromkeys(text for text in (short, full) if text):
        yield Example(PACKAGE, "data.describe", group, ask("data.describe", group, slots), answer, markers(domain, "Explanation"))
    if full and short and short != full:
        yield Example(PACKAGE, "data.title", group, ask("data.title", group, {"text": full}), short, markers(domain, "Summarization"))
    variables = {key: unwrap(text) for key, text in _VARIABLE.findall(told.get("NOTE", ""))}
    if len(variables) > 1:
        text = "\n".join(f"- {key}: {meaning}" for key, meaning in variables.items())
        listed = markers(domain, "InformationExtraction", format="Enumeration")
        yield Example(PACKAGE, "data.variables", group, ask("data.variables", group, slots), text, listed)
    source = unwrap(re.sub(r"^\s*::?", "", told.get("SOURCE", "")))
    if len(source) > 40:
        prompt = ask("data.source", group, slots)
        yield Example(PACKAGE, "data.source", group, prompt, source, markers(domain, "QuestionAnswering"))
    for key, meaning in variables.items():
        prompt = ask("data.variable", f"{group}/{key}", {**slots, "variable": key})
        if len(meaning) > 15:
            yield Example(PACKAGE, "data.variable", f"{group}/{key}", prompt, meaning, markers(domain, "QuestionAnswering"))
