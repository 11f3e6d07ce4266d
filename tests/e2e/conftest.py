"""One run of the whole pipeline on the tiny profile, in a checkout of its own, shared by the tests of this folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
_MARK = "TEST_CHECKOUT"
"""An environment variable that every process started here hands on to those it starts."""


@dataclass(frozen=True)
class Checkout:
    """A checkout in which commands can be run as a user runs them."""

    root: Path

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    @property
    def environment(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PREFECT_", "TAILMARK_"))}
        return clean | {
            _MARK: str(self.root),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.root / "src"),
            "COLUMNS": "140",
        }

    def flow(self) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "flows.pipeline")

    def lock(self) -> str:
        return (self.root / "dvc.lock").read_text()

    def left_running(self, wait_s: float = 10.0) -> list[str]:
        """Command lines of the processes that a command here started and that are still there after `wait_s` seconds."""
        end = time.monotonic() + wait_s
        while (left := [*_processes(f"{_MARK}={self.root}".encode())]) and time.monotonic() < end:
            time.sleep(0.1)
        return left


def _processes(variable: bytes) -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if variable in path.read_bytes().split(b"\0"):
                yield (path.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended, or is another user's
            continue


def copy_checkout(target: Path) -> Checkout:
    """The working tree as a commit would hold it, in a git repository of its own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and name != "dvc.lock":
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    checkout = Checkout(target)
    checkout.run("git", "init", "-q", "-b", "main")
    commit(checkout, "start")
    return checkout


def commit(checkout: Checkout, message: str) -> None:
    checkout.run("git", "add", "-A")
    checkout.run("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-q", "--allow-empty", "-m", message)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout on the tiny profile in which the flow has run once."""
    checkout = copy_checkout(tmp_path_factory.mktemp("checkout"))
    checkout.run("tailmark", "config", "use", "tiny", "--reset")
    done = checkout.flow()
    (checkout.root / "first-run.log").write_text(done.stdout)
    (checkout.root / "left-running.log").write_text("\n".join(checkout.left_running()))
    return checkout
