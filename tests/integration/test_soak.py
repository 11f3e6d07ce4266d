"""`make soak`, shorter: mixed traffic loses no request and leaks nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.run import soak


def test_twenty_seconds_of_traffic(tmp_path: Path) -> None:
    assert soak(tmp_path, seconds=20, clients=6, seed=1) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_minutes_of_traffic(tmp_path: Path) -> None:
    assert soak(tmp_path, seconds=300, clients=8, seed=2) == []
