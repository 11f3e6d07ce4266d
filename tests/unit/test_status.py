"""`tailmark status`: what a person sees of the last runs, and what to do next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tailmark import runs, status
from tailmark.layout import Layout

GONE = 2**22 + 1
"""No process has this id: Linux gives none above 4,194,304."""


def shown(layout: Layout, capsys: pytest.CaptureFixture[str], count: int = 5) -> str:
    status.run(layout, count)
    return capsys.readouterr().out


def begin(layout: Layout, name: str = "run-1", **known: Any) -> runs.RunFile:
    return runs.begin(layout, "pipeline", name, profile="tiny", again="python -m flows.pipeline --worktree", **known)


def judge(layout: Layout, version: str, *failed: str) -> None:
    path = layout.state / "promotion" / f"version-{version}" / "verdict.json"
    path.parent.mkdir(parents=True)
    checks = [{"title": name, "passed": False} for name in failed] + [{"title": "files", "passed": True}]
    path.write_text(json.dumps({"passed": not failed, "checks": checks}))


def test_nothing_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(Layout(tmp_path), capsys)
    assert "No flow has run" in text
    assert "make demo" in text
    assert list(tmp_path.iterdir()) == [], "looking leaves nothing behind"


def test_a_run_as_it_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = begin(Layout(tmp_path), overrides=("seed=3",))
    file.stage("ingest", "ran", 61.0)
    file.stage("train@marked", "running")
    text = shown(Layout(tmp_path), capsys)
    assert f"running train@marked (process {os.getpid()} on" in text
    assert "pipeline, profile tiny, seed=3" in text
    assert "1 ran, 1 running, 1 min 1 s" in text


def test_a_run_whose_process_is_gone_was_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = begin(Layout(tmp_path))
    file.stage("train@marked", "running")
    file.update(process=GONE)
    text = shown(Layout(tmp_path), capsys)
    assert "was killed in train@marked" in text
    assert "  python -m flows.pipeline --worktree\n      goes on from what is complete" in text


def test_a_run_on_another_machine_is_not_called_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = begin(Layout(tmp_path))
    file.update(process=GONE, host="elsewhere")
    assert "running its start" in shown(Layout(tmp_path), capsys)


def test_a_failed_run_says_where_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = begin(Layout(tmp_path))
    file.stage("validate", "failed")
    file.stage("prepare@marked", "ran", 2.0)
    file.end("failed", "Stage 'validate' failed (exit code 2)")
    text = shown(Layout(tmp_path), capsys)
    assert "failed in validate" in text
    assert "error    Stage 'validate' failed" in text


@pytest.mark.parametrize(
    ("failed", "said", "command"),
    [
        (None, "not judged yet", "tailmark promote 3 --dry-run"),
        ((), "passes the gate", "tailmark promote 3\n"),
        (("head over baseline",), "does not pass the gate: head over baseline", "tailmark promote 3 --dry-run"),
    ],
)
def test_what_the_gate_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], failed: tuple[str, ...] | None, said: str, command: str
) -> None:
    layout = Layout(tmp_path)
    file = begin(layout, branch="tailmark/run-1", version="3")
    file.end("finished")
    if failed is not None:
        judge(layout, "3", *failed)
    text = shown(layout, capsys)
    assert f"model    version 3: {said}" in text
    assert command in text
    assert "git checkout tailmark/run-1 && dvc checkout" in text


def test_the_newest_come_first_and_unreadable_files_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = Layout(tmp_path)
    for number in range(4):
        begin(layout, f"run-{number}").update(started=f"2026-01-0{number + 1}T00:00:00+00:00")
    (runs.folder(layout) / "broken.json").write_text("{")
    text = shown(layout, capsys, 2)
    assert text.index("run-3") < text.index("run-2")
    assert "run-1 " not in text


def test_it_imports_nothing_that_takes_long(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for number in range(50):
        begin(layout, f"run-{number}", version=str(number))
    code = (
        "import sys, tailmark.cli; sys.argv=['tailmark','status']\n"
        "try: tailmark.cli.main()\nexcept SystemExit: pass\n"
        "print([name for name in ('mlflow', 'prefect', 'dvc', 'torch', 'pandas', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]"), done.stdout[-300:]
