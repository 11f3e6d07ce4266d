"""Every command and option of `tailmark`, and the targets of `make`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import typer
from typer.core import TyperCommand, TyperGroup

from infra.reference.docstrings import ROOT, flowing, line
from tailmark import errors
from tailmark.cli import app

HEAD = f"""\
# Commands

Run them in the root of a checkout, with `.venv` active. `tailmark COMMAND --help` prints the same.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | the answer is no: a gate refused, a check found something |
| {errors.EXIT_USER_ERROR} | something that you can mend: the message says what, where and how |
| {errors.EXIT_STOPPED} | training was asked to stop and has saved; the same command goes on |
| {errors.EXIT_INTERRUPTED} | Ctrl-C; what was complete is kept |
"""


def page() -> str:
    """The page as Markdown."""
    root = typer.main.get_command(app)
    return "\n".join([HEAD, *_command(root, "tailmark"), *_make()])


def _command(command: object, name: str) -> Iterator[str]:
    if isinstance(command, TyperGroup):
        if name != "tailmark":
            yield f"## `{name}`\n\n{command.help}\n"
        for inner in command.commands.values():
            yield from _command(inner, f"{name} {inner.name}")
    elif isinstance(command, TyperCommand):
        yield from _leaf(command, name)


def _leaf(command: TyperCommand, name: str) -> Iterator[str]:
    context = typer.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    yield f"## `{name}`\n\n{flowing(inspect.cleandoc(command.help or ''))}\n\n```text\n{usage}\n```\n"
    shown = [record for parameter in command.params if (record := parameter.get_help_record(context))]
    if shown:
        rows = [f"| `{names.strip()}` | {line(text)} |" for names, text in shown]
        yield "\n".join(["| option | meaning |", "|---|---|", *rows, ""])


def _make() -> Iterator[str]:
    yield "## `make`\n\n| target | does |\n|---|---|"
    for name, does in re.findall(r"^([a-z-]+):.*?## (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE):
        yield f"| `make {name}` | {does} |"
    yield ""
