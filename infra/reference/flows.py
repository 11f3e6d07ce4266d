"""The parameters of the Prefect flows: what their forms ask for."""

from __future__ import annotations

from collections.abc import Iterator

import griffe

from infra.reference.docstrings import ROOT, line
from infra.reference.python_api import described

HEAD = """\
# Flows

The parameters of each flow: those of its form in Prefect's UI, of its deployments, and of calls from Python.
"""


def page() -> str:
    """The page as Markdown."""
    package = griffe.load("flows", search_paths=[ROOT], allow_inspection=False)
    found = [
        item
        for module in package.modules.values()
        for item in module.functions.values()
        if any(str(decorator.value).startswith("flow(") for decorator in item.decorators)
    ]
    return "\n".join([HEAD, *(text for item in sorted(found, key=lambda item: item.name) for text in _flow(item))])


def _flow(item: griffe.Function) -> Iterator[str]:
    yield f"## `{item.name}`\n\n`{item.path.replace('.', '/', 1).replace('.', '.py:')}`\n"
    meanings: dict[str, str] = {}
    for section in item.docstring.parse("google", warnings=False) if item.docstring else []:
        if isinstance(section, griffe.DocstringSectionParameters):
            meanings = {parameter.name: parameter.description for parameter in section.value}
        else:
            yield from described(section)
    yield "| parameter | type | default | meaning |\n|---|---|---|---|"
    for parameter in item.parameters:
        default = "" if parameter.default is None else f"`{parameter.default}`"
        kind = str(parameter.annotation).replace("|", "\\|")
        yield f"| `{parameter.name}` | `{kind}` | {default} | {line(meanings.get(parameter.name, ''))} |"
    yield ""
