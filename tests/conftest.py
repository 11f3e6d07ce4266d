"""Marks each test with the tier its folder names."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("TAILMARK_CPU_BF16", "0")  # answers are compared exactly, and in bf16 they depend a little on who else is in a batch

# A shell starts `command &` with Ctrl-C ignored, and so would be every child that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        tier = item.path.relative_to(ROOT / "tests").parts[0]
        if tier in ("unit", "integration", "e2e"):
            item.add_marker(tier)


@contextmanager
def _environment_restored() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
    """What is made once for many tests leaves no variable behind (MLflow notes its store in one)."""
    with nullcontext() if fixturedef.scope == "function" else _environment_restored():
        return (yield)


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """What a test, or a library in it, puts into the environment ends with the test."""
    with _environment_restored():
        yield
