"""The HTTP API of `tailmark serve`, from its OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

from infra.reference.docstrings import flowing, line
from infra.reference.options import Schema, kind
from tailmark.serve.answering import Answering
from tailmark.serve.api import create_api
from tailmark.serve.gatekeeper import State

HEAD = """\
# HTTP API

What `tailmark serve` answers. The same as an OpenAPI document is at `/openapi.json` of a running server.
"""


def page() -> str:
    """The page as Markdown."""
    # Routes are described without a model behind them.
    nobody = cast(Answering, SimpleNamespace(models=None, asking=None))
    document = create_api(nobody, cast(State, None), baseline_missing=None, keyed=True).openapi()
    schemas: dict[str, Schema] = document["components"]["schemas"]
    lines = [HEAD]
    used: dict[str, None] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            lines += _operation(f"{method.upper()} {path}", operation, used)
    done: set[str] = set()
    while left := [name for name in used if name not in done]:
        for name in left:
            done.add(name)
            lines += _schema(name, schemas[name], used)
    return "\n".join(lines)


def _operation(name: str, operation: Schema, used: dict[str, None]) -> Iterator[str]:
    yield f"## `{name}`\n\n{flowing(operation.get('description', ''))}\n"
    for parameter in operation.get("parameters", ()):
        yield f"`{parameter['name']}` in the {parameter['in']}: {kind(parameter['schema'])}\n"
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        yield f"Body: {_named(next(iter(body.values()))['schema'], used)}\n"
    yield "| status | meaning | body |\n|---|---|---|"
    for status, response in operation["responses"].items():
        content = response.get("content", {})
        shapes = [f"{_named(item['schema'], used)} (`{media}`)" for media, item in content.items()]
        yield f"| {status} | {line(response['description']).replace('Successful Response', 'done')} | {', '.join(shapes)} |"
    yield ""


def _schema(name: str, schema: Schema, used: dict[str, None]) -> Iterator[str]:
    yield f"## `{name.lstrip('_')}`\n"
    if "description" in schema:
        yield f"{flowing(schema['description'])}\n"
    yield "| field | what it is | meaning |\n|---|---|---|"
    for key, field in schema.get("properties", {}).items():
        required = key in schema.get("required", ())
        notes = [field.get("description", ""), "required" if required else ""]
        what = _named(field, used).removesuffix("" if required else " or `null`")
        yield f"| `{key}` | {what} | {line('; '.join(note for note in notes if note))} |"
    yield ""


def _named(field: Schema, used: dict[str, None]) -> str:
    """The field's kind, with a link to each object in it; the objects are noted in `used`."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        used[name] = None
        return f"[{name.lstrip('_')}](#{name.lstrip('_').lower()})"
    for key in ("anyOf", "oneOf"):
        if key in field:
            return " or ".join(dict.fromkeys(_named(part, used) for part in field[key]))
    if field.get("type") == "array" and field.get("maxItems") != 0 and "items" in field:
        return f"list of {_named(cast(Any, field['items']), used)}"
    return kind(field)
