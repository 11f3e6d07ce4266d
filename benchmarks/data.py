"""The data stages step by step: rows a second and peak memory, on any checkout folder and on a synthetic set of rows of about 1 KB.

python -m benchmarks.data make FOLDER --rows 2700000     a checkout folder with synthetic sources (and params.yaml)
python -m benchmarks.data run FOLDER                     every step of ingest, then the stages ingest, annotate and validate
python -m benchmarks.data run FOLDER --only steps        the steps of ingest alone (or `stages`: the stages alone)
python -m benchmarks.data near FOLDER --rows 20000       near-duplicates of some rows on one core, to hold beside benchmarks/data_peer.py

Memory is what all processes of the run hold together (proportional set size), looked at twice a second. `core s` are seconds of
processor time of all of them: rows/s a core do not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import random
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import psutil

from tailmark.config import Config, Engine, Source, load_config
from tailmark.engine import mapper, workers_of
from tailmark.files import scratch_folder
from tailmark.ingest import stage
from tailmark.ingest.adapters import read_source
from tailmark.ingest.candidate import Candidate
from tailmark.ingest.contamination import Contamination
from tailmark.ingest.decontaminate import Index, read_index
from tailmark.ingest.facts import Facts, collect, marker_names
from tailmark.ingest.minhash import Sets, bands_of
from tailmark.ingest.near import Signed, find_near
from tailmark.ingest.reading import Intake, take_in, to_record
from tailmark.ingest.settle import Work, prepare_worker
from tailmark.ingest.store import Store
from tailmark.ingest.words import HashSet
from tailmark.layout import Layout

NOTHING = np.zeros(0, np.uint64)
ROOT = Path(__file__).resolve().parents[1]
PARAMS = """# A synthetic set for benchmarks/data.py.
taxonomy: {file: taxonomy.yaml}
ingest:
  sources:
  - {kind: jsonl, name: synthetic, path: "sources/*.jsonl", prompt: question, completion: answer, group: topic, markers: {domain: domain}}
  decontaminate:
    sets: [{name: held, path: eval.jsonl, fields: [text]}]
validate: {stop: []}
"""
VOCABULARY, ROWS_PER_FILE = 50_000, 250_000
DOMAINS = ["Code", "Technology", "Culture", "Conversation", "Math", "Sciences", "Finance", "Medical", "Legal"]


def make(root: Path, rows: int, seed: int = 17) -> None:
    """Write sources of `rows` rows: 5 % equal to another, 5 % nearly so, 0.1 % with text of an evaluation set, a tail of domains."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 10))) for _ in range(VOCABULARY)]
    weights = list(np.cumsum(1 / np.arange(1, VOCABULARY + 1)))
    domain_weights = [2.0**-place for place in range(len(DOMAINS))]
    held = [" ".join(draw.choices(words, cum_weights=weights, k=30)) for _ in range(1_000)]
    (root / "sources").mkdir(parents=True)
    (root / "eval.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in held), encoding="utf-8")
    (root / "params.yaml").write_text(PARAMS, encoding="utf-8")
    shutil.copy(ROOT / "src" / "tailmark" / "taxonomy" / "paper.yaml", root / "taxonomy.yaml")
    last: list[str] = []
    for start in range(0, rows, ROWS_PER_FILE):
        with (root / "sources" / f"part-{start // ROWS_PER_FILE:03d}.jsonl").open("w", encoding="utf-8") as file:
            for number in range(start, min(start + ROWS_PER_FILE, rows)):
                kind = draw.random()
                if kind >= 0.1 or not last:
                    last = draw.choices(words, cum_weights=weights, k=draw.randint(60, 200))
                elif kind >= 0.05:
                    last = [*last[:-2], *draw.choices(words, k=2)]
                question = f"What follows after {' '.join(last[:8])}?"
                answer = " ".join([*last, held[number % 1_000]] if kind > 0.999 else last)
                domain = draw.choices(DOMAINS, domain_weights)[0]
                file.write(json.dumps({"question": question, "answer": answer, "domain": domain, "topic": f"topic {number // 2}"}) + "\n")


class Meter:
    """Prints what each step took."""

    def __init__(self) -> None:
        self._peak = 0
        self._seconds: dict[int, float] = {}
        threading.Thread(target=self._watch, daemon=True).start()
        print(f"{'step':<32}{'rows':>11}{'seconds':>9}{'core s':>9}{'rows/s':>9}{'rows/s a core':>15}{'peak GiB':>10}")

    def _watch(self) -> None:
        while True:
            self._look()
            time.sleep(0.5)

    def _look(self) -> None:
        memory = 0
        for process in processes():
            try:
                memory += process.memory_full_info().pss
                spent = process.cpu_times()
            except psutil.Error:
                continue
            self._seconds[process.pid] = spent.user + spent.system
        self._peak = max(self._peak, memory)

    @contextmanager
    def step(self, name: str) -> Iterator[list[int]]:
        """Time a step; it puts its number of rows into the list."""
        rows: list[int] = []
        self._look()
        self._peak, start, before = 0, time.monotonic(), sum(self._seconds.values())
        yield rows
        self._look()
        seconds, cores, count = time.monotonic() - start, sum(self._seconds.values()) - before, sum(rows)
        speeds = f"{count / seconds:>9,.0f}{count / max(cores, 0.01):>15,.0f}"
        print(f"{name:<32}{count:>11,}{seconds:>9.1f}{cores:>9.1f}{speeds}{self._peak / 2**30:>10.2f}", flush=True)


def processes() -> list[psutil.Process]:
    """This process and those it started."""
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def run(root: Path, only: str | None) -> None:
    """Every step, in the order of the stages."""
    config, layout = load_config(root / "params.yaml"), Layout(root)
    meter = Meter()
    print(f"{workers_of(config.engine)} processes")
    if only != "stages":
        ingest_steps(config, layout, meter)
    if only != "steps":
        whole_stages(config, layout, meter, ("ingest", "annotate", "validate"))


def kept(layout: Layout) -> int:
    """Rows that ingest kept."""
    identity = json.loads((layout.ingested / "report.json").read_text(encoding="utf-8"))["identity"]
    return int(identity["kept"])


def ingest_steps(config: Config, layout: Layout, meter: Meter) -> None:
    """What `tailmark ingest` does, part by part, then the stage as a whole."""
    index = read_index(config.ingest.decontaminate, layout.root)
    with scratch_folder(layout.state / "benchmark") as scratch:
        folders = {name: scratch / name for name in ("spill", "again", "rows", "clean")}
        for folder in folders.values():
            folder.mkdir()
        with meter.step("read") as rows:
            intake = take_in(config, layout.root, folders["spill"])
            rows.append(intake.rows_in.total())
        _sort(config, meter, "sort, exact duplicates", copied(intake, folders["again"]), Store(folders["rows"]), None)
        store = Store(folders["clean"])
        facts = _sort(config, meter, "the same, with decontamination", intake, store, index)
        with mapper(config.engine) as run, meter.step("near-duplicates") as rows:
            near = stage.compare_rows(config, facts, store, run)
            rows.append(len(facts))
        alive = np.ones(len(facts), np.bool_)
        alive[[edge.row for edge in near.edges]] = False
        with meter.step("split") as rows:
            heldout = stage.hold_out(config, facts, near, alive)
            rows.append(len(facts))
        with meter.step("write") as rows:
            store.write(scratch / "rows", alive, heldout)
            rows.append(int(alive.sum()))


def whole_stages(config: Config, layout: Layout, meter: Meter, names: tuple[str, ...]) -> None:
    """Whole stages, one after the other."""
    for name in names:
        entry = importlib.import_module(f"tailmark.{name}.stage").run
        with meter.step(f"tailmark {name}") as rows:
            entry(config, layout)
            rows.append(kept(layout))


def _sort(config: Config, meter: Meter, name: str, intake: Intake, store: Store, index: Index | None) -> Facts:
    work = Work(config.seed, marker_names(config), index)
    with mapper(config.engine, 0, prepare_worker, (work,)) as run, meter.step(name) as rows:
        facts = stage.sort_rows(intake, store, Contamination(index), run)
        rows.append(len(intake.spill))
    return facts


def copied(intake: Intake, folder: Path) -> Intake:
    """The same rows once more, in another folder: sorting removes them."""
    intake.spill.close()
    again = copy.deepcopy(intake)
    shutil.copytree(intake.spill.folder, folder, dirs_exist_ok=True)
    again.spill.folder = folder
    return again


def near(root: Path, rows: int) -> None:
    """Near-duplicates among the first rows of the sources, on one core, without reading and writing."""
    config, layout = load_config(root / "params.yaml"), Layout(root)
    records = [to_record("", row) for source in config.ingest.sources for row in islice(candidates(source, layout.root), rows)][:rows]
    for record in records:
        record["metadata"] = {}
    options = config.ingest.near_duplicates
    start = time.process_time()
    signed = Signed(bands_of(Sets.of(records, options, HashSet(NOTHING)).text, options), NOTHING)
    facts = collect(records, [], config.seed, [])
    with mapper(Engine(workers=1)) as run:
        found = find_near(
            signed, facts, np.zeros(len(records), np.int64), lambda numbers: [records[n] for n in numbers.tolist()], options, run
        )
    seconds = time.process_time() - start
    print(f"tailmark: {len(records):,} rows, {len(found.edges):,} near-duplicates, {len(records) / seconds:,.0f} rows/s a core")


def candidates(source: Source, root: Path) -> Iterator[Candidate]:
    """The usable rows of a source."""
    return (row for row in read_source(source, root) if isinstance(row, Candidate))


def main() -> None:
    """Run one of the commands above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("make", "run", "near"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=2_700_000)
    parser.add_argument("--only", choices=("steps", "stages"))
    arguments = parser.parse_args()
    if arguments.command == "make":
        make(arguments.folder, arguments.rows)
    elif arguments.command == "near":
        near(arguments.folder, arguments.rows)
    else:
        run(arguments.folder, arguments.only)


if __name__ == "__main__":
    main()
