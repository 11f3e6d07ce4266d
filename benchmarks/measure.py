"""How often what is measured of a text is right, against what the sources of the bench data say: language, code type, format.

    python benchmarks/measure.py [DATA]

DATA is the folder of the bench data (`../shared/data`). Each table goes over every so many rows; nothing is drawn, so that a second run
prints the same.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tailmark.measure.code import code_type
from tailmark.measure.formats import measure_format
from tailmark.measure.language import CODES, measure_language
from tailmark.taxonomy import load_taxonomy

TAXONOMY = Path(__file__).resolve().parents[1] / "src/tailmark/taxonomy/paper.yaml"
LANGUAGES = tuple(load_taxonomy(TAXONOMY).markers["lang"].values)
NAMES = {code: name for name, code in CODES.items()}


def rows(path: Path, every: int = 1) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from (json.loads(line) for number, line in enumerate(file) if number % every == 0)


def language(name: str, path: Path, every: int, field: str, label: str) -> str:
    known = answered = right = others = named = 0
    for row in rows(path, every):
        if not row[field]:
            continue
        lang = NAMES.get(row[label].split("_")[0])
        found = measure_language(row[field], LANGUAGES)
        if lang not in LANGUAGES:
            others, named = others + 1, named + (found is not None)
        else:
            known, answered = known + 1, answered + (found is not None)
            right += found is not None and found.name == lang
    return f"| {name} | {known:,} | {answered / known:.1%} | {right / answered:.2%} | {others:,} | {named} |"


def programs(name: str, label: str, texts: Iterator[str]) -> str:
    found = Counter(code_type(text) for text in texts)
    answered = found.total() - found[None]
    wrong = ", ".join(f"{count} as {what}" for what, count in found.items() if what not in (None, label))
    return f"| {name} | {label} | {found.total():,} | {answered / found.total():.1%} | {found[label] / answered:.2%} | {wrong} |"


def formats(path: Path, every: int) -> str:
    found: Counter[tuple[bool, bool]] = Counter()
    for row in rows(path, every):
        found[row["fmt"] == "list", measure_format(row["long"]) == "Enumeration"] += 1
    lists, prose = found[True, True] + found[True, False], found[False, True] + found[False, False]
    return f"{found[True, True]:,} of {lists:,} with a list are an Enumeration, {found[False, True]:,} of {prose:,} without"


def main() -> None:
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    debian, evaluation = data / "train" / "debian_descriptions.jsonl.gz", data / "eval"
    print("| text | rows in the taxonomy's languages | answered | right of them | rows in others | given one |\n|---|---|---|---|---|---|")
    print(language("Debian descriptions", debian, 20, "long", "lang"))
    print(language("Debian titles", debian, 20, "short", "lang"))
    print(language("tldr requests", data / "train" / "tldr.jsonl.gz", 40, "request", "language"))
    print("\n| programs | label | rows | answered | right of them | wrong |\n|---|---|---|---|---|---|")
    for label in ("java", "python"):
        fixed = (row["fixed"] for row in rows(data / "train" / "condefects.jsonl.gz") if row["language"] == label)
        print(programs("ConDefects, fixed", label, fixed))
    for name, label in {name: "javascript" if name == "js" else name for name in ("python", "java", "go", "cpp", "rust", "js")}.items():
        path = evaluation / f"humanevalpack_{name}.jsonl.gz"
        print(programs("HumanEvalPack, function", label, (row["declaration"] + row["canonical_solution"] for row in rows(path))))
        print(programs("HumanEvalPack, body alone", label, (row["canonical_solution"] for row in rows(path))))
    print(f"\nFormat, every fourth Debian description: {formats(debian, 4)}.")


if __name__ == "__main__":
    main()
