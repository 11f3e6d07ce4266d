"""Stage `prepare`: rows rendered, tokenized, verified and packed for every epoch, once; training only reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from tailmark.chat import marker_template
from tailmark.config import Config
from tailmark.console import say
from tailmark.errors import ModelError
from tailmark.files import sha256_tree, staged_folder, write_json
from tailmark.layout import Arm, Layout
from tailmark.longtail import tail_values
from tailmark.modelfolder import forget_origin
from tailmark.prepare.dropout import Dropout
from tailmark.prepare.examples import Encoder, Example
from tailmark.prepare.rows import Rows
from tailmark.prepare.writer import Writer
from tailmark.provenance import record_start
from tailmark.records import HELDOUT, TRAIN, annotated_schema
from tailmark.taxonomy import load_taxonomy


def run(config: Config, layout: Layout, arm: Arm) -> None:
    """Write `layout.prepared(arm)`: both arms hold the same rows in the same steps, `baseline` without markers.

    Raises:
        DataError: a shard is missing or corrupt, or no row of a split is left.
        ModelError: the base model is missing or its template cannot carry markers.
        TaxonomyError: `prepare.markers` or `longtail.marker` names a marker that is not in the taxonomy.
    """
    record_start("prepare", config, layout, arm)
    say(f"Preparing the {arm} arm: rendering, tokenizing, verifying and packing.")
    taxonomy = load_taxonomy(layout.root / config.taxonomy.file)
    tokenizer = _tokenizer(config, layout)
    options = config.prepare
    encoder = Encoder(tokenizer, taxonomy, names=options.markers, tail_marker=config.longtail.marker, pack_length=options.pack_length)
    rows = Rows.read(layout.annotated / "rows", encoder, annotated_schema(taxonomy))
    train, heldout = (rows.of(split) for split in (TRAIN, HELDOUT))
    tail = tail_values((example.tail_value for example in train), config.longtail.threshold)
    dropout = Dropout(config.seed, options.dataset_dropout, options.sample_dropout)
    writer = Writer(tokenizer, arm, options, dropout, tail)
    with staged_folder(layout.prepared(arm)) as folder:
        tokenizer.save_pretrained(folder / "tokenizer")
        forget_origin(folder / "tokenizer")
        shared = {
            "arm": arm,
            "taxonomy": taxonomy.digest,
            "tokenizer": sha256_tree(folder / "tokenizer"),
            "pad_token_id": tokenizer.pad_token_id,
        }
        epochs = [writer.epoch(folder, train, epoch, config.seed, shared) for epoch in range(options.epochs)]
        held = writer.heldout(folder, heldout, shared)
        rows.quarantine.write(folder / "quarantine.parquet")
        write_json(folder / "report.json", _report(arm, rows, train, tail, epochs, held))
    _summary(rows, epochs, held, layout.prepared(arm))


def _tokenizer(config: Config, layout: Layout) -> Any:
    if not (layout.base / "config.json").is_file():
        raise ModelError("The base model is missing.", where=str(layout.base), fix="run `tailmark base`, or `dvc repro`")
    tokenizer = AutoTokenizer.from_pretrained(layout.base)
    tokenizer.chat_template = marker_template(tokenizer.chat_template, config.prepare.system_message)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _report(
    arm: Arm, rows: Rows, train: Sequence[Example], tail: frozenset[str], epochs: Sequence[dict[str, Any]], heldout: dict[str, Any]
) -> dict[str, Any]:
    identity = rows.identity
    return {
        "arm": arm,
        "rows": {"in": identity.rows_in, "kept": identity.kept, "quarantined": identity.quarantined},
        "quarantine": rows.quarantine.counts(),
        "tail_values": sorted(tail),
        "tail_rows": sum(example.tail_value in tail for example in train),
        "markers": dict(sorted(Counter(name for example in train for name in example.markers).items())),
        "train": list(epochs),
        "heldout": heldout,
    }


def _summary(rows: Rows, epochs: Sequence[dict[str, Any]], heldout: dict[str, Any], folder: Path) -> None:
    say(f"  {rows.identity}")
    for reason, count in rows.quarantine.counts().items():
        say(f"    quarantined, {reason}: {count:,}")
    first = epochs[0]
    tokens, supervised, markers = (sum(epoch[name] for epoch in epochs) for name in ("tokens", "supervised_tokens", "marker_tokens"))
    say(f"  train: {len(epochs)} x {first['rows']:,} rows in {first['steps']:,} steps; {first['packs']:,} packs, {first['fill']:.0%} full")
    say(f"  {tokens:,} tokens, {supervised:,} supervised, {markers:,} of them markers; held out: {heldout['rows']:,} rows")
    say(f"  written to {folder}")
