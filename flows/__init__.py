"""Flows: composition of tasks only.

Prefect reads its settings when it is imported, so they are set here, before any module of this package imports it.
"""

import os
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent

_SETTINGS = {
    "PREFECT_HOME": str(_ROOT / ".tailmark" / "prefect"),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the terminal shows the stages' own lines; Prefect's go to its API
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}

for _name, _value in _SETTINGS.items():
    os.environ.setdefault(_name, _value)
Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
