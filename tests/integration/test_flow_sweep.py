"""The flow `sweep` with a real Prefect server, over a small pipeline whose evaluation a test can break."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flow_checkout import BIN, ROOT, Checkout

pytestmark = pytest.mark.slow

STAGES = """
stages:
  evaluate:
    cmd: >-
      echo ran >> {out}/ran; if test -e {out}/broken && grep -q '^seed. 13' params.yaml; then echo 'error: it is broken'; exit 2; fi;
      mkdir -p reports/evaluate; cp metrics.in reports/evaluate/metrics.json; cp benchmarks.in reports/evaluate/benchmarks.json
    deps: [metrics.in, benchmarks.in]
    params: [seed]
    outs: [reports/evaluate/metrics.json, reports/evaluate/benchmarks.json]
"""
PARENTS = """
select child.name, parent.name from tags join runs child using (run_uuid) join runs parent on parent.run_uuid = tags.value
where tags.key = 'mlflow.parentRunId'
"""
SWEEP = "name: seeds\nabout: Three seeds.\nmembers: {one: {seed: 1}, two: {seed: 2}, thirteen: {seed: 13}}\n"
METRICS = {
    "inference": {"domain": {"accuracy": 0.5, "low": 0.4, "high": 0.6, "n": 20}},
    "likelihood": {"nll": {"inferred": {"all": {"baseline": 1.0, "marked": 0.8, "lift": 0.2, "low": 0.1, "high": 0.3, "n": 20}}}},
}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = tmp_path / "checkout"
    root.mkdir()
    found = Checkout(root)
    found.run("git", "init", "-q", "-b", "main")
    found.run("dvc", "init", "-q")
    taxonomy = ROOT / "src" / "tailmark" / "taxonomy" / "paper.yaml"
    (root / "params.yaml").write_text(f"profile: tiny\nseed: 1\ntaxonomy:\n  file: {taxonomy}\n")
    (root / "dvc.yaml").write_text(STAGES.format(out=found.out))
    (root / "metrics.in").write_text(json.dumps(METRICS))
    (root / "benchmarks.in").write_text('{"measures": []}')
    (root / ".gitignore").write_text("/.tailmark/\n/reports/\n")
    (root / "seeds.yaml").write_text(SWEEP)
    found.commit("start")
    return found


def sweep(checkout: Checkout) -> tuple[int, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PREFECT_", "TAILMARK_"))}
    own = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(checkout.out / "prefect")}
    command = [sys.executable, "-m", "flows.sweep", "seeds.yaml", "--concurrency", "2"]
    done = subprocess.run(command, cwd=checkout.root, env=clean | own, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


def test_a_failed_member_loses_nothing_and_a_rerun_does_what_is_missing(checkout: Checkout) -> None:
    (checkout.out / "broken").touch()
    code, shown = sweep(checkout)
    assert code == 2, shown
    assert "1 of 3 members failed: thirteen." in shown
    assert len(checkout.ran()) == 3
    page = checkout.root / ".tailmark" / "sweeps" / "seeds" / "comparison.html"
    assert "it is broken" in page.read_text()
    assert len(re.findall(r"50\.0 \(40\.0 to 60\.0\)</text>", page.read_text())) == 2

    (checkout.out / "broken").unlink()
    code, shown = sweep(checkout)
    assert code == 0, shown
    assert "[one] was done before" in shown
    assert "[two] was done before" in shown
    assert len(checkout.ran()) == 4
    assert len(re.findall(r"50\.0 \(40\.0 to 60\.0\)</text>", page.read_text())) == 3
    assert len(checkout.branches()) == 3
    assert checkout.run("git", "status", "--porcelain") == ""

    with sqlite3.connect(checkout.root / ".tailmark" / "mlflow" / "mlflow.db") as store:
        parents = dict(store.execute(PARENTS))
        values = store.execute("select value from params where key = 'seed' order by value").fetchall()
        lifts = store.execute("select distinct key, value from latest_metrics where key like 'likelihood%'").fetchall()
    assert {name.rsplit("-", 1)[0]: parent for name, parent in parents.items()} == {
        f"sweep-seeds-{name}": "sweep-seeds" for name in ("one", "two", "thirteen")
    }
    assert {value for (value,) in values} >= {"1", "2", "13"}
    assert ("likelihood/nll/all/inferred", 0.2) in lifts


def test_a_wrong_member_is_found_before_anything_runs(checkout: Checkout) -> None:
    (checkout.root / "seeds.yaml").write_text(SWEEP.replace("{seed: 2}", "{sede: 2}"))
    checkout.commit("wrong")
    code, shown = sweep(checkout)
    assert code == 2
    assert "member 'two'" in shown
    assert "did you mean 'seed'" in shown
    assert checkout.ran() == []
