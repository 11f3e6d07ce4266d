"""The command line: its surface, its speed, its errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

HEAVY = ("torch", "transformers", "mlflow", "prefect", "great_expectations", "deepspeed", "pandas", "pyarrow", "spacy")


def tailmark(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, "-m", "tailmark.cli", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_surface() -> None:
    """The public command line: a change here is a change for every user."""
    from tailmark.cli import app

    commands: Any = getattr(typer.main.get_command(app), "commands", {})
    assert list(commands) == [
        "ingest",
        "annotate",
        "validate",
        "base",
        "prepare",
        "train",
        "evaluate",
        "register",
        "promote",
        "rollback",
        "lineage",
        "lifts",
        "generate",
        "serve",
        "status",
        "config",
        "taxonomy",
        "log",
    ]
    assert list(commands["config"].commands) == ["show", "use"]
    assert list(commands["taxonomy"].commands) == ["show", "check", "diff"]
    assert list(commands["log"].commands) == ["show", "verify", "settle"]


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, tailmark.cli; sys.argv=['tailmark','--help']\n"
        "try: tailmark.cli.main()\n"
        "except SystemExit: pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip().endswith("[]")


def test_user_errors_have_a_way_out_and_no_traceback(tmp_path: Path) -> None:
    done = tailmark("ingest", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "fix:" in done.stderr
    assert "params.yaml" in done.stderr


def test_unknown_arm(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    done = tailmark("prepare", "--arm", "markd", cwd=tmp_path)
    assert done.returncode == 2
    assert "baseline, marked" in done.stderr


@pytest.mark.parametrize("command", ["annotate", "validate", "prepare --arm marked", "evaluate", "register"])
def test_a_stage_before_its_inputs_says_what_to_run(tmp_path: Path, command: str) -> None:
    taxonomy = Path(__file__).resolve().parents[2] / "src/tailmark/taxonomy/paper.yaml"
    (tmp_path / "params.yaml").write_text(f"taxonomy:\n  file: {taxonomy}\n")
    done = tailmark(*command.split(), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "dvc" in done.stderr
