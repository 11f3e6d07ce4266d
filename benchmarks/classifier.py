"""Accuracy of the classifier on annotated data: five folds of rows drawn at random, and five folds of whole kinds of request.

    python benchmarks/classifier.py [ROOT]

ROOT is a checkout whose `data/annotated` stands (default: here). Rows drawn at random overstate what the classifier does with requests
it has not seen: the same instruction stands in training and test. In a fold of whole requests no prompt opens as one in training does.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tailmark.annotate.classifier.model import features
from tailmark.annotate.classifier.training import Labelled, collect, train_marker
from tailmark.config import Classifier, load_config
from tailmark.files import sha256_bytes
from tailmark.layout import Layout
from tailmark.records import shards
from tailmark.taxonomy import load_taxonomy

FOLDS = 5
COUNTS = ("rows", "answered", "right", "given")


def fold(text: str) -> int:
    return int(sha256_bytes(f"fold {text}".encode())[:8], 16) % FOLDS


def evaluate(name: str, rows: list[Labelled], options: Classifier, key: Callable[[Labelled], str]) -> None:
    """Print the sums over the folds: all rows, answered, right, and by value."""
    totals: dict[str, Counter[str]] = {}
    right_of_all = errors = 0.0
    for number in range(FOLDS):
        marked = [row._replace(train=fold(key(row)) != number) for row in rows]
        report: dict[str, Any] = train_marker(name, marked, options).report["heldout"]
        right_of_all += report["accuracy"] * report["rows"]
        errors += report["calibration_error"] * report["rows"]
        for value, counts in report["values"].items():
            totals.setdefault(value, Counter()).update(counts)
    whole = sum(totals.values(), Counter[str]())
    accuracy, error = right_of_all / whole["rows"], errors / whole["rows"]
    print(f"    all {whole['rows']:,}: right {accuracy:.1%} without abstaining, calibration error {error:.3f}")
    for value, counts in [("all", whole), *sorted(totals.items(), key=lambda item: -item[1]["rows"])]:
        cells = " ".join(f"{counts[column]:>9,}" for column in COUNTS)
        precision = f"{counts['right'] / counts['given']:.1%}" if counts["given"] else "-"
        print(f"    {value:<22} {cells}   coverage {counts['answered'] / max(counts['rows'], 1):.1%}, precision {precision}", flush=True)


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    config = load_config(root / "params.yaml")
    options = config.annotate.classifier or Classifier(markers=("domain", "task"))
    taxonomy = load_taxonomy(root / config.taxonomy.file)
    found = collect(shards(Layout(root).annotated / "rows"), taxonomy, options.markers, options.max_rows)
    for name in options.markers:
        rows = found[name]
        start = time.process_time()
        features([row.text for row in rows])
        print(f"{name}: {len(rows):,} labelled rows, {len(rows) / (time.process_time() - start):,.0f} rows/s a core for the features")
        for what, key in (("rows at random", lambda row: row.id), ("whole requests", lambda row: row.opening)):
            print(f"  {what}; columns: {', '.join(COUNTS)}")
            evaluate(name, rows, options, key)


if __name__ == "__main__":
    main()
