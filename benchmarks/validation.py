"""Validation at scale: seconds and peak memory of `tailmark validate` on a synthetic annotated set, beside plain Great Expectations.

python -m benchmarks.validation make FOLDER --rows 2700000     a checkout folder with annotated rows of 1 KB
python -m benchmarks.validation run FOLDER                     the stage on it
python -m benchmarks.validation peer FOLDER                    the same suite by Great Expectations alone, on pandas rows
"""

from __future__ import annotations

import argparse
import re
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tailmark.config import Config
from tailmark.layout import Layout
from tailmark.measure.lengths import length_bucket
from tailmark.measure.words import words_and_marks
from tailmark.records import ROWS_PER_SHARD, annotated_schema, shards, write_table
from tailmark.taxonomy import MarkerSpec, Taxonomy, load_taxonomy

PAPER = Path(__file__).resolve().parents[1] / "src" / "tailmark" / "taxonomy" / "paper.yaml"
TEXTS = 5_000
WORDS = re.findall(r"\w+", "the of and to in is that for it with as was on are be this have from or one had by word but not what all were")


def main() -> None:
    """Run one of the commands above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("make", "run", "peer"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=2_700_000)
    arguments = parser.parse_args()
    start = time.monotonic()
    if arguments.command == "make":
        make(arguments.folder, arguments.rows)
    elif arguments.command == "run":
        run(arguments.folder)
    else:
        peer(arguments.folder)
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent, cpu = time.monotonic() - start, used.ru_utime + used.ru_stime
    print(f"{arguments.command}: {spent:.1f} s, {cpu:.1f} s of processor time, peak {used.ru_maxrss / 2**20:.2f} GiB")


def make(root: Path, rows: int, seed: int = 17) -> None:
    """Write `rows` annotated rows of about 1 KB with a long tail in every categorical marker, as shards under `root`."""
    taxonomy = load_taxonomy(PAPER)
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(PAPER, root / "taxonomy.yaml")
    texts = _texts(np.random.default_rng(seed))
    for number, start in enumerate(range(0, rows, ROWS_PER_SHARD)):
        table = _shard(taxonomy, start, min(ROWS_PER_SHARD, rows - start), texts, np.random.default_rng([seed, number]))
        write_table(Layout(root).annotated / "rows" / f"part-{number:05d}.parquet", table)


def _texts(random: np.random.Generator) -> tuple[pa.Array, np.ndarray]:
    """`TEXTS` English-looking completions of about 900 characters, and their lengths in words and marks."""
    sizes = np.clip(random.lognormal(4.9, 0.7, TEXTS), 5, 2_000).astype(int)
    texts = [" ".join(random.choice(WORDS, size)).capitalize() + "." for size in sizes]
    return pa.array(texts), np.array([len(words_and_marks(text)) for text in texts])


def _shard(taxonomy: Taxonomy, start: int, rows: int, texts: tuple[pa.Array, np.ndarray], random: np.random.Generator) -> pa.Table:
    chosen = random.integers(0, TEXTS, rows)
    completions, tokens = texts[0].take(pa.array(chosen)), texts[1][chosen]
    markers = {name: _column(spec, rows, random) for name, spec in sorted(taxonomy.markers.items())}
    markers |= _measured(tokens)
    markers["quality_bucket"] = _quartile(markers["quality"])
    schema = annotated_schema(taxonomy)
    requests = pc.utf8_slice_codeunits(completions, 0, 120)
    message = pa.StructArray.from_arrays([pa.array(["user"] * rows), requests], names=["role", "content"])
    prompt = pa.ListArray.from_arrays(pa.array(np.arange(rows + 1), pa.int32()), message)
    columns = {
        "id": pa.array([f"{start + number:032x}" for number in range(rows)]),
        "prompt": prompt,
        "completion": completions,
        "source_name": pa.array(random.choice(["forum", "manuals", "tickets"], rows)),
        "license": pa.array(["MIT"] * rows),
        "split": pa.array(random.choice(["train", "heldout"], rows, p=[0.95, 0.05])),
        "metadata": pa.array([[]] * rows, schema.field("metadata").type),
        "markers": _struct(markers, schema.field("markers").type),
        "origin": _struct({name: _where(column, pa.scalar("dataset")) for name, column in markers.items()}, schema.field("origin").type),
        "confidence": _struct(
            {name: _where(column, pa.scalar(1.0, pa.float32())) for name, column in markers.items()}, schema.field("confidence").type
        ),
    }
    return pa.table([columns[field.name].cast(field.type) for field in schema], schema=schema)


def _column(spec: MarkerSpec, rows: int, random: np.random.Generator) -> pa.Array:
    """Values by Zipf's law; a tenth of the rows has none."""
    missing = random.random(rows) < 0.1
    if spec.kind != "categorical":
        return pa.array(random.normal(0, 1, rows).round(3), mask=missing)
    weights = 1 / np.arange(1, len(spec.values) + 1) ** 1.5
    return pa.array(random.choice(list(spec.values), rows, p=weights / weights.sum()), mask=missing)


def _measured(tokens: np.ndarray) -> dict[str, pa.Array]:
    ones = pa.array(np.ones(len(tokens), dtype=np.int64))
    return {
        "lang": pa.array(["English"] * len(tokens)),
        "length_tokens": pa.array(tokens),
        "length_sentences": ones,
        "length_paragraphs": ones,
        "length_bucket": pa.array([length_bucket(int(count)) for count in tokens]),
    }


def _quartile(quality: pa.Array) -> pa.Array:
    """The quarter of a standard normal distribution: 1 is the best."""
    bounds = (0.6745, 0.0, -0.6745)
    places = np.searchsorted(-np.array(bounds), -quality.to_numpy(zero_copy_only=False))
    return pa.array(np.array(["1", "2", "3", "4"])[places], mask=quality.is_null().to_numpy(zero_copy_only=False))


def _where(column: pa.Array, value: pa.Scalar) -> pa.Array:
    return pc.if_else(column.is_valid(), value, pa.scalar(None, value.type))


def _struct(columns: dict[str, pa.Array], kind: pa.StructType) -> pa.Array:
    return pa.StructArray.from_arrays([columns[field.name].cast(field.type) for field in kind], fields=list(kind))


def run(root: Path) -> None:
    """The stage, on what `make` wrote."""
    from tailmark.validate import stage

    stage.run(_config(), Layout(root))


def _config() -> Config:
    return Config.model_validate({"taxonomy": {"file": "taxonomy.yaml"}})


def peer(root: Path) -> None:
    """Great Expectations as its guide has it: one frame that pandas made of the shards, one suite, complete results.

    Left out are the expectations that need a column of ours (fresh measurements, tail, buckets, drift).
    """
    import great_expectations as gx

    from tailmark.validate.expectations import _native
    from tailmark.validate.rows import columns
    from tailmark.validate.suite import suite

    taxonomy = load_taxonomy(root / "taxonomy.yaml")
    frame = pd.concat([_plain_frame(path, taxonomy) for path in shards(Layout(root).annotated / "rows")], ignore_index=True)
    items = [item for item in suite(taxonomy, _config()) if set(item.looks_at) <= set(columns(taxonomy))]
    context = gx.get_context(mode="ephemeral")
    definition = context.data_sources.add_pandas("peer").add_dataframe_asset("rows").add_batch_definition_whole_dataframe("all")
    expectations = context.suites.add(gx.ExpectationSuite(name="peer", expectations=[_native(item, ()) for item in items]))
    checks = context.validation_definitions.add(gx.ValidationDefinition(name="peer", data=definition, suite=expectations))
    result = checks.run(batch_parameters={"dataframe": frame}, result_format="COMPLETE")
    print(f"{len(items)} expectations, {sum(item.success for item in result.results)} hold")


def _plain_frame(path: Path, taxonomy: Taxonomy) -> pd.DataFrame:
    table = pq.read_table(path).to_pandas()
    flat = table[["id", "source_name", "license", "split"]].copy()
    flat["last_role"] = [messages[-1]["role"] for messages in table["prompt"]]
    flat["completion_chars"] = table["completion"].str.strip().str.len()
    for part in ("markers", "origin", "confidence"):
        values = pd.DataFrame(table[part].tolist())
        flat[[f"{part}.{name}" for name in sorted(taxonomy.markers)]] = values[sorted(taxonomy.markers)]
    return flat


if __name__ == "__main__":
    main()
