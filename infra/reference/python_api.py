"""What Python code may call, read from the sources without importing them."""

from __future__ import annotations

from collections.abc import Iterator

import griffe

from infra.reference.docstrings import flowing, line, package

HEAD = """\
# Python

What other code may rely on: to ask a model, to read what a stage wrote, and to add an annotator, a benchmark or a judge.
"""

PUBLIC = {
    "Ask a model": (
        "tailmark.generate.loading",
        "tailmark.generate.request",
        "tailmark.generate.modes",
        "tailmark.generate.local",
        "tailmark.generate.endpoint",
        "tailmark.register.fetch",
    ),
    "Read what a stage wrote": (
        "tailmark.config.tree",
        "tailmark.layout",
        "tailmark.records",
        "tailmark.packs",
        "tailmark.modelfolder",
        "tailmark.evaluate.store",
    ),
    "Markers": ("tailmark.taxonomy.schema", "tailmark.taxonomy.markers", "tailmark.chat.rendering", "tailmark.annotate.onthefly"),
    "Add your own": (
        "tailmark.annotate.annotators",
        "tailmark.evaluate.suite.base",
        "tailmark.evaluate.judges.base",
        "tailmark.engine",
        "tailmark.tracking.stage",
        "tailmark.tracking.run",
        "tailmark.errors",
    ),
    "Statistics": ("tailmark.statistics", "tailmark.longtail"),
}


def page() -> str:
    """The page as Markdown."""
    lines = [HEAD]
    for title, modules in PUBLIC.items():
        lines.append(f"## {title}\n")
        for name in modules:
            lines += _module(package()[name.removeprefix("tailmark.")])
    return "\n".join(lines)


def _module(module: griffe.Object) -> Iterator[str]:
    yield f"### `{module.path}`\n"
    yield from _docstring(module)
    yield from _values(module)
    for item in module.members.values():
        if item.is_alias or item.name.startswith("_") or not item.docstring:
            continue
        if isinstance(item, griffe.Function):
            yield from _function(item, item.name)
        elif isinstance(item, griffe.Class):
            yield from _class(item)


def _class(item: griffe.Class) -> Iterator[str]:
    bases = f"({', '.join(map(str, item.bases))})" if item.bases else ""
    fields = [f"    {name}: {field.annotation}{_given(field)}" for name, field in item.attributes.items() if _is_field(field)]
    yield "\n".join([f"```python\nclass {item.name}{bases}:" if fields else f"```python\nclass {item.name}{bases}", *fields, "```\n"])
    yield from _docstring(item)
    yield from _values(item)
    for member in item.members.values():
        if isinstance(member, griffe.Function) and member.docstring and not member.name.startswith("_"):
            yield from _function(member, f"{item.name}.{member.name}")


def _values(item: griffe.Object) -> Iterator[str]:
    """Constants, properties and members of an enumeration that have a docstring."""
    shown = [member for name, member in item.attributes.items() if member.docstring and not name.startswith("_")]
    yield from (f"* `{member.name}`: {line(member.docstring.value)}" for member in shown if member.docstring)
    if shown:
        yield ""


def _is_field(item: griffe.Attribute) -> bool:
    return not item.name.startswith("_") and item.annotation is not None and "property" not in item.labels


def _given(item: griffe.Attribute) -> str:
    return f" = {item.value}" if item.value is not None else ""


def _function(item: griffe.Function, name: str) -> Iterator[str]:
    parameters = [parameter for parameter in item.parameters if parameter.name not in ("self", "cls")]
    yield f"```python\n{_signature(item, name, parameters)}\n```\n"
    yield from _docstring(item)


def _signature(item: griffe.Function, name: str, parameters: list[griffe.Parameter]) -> str:
    shown: list[str] = []
    for parameter in parameters:
        if parameter.kind is griffe.ParameterKind.keyword_only and "*" not in shown:
            shown.append("*")
        annotation = f": {parameter.annotation}" if parameter.annotation else ""
        default = f" = {parameter.default}" if parameter.default is not None else ""
        shown.append(f"{parameter.name}{annotation}{default}")
    result = f" -> {item.returns}" if item.returns else ""
    line = f"{name}({', '.join(shown)}){result}"
    return line if len(line) <= 100 else f"{name}(\n" + "".join(f"    {part},\n" for part in shown) + f"){result}"


def _docstring(item: griffe.Object) -> Iterator[str]:
    for section in item.docstring.parse("google", warnings=False) if item.docstring else []:
        yield from described(section)


def described(section: griffe.DocstringSection) -> Iterator[str]:
    """A part of a docstring as Markdown."""
    if isinstance(section, griffe.DocstringSectionText):
        yield f"{flowing(section.value)}\n"
    elif isinstance(section, griffe.DocstringSectionRaises):
        yield from (f"* raises `{raised.annotation}`: {line(raised.description)}" for raised in section.value)
        yield ""
    elif isinstance(section, griffe.DocstringSectionAttributes | griffe.DocstringSectionParameters):
        yield from (f"* `{part.name}`: {line(part.description)}" for part in section.value)
        yield ""
