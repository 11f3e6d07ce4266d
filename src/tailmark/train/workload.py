"""How much there is to train on: counted in the prepared packs, or estimated from the rows they will be made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from pyarrow.dataset import dataset

from tailmark.config import Config
from tailmark.layout import Arm, Layout
from tailmark.packs import PackReader
from tailmark.taxonomy import load_taxonomy

_BYTES_PER_TOKEN = 4.0
_TOKENS_PER_MARKER = 12
_TEMPLATE_TOKENS = 15
_SAMPLE = 2000
_LIKE_THE_PAPER = {"rows": 2_700_000, "tokens_per_row": 400.0, "supervised_per_row": 250.0}
"""What is assumed without any data: the paper's rows, at lengths that its figures make likely."""


@dataclass(frozen=True)
class Workload:
    """All epochs of a training.

    Attributes:
        source: where the numbers come from, in words.
        exact: whether they were counted.
        packs: of one step, on average, rounded up: what GPUs share.
    """

    source: str
    exact: bool
    rows: int
    steps: int
    tokens: int
    supervised: int
    packs: int


def workload(config: Config, layout: Layout, arm: Arm) -> Workload:
    """From the best of what is on disk: prepared packs, else annotated rows, else nothing."""
    files = [layout.prepared(arm) / "train" / f"epoch-{epoch:03d}.arrow" for epoch in range(config.prepare.epochs)]
    if all(path.is_file() for path in files):
        return _counted(files, layout.prepared(arm))
    folder = layout.annotated / "rows"
    if any(folder.glob("*.parquet")):
        return _estimated(config, layout, arm, folder)
    rows = int(_LIKE_THE_PAPER["rows"])
    source = f"no data here: assumed {rows:,} rows of {_LIKE_THE_PAPER['tokens_per_row']:.0f} tokens, as the paper's may be"
    return _workload(config, source, rows, _LIKE_THE_PAPER["tokens_per_row"], _LIKE_THE_PAPER["supervised_per_row"])


def _counted(files: list[Path], prepared: Path) -> Workload:
    rows = steps = packs = tokens = supervised = 0
    for path in files:
        reader = PackReader(path)
        steps, packs = steps + reader.steps, packs + len(reader)
        for index in range(len(reader)):
            pack = reader[index]
            rows, tokens, supervised = rows + len(pack.row_ids), tokens + len(pack.input_ids), supervised + pack.supervised
    return Workload(f"counted in {prepared}", True, rows, steps, tokens, supervised, -(-packs // steps))


def _estimated(config: Config, layout: Layout, arm: Arm, folder: Path) -> Workload:
    """From the bytes of a sample of rows, and the number of markers."""
    rows_there = dataset(folder, format="parquet")
    sample = rows_there.head(_SAMPLE, columns=["prompt", "completion"]).to_pylist()
    prompt = sum(len(message["content"].encode()) for row in sample for message in row["prompt"]) / len(sample) / _BYTES_PER_TOKEN
    answer = sum(len(row["completion"].encode()) for row in sample) / len(sample) / _BYTES_PER_TOKEN
    markers = len(config.prepare.markers or load_taxonomy(layout.root / config.taxonomy.file).markers) if arm == "marked" else 0
    full = markers * _TOKENS_PER_MARKER * (1 - config.prepare.list_dropout)
    shown = full * (1 - config.prepare.dataset_dropout) * (1 - config.prepare.sample_dropout)
    source = f"estimated from {len(sample):,} of the rows in {layout.annotated}: {_BYTES_PER_TOKEN:.0f} bytes a token"
    rows = round(rows_there.count_rows() * (1 - config.ingest.heldout_fraction))
    return _workload(config, source, rows, prompt + answer + full + shown + _TEMPLATE_TOKENS, answer + full)


def _workload(config: Config, source: str, rows: int, tokens: float, supervised: float) -> Workload:
    epochs = config.prepare.epochs
    steps = -(-rows // config.prepare.rows_per_step) * epochs
    packs = math.ceil(min(config.prepare.rows_per_step, rows) * tokens / config.prepare.pack_length)
    return Workload(source, False, rows * epochs, steps, round(rows * tokens) * epochs, round(rows * supervised) * epochs, packs)
