"""What MLflow takes in one request, and what becomes of the rest."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

MOST_METRICS, MOST_PARAMS, LONGEST_PARAM, LONGEST_TAG = 1000, 100, 6000, 5000
_NOT_IN_A_KEY = re.compile(r"[^/\w.\- :]")


def valid_key(name: str) -> str:
    """A name that MLflow takes: other characters become underscores."""
    return _NOT_IN_A_KEY.sub("_", name)[:250]


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as names with dots."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def chunks(values: Mapping[str, Any], size: int) -> Iterator[dict[str, Any]]:
    """The same entries in mappings of at most `size`."""
    items = list(values.items())
    return (dict(items[start : start + size]) for start in range(0, len(items), size))


def now_ms() -> int:
    """The time as MLflow counts it, in milliseconds."""
    return time.time_ns() // 1_000_000
