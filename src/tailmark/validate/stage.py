"""Stage `validate`: reads `layout.annotated`, writes `layout.validated`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from tailmark.config import Config
from tailmark.console import say
from tailmark.errors import ConfigError, ValidationFailed
from tailmark.files import staged_folder, write_json
from tailmark.layout import Layout
from tailmark.provenance import record_start
from tailmark.records import write_table
from tailmark.taxonomy import Taxonomy, load_taxonomy
from tailmark.validate import frame as frames
from tailmark.validate.expectations import Outcome, check
from tailmark.validate.suite import suite

FAILING = pa.schema(
    [
        pa.field("expectation", pa.string(), nullable=False),
        pa.field("severity", pa.string(), nullable=False),
        pa.field("id", pa.string()),
        pa.field("source_name", pa.string()),
        pa.field("value", pa.string()),
    ]
)
"""One row for each expectation that a row broke. `value`: what the row holds, as text; with two columns compared, both."""

_NAMED = 3


def run(config: Config, layout: Layout) -> None:
    """Check the annotated rows.

    Raises:
        ValidationFailed: an expectation of a group in `validate.stop` failed. The findings then stand under
            `layout.state / "validation-failed"`, and no output is made.
        ConfigError: `longtail.marker` is not a categorical marker of the taxonomy.
        TaxonomyError: the taxonomy file is missing or malformed.
        DataError: an annotated shard is missing, corrupt, or was written with another taxonomy.
    """
    taxonomy = load_taxonomy(layout.root / config.taxonomy.file)
    _check_config(config, taxonomy)
    record_start("validate", config, layout)
    expectations = suite(taxonomy, config)
    frame = _frame(config, layout, taxonomy)
    say(f"validate: {len(frame):,} rows against {len(expectations)} expectations")
    docs = layout.state / "data_docs"
    with staged_folder(docs) as folder:
        outcomes = check(frame, expectations, config.validate_.stop, folder)
    stopping = [outcome for outcome in outcomes if not outcome.success and outcome.expectation.group in config.validate_.stop]
    aside = layout.state / "validation-failed"
    with staged_folder(aside if stopping else layout.validated) as folder:
        write_json(folder / "result.json", _result(outcomes, frame, config.validate_.stop))
        write_table(folder / "failing_rows.parquet", _failing_rows(outcomes, frame, config.validate_.stop))
    if stopping:
        # An earlier result would speak of rows that are no longer there.
        shutil.rmtree(layout.validated, ignore_errors=True)
        raise _failure(stopping, frame, aside, docs)
    shutil.rmtree(aside, ignore_errors=True)
    _tell(outcomes, frame, docs)


def _check_config(config: Config, taxonomy: Taxonomy) -> None:
    marker = config.longtail.marker
    categorical = sorted(name for name, spec in taxonomy.markers.items() if spec.kind == "categorical")
    if marker not in categorical:
        raise ConfigError(
            f"'{marker}' is not a categorical marker of taxonomy '{taxonomy.name}', so it has no tail.",
            where="params.yaml: longtail.marker",
            fix=f"use one of: {', '.join(categorical)}",
        )
    for name in sorted(set(config.validate_.min_completeness) - set(taxonomy.markers)):
        say(f"  validate.min_completeness names '{name}', which is not in taxonomy '{taxonomy.name}': left out")


def _frame(config: Config, layout: Layout, taxonomy: Taxonomy) -> pd.DataFrame:
    rows = layout.annotated / "rows"
    frame = frames.load(rows, taxonomy)
    frames.add_tail(frame, config.longtail.marker, config.longtail.threshold)
    if frames.has_buckets(taxonomy):
        frames.add_bucket(frame)
    lengths = frames.measures_lengths(taxonomy)
    if config.validate_.remeasure_rows and lengths:
        say(f"validate: measuring the lengths of {min(config.validate_.remeasure_rows, len(frame)):,} rows again")
        frames.add_remeasured(frame, rows, lengths, config.validate_.remeasure_rows)
    return frame


def _result(outcomes: Sequence[Outcome], frame: pd.DataFrame, stop: Sequence[str]) -> dict[str, Any]:
    """The content of `result.json`: no times and no run ids, so that the same rows give the same bytes."""
    return {
        "success": all(outcome.success for outcome in outcomes),
        "rows": len(frame),
        "failed": {
            severity: [outcome.expectation.name for outcome in outcomes if not outcome.success and _severity(outcome, stop) == severity]
            for severity in ("stop", "warn")
        },
        "expectations": [_entry(outcome, frame, stop) for outcome in outcomes],
    }


def _entry(outcome: Outcome, frame: pd.DataFrame, stop: Sequence[str]) -> dict[str, Any]:
    return {
        "name": outcome.expectation.name,
        "says": outcome.expectation.says,
        "severity": _severity(outcome, stop),
        "success": outcome.success,
        "checked": outcome.checked,
        "failing": len(outcome.failing),
        "observed": outcome.observed,
        "first_ids": frame["id"].iloc[list(outcome.failing[:_NAMED])].tolist(),
    }


def _severity(outcome: Outcome, stop: Sequence[str]) -> str:
    return "stop" if outcome.expectation.group in stop else "warn"


def _failing_rows(outcomes: Sequence[Outcome], frame: pd.DataFrame, stop: Sequence[str]) -> pa.Table:
    found: list[dict[str, Any]] = []
    for outcome in outcomes:
        item = outcome.expectation
        looked_at = [item.arguments[key] for key in ("column", "column_A", "column_B") if key in item.arguments]
        part = frame.iloc[list(outcome.failing)]
        values = part[looked_at].astype(object).to_numpy().tolist()
        common = {"expectation": item.name, "severity": _severity(outcome, stop)}
        for (id, source), value in zip(part[["id", "source_name"]].to_numpy().tolist(), values, strict=True):
            found.append(common | {"id": id, "source_name": source, "value": " / ".join(map(_text, value))})
    return pa.Table.from_pylist(found, schema=FAILING)


def _text(value: object) -> str:
    return "none" if pd.isna(value) else str(value)  # type: ignore[call-overload]


def _failure(stopping: Sequence[Outcome], frame: pd.DataFrame, aside: Path, docs: Path) -> ValidationFailed:
    lines = [f"{len(stopping)} expectation{'s' * (len(stopping) > 1)} that must hold failed:"]
    lines += [f"  {_line(outcome, frame)}" for outcome in stopping]
    return ValidationFailed(
        "\n".join(lines),
        where=f"all failing rows: {aside / 'failing_rows.parquet'}; as a page: {docs / 'index.html'}",
        fix="mend the source or its mapping in params.yaml and run again; or take the expectation's group out of `validate.stop`",
    )


def _line(outcome: Outcome, frame: pd.DataFrame) -> str:
    item = outcome.expectation
    if outcome.checked is None:
        return f"{item.name}: {item.says}; found {outcome.observed}"
    first = frame.iloc[list(outcome.failing[:_NAMED])]
    named = ", ".join(f"{id} ({source})" for id, source in first[["id", "source_name"]].to_numpy().tolist())
    more = ", ..." if len(outcome.failing) > _NAMED else ""
    return f"{item.name}: {item.says}; {len(outcome.failing):,} of {outcome.checked:,} rows do not: {named}{more}"


def _tell(outcomes: Sequence[Outcome], frame: pd.DataFrame, docs: Path) -> None:
    failed = [outcome for outcome in outcomes if not outcome.success]
    say(f"validate: {len(outcomes) - len(failed)} of {len(outcomes)} expectations hold; Data Docs: {docs / 'index.html'}")
    for outcome in failed:
        say(f"  warning: {_line(outcome, frame)}")
