"""Every benchmark of `params/bench.yaml` on the models of a finished run, a share of each one's items.

    python -m benchmarks.suite . --data ../shared/data/eval --out .tailmark/suite

The models and all options but benchmarks and modes are those of the checkout (after `make demo`: of the demo), and so are the scores of the
held-out rows, which its evaluation has measured already. Its own `reports/evaluate` stays as it is: the result goes to `--out`. `--share 8`
asks an eighth of the items that the bench profile asks, and `--max-new-tokens` cuts answers shorter. The result is written after each
benchmark, and a run that was ended goes on with the next.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tailmark.config import HELDOUT_NAMES, BenchmarkOptions, Config, load_config, read_params
from tailmark.console import duration, say
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.scores import Score
from tailmark.evaluate.stage import SCORES, facts_of, load_bench, write_results
from tailmark.evaluate.store import read_scores, write_scores
from tailmark.evaluate.suite.runner import NOTHING, Suite, run_suite
from tailmark.files import staged_folder
from tailmark.layout import Layout
from tailmark.provenance import code_version, hardware

PROFILE = Path(__file__).resolve().parents[1] / "params" / "bench.yaml"
EVALUATION_SETS = "../shared/data/eval"


def suite_config(config: Config, given: argparse.Namespace) -> Config:
    """The checkout's options with these modes and a share of the benchmarks of the bench profile."""
    profile = read_params(PROFILE)["evaluate"]
    benchmarks = [_fewer(entry, given.share, given.max_new_tokens, given.data) for entry in profile["benchmarks"]]
    further = {"modes": given.modes or profile["modes"], "benchmarks": benchmarks}
    return Config.model_validate(config.model_dump(by_alias=True) | {"evaluate": config.evaluate.model_dump() | further})


def _fewer(entry: Mapping[str, Any], share: int, max_new_tokens: int, data: str) -> dict[str, Any]:
    moved = {key: value.replace(EVALUATION_SETS, data) if isinstance(value, str) else value for key, value in entry.items()}
    tokens = min(entry.get("max_new_tokens", max_new_tokens), max_new_tokens)
    return moved | {"limit": max(entry["limit"] // share, 1), "max_new_tokens": tokens}


def measured(layout: Layout, bench: Bench) -> list[Score]:
    """What the checkout's evaluation found of the held-out rows.

    Raises:
        SystemExit: it was of other models or rows.
    """
    scores, facts = read_scores(layout.evaluated / SCORES)
    same = {name for name, _ in facts_of(bench).provenance if name.endswith("model") or name == "annotated rows"}
    if {item for item in facts.provenance if item[0] in same} != {item for item in facts_of(bench).provenance if item[0] in same}:
        raise SystemExit("reports/evaluate is of other models or rows than those here: run `dvc repro evaluate` first")
    return [item for item in scores if item.benchmark in HELDOUT_NAMES]


def kept(out: Path, bench: Bench) -> Suite:
    """What an earlier run of the same models left, which was ended before all benchmarks were through."""
    if not (out / SCORES).exists():
        return NOTHING
    scores, facts = read_scores(out / SCORES)
    if facts.provenance != facts_of(bench).provenance:
        return NOTHING
    return Suite(tuple(item for item in scores if item.benchmark not in HELDOUT_NAMES), facts.measures, facts.benchmarks)


def asked_already(options: BenchmarkOptions, suite: Suite) -> bool:
    """Whether this benchmark ran with these options."""
    told = options.model_dump(mode="json", exclude_none=True)
    return any(entry["options"] == told for entries in suite.report.values() for entry in entries)


def only(bench: Bench, options: BenchmarkOptions) -> Bench:
    """The bench with one benchmark."""
    evaluate = bench.config.evaluate.model_copy(update={"benchmarks": (options,)})
    return replace(bench, config=bench.config.model_copy(update={"evaluate": evaluate}))


def together(one: Suite, other: Suite) -> Suite:
    """Both; what `other` ran anew is no longer in `one`."""
    scores = [item for item in one.scores if item.benchmark not in other.report]
    measures = [item for item in one.measures if item.benchmark not in other.report]
    return Suite((*scores, *other.scores), (*measures, *other.measures), {**one.report, **other.report})


def write(out: Path, bench: Bench, heldout: Sequence[Score], suite: Suite) -> None:
    """Everything there is so far."""
    with staged_folder(out) as folder:
        write_scores(folder / SCORES, [*heldout, *suite.scores], facts_of(bench, suite))
        write_results(folder, bench.config)


def main() -> None:
    """Evaluate and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="a checkout with trained models")
    parser.add_argument("--data", default=EVALUATION_SETS, help="where the evaluation sets are, relative to the checkout")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the result; one that is there is replaced")
    parser.add_argument("--share", type=int, default=8)
    parser.add_argument("--modes", nargs="+", help="default: those of the bench profile")
    parser.add_argument("--max-new-tokens", type=int, default=96)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    machine, code = hardware(), code_version(Path(__file__).parent)
    say(f"{machine['processor']}, {given.threads} threads; commit {code['commit']}{' with changes' if code['dirty'] else ''}")
    started, layout = time.monotonic(), Layout(given.root.resolve())
    config = suite_config(load_config(layout.root / "params.yaml"), given)
    bench = load_bench(config, layout)
    heldout, suite = measured(layout, bench), kept(given.out, bench)
    for options in config.evaluate.benchmarks:
        if not asked_already(options, suite):
            suite = together(suite, run_suite(only(bench, options), layout))
            write(given.out, bench, heldout, suite)
    say(f"{len(suite.scores):,} scores in {duration(time.monotonic() - started)}. Report: {given.out / 'report.html'}")


if __name__ == "__main__":
    main()
