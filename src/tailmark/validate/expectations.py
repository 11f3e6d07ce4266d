"""Runs a suite with Great Expectations and gives back plain results."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

# Read by Great Expectations when it is imported.
os.environ["GX_ANALYTICS_ENABLED"] = "false"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import great_expectations as gx
    from great_expectations import expectations as classes
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults, ProgressBarsConfig
    from great_expectations.expectations.row_conditions import Column

from tailmark.validate.frame import column
from tailmark.validate.suite import Expectation


@dataclass(frozen=True)
class Outcome:
    """What became of one expectation.

    Attributes:
        checked: rows it looked at (None for an expectation about the whole table).
        failing: positions in the frame of every row that broke it, ascending.
        observed: what was found instead, for one about the whole table.
    """

    expectation: Expectation
    success: bool
    checked: int | None
    failing: tuple[int, ...]
    observed: str | None = None


def check(frame: pd.DataFrame, expectations: Sequence[Expectation], stop: Sequence[str], docs: Path) -> list[Outcome]:
    """Run all expectations in one go; Data Docs are written to the folder `docs`."""
    numbered = frame.assign(row=range(len(frame)))
    wanted = {"result_format": "COMPLETE", "unexpected_index_column_names": ["row"]}
    with _quiet():
        context = _context(docs)
        definition = context.data_sources.add_pandas("annotated").add_dataframe_asset("rows").add_batch_definition_whole_dataframe("all")
        suite = context.suites.add(gx.ExpectationSuite(name="taxonomy", expectations=[_native(item, stop) for item in expectations]))
        checks = context.validation_definitions.add(gx.ValidationDefinition(name="annotated rows", data=definition, suite=suite))
        checkpoint = gx.Checkpoint(name="validate", validation_definitions=[checks], result_format=wanted, actions=[])
        run = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": numbered})
        context.build_data_docs()
    results = {item.expectation_config.meta["name"]: item for result in run.run_results.values() for item in result.results}
    return [_outcome(item, results[item.name]) for item in expectations]


def _context(docs: Path) -> Any:
    """A context in memory, whose Data Docs go to `docs`."""
    site = {
        "class_name": "SiteBuilder",
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs)},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "show_how_to_buttons": False,
    }
    settings = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        data_docs_sites={"tailmark": site},
        progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
        analytics_enabled=False,
    )
    return gx.get_context(project_config=settings, mode="ephemeral")


def _native(item: Expectation, stop: Sequence[str]) -> Any:
    """The expectation as an object of Great Expectations."""
    extra: dict[str, Any] = {}
    if item.only_where:
        first, *others = (Column(column("markers", name)).is_in(list(values)) for name, values in sorted(item.only_where.items()))
        for other in others:
            first = first & other
        extra["row_condition"] = first
    severity = "critical" if item.group in stop else "warning"
    return getattr(classes, item.kind)(
        **item.arguments, **extra, severity=severity, description=item.says, meta={"name": item.name, "group": item.group}
    )


def _outcome(item: Expectation, result: Any) -> Outcome:
    problem = result.exception_info
    if problem.get("raised_exception") is not False:
        raise RuntimeError(f"expectation '{item.name}' could not be evaluated: {problem}")
    found = result.result
    failing = sorted(int(entry["row"]) for entry in found.get("unexpected_index_list") or [])
    return Outcome(item, bool(result.success), found.get("element_count"), tuple(failing), _observed(found))


def _observed(found: dict[str, Any]) -> str | None:
    if "element_count" in found:
        return None
    if missing := (found.get("details") or {}).get("mismatched", {}).get("missing"):
        return f"no {', '.join(missing)}"
    value = found.get("observed_value")
    return f"{len(value)} columns" if isinstance(value, list) else str(value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's own log lines and warnings from the console."""
    logger = logging.getLogger("great_expectations")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
