"""Write the page that `dvc plots` fills, with Vega inside: DVC's own page fetches it, and is blank without a network.

python infra/plots_page.py PAGE && dvc plots diff HEAD --html-template PAGE
"""

from __future__ import annotations

import sys
from pathlib import Path

from vl_convert import javascript_bundle

STYLE = "body { margin: 32px; font: 15px system-ui, sans-serif; } body > div { margin-bottom: 48px; }"


def page() -> str:
    """An HTML page with the place where DVC puts its plots."""
    head = f'<meta charset="utf-8"><title>tailmark: plots of two revisions</title><style>{STYLE}</style>'
    return f"<!doctype html><html><head>{head}<script>{javascript_bundle()}</script></head><body>{{plot_divs}}</body></html>"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(), encoding="utf-8")
