"""Preparation: tokens a second and core, how full packs are, and what marker lists cost in tokens and in training time.

python -m benchmarks.prepare ROOT speed                  tokens/s a core of rendering, tokenizing, verifying, and of an epoch's prompts
python -m benchmarks.prepare ROOT fill                   how full packs are, by rows of a step and pack length, in both arms
python -m benchmarks.prepare ROOT overhead               tokens a row, and training time of the same rows: baseline, text, compact

ROOT is a checkout folder with `data/annotated` and `models/base`; options come from its params.yaml. `--rows` rows are taken from the
start of the shards: rows stand in the order of their ids, which are hashes, so they are a fair sample.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Literal

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one core is what is measured

import numpy as np

from tailmark.config import Config, Prepare, load_config
from tailmark.layout import Layout
from tailmark.packs import ANSWER, MARKERS, UNSUPERVISED, Pack
from tailmark.prepare.dropout import Dropout
from tailmark.prepare.examples import Encoder, Example
from tailmark.prepare.packing import chunks, epoch_order, first_fit_decreasing
from tailmark.prepare.stage import marked_tokenizer
from tailmark.prepare.work import prompt_ids, start
from tailmark.provenance import code_version, hardware
from tailmark.records import Record, annotated_schema, read_table, shards
from tailmark.taxonomy import load_taxonomy

BATCH = 500
Variant = Literal["baseline", "text", "compact"]
VARIANTS: tuple[Variant, ...] = ("baseline", "text", "compact")


class Bench:
    """Some rows of a checkout and the tools of its preparation."""

    def __init__(self, root: Path, rows: int) -> None:
        self.config, self.layout = load_config(root / "params.yaml"), Layout(root)
        self.taxonomy = load_taxonomy(root / self.config.taxonomy.file)
        schema = annotated_schema(self.taxonomy)
        records = (row for path in shards(self.layout.annotated / "rows") for row in read_table(path, schema).to_pylist())
        self.rows: list[Record] = list(islice(records, rows))

    def options(self, **changes: Any) -> Config:
        """The config with other options of `prepare`."""
        return self.config.model_copy(update={"prepare": Prepare.model_validate({**self.config.prepare.model_dump(), **changes})})

    def encoder(self, config: Config) -> Encoder:
        """As the stage makes it."""
        options = config.prepare
        tokenizer = marked_tokenizer(config, self.layout, self.taxonomy)
        tail = config.longtail.marker
        return Encoder(tokenizer, self.taxonomy, names=options.markers, tail_marker=tail, pack_length=options.pack_length)

    def examples(self, config: Config) -> list[Example]:
        """The rows that are kept, encoded; the encoder stays in place for `prompts`."""
        encoder = self.encoder(config)
        start(encoder)
        return [item for batch in chunks(self.rows, BATCH) for item in encoder(batch) if isinstance(item, Example)]


def prompts(examples: Sequence[Example], config: Config) -> list[np.ndarray[Any, np.dtype[np.int32]]]:
    """The prompts of epoch 0 after dropout."""
    dropout = Dropout.of(config)
    lists = [dropout(example.markers, 0, example.id) for example in examples]
    wanted = [(example.messages, kept) for example, kept in zip(examples, lists, strict=True) if kept is not None]
    made = iter([ids for batch in chunks(wanted, BATCH) for ids in prompt_ids(batch)])
    return [example.prompt_ids if kept is None else next(made) for example, kept in zip(examples, lists, strict=True)]


def speed(bench: Bench) -> None:
    """Print tokens/s of one core, by processor time."""
    config = bench.options()
    bench.examples(config)  # once, so that templates are compiled and caches warm
    began = time.process_time()
    examples = bench.examples(config)
    encoded = time.process_time()
    made = prompts(examples, config)
    ended = time.process_time()
    kept = sum(example.longest for example in examples)
    # Encoding renders, tokenizes and reads back a row's prompt twice, its list and its answer.
    work = kept + sum(len(example.prompt_ids) for example in examples)
    print(f"{len(bench.rows):,} rows, {len(examples):,} kept, {kept / len(examples):.0f} tokens a row with its list on both sides")
    print(f"encode  {len(bench.rows) / (encoded - began):8,.0f} rows/s {work / (encoded - began):10,.0f} tokens/s a core")
    print(f"prompts {len(examples) / (ended - encoded):8,.0f} rows/s {sum(map(len, made)) / (ended - encoded):10,.0f} tokens/s a core")


def fill(bench: Bench, steps: Sequence[int], lengths: Sequence[int]) -> None:
    """Print the share of the packs' room that holds tokens, beside the best that any packing of the same steps could reach."""
    config = bench.options(pack_length=max(lengths))
    examples = bench.examples(config)
    marked = [
        len(prompt) + len(item.list_ids) + len(item.answer_ids) for prompt, item in zip(prompts(examples, config), examples, strict=True)
    ]
    baseline = [len(item.prompt_ids) + len(item.answer_ids) for item in examples]
    order = epoch_order([item.id for item in examples], config.seed, 0)
    print(f"{len(examples):,} rows; full = tokens / (packs x length); best: the same steps in the fewest packs that could hold them")
    print(f"{'length':>7}{'rows a step':>12}{'baseline':>10}{'best':>7}{'packs':>7}{'marked':>9}{'best':>7}{'packs':>7}")
    for length in lengths:
        kept = [index for index in order if examples[index].longest <= length]
        for size in steps:
            cells = [_fill([tokens[index] for index in kept], size, length) for tokens in (baseline, marked)]
            print(f"{length:>7}{size:>12}" + "".join(f"{full:>9.1%}{best:>7.1%}{packs:>7.1f}" for full, best, packs in cells))


def _fill(tokens: Sequence[int], size: int, length: int) -> tuple[float, float, float]:
    """Share filled, the best share, and packs a step; whole steps only."""
    whole = [step for step in chunks(tokens, size) if len(step) == size]
    packs = sum(len(first_fit_decreasing(step, length)) for step in whole)
    fewest = sum(-(-sum(step) // length) for step in whole)
    total = sum(map(sum, whole))
    return total / (packs * length), total / (fewest * length), packs / len(whole)


def overhead(bench: Bench, rows: int, rounds: int, layers: int | None) -> None:
    """Print tokens of the three variants over all rows, and the time of the same few rows, in alternating rounds."""
    made = {name: documents(bench, name) for name in VARIANTS}
    shared = set.intersection(*(set(items) for items in made.values()))
    print(f"{len(shared):,} rows; prompt-side dropout as configured, epoch 0")
    print(f"{'':<10}{'tokens a row':>13}{'ratio':>7}{'supervised':>12}{'ratio':>7}{'list tokens':>13}")
    sizes = {name: np.array([[len(part) for part in made[name][row]] for row in sorted(shared)]).mean(0) for name in VARIANTS}
    for name, (prompt, head, answer) in sizes.items():
        total, supervised, base = prompt + head + answer, head + answer, sizes["baseline"]
        ratios = total / base.sum(), supervised / base[1:].sum()
        print(f"{name:<10}{total:>13.1f}{ratios[0]:>7.2f}{supervised:>12.1f}{ratios[1]:>7.2f}{head + prompt - base[0]:>13.1f}")
    if not rows:
        return
    timed = times(bench, {name: [made[name][row] for row in sorted(shared)[:rows]] for name in VARIANTS}, rounds, layers)
    print(f"processor time of forward and backward of {rows} rows, {rounds} alternating rounds:")
    for name, spent in timed.items():
        shares = sorted(one / base for one, base in zip(spent, timed["baseline"], strict=True))
        print(f"{name:<10}{median(spent):>8.2f} s, {median(shares):.2f} times the baseline ({shares[0]:.2f} to {shares[-1]:.2f})")


Parts = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]


def documents(bench: Bench, variant: Variant) -> dict[str, Parts]:
    """Prompt, list and answer of every row that is kept, as the variant trains them."""
    config = bench.options(rendering="compact" if variant == "compact" else "text")
    examples = bench.examples(config)
    if variant == "baseline":
        return {item.id: (item.prompt_ids, np.empty(0, np.int32), item.answer_ids) for item in examples}
    return {item.id: (prompt, item.list_ids, item.answer_ids) for item, prompt in zip(examples, prompts(examples, config), strict=True)}


def times(bench: Bench, made: dict[Variant, list[Parts]], rounds: int, layers: int | None) -> dict[Variant, list[float]]:
    """Seconds of processor time, which waiting does not lengthen, of forward and backward over each variant's packs, round by round."""
    import torch

    from tailmark.chat.vocabulary import marker_sources
    from tailmark.config import Train
    from tailmark.train.data import to_batch
    from tailmark.train.model import SupervisedModel, load_model

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    # One model for all: the rows of the added tokens are 0.2 % more of a small model's vocabulary.
    folder = bench.layout.state / "benchmark"
    marked_tokenizer(bench.options(rendering="compact"), bench.layout, bench.taxonomy).save_pretrained(folder)
    options = Train(precision="fp32", trainable_layers=layers)
    model = SupervisedModel(load_model(bench.layout.base, options, marker_sources(folder))).train()
    batches = {name: [to_batch(pack) for pack in packs(items, bench.config.prepare.pack_length)] for name, items in made.items()}
    spent: dict[Variant, list[float]] = {name: [] for name in made}
    for number in range(rounds + 1):
        for name in made:
            began = time.process_time()
            for batch in batches[name]:
                model(batch).sum().backward()
            model.zero_grad()
            if number:  # the first round warms up
                spent[name].append(time.process_time() - began)
    return spent


def packs(items: Sequence[Parts], length: int) -> list[Pack]:
    """The rows of one step, packed."""
    made = []
    for bin_ in first_fit_decreasing([sum(map(len, parts)) for parts in items], length):
        parts = [part for index in bin_ for part in items[index]]
        kinds = np.repeat(np.array([UNSUPERVISED, MARKERS, ANSWER] * len(bin_), np.int8), [len(part) for part in parts])
        lengths = np.array([sum(map(len, items[index])) for index in bin_], np.int32)
        made.append(Pack(0, np.concatenate(parts), kinds, lengths, tuple(map(str, bin_)), np.zeros(len(bin_), np.bool_)))
    return made


def main() -> None:
    """Run one of the commands above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("command", choices=("speed", "fill", "overhead"))
    parser.add_argument("--rows", type=int, default=4_000)
    parser.add_argument("--steps", type=int, nargs="+", default=[16, 64, 128, 256, 512], help="fill: rows of a step")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096], help="fill: pack lengths")
    parser.add_argument("--timed-rows", type=int, default=16, help="overhead: rows that are timed (0: none)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=None, help="overhead: upper layers that are trained (default: all)")
    given = parser.parse_args()
    machine, code = hardware(), code_version(Path(__file__).parent)
    print(f"{machine['processor']}; commit {code['commit']}{' with changes' if code['dirty'] else ''}")
    bench = Bench(given.root, given.rows)
    if given.command == "speed":
        speed(bench)
    elif given.command == "fill":
        fill(bench, given.steps, given.lengths)
    else:
        overhead(bench, given.timed_rows, given.rounds, given.layers)


if __name__ == "__main__":
    main()
