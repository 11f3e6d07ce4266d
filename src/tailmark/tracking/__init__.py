"""Runs in MLflow. Logging goes on in the background: a store that is slow or away never stops or breaks a stage."""

from tailmark.tracking.parent import PARENT_VARIABLE, close_parent, find_run, open_parent, run_page
from tailmark.tracking.run import Run
from tailmark.tracking.stage import start_run, system_metrics
from tailmark.tracking.store import connect, experiment_id, prepare, store_uri

__all__ = [
    "PARENT_VARIABLE",
    "Run",
    "close_parent",
    "connect",
    "experiment_id",
    "find_run",
    "open_parent",
    "prepare",
    "run_page",
    "start_run",
    "store_uri",
    "system_metrics",
]
