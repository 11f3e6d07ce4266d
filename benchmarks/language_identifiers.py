"""How far the Language Confusion Benchmark's pass rates depend on who identifies a line: we, or the benchmark's fastText, compressed.

    python benchmarks/language_identifiers.py ANSWERS.parquet          # `examples.parquet` of an evaluation with that benchmark
    python benchmarks/language_identifiers.py --rows ../shared/data/train/debian_descriptions.jsonl.gz --field long --lang lang

`--langs` takes some languages only; `--swap` holds every text to the next of them instead of its own, so that it should fail.

Needs requirements-language.txt. Prints, per language: answers that count, the pass rate by each, and the share with the same verdict.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow.parquet as pq

from tailmark.evaluate.suite.passes import PassChecker, Passes, fasttext_identifier, own_identifier
from tailmark.measure.language import CODES

Text = tuple[str, str]


def answers(path: Path) -> Iterator[Text]:
    """Answers of the benchmark in an evaluation's examples, each with the ISO code asked for; the id holds it."""
    rows = pq.read_table(path, columns=["row_id", "benchmark", "mode", "answer"]).to_pylist()
    found = {(row["row_id"], row["mode"]): row for row in rows if row["benchmark"] == "language_confusion"}
    for (name, _), row in sorted(found.items()):
        yield row["answer"], name.split("/")[3]


def texts(path: Path, field: str, lang: str, each: int, langs: Collection[str]) -> Iterator[Text]:
    """At most `each` texts of every one of `langs` in a JSON-lines file."""
    by_lang: dict[str, list[str]] = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            by_lang[str(row[lang]).split("_")[0]].append(row[field])
    for code, found in sorted(by_lang.items()):
        if code in langs:
            for text in random.Random(17).sample(found, min(each, len(found))):
                yield text, code


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=Path, nargs="?")
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--field", default="long")
    parser.add_argument("--lang", default="lang")
    parser.add_argument("--each", type=int, default=200)
    parser.add_argument("--langs", type=lambda text: text.split(","), default=sorted(CODES.values()))
    parser.add_argument("--swap", action="store_true")
    options = parser.parse_args()
    langs = options.langs
    source = answers(options.answers) if options.answers else texts(options.rows, options.field, options.lang, options.each, langs)
    if options.swap:
        source = ((text, langs[(langs.index(code) + 1) % len(langs)]) for text, code in source)
    ours, theirs = PassChecker(own_identifier), PassChecker(fasttext_identifier)
    pairs: dict[str, list[tuple[Passes, Passes]]] = defaultdict(list)
    for text, code in source:
        pairs[code].append((ours.passes(text, code), theirs.passes(text, code)))
    everything = [pair for found in pairs.values() for pair in found]
    print(f"{'lang':<6}{'counted':>8}{'ours':>8}{'fastText':>10}{'equal':>8}")
    for code, found in [*sorted(pairs.items()), ("all", everything)]:
        counted = [(one.line, other.line) for one, other in found if one.line is not None]
        if counted:
            shares = [sum(values) / len(counted) for values in ([bool(one) for one, _ in counted], [bool(other) for _, other in counted])]
            equal = sum(one == other for one, other in counted) / len(counted)
            print(f"{code:<6}{len(counted):>8}{shares[0]:>8.3f}{shares[1]:>10.3f}{equal:>8.3f}")


if __name__ == "__main__":
    main()
