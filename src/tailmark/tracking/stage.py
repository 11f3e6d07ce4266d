"""The run of a stage."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from tailmark import provenance
from tailmark.config import Config
from tailmark.errors import Stopped
from tailmark.files import read_json
from tailmark.layout import Arm, Layout
from tailmark.tracking.limits import valid_key
from tailmark.tracking.parent import PARENT_VARIABLE
from tailmark.tracking.run import Run

_SYSTEM_S = 10.0
_KILLED = (KeyboardInterrupt, Stopped)


@contextmanager
def start_run(name: str, *, config: Config, layout: Layout, stage: str, arm: Arm | None = None) -> Iterator[Run]:
    """Open a run, nested under the pipeline's run where the environment names one, with the stage's provenance and parameters.

    It ends FINISHED, FAILED after an exception, and KILLED after Ctrl-C or a requested stop.

    Raises:
        TaxonomyError, StorageError: the provenance record cannot be made.
    """
    record = provenance.record_start(stage, config, layout, arm)
    content = read_json(record)
    tags = _run_tags(content, stage, arm, config)
    run = Run(name, config, layout, tags, parent=os.environ.get(PARENT_VARIABLE) or None)
    run.open()
    run.log_params(content["config"])
    run.log_artifact(record, "provenance")
    try:
        yield run
    except BaseException as error:
        run.close("KILLED" if isinstance(error, _KILLED) else "FAILED")
        raise
    run.close("FINISHED")


def _run_tags(record: Mapping[str, Any], stage: str, arm: Arm | None, config: Config) -> dict[str, str]:
    code = record["code"]
    tags = {
        "stage": stage,
        "arm": arm,
        "profile": config.profile,
        "commit": code["commit"],
        "dirty": None if code["dirty"] is None else str(code["dirty"]).lower(),
        "taxonomy": record["taxonomy"],
        "mlflow.source.git.commit": code["commit"],
        "mlflow.source.name": f"tailmark {stage}",
        **{f"data.{path}": digest for path, digest in record["data"].items()},
    }
    return {valid_key(name): str(value) for name, value in tags.items() if value is not None}


@contextmanager
def system_metrics(run: Run, every: float = _SYSTEM_S) -> Iterator[None]:
    """While the block runs, log what this machine does (processors, memory, disk, network, NVIDIA GPUs) under `system/`."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with suppress(Exception):  # no NVIDIA GPU, or not its library
        monitors.append(GPUMonitor())
    over = threading.Event()

    def watch() -> None:
        step = 0
        while not over.wait(every):
            for monitor in monitors:
                monitor.collect_metrics()
                run.log_metrics({f"system/{name}": value for name, value in monitor.aggregate_metrics().items()}, step=step)
                monitor.clear_metrics()
            step += 1

    threading.Thread(target=watch, name="system-metrics", daemon=True).start()
    try:
        yield
    finally:
        over.set()
