"""Stage `validate`: reads `layout.annotated`, writes `layout.validated`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tailmark.config import Config
from tailmark.console import say
from tailmark.errors import ConfigError, ValidationFailed
from tailmark.files import staged_folder, write_json, write_text
from tailmark.layout import Layout
from tailmark.records import write_table
from tailmark.taxonomy import Taxonomy, load_taxonomy
from tailmark.tracking import Run, start_run
from tailmark.validate import derived
from tailmark.validate.accept import accepted_path
from tailmark.validate.expectations import Outcome, check
from tailmark.validate.failing import FAILING, failing_table, named
from tailmark.validate.findings import Findings
from tailmark.validate.page.page import data_page
from tailmark.validate.profile import distances, make_profile, read_accepted
from tailmark.validate.rows import Annotated, load
from tailmark.validate.suite import suite


def run(config: Config, layout: Layout) -> None:
    """Check the annotated rows.

    Raises:
        ValidationFailed: an expectation of a group in `validate.stop` failed. The findings then stand under
            `layout.state / "validation-failed"`, and no output is made.
        ConfigError: `longtail.marker` is not a categorical marker of the taxonomy.
        TaxonomyError: the taxonomy file is missing or malformed.
        DataError: an annotated shard is missing, corrupt, or was written with another taxonomy; the accepted profile cannot be read.
    """
    taxonomy = load_taxonomy(layout.root / config.taxonomy.file)
    _check_config(config, taxonomy)
    say(f"validate: the annotated rows against taxonomy '{taxonomy.name}'")
    with start_run("validate", config=config, layout=layout, stage="validate") as tracked:
        docs = layout.state / "data_docs"
        findings = _find(config, layout, taxonomy, docs)
        stopping = [outcome for outcome in findings.failed if outcome.severity == "stop"]
        aside = layout.state / "validation-failed"
        target = aside if stopping else layout.validated
        with staged_folder(target) as folder:
            _write(folder, findings, config, layout)
            if not stopping:
                # What `prepare` waits for: it does not change with the thresholds or the accepted version, as `result.json` does.
                write_json(folder / "passed.json", {"rows": len(findings.rows.frame), "taxonomy": taxonomy.digest})
        _track(tracked, findings, target, docs)
        for outcome in findings.failed:
            if outcome.severity == "warn":
                say(f"  warning: {findings.line(outcome)}")
        if stopping:
            # An earlier result would speak of rows that are no longer there.
            shutil.rmtree(layout.validated, ignore_errors=True)
            raise _failure(stopping, findings, aside)
    shutil.rmtree(aside, ignore_errors=True)
    _tell(findings, layout.validated)


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


def _find(config: Config, layout: Layout, taxonomy: Taxonomy, docs: Path) -> Findings:
    """Read the rows, compare them with the accepted profile, and run the suite; Data Docs go to `docs`."""
    rows = _load(config, layout, taxonomy)
    accepted = read_accepted(accepted_path(config, layout))
    profile = make_profile(rows.frame, taxonomy)
    drift = distances(make_profile(rows.frame, taxonomy, accepted), accepted) if accepted else {}
    expectations = suite(taxonomy, config, drift)
    say(f"validate: {len(rows.frame):,} rows against {len(expectations)} expectations")
    with staged_folder(docs) as folder:
        outcomes = check(rows.frame, drift, expectations, config.validate_.stop, folder)
    return Findings(rows, outcomes, profile, accepted, drift, taxonomy)


def _load(config: Config, layout: Layout, taxonomy: Taxonomy) -> Annotated:
    rows = load(layout.annotated / "rows", taxonomy, config.validate_.remeasure_rows)
    derived.add_tail(rows.frame, config.longtail.marker, config.longtail.threshold)
    if derived.has_buckets(taxonomy):
        derived.add_bucket(rows.frame, taxonomy)
    if derived.has_quartiles(taxonomy):
        derived.add_quartile_gap(rows.frame)
    derived.add_measured(rows, taxonomy, config.validate_.cross_lingual)
    return rows


def _write(folder: Path, findings: Findings, config: Config, layout: Layout) -> None:
    """Write what the stage makes: no times and no run ids, so that the same rows give the same bytes."""
    write_json(folder / "result.json", _result(findings))
    write_json(folder / "profile.json", findings.profile)
    write_table(folder / "failing_rows.parquet", _failing_rows(findings))
    write_text(folder / "report.html", data_page(findings, config, layout))


def _result(findings: Findings) -> dict[str, Any]:
    failed = findings.failed
    return {
        "success": not failed,
        "rows": len(findings.rows.frame),
        "failed": {
            severity: [outcome.expectation.name for outcome in failed if outcome.severity == severity] for severity in ("stop", "warn")
        },
        "expectations": [_entry(outcome, findings.rows) for outcome in findings.outcomes],
    }


def _entry(outcome: Outcome, rows: Annotated) -> dict[str, Any]:
    return {
        "name": outcome.expectation.name,
        "says": outcome.expectation.says,
        "severity": outcome.severity,
        "success": outcome.success,
        "checked": outcome.checked,
        "failing": outcome.unexpected,
        "observed": outcome.observed,
        "first_rows": named(outcome.failing, rows),
    }


def _failing_rows(findings: Findings) -> pa.Table:
    tables = [
        failing_table(outcome.expectation, outcome.severity, outcome.failing, findings.rows)
        for outcome in findings.failed
        if outcome.checked is not None
    ]
    return pa.concat_tables(tables) if tables else FAILING.empty_table()


def _track(tracked: Run, findings: Findings, folder: Path, docs: Path) -> None:
    """Log the counts, the distances and the two pages."""
    failed = [outcome.severity for outcome in findings.failed]
    counts = {"expectations": len(findings.outcomes), "failed_stop": failed.count("stop"), "failed_warn": failed.count("warn")}
    tracked.log_metrics({"rows": len(findings.rows.frame), **counts, **{f"drift/{name}": value for name, value in findings.drift.items()}})
    for name in ("report.html", "result.json", "profile.json", "failing_rows.parquet"):
        tracked.log_artifact(folder / name)
    tracked.log_artifact(docs, "data_docs")


def _failure(stopping: Sequence[Outcome], findings: Findings, aside: Path) -> ValidationFailed:
    lines = [f"{len(stopping)} expectation{'s' * (len(stopping) > 1)} that must hold failed:"]
    lines += [f"  {findings.line(outcome)}" for outcome in stopping]
    fix = "mend the source or its mapping in params.yaml and run again; or take the expectation's group out of `validate.stop`"
    if all(outcome.expectation.group == "drift" for outcome in stopping):
        fix = "mend the source; or, where the new distribution is right, run `tailmark validate --accept`"
    return ValidationFailed(
        "\n".join(lines), where=f"all failing rows: {aside / 'failing_rows.parquet'}; as a page: {aside / 'report.html'}", fix=fix
    )


def _tell(findings: Findings, folder: Path) -> None:
    held = len(findings.outcomes) - len(findings.failed)
    say(f"validate: {held} of {len(findings.outcomes)} expectations hold; page: {folder / 'report.html'}")
    if findings.accepted is None:
        say("  no accepted version to compare with yet; `tailmark validate --accept` makes this the first")
