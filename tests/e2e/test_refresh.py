"""The flow `refresh` over the real stages: nothing is trained for nothing, and new rows are seen."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Checkout, commit

pytestmark = pytest.mark.slow


@pytest.fixture
def checkout(tiny: Checkout, tmp_path: Path) -> Checkout:
    shutil.copytree(tiny.root, tmp_path / "copy", symlinks=True)
    copied = Checkout(tmp_path / "copy")
    commit(copied, "what the flow made")
    return copied


def refresh(checkout: Checkout, *options: str) -> str:
    done = checkout.run(sys.executable, "-m", "flows.refresh", *options)
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


def found(checkout: Checkout) -> str:
    newest = max((checkout.root / ".tailmark" / "runs").glob("refresh-*.json"))
    return str(json.loads(newest.read_text())["found"]["data"])


def test_training_follows_the_data(checkout: Checkout) -> None:
    trained = "refs/heads/tailmark/trained-tiny"
    refresh(checkout, "--decide", "report")
    assert found(checkout) == "nothing was trained before"
    assert checkout.run("git", "rev-parse", "--verify", "--quiet", trained, check=False).returncode != 0

    shown = refresh(checkout)
    assert checkout.run("git", "rev-parse", "--verify", trained).stdout
    assert "train@marked done" not in shown, "its inputs are those of the run before, so its model comes from the cache"

    refresh(checkout)
    assert found(checkout) == "nothing has moved by more than is allowed"

    params = checkout.root / "params.yaml"
    params.write_text(params.read_text().replace("rows: 200", "rows: 150"))
    commit(checkout, "fewer rows")
    before = checkout.run("git", "rev-parse", trained).stdout
    refresh(checkout, "--decide", "report", "--max-drift", "1")
    assert "gone" in found(checkout)
    assert checkout.run("git", "rev-parse", trained).stdout == before
