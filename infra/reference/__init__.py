"""The reference pages of `docs/reference`, made from the code: `python -m infra.reference`."""

from __future__ import annotations


def pages() -> dict[str, str]:
    """File name to Markdown, of every page."""
    from infra.reference import commands, flows, http_api, options, python_api, record

    made = {"options": options, "commands": commands, "record": record, "python": python_api, "http": http_api, "flows": flows}
    return {f"{name}.md": module.page() for name, module in made.items()}
