"""Runs a suite with Great Expectations and gives back plain results."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

# Read by Great Expectations when it is imported.
os.environ["GX_ANALYTICS_ENABLED"] = "false"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import great_expectations as gx
    from great_expectations import expectations as classes
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults, ProgressBarsConfig
    from great_expectations.expectations.row_conditions import Column

from tailmark.console import Progress
from tailmark.validate.failing import broken, looked_at
from tailmark.validate.rows import MANY, column
from tailmark.validate.suite import COLUMNS, DRIFT, Expectation

_NONE = np.array([], dtype=np.int64)


@dataclass(frozen=True)
class Outcome:
    """What became of one expectation.

    Attributes:
        severity: stop or warn.
        checked: rows it looked at (None for an expectation about a whole table).
        unexpected: rows that broke it; it may hold all the same, where it asks for a share.
        failing: positions in the frame of all of those, ascending, where it does not hold.
        observed: what was found, for one about a whole table.
    """

    expectation: Expectation
    severity: str
    success: bool
    checked: int | None
    unexpected: int
    failing: npt.NDArray[np.int64]
    observed: str | None = None


def check(
    frame: pd.DataFrame, drift: Mapping[str, float], expectations: Sequence[Expectation], stop: Sequence[str], docs: Path
) -> list[Outcome]:
    """Run all expectations; Data Docs are written to the folder `docs`.

    Args:
        frame: the rows, with all derived columns.
        drift: marker to its distance from the accepted profile.
    """
    found: dict[str, Any] = {}
    progress = Progress("checking", len(expectations), "expectations") if len(frame) > MANY else None
    with _quiet():
        context = _context(docs)
        # One view at a time: Great Expectations copies every column of what it is given for every expectation.
        for view, items in groupby(sorted(expectations, key=lambda item: item.view), key=lambda item: item.view):
            chosen = list(items)
            found |= _run(context, view, _view(frame, drift, view, chosen), chosen, stop)
            if progress:
                progress.advance(len(chosen))
        context.build_data_docs()
    if progress:
        progress.close()
    return [_outcome(item, found[item.name], frame, drift, stop) for item in expectations]


def _view(frame: pd.DataFrame, drift: Mapping[str, float], view: str, items: Sequence[Expectation]) -> pd.DataFrame:
    if view == COLUMNS:
        return frame.iloc[:0]
    if view == DRIFT:
        return pd.DataFrame([drift])
    conditions = [column("markers", marker) for item in items for marker in item.only_where]
    names = dict.fromkeys([*(name for item in items for name in item.looks_at), *conditions])
    return pd.DataFrame({name: _plain(frame[name]) for name in names}) if names else frame[["id"]]


def _plain(values: pd.Series[Any]) -> pd.Series[Any]:
    """Numbers as float64: those of any other type Great Expectations compares one by one, in Python."""
    return values.astype("float64") if pd.api.types.is_numeric_dtype(values) else values


def _run(context: Any, view: str, frame: pd.DataFrame, items: Sequence[Expectation], stop: Sequence[str]) -> dict[str, Any]:
    definition = context.data_sources.add_pandas(view).add_dataframe_asset("annotated").add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(gx.ExpectationSuite(name=view, expectations=[_native(item, stop) for item in items]))
    checks = context.validation_definitions.add(gx.ValidationDefinition(name=view, data=definition, suite=suite))
    run = checks.run(batch_parameters={"dataframe": frame}, result_format={"result_format": "BASIC", "partial_unexpected_count": 20})
    context.data_sources.delete(view)
    return {result.expectation_config.meta["name"]: result for result in run.results}


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


def _outcome(item: Expectation, result: Any, frame: pd.DataFrame, drift: Mapping[str, float], stop: Sequence[str]) -> Outcome:
    problem = result.exception_info
    if problem.get("raised_exception") is not False:
        raise RuntimeError(f"expectation '{item.name}' could not be evaluated: {problem}")
    found, success = result.result, bool(result.success)
    severity = "stop" if item.group in stop else "warn"
    if item.view == DRIFT:
        return Outcome(item, severity, success, None, 0, _NONE, f"{drift[item.subject]:.3f}")
    if "element_count" not in found:
        return Outcome(item, severity, success, None, 0, _NONE, _observed(found))
    failing = _NONE if success else broken(item, frame)
    unexpected = int(found["unexpected_count"])
    assert success or len(failing) == unexpected, f"{item.name}: {len(failing)} rows found, {unexpected} counted"
    return Outcome(item, severity, success, looked_at(item, frame), unexpected, failing)


def _observed(found: dict[str, Any]) -> str:
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
