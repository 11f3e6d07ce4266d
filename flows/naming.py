"""One name for a run everywhere: in Prefect, in MLflow, of its branch, in `tailmark status`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from prefect.runtime import flow_run


def new_name(kind: str) -> Callable[[], str]:
    """Makes names of a kind: what it is, when it started (UTC), and four characters of chance."""
    return lambda: f"{kind}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def current_name() -> str:
    """The name of the flow run that this is called in."""
    return str(flow_run.get_name())
