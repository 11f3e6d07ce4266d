"""Stage `prepare`: rows rendered, tokenized, verified and packed for every epoch, once; training only reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tailmark.chat import control_tokens, end_of_turn, load_tokenizer, marker_template
from tailmark.chat.vocabulary import add_marker_tokens
from tailmark.config import Config
from tailmark.console import say
from tailmark.engine import mapper, workers_of
from tailmark.errors import ModelError
from tailmark.files import sha256_tree, staged_folder, write_json
from tailmark.layout import Arm, Layout
from tailmark.longtail import tail_values
from tailmark.modelfolder import MARKER_USE, MarkerUse, forget_origin
from tailmark.prepare.dropout import Dropout
from tailmark.prepare.examples import Encoder, Example
from tailmark.prepare.rows import Rows
from tailmark.prepare.work import start
from tailmark.prepare.writer import Writer
from tailmark.provenance import record_start
from tailmark.records import HELDOUT, TRAIN, annotated_schema, row_count, shards
from tailmark.taxonomy import Taxonomy, load_taxonomy
from tailmark.taxonomy.markers import Values

_FEW = 2_000
"""Below this many rows one process is faster: starting others takes seconds."""


def run(config: Config, layout: Layout, arm: Arm) -> None:
    """Write `layout.prepared(arm)`: both arms hold the same rows in the same steps, `baseline` without markers.

    Raises:
        DataError: a shard is missing or corrupt, or no row of a split is left.
        ModelError: the base model is missing or its template cannot carry markers.
        TaxonomyError: `prepare.markers` or `longtail.marker` names a marker that is not in the taxonomy.
    """
    record_start("prepare", config, layout, arm)
    taxonomy = load_taxonomy(layout.root / config.taxonomy.file)
    tokenizer, options = marked_tokenizer(config, layout, taxonomy), config.prepare
    encoder = Encoder(
        tokenizer,
        taxonomy,
        names=options.markers,
        tail_marker=config.longtail.marker,
        pack_length=options.pack_length,
        too_long=options.too_long,
    )
    total = sum(row_count(path) for path in shards(layout.annotated / "rows"))
    workers = 1 if total < _FEW else workers_of(config.engine)
    say(f"Preparing the {arm} arm: rendering, tokenizing, verifying and packing, {workers} process{'es' * (workers > 1)}.")
    with mapper(config.engine, workers, start, (encoder,)) as work, staged_folder(layout.prepared(arm)) as folder:
        rows = Rows.read(layout.annotated / "rows", annotated_schema(taxonomy), work)
        train, heldout = (rows.of(split) for split in (TRAIN, HELDOUT))
        tail = tail_values((example.tail_value for example in train), config.longtail.threshold)
        shared = _save_tokenizer(tokenizer if arm == "marked" else _tokenizer(config, layout), folder / "tokenizer")
        shared |= {"arm": arm, "taxonomy": taxonomy.digest}
        writer = Writer(work, arm, options, Dropout.of(config), tail)
        epochs = [writer.epoch(folder, train, epoch, config.seed, shared) for epoch in range(options.epochs)]
        held = writer.heldout(folder, heldout, shared)
        rows.quarantine.write(folder / "quarantine.parquet")
        write_json(folder / MARKER_USE, _use(config, arm, taxonomy).model_dump(mode="json"))
        write_json(folder / "report.json", _report(arm, rows, train, tail, epochs, held))
    _summary(rows, epochs, held, layout.prepared(arm))


def _use(config: Config, arm: Arm, taxonomy: Taxonomy) -> MarkerUse:
    if arm == "baseline":
        return MarkerUse(arm=arm, markers=(), placement="both", dataset_dropout=0, sample_dropout=0, taxonomy=taxonomy.digest)
    markers = tuple(sorted(taxonomy.markers if config.prepare.markers is None else config.prepare.markers))
    named_alike = config.prepare.model_dump(include=set(MarkerUse.model_fields) - {"markers"})
    return MarkerUse(arm=arm, markers=markers, taxonomy=taxonomy.digest, **named_alike)


def _tokenizer(config: Config, layout: Layout, compact: Values | None = None, digits: Mapping[str, int] | None = None) -> Any:
    if not (layout.base / "config.json").is_file():
        raise ModelError("The base model is missing.", where=str(layout.base), fix="run `tailmark base`, or `dvc repro`")
    tokenizer = load_tokenizer(layout.base)
    own, control = tokenizer.chat_template, control_tokens(tokenizer)
    tokenizer.chat_template = marker_template(own, config.prepare.system_message, compact, control=control, digits=digits)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.eos_token = end_of_turn(tokenizer)
    return tokenizer


def marked_tokenizer(config: Config, layout: Layout, taxonomy: Taxonomy) -> Any:
    """The base model's tokenizer with the marker-aware template and, for the compact rendering, the tokens of the lists.

    Rows of both arms are judged by it; the baseline is trained with the plain one, which gives texts without lists the same tokens.
    """
    digits = config.prepare.digits
    if config.prepare.rendering == "text":
        return _tokenizer(config, layout, digits=digits)
    names = taxonomy.markers if config.prepare.markers is None else config.prepare.markers
    values = {name: tuple(taxonomy.spec(name).values) for name in names}
    tokenizer = _tokenizer(config, layout, values, digits)
    add_marker_tokens(tokenizer, values)
    return tokenizer


def _save_tokenizer(tokenizer: Any, folder: Path) -> dict[str, Any]:
    """Save it; returns what the packs say of it."""
    tokenizer.save_pretrained(folder)
    forget_origin(folder)
    return {"tokenizer": sha256_tree(folder), "pad_token_id": tokenizer.pad_token_id}


def _report(
    arm: Arm, rows: Rows, train: Sequence[Example], tail: frozenset[str], epochs: Sequence[dict[str, Any]], heldout: dict[str, Any]
) -> dict[str, Any]:
    identity = rows.identity
    return {
        "arm": arm,
        "rows": {"in": identity.rows_in, "kept": identity.kept, "quarantined": identity.quarantined},
        "quarantine": rows.quarantine.counts(),
        **_truncated(rows),
        "tail_values": sorted(tail),
        "tail_rows": sum(example.tail_value in tail for example in train),
        "markers": dict(sorted(Counter(name for example in train for name in example.markers).items())),
        "train": list(epochs),
        "heldout": heldout,
    }


def _truncated(rows: Rows) -> dict[str, Any]:
    """How many rows fit only because their prompt lost something, and the tokens it lost; nothing where none did."""
    cut = [example.cut for example in rows.examples if example.cut]
    return {"truncated": {"rows": len(cut), "tokens": sum(cut)}} if cut else {}


def _summary(rows: Rows, epochs: Sequence[dict[str, Any]], heldout: dict[str, Any], folder: Path) -> None:
    say(f"  {rows.identity}")
    for reason, count in rows.quarantine.counts().items():
        say(f"    quarantined, {reason}: {count:,}")
    for truncated in _truncated(rows).values():
        say(f"    prompts cut to fit: {truncated['rows']:,}, by {truncated['tokens']:,} tokens in all")
    first = epochs[0]
    tokens, supervised, markers = (sum(epoch[name] for epoch in epochs) for name in ("tokens", "supervised_tokens", "marker_tokens"))
    say(f"  train: {len(epochs)} x {first['rows']:,} rows in {first['steps']:,} steps; {first['packs']:,} packs, {first['fill']:.0%} full")
    say(f"  {tokens:,} tokens, {supervised:,} supervised, {markers:,} of them markers; held out: {heldout['rows']:,} rows")
    say(f"  written to {folder}")
