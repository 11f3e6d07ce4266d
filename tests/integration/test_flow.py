"""The real flow with a real Prefect server over a small DVC pipeline: order, caching, failure, Ctrl-C, the dvc.lock of `dvc repro`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
STAGES = """
stages:
  first:
    desc: copies the input
    cmd: test ! -e broken && echo copying && cp in.txt first.txt
    deps: [in.txt]
    outs: [first.txt]
  side:
    foreach: [left, right]
    do:
      desc: one of two independent stages
      cmd: test -e slow && echo waiting && sleep 371; cat first.txt > ${item}.txt
      deps: [first.txt]
      outs: ["${item}.txt"]
  last:
    desc: joins them
    cmd: cat left.txt right.txt > last.txt && echo '{"lines":2}' > metrics.json
    deps: [left.txt, right.txt]
    outs: [last.txt]
    metrics: [metrics.json]
"""


class Checkout:
    """A git repository with a small pipeline, and the flow run in it as a user runs it."""

    def __init__(self, root: Path, state: Path) -> None:
        self.root = root
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PREFECT_", "TAILMARK_"))}
        self.env = clean | {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(state), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}

    def start(self, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "flows.pipeline", *options]
        return subprocess.Popen(
            command, cwd=self.root, env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )

    def flow(self, *options: str) -> tuple[int, str]:
        process = self.start(*options)
        shown, _ = process.communicate(timeout=300)
        return process.returncode, shown

    def run(self, *command: str) -> str:
        return subprocess.run(command, cwd=self.root, env=self.env, text=True, capture_output=True, check=True).stdout


def make(root: Path, state: Path) -> Checkout:
    root.mkdir()
    checkout = Checkout(root, state)
    checkout.run("git", "init", "-q")
    checkout.run("dvc", "init", "-q")
    taxonomy = ROOT / "src" / "tailmark" / "taxonomy" / "paper.yaml"
    (root / "params.yaml").write_text(f"profile: tiny\ntaxonomy:\n  file: {taxonomy}\n")
    (root / "dvc.yaml").write_text(STAGES)
    (root / "in.txt").write_text("text\n")
    return checkout


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One `PREFECT_HOME` for the module: its database is made once."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture
def checkout(tmp_path: Path, state: Path) -> Checkout:
    return make(tmp_path / "checkout", state)


def processes_of(session: int) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "sess=,stat=,args="], text=True, capture_output=True, check=True).stdout.splitlines()
    return [line for line in listed if int(line.split()[0]) == session and not line.split()[1].startswith("Z")]


def sleepers() -> list[str]:
    listed = subprocess.run(["ps", "-eo", "stat=,args="], text=True, capture_output=True, check=True).stdout.splitlines()
    return [line for line in listed if line.endswith("sleep 371") and not line.startswith("Z")]


def test_order_cache_and_the_lock_of_dvc_repro(checkout: Checkout, tmp_path: Path, state: Path) -> None:
    code, shown = checkout.flow()
    assert code == 0, shown
    headings = re.findall(r"^\d/4 (\S+) — ", shown, flags=re.MULTILINE)
    assert headings[0] == "first"
    assert headings[-1] == "last"
    assert set(headings[1:3]) == {"side@left", "side@right"}
    assert "  copying" in shown
    assert "Traceback" not in shown
    assert "Updating lock file" not in shown
    assert "up to date" in checkout.run("dvc", "repro")

    code, shown = checkout.flow()
    assert code == 0
    assert shown.count(": nothing changed") == 4
    assert "Starting Prefect" not in shown

    plain = make(tmp_path / "plain", state)
    plain.run("dvc", "repro")
    assert (checkout.root / "dvc.lock").read_text() == (plain.root / "dvc.lock").read_text()


def test_only_what_changed_runs_and_independent_stages_side_by_side(checkout: Checkout) -> None:
    checkout.run("dvc", "repro")
    (checkout.root / "dvc.yaml").write_text(STAGES.replace("cat first.txt >", "sleep 4; cat first.txt >"))
    code, shown = checkout.flow("--jobs", "2")
    assert code == 0, shown
    assert "1/4 first: nothing changed" in shown
    assert shown.index("4 side@left —") < shown.index("side@right done")
    assert shown.index("4 side@right —") < shown.index("side@left done")
    assert "last: nothing changed" in shown
    assert "up to date" in checkout.run("dvc", "repro")


def test_a_failed_stage_stops_the_run_with_its_own_message_first(checkout: Checkout) -> None:
    (checkout.root / "dvc.yaml").write_text(STAGES.replace("test ! -e broken", "test ! -e broken || (echo it is broken; exit 2)"))
    (checkout.root / "broken").touch()
    code, shown = checkout.flow()
    assert code == 2
    assert shown.index("it is broken") < shown.index("Stage 'first' failed (exit code 2)")
    assert "2/4" not in shown
    assert "Traceback" not in shown


def test_bad_options_end_before_prefect_starts(checkout: Checkout) -> None:
    (checkout.root / "params.yaml").write_text("profle: tiny\n")
    code, shown = checkout.flow()
    assert code == 2
    assert "did you mean 'profile'?" in shown
    assert "Starting Prefect" not in shown


def test_ctrl_c_ends_every_process_and_the_next_run_goes_on(checkout: Checkout) -> None:
    (checkout.root / "slow").touch()
    process = checkout.start()
    assert process.stdout is not None
    for line in process.stdout:
        if "waiting" in line:
            break
    limit = time.monotonic() + 30
    while not sleepers():  # the line comes before the sleep
        assert time.monotonic() < limit
        time.sleep(0.05)
    pressed = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    shown = process.stdout.read()
    assert process.wait(timeout=60) == 130
    assert time.monotonic() - pressed < 45
    assert sleepers() == []
    assert processes_of(process.pid) == []
    assert "Stopped." in shown
    assert "Traceback" not in shown

    (checkout.root / "slow").unlink()
    code, shown = checkout.flow()
    assert code == 0, shown
    assert "1/4 first: nothing changed" in shown
