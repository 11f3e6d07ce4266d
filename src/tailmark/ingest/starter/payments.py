"""Definitions from the world of payments: invoices, refunds, disputes, payouts (the documentation inside Stripe's client)."""

from __future__ import annotations

import ast
import re

from tailmark.ingest.starter.example import Example, Examples, ask, markers
from tailmark.ingest.starter.packages import sources
from tailmark.ingest.starter.text import first_sentence, paragraphs, plain, without_tags

PACKAGE = "stripe"
_MIN_CHARS, _MAX_CHARS = 60, 1_200


def examples() -> Examples:
    """Each documented object and each of its documented fields, by first sentence and in full."""
    for path in sources(PACKAGE, "_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and (text := ast.get_docstring(node)) and _is_object(node):
                name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", node.name).lower()
                yield from _rows("stripe.object", name, "", text)
                yield from _fields(node, name)


def _is_object(node: ast.ClassDef) -> bool:
    """A class that names the API object it stands for."""
    return any(isinstance(item, ast.AnnAssign) and getattr(item.target, "id", "") == "OBJECT_NAME" for item in node.body)


def _fields(node: ast.ClassDef, name: str) -> Examples:
    for item, after in zip(node.body, node.body[1:], strict=False):
        text = getattr(getattr(after, "value", None), "value", None) if isinstance(after, ast.Expr) else None
        if isinstance(text, str) and isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            yield from _rows("stripe.field", name, item.target.id, text)


def _rows(kind: str, name: str, field: str, text: str) -> Examples:
    blocks = [plain(without_tags(block)) for block in paragraphs(text) if not block.startswith(("Related guide", "For more"))]
    full = "\n\n".join(blocks)
    if not _MIN_CHARS <= len(full) <= _MAX_CHARS or "deprecated" in full.lower() or "](" in full:
        return
    group = f"stripe/{full}"
    prompt = ask(kind, group, {"name": name, "field": field})
    for answer in dict.fromkeys((first_sentence(blocks[0]), full)):
        yield Example(PACKAGE, kind, group, prompt, answer, markers("Finance", "Explanation", style="Formal"))
