"""A small pipeline in a git repository with a DVC remote, whose stages a test can hold up, break and kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.prefect_server import Platform, children

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent

# Each stage notes that it ran; a file beside the checkout holds one up, breaks it or kills it.
STAGES = """
stages:
  first:
    desc: copies the input
    cmd: >-
      echo first >> {out}/ran; while test -e {out}/hold-first; do sleep 0.1; done;
      if test -e {out}/broken; then echo it is broken; exit 2; fi; cp in.txt first.txt
    deps: [in.txt]
    params: [seed]
    outs: [first.txt]
  side:
    foreach: [left, right]
    do:
      desc: one of two independent stages
      cmd: >-
        echo ${{item}} >> {out}/ran; if rm {out}/kill-${{item}} 2>/dev/null; then kill -9 $$; fi;
        while test -e {out}/hold-${{item}}; do sleep 0.1; done; cat first.txt > ${{item}}.txt
      deps: [first.txt]
      outs: ["${{item}}.txt"]
  last:
    desc: joins them
    cmd: echo last >> {out}/ran; cat left.txt right.txt > last.txt && echo '{{"lines":2}}' > metrics.json
    deps: [left.txt, right.txt]
    outs: [last.txt]
    metrics: [metrics.json]
"""


class Checkout:
    """A git repository with a small pipeline and a DVC remote."""

    def __init__(self, root: Path) -> None:
        self.root, self.out = root, root.parent / f"{root.name}-outside"
        self.out.mkdir()

    def run(self, *command: str) -> str:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PREFECT_", "TAILMARK_"))}
        env = clean | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(command, cwd=self.root, env=env, text=True, capture_output=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-q", "-m", message)

    def ran(self) -> list[str]:
        """Stages, in the order in which they ran."""
        file = self.out / "ran"
        return file.read_text().split() if file.exists() else []

    def branches(self) -> list[str]:
        return self.run("git", "for-each-ref", "--format=%(refname:short)", "refs/heads/tailmark").split()

    def hold(self, stage: str) -> Path:
        (self.out / f"hold-{stage}").touch()
        return self.out / f"hold-{stage}"


def make(root: Path) -> Checkout:
    root.mkdir(parents=True)
    checkout = Checkout(root)
    checkout.run("git", "init", "-q", "-b", "main")
    checkout.run("dvc", "init", "-q")
    checkout.run("dvc", "remote", "add", "--default", "store", str(checkout.out / "remote"))
    taxonomy = ROOT / "src" / "tailmark" / "taxonomy" / "paper.yaml"
    (root / "params.yaml").write_text(f"profile: tiny\nseed: 1\ntaxonomy:\n  file: {taxonomy}\n")
    (root / "dvc.yaml").write_text(STAGES.format(out=checkout.out))
    (root / ".gitignore").write_text("/.tailmark/\n")
    (root / "in.txt").write_text("text\n")
    checkout.commit("start")
    return checkout


def stage_processes(served: Platform, checkout: Checkout | Path) -> list[int]:
    """What the worker has started that works in the checkout or in its worktrees."""
    assert served.worker is not None
    root = checkout.root if isinstance(checkout, Checkout) else checkout
    found = []
    for number in children(served.worker.pid):
        try:
            if str(root) in os.readlink(f"/proc/{number}/cwd"):
                found.append(number)
        except OSError:
            continue
    return found


def kill_worker(served: Platform) -> None:
    """The worker and the processes of its flow runs, but not the stages, which are in sessions of their own."""
    assert served.worker is not None
    runs = [number for number in children(served.worker.pid) if b"prefect" in command(number)]
    for number in [served.worker.pid, *runs]:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    served.worker.wait(timeout=30)


def command(process: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes()
    return b""
