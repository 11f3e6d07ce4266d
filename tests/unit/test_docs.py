"""The documents say what is: links lead somewhere, commands and options exist, snippets are what the code takes."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML
from typer.core import TyperGroup

from infra.reference import pages
from infra.reference.docstrings import package
from tailmark.cli import app
from tailmark.config import Config, parse_config
from tasks.sweepfile import SweepFile
from tests.documents import NAMES, ROOT, anchors, blocks, commands, inline_code, links

WRITTEN = [name for name in NAMES if not name.startswith("docs/reference/")]
MADE = ("infra/.env", "infra/secrets")
"""What a command makes and git ignores."""
FOLDERS = ("benchmarks", "docs", "flows", "infra", "params", "src", "sweeps", "tasks", "tests")


def test_the_reference_is_what_the_code_says() -> None:
    """`make reference` writes the pages again."""
    made = pages()
    kept = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs/reference").glob("*.md")}
    assert sorted(kept) == sorted(made)
    assert [name for name in made if made[name] != kept[name]] == []


def test_every_option_is_explained() -> None:
    text = (ROOT / "docs/reference/options.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^### `(.*)`$", text, re.MULTILINE))
    written = Config().model_dump(mode="json", by_alias=True)
    assert {f"{section}.{key}" for section, value in written.items() if isinstance(value, dict) for key in value} <= described


@pytest.mark.parametrize("page", NAMES)
def test_links_lead_somewhere(page: str) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page} links to {link}"
        if anchor:
            assert anchor in anchors(str(target.resolve().relative_to(ROOT))), f"{page} links to {link}"


@pytest.mark.parametrize("page", WRITTEN)
def test_files_named_in_the_text_are_there(page: str) -> None:
    for code in inline_code(page):
        path = code.partition("::")[0]
        if re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w./-]+", path):
            assert path.startswith(MADE) or (ROOT / path).exists(), f"{page} names {path}"


def test_documents_named_in_the_sources_are_there() -> None:
    for source in [*ROOT.glob("src/**/*.py"), *ROOT.glob("flows/*.py"), *ROOT.glob("tasks/*.py"), *ROOT.glob("params/*.yaml")]:
        for name in re.findall(r"docs/[\w./-]+\.md", source.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{source.relative_to(ROOT)} names {name}"


@pytest.mark.parametrize("page", WRITTEN)
def test_commands_can_be_given(page: str) -> None:
    checks = {"tailmark": _tailmark, "make": _make, "dvc": _dvc, "python": _python, "pip": _files, "pytest": _files, "sbatch": _files}
    for (name, *words), where in commands(page):
        try:
            checks[name](words)
        except (AssertionError, Exception, SystemExit) as error:
            pytest.fail(f"{where}: {name} {' '.join(words)}: {error!r}")


@pytest.mark.parametrize("page", WRITTEN)
def test_options_in_the_text_exist(page: str) -> None:
    """`tailmark ...` in running text: the command, and each of its options."""
    for code in inline_code(page):
        words = code.split()
        if words[:1] != ["tailmark"] or any(word in ("...", "COMMAND", "<stage>") for word in words):
            continue
        command, rest = _resolve(words[1:])
        known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        for word in rest:
            assert not word.startswith("--") or word.partition("=")[0] in known, f"{page}: {code}"


def _resolve(words: list[str]) -> tuple[Any, list[str]]:
    command: Any = typer.main.get_command(app)
    while isinstance(command, TyperGroup) and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    assert not isinstance(command, TyperGroup) or not words or words[0].startswith("--"), f"no command {words[0]}"
    return command, words


def _tailmark(words: list[str]) -> None:
    command, rest = _resolve(words)
    if "--help" not in rest:
        command.make_context(command.name, rest)


def _make(words: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for word in words:
        assert "=" in word or word in targets, f"no target {word}"


def _dvc(words: list[str]) -> None:
    from dvc.cli.parser import get_main_parser

    given = get_main_parser().parse_args(words)
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    if words[0] in ("repro", "commit"):
        for target in given.targets:
            name, _, arm = target.partition("@")
            assert name in stages, f"no stage {name}"
            assert not arm or arm in stages[name]["foreach"], f"no stage {target}"
    for change in getattr(given, "set_param", None) or ():
        name, _, value = change.partition("=")
        for choice in value.split(","):
            _set(name, YAML(typ="safe").load(choice))


def _set(name: str, value: object) -> None:
    data = Config().model_dump(mode="json", by_alias=True)
    *sections, key = name.split(".")
    place = data
    for section in sections:
        place = place[section]
    assert key in place, f"no option {name}"
    place[key] = value
    Config.model_validate(data)


def _python(words: list[str]) -> None:
    module = words[1].replace(".", "/") if words[0] == "-m" else words[0].removesuffix(".py")
    found = [path for path in (ROOT / f"{module}.py", ROOT / module / "__main__.py") if path.is_file()]
    if not found:
        assert words[0] == "-m", f"no script {words[0]}"
        assert module.partition("/")[0] not in FOLDERS, f"no module {words[1]}"
        return  # another project's
    source = found[0].read_text(encoding="utf-8")
    for word in words:
        if word.startswith("--"):
            assert word in source or word.strip("-").replace("-", "_") in source, f"{found[0].name} has no {word}"


def _files(words: list[str]) -> None:
    for word in words:
        path = word.partition("::")[0]
        if path.endswith((".txt", ".py", ".sbatch")):
            assert (ROOT / path).is_file(), f"no file {path}"


@pytest.mark.parametrize("page", WRITTEN)
def test_snippets_are_what_the_code_takes(page: str) -> None:
    for block in blocks(page):
        if block.language == "yaml":
            _yaml(block.text, block.where)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "python":
            _imports(ast.parse(block.text, block.where), block.where)


def _yaml(text: str, where: str) -> None:
    data = YAML(typ="safe").load(text)
    known = {field.alias or name for name, field in Config.model_fields.items()}
    if isinstance(data, dict) and data.keys() <= known:
        parse_config(data, Path(where))
    if isinstance(data, dict) and data.keys() & {"members", "grid"}:
        SweepFile.model_validate(data)


def _imports(tree: ast.Module, where: str) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tailmark."):
            module = package()[node.module.removeprefix("tailmark.")]
            assert all(name.name in module.members for name in node.names), f"{where}: {ast.unparse(node)}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            assert all(name and importlib.util.find_spec(name.partition(".")[0]) for name in names), f"{where}: {ast.unparse(node)}"
