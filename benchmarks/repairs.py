"""Code repair with more programs than a small sample holds out: every problem of the sources that no training row has.

    python -m benchmarks.repairs --rows 96    # in a checkout, or a member's worktree, with both trained arms and rows of task CodeFix

A sample of some thousand rows holds out a dozen programs of three problems, which decides nothing. Here the sources of its CodeFix rows are
read whole, problems with a training row are left out, and so many of the other programs (references of at most 300 tokens) are asked for as
the benchmark `repair` asks. Prints how near answers come to the correction, against the baseline's, with 95 % intervals over problems, and
how near the faulty program is as it stands: a model that copies it has that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.pooled import lift_of
from benchmarks.probe import run
from benchmarks.suite import only
from tailmark.annotate import stage as annotate
from tailmark.config import Config, Decontaminate, Repair
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.sample import Row, read_heldout
from tailmark.evaluate.scores import Score
from tailmark.evaluate.suite.repair import RepairBenchmark
from tailmark.evaluate.suite.runner import run_suite
from tailmark.generate.request import Answer
from tailmark.ingest import stage as ingest
from tailmark.layout import Layout
from tailmark.records import TRAIN, annotated_schema, read_rows

TASK, MOST_TOKENS = "CodeFix", 300


def measured(bench: Bench, count: int) -> Iterator[dict[str, object]]:
    """A line for each score and mode, and one for the faulty programs themselves."""
    layout = Layout(Path.cwd())
    options = Repair(kind="repair", modes=("inferred", "fixed"), limit=count, max_new_tokens=MOST_TOKENS)
    wider = only(replace(bench, heldout=replace(bench.heldout, rows=tuple(unseen(bench, layout)))), options)
    suite = run_suite(wider, layout)
    yield from compared(suite.scores)
    yield copied(RepairBenchmark(options, wider, layout))


def unseen(bench: Bench, layout: Layout) -> Iterator[Row]:
    """The repairs in the sources of this sample's repairs, without the problems of its training rows."""
    schema = annotated_schema(bench.marked.taxonomy)
    rows = list(read_rows(layout.annotated / "rows", schema))
    sources = {str(row["source_name"]) for row in rows if row["markers"].get("task") == TASK}
    trained = {row["metadata"].get("group") for row in rows if row["split"] == TRAIN}  # a translation shows the correction, too
    with TemporaryDirectory() as folder:
        config = whole(bench.config, sources, layout.root)
        ingest.run(config, Layout(Path(folder)))
        annotate.run(config, Layout(Path(folder)))
        found = read_heldout(config, Layout(Path(folder)), bench.marked.taxonomy, bench.marked.info.markers)
    for row in found.rows:
        if row.labels.get("task") == TASK and row.group not in trained and _tokens(bench, row) <= MOST_TOKENS:
            yield row


def whole(config: Config, sources: set[str], root: Path) -> Config:
    """The same options for all rows of these sources, nearly all of which are held out; no path depends on the folder."""
    chosen = [source for source in config.ingest.sources if source.name in sources]
    placed = tuple(source.model_copy(update={"path": str((root / str(source.path)).resolve())}) for source in chosen)  # type: ignore[union-attr]
    taken = config.ingest.model_copy(update={"sources": placed, "rows": None, "heldout_fraction": 0.99, "decontaminate": Decontaminate()})
    taxonomy = config.taxonomy.model_copy(update={"file": str((root / config.taxonomy.file).resolve())})
    return config.model_copy(update={"ingest": taken, "taxonomy": taxonomy})


def _tokens(bench: Bench, row: Row) -> int:
    return len(bench.marked.tokenizer(row.completion, add_special_tokens=False).input_ids)


def compared(scores: Sequence[Score]) -> Iterator[dict[str, object]]:
    """For every score and mode the baseline's mean, the marked model's and the lift."""
    values: dict[tuple[str, str], dict[str, Score]] = {}
    for score in scores:
        values.setdefault((score.score, score.mode), {})[score.row.id] = score
    for measure in RepairBenchmark.measures:
        for mode in ("inferred", "fixed"):
            before, after = values.get((measure.score, "baseline"), {}), values.get((measure.score, mode), {})
            pairs = [(before[key].value, item.value, item.row.group) for key, item in sorted(after.items()) if key in before]
            if pairs:
                lift = {key: round(value, 3) for key, value in lift_of(pairs, measure).items()}
                yield {"score": measure.score, "mode": mode, **lift, "problems": len({group for *_, group in pairs})}


def copied(benchmark: RepairBenchmark) -> dict[str, object]:
    """How near the faulty programs are to their corrections."""
    items = benchmark.load()
    values = [benchmark.score(item, Answer(program(item.messages[-1]["content"]), {}, "", 0, False, True, True)) for item in items]
    return {
        "score": "similarity",
        "mode": "the faulty program",
        "marked": round(sum(value["similarity"] for value in values) / len(values), 3),
    }


def program(prompt: str) -> str:
    """The program of a prompt: all but the paragraph of words that stands before it or after it."""
    return re.sub(r"\A(?:This program gives|Find the fault|The fault is)[^\n]*\n\n|\n\nSome tests fail[^\n]*\Z", "", prompt)


if __name__ == "__main__":
    run(measured, __doc__, rows=96)
