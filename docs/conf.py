"""How Sphinx makes the site of this folder: `make docs`. Pages are plain Markdown, so that they can also be read where they lie."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

project = "tailmark"
author = "the tailmark authors"
html_title = "tailmark"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
smartquotes = False

extensions = ["myst_parser"]
exclude_patterns = ["examples"]
myst_heading_anchors = 4
highlight_language = "text"

_LOADS = re.compile(r"""(?:<(?:script|img|iframe|source|link)[^>]*?(?:src|href)=|@import\s*|url\()["']?(https?:)?//[^"')\s>]+""")


def loads_from_elsewhere(folder: Path) -> list[str]:
    """What the pages and styles of a built site would fetch from another host: a reader may be offline."""
    found = []
    for path in sorted([*folder.rglob("*.html"), *folder.rglob("*.css"), *folder.rglob("*.svg")]):
        found += [f"{path.relative_to(folder)}: {match[0]}" for match in _LOADS.finditer(path.read_text(encoding="utf-8"))]
    return found


def _check_offline(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        for found in loads_from_elsewhere(Path(app.outdir)):
            logging.getLogger(__name__).warning("loaded from elsewhere: %s", found)


def _shorten_contents(_: Sphinx, environment: BuildEnvironment) -> None:
    """The long pages list their sections beside the text, not every heading."""
    for page in ("commands", "http", "python"):
        environment.metadata[f"reference/{page}"]["tocdepth"] = 2


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("env-updated", _shorten_contents)
    app.connect("build-finished", _check_offline)
