"""The LLM annotator against labels that the bench data carry: accuracy with counts; and what asking about all of the data would take.

    transformers serve models/base --port 8000 &
    python -m benchmarks.llm_annotation --base-url http://127.0.0.1:8000/v1 --model models/base --rows 60
    python -m benchmarks.llm_annotation --estimate --input-price 0.15 --output-price 0.60

The labels are those that params/bench.yaml maps from the sources of ../shared/data; they are hidden from the annotator. Rows are drawn
evenly over the sources, by a hash.
"""

from __future__ import annotations

import argparse
import heapq
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tailmark.annotate.annotators import Finding
from tailmark.annotate.llm import Estimate, LLMAnnotator
from tailmark.config import LLM, Config, parse_config, read_params
from tailmark.files import sha256_json
from tailmark.ingest.adapters import read_source
from tailmark.ingest.candidate import Candidate
from tailmark.measure.language import measure_language
from tailmark.records import MARKER_METADATA
from tailmark.taxonomy import Taxonomy, load_taxonomy

ROOT = Path(__file__).resolve().parents[1]

Row = dict[str, Any]


def main() -> None:
    """Run the benchmark."""
    arguments = _arguments()
    path = ROOT / "params" / "bench.yaml"
    config = parse_config(read_params(path), path)
    taxonomy = load_taxonomy(ROOT / config.taxonomy.file)
    options = LLM(
        base_url=arguments.base_url, model=arguments.model, markers=tuple(arguments.markers), protocol=arguments.protocol,
        concurrency=arguments.concurrency, timeout_s=600, max_chars=arguments.max_chars,
        input_price=arguments.input_price, output_price=arguments.output_price,
    )  # fmt: skip
    counts, rows = sampled(config, arguments.rows)
    print(f"{counts.total():,} rows: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    with TemporaryDirectory() as folder:
        annotator = LLMAnnotator.open(options, taxonomy, Path(arguments.state or folder))
        if arguments.estimate:
            estimate(annotator, taxonomy, counts, rows)
        else:
            accuracy(annotator, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--model", default="models/base")
    parser.add_argument("--markers", nargs="+", default=["domain", "task"])
    parser.add_argument("--protocol", choices=("marker", "all"), default="marker")
    parser.add_argument("--rows", type=int, default=60, help="rows in all, evenly over the sources")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--max-chars", type=int, default=1_500)
    parser.add_argument("--state", type=Path, help="keep the cache of answers here")
    parser.add_argument("--estimate", action="store_true", help="only say what asking about every row would take")
    parser.add_argument("--input-price", type=float, default=0.0, help="of a million tokens")
    parser.add_argument("--output-price", type=float, default=0.0)
    return parser.parse_args()


def sampled(config: Config, total: int) -> tuple[Counter[str], list[Row]]:
    """Rows of each source, and the sample: of each source those with the smallest hash."""
    counts: Counter[str] = Counter()
    rows: list[Row] = []
    for source in config.ingest.sources:
        name = str(source.name)
        drawn: list[tuple[str, int, Row]] = []
        for candidate in read_source(source, ROOT):
            if isinstance(candidate, Candidate):
                counts[name] += 1
                place = sha256_json([candidate.prompt, candidate.completion])
                heapq.heappush(drawn, (_inverted(place), counts[name], row_of(name, candidate)))
                if len(drawn) > total // len(config.ingest.sources):
                    heapq.heappop(drawn)
        rows += [row for _, _, row in sorted(drawn, reverse=True, key=lambda item: item[:2])]
    return counts, rows


def _inverted(digest: str) -> str:
    """Sorts the other way round."""
    return digest.translate(str.maketrans("0123456789abcdef", "fedcba9876543210"))


def row_of(name: str, candidate: Candidate) -> Row:
    """A record, with the source's labels apart."""
    labels = {key.removeprefix(MARKER_METADATA): value for key, value in candidate.metadata.items() if key.startswith(MARKER_METADATA)}
    prompt = [{"role": role, "content": content} for role, content in candidate.prompt]
    return {"source": name, "prompt": prompt, "completion": candidate.completion, "labels": labels}


def accuracy(annotator: LLMAnnotator, rows: list[Row]) -> None:
    """Ask about the rows whose source states the marker, and print how often the answer is the label."""
    start = time.monotonic()
    asked = annotator.options.markers or ()
    # What the source does not state cannot be judged, so it is not asked: it is given as known.
    known = [{name: Finding("?") for name in asked if name not in row["labels"]} for row in rows]
    found = annotator.annotate(rows, known)
    print(f"{annotator.options.model}, protocol {annotator.options.protocol}: {time.monotonic() - start:,.0f} s")
    for line in annotator.table():
        print(line)
    for name in asked:
        judged = [(row, item.get(name)) for row, item in zip(rows, found, strict=True) if name in row["labels"]]
        _tell(name, judged, annotator.counts[name])


def _tell(name: str, judged: list[tuple[Row, Finding | None]], counts: Mapping[str, int]) -> None:
    labels = Counter(row["labels"][name] for row, _ in judged)
    if not judged:
        return
    right = Counter(row["labels"][name] for row, item in judged if item is not None and item.value == row["labels"][name])
    valued = sum(item is not None for _, item in judged)
    value, most = labels.most_common(1)[0]
    share = right.total() / len(judged)
    print(f"{name}: {right.total()} of {len(judged)} right ({share:.0%}), {valued} with a value, {counts['invalid']} invalid")
    print(f"  always saying {value} would be right {most} times ({most / len(judged):.0%})")
    print("  by label: " + ", ".join(f"{label} {right[label]}/{count}" for label, count in labels.most_common()))
    said = Counter(str(item.value) for _, item in judged if item is not None)
    print("  said: " + ", ".join(f"{label} {count}" for label, count in said.most_common()))


def estimate(annotator: LLMAnnotator, taxonomy: Taxonomy, counts: Counter[str], rows: list[Row]) -> None:
    """What asking for the markers that each source leaves open would take, source by source."""
    whole = None
    for name, total in counts.items():
        part = [row for row in rows if row["source"] == name]
        seen = Estimate(annotator)
        seen.add(part, [_stated(row, taxonomy) for row in part])
        print("\n".join([f"{name}:", *(f"  {line.strip()}" for line in seen.lines(total)[1:3])]))
        new = seen.new.times(total / max(len(part), 1))
        whole = new if whole is None else whole + new
    if whole is not None:
        print(f"in all: about {whole.told(annotator.options)}")


def _stated(row: Row, taxonomy: Taxonomy) -> dict[str, Finding]:
    found = {name: Finding(value) for name, value in row["labels"].items() if name in taxonomy.markers}
    if "lang" not in found and (language := measure_language(row["completion"], tuple(taxonomy.markers["lang"].values))):
        found["lang"] = Finding(language.name)
    return found


if __name__ == "__main__":
    main()
