"""Speed of measured annotation in one process: rows/s of CPU time, on rows whose markers are all left to be measured.

    python benchmarks/annotation.py ROOT [ROWS]

ROOT is a checkout whose `data/ingested` stands. Every so many rows are taken, 8,000 by default; what their source says of them is left
out. The first round also fills the tokenizers' memory, as the first thousands of a large run do; the second is what such a run settles
at. For a ratio to an earlier version run it once more with `PYTHONPATH=OTHER/src` in the same minute.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from tailmark.annotate.annotators import Annotator, NotMeasurable, annotate_row, annotators
from tailmark.config import load_config
from tailmark.layout import Layout
from tailmark.records import read_rows, row_count, shards
from tailmark.taxonomy import Taxonomy, load_taxonomy


def annotate(rows: list[dict[str, Any]], by_precedence: tuple[Annotator, ...], taxonomy: Taxonomy) -> float:
    start = time.process_time()
    for row in rows:
        try:
            annotate_row(row, by_precedence, taxonomy)
        except NotMeasurable:
            continue
    return time.process_time() - start


def main() -> None:
    root = Path(sys.argv[1]).resolve()
    wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 8_000
    folder = Layout(root).ingested / "rows"
    step = max(sum(row_count(path) for path in shards(folder)) // wanted, 1)
    rows = [row | {"metadata": {}} for number, row in enumerate(read_rows(folder)) if number % step == 0]
    taxonomy = load_taxonomy(root / load_config(root / "params.yaml").taxonomy.file)
    by_precedence = annotators(taxonomy)
    loading = annotate(rows[::20], by_precedence, taxonomy)
    print(f"{len(rows):,} rows; loading and the first {len(rows[::20])}: {loading:.1f} s of CPU")
    for what in ("first round", "second round"):
        print(f"  {what}: {len(rows) / annotate(rows, by_precedence, taxonomy):,.0f} rows/s", flush=True)
    for name in sorted({row["source_name"] for row in rows}):
        chosen = [row for row in rows if row["source_name"] == name]
        length = sum(len(row["completion"]) for row in chosen) / len(chosen)
        print(f"  {name}: {len(chosen) / annotate(chosen, by_precedence, taxonomy):,.0f} rows/s, {length:,.0f} characters a completion")


if __name__ == "__main__":
    main()
