"""Write the pages of `docs/reference` again."""

from __future__ import annotations

from infra.reference import pages
from infra.reference.docstrings import ROOT

if __name__ == "__main__":
    for name, text in pages().items():
        (ROOT / "docs" / "reference" / name).write_text(text, encoding="utf-8")
