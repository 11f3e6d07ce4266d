"""The command `tailmark annotate --prompt`: the markers that the answer to one prompt should have."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from tailmark.annotate.onthefly import OnTheFly
from tailmark.config import Config
from tailmark.errors import DataError
from tailmark.layout import Layout
from tailmark.taxonomy import load_taxonomy


def run(config: Config, layout: Layout, prompt: str, *, as_json: bool = False) -> None:
    """Print the markers of a prompt, each with its evidence; on stdout in the form that `tailmark generate --markers` takes.

    Raises:
        DataError: the prompt is empty.
        EndpointError, BudgetExceeded: the LLM of `annotate.llm` cannot be asked.
        TaxonomyError: the taxonomy file is missing or malformed.
    """
    if not prompt.strip():
        raise DataError("The prompt is empty.", where="--prompt", fix="give the text of a prompt")
    taxonomy = load_taxonomy(layout.root / config.taxonomy.file)
    found = OnTheFly(taxonomy, config.annotate.llm, layout.state).find([[{"role": "user", "content": prompt}]])[0]
    if as_json:
        entries = {name: {"value": item.value, "origin": origin, "confidence": item.confidence} for name, (item, origin) in found.items()}
        print(json.dumps(entries, ensure_ascii=False, indent=2))
        return
    table = Table("marker", "value", "origin", "confidence", box=None, padding=(0, 3, 0, 0), header_style="bold")
    for name, (item, origin) in found.items():
        table.add_row(name, str(item.value), origin, "" if item.confidence is None else f"{item.confidence:.2f}")
    console = Console(stderr=True, highlight=False, markup=False)
    console.print(table if found else "The prompt says nothing about the markers of its answer.")
    if config.annotate.llm is None:
        console.print("Measured only: with an LLM under `annotate.llm` in params.yaml the prompt is read too.")
    print(",".join(f"{name}={item.value}" for name, (item, _) in found.items()), flush=True)
