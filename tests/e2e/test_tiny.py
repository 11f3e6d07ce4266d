"""The whole pipeline through the flow on the tiny profile: what it makes, that it repeats, and that it goes on after a fault."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tailmark.errors import EXIT_INTERRUPTED
from tailmark.files import sha256_tree
from tailmark.layout import ARMS, Layout
from tests.documents import NAMES, blocks, commands
from tests.e2e.conftest import Checkout, commit

DATA_STAGES = ("base", "ingest", "annotate", "validate", "prepare@baseline", "prepare@marked")


def hashes(checkout: Checkout) -> dict[str, list[str]]:
    """Per data stage, the hashes of its outputs."""
    stages = YAML(typ="safe").load(checkout.lock())["stages"]
    return {name: [out["md5"] for out in stages[name]["outs"]] for name in DATA_STAGES}


def test_the_flow_makes_what_it_says(tiny: Checkout) -> None:
    layout = Layout(tiny.root)
    for arm in ARMS:
        assert (layout.trained(arm) / "model.safetensors").is_file()
        assert (layout.trained(arm) / "taxonomy.yaml").is_file()
    assert "<script src" not in (layout.evaluated / "report.html").read_text()
    assert json.loads((layout.registered / "result.json").read_text())["alias"] == "challenger"
    shown = (tiny.root / "first-run.log").read_text()
    for expected in ("report.html", "make mlflow", "make prefect", "kept"):
        assert expected in shown


def test_the_flow_leaves_nothing_running(tiny: Checkout) -> None:
    assert (tiny.root / "left-running.log").read_text() == ""


LOOKS = ("config show", "lifts", "log", "promote --dry-run", "status", "taxonomy", "train --arm marked --plan --tokens-per-s")
"""Commands of the documents that change nothing."""


def test_what_the_documents_say_can_be_run(tiny: Checkout) -> None:
    given = {" ".join(map(shlex.quote, words)) for page in NAMES for words, _ in commands(page) if words[0] == "tailmark"}
    asked = sorted(text for text in given if text.removeprefix("tailmark ").startswith(LOOKS) and "HASH" not in text and "FILE" not in text)
    assert len(asked) >= 6
    for text in asked:
        done = tiny.run(*shlex.split(text), check=False)
        assert done.returncode in (0, 1), f"{text}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("page", ["docs/evaluation.md", "docs/generation.md"])
def test_python_in_the_documents_runs(tiny: Checkout, page: str) -> None:
    found = [block.text for block in blocks(page) if block.language == "python"]
    assert found
    for text in found:
        tiny.run(sys.executable, "-c", text)


def test_a_second_run_is_all_cache_hits(tiny: Checkout) -> None:
    before = tiny.lock()
    shown = tiny.flow().stdout
    assert tiny.lock() == before
    assert "is all up to date" in shown or shown.count("nothing changed") >= 10


def test_dvc_repro_after_the_flow_does_nothing(tiny: Checkout) -> None:
    before = tiny.lock()
    shown = tiny.run("dvc", "repro").stdout
    assert "Running stage" not in shown
    assert tiny.lock() == before


def test_another_clone_pulls_and_gets_the_same_data(tiny: Checkout, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    tiny.run("dvc", "remote", "add", "--force", "--default", "store", str(remote))
    tiny.run("dvc", "push", "-q")
    commit(tiny, "run")
    clone = Checkout(tmp_path / "clone")
    subprocess.run(["git", "clone", "-q", str(tiny.root), str(clone.root)], check=True)
    clone.run("dvc", "pull", "-q")
    shown = clone.run("dvc", "repro").stdout
    assert "Running stage" not in shown
    clone.run("dvc", "repro", "--force", "--single-item", "--no-run-cache", *DATA_STAGES)
    assert hashes(clone) == hashes(tiny)


def test_generate_with_markers(tiny: Checkout) -> None:
    done = tiny.run("tailmark", "generate", "Hello", "--markers", "lang=French,length_tokens=6", "--max-new-tokens", "24", "--json")
    answer = json.loads(done.stdout)
    assert {"answer", "markers"} <= answer.keys()
    assert "MARKER_LIST" not in answer["answer"]


@pytest.mark.parametrize(
    ("markers", "said"),
    [("lang=Frnch", "French"), ("lenght=3", "length_tokens"), ("length_tokens=many", "whole number"), ("lang", "=")],
)
def test_generate_refuses_markers_it_does_not_know(tiny: Checkout, markers: str, said: str) -> None:
    done = tiny.run("tailmark", "generate", "Hello", "--markers", markers, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert said in done.stderr


def test_generate_refuses_a_model_without_the_template(tiny: Checkout) -> None:
    done = tiny.run("tailmark", "generate", "Hello", "--model", "models/base", check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "fix:" in done.stderr


@pytest.fixture
def fault(tiny: Checkout, tmp_path: Path) -> Checkout:
    """A copy of the finished checkout that a test may break."""
    shutil.copytree(tiny.root, tmp_path / "copy", symlinks=True)
    return Checkout(tmp_path / "copy")


def refused(checkout: Checkout, command: str, *said: str) -> None:
    done = checkout.run(*command.split(), check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for text in (*said, "fix:"):
        assert text in done.stderr


def test_a_missing_shard(fault: Checkout) -> None:
    (fault.root / "data/ingested/rows/part-00000.parquet").unlink()
    refused(fault, "tailmark annotate", "part-00000.parquet", "missing")


def test_a_corrupt_shard(fault: Checkout) -> None:
    shard = fault.root / "data/annotated/rows/part-00000.parquet"
    shard.chmod(0o644)
    shard.write_bytes(shard.read_bytes()[:-100])
    before = (fault.root / "data/prepared/marked/report.json").read_text()
    refused(fault, "tailmark prepare --arm marked", "part-00000.parquet", "corrupt")
    assert (fault.root / "data/prepared/marked/report.json").read_text() == before


def test_a_corrupt_model(fault: Checkout) -> None:
    weights = fault.root / "models/marked/model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(fault, "tailmark generate Hello", "models/marked", "cannot be loaded", "dvc checkout")


def test_an_unknown_key_stops_before_anything_runs(fault: Checkout) -> None:
    params = fault.root / "params.yaml"
    params.write_text(params.read_text().replace("rows_per_step", "row_per_step"))
    refused(fault, "tailmark ingest", "row_per_step", "rows_per_step")


def test_a_failed_expectation_stops_the_flow_and_names_rows(fault: Checkout) -> None:
    params = fault.root / "params.yaml"
    text = (
        params.read_text()
        .replace("min_tail_heldout: 1\n", "min_tail_heldout: 100000\n")
        .replace("  - buckets\n", "  - buckets\n  - tail\n")
    )
    params.write_text(text)
    before = fault.lock()
    done = fault.run("python", "-m", "flows.pipeline", check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    shown = done.stdout + done.stderr
    assert "Traceback" not in shown
    assert "every tail value of domain has at least 100000 held-out rows" in shown
    assert re.search(r"rows do not: [0-9a-f]{32} \(starter, part-00000\.parquet row \d+\), [0-9a-f]{32} ", shown)
    assert "failing_rows.parquet" in shown
    assert fault.lock() == before


OUTPUTS = ("data", "models", "reports")


@pytest.mark.parametrize(
    "command",
    [
        "base",
        "ingest",
        "annotate",
        "validate",
        "prepare --arm baseline",
        "prepare --arm marked",
        "train --arm marked",
        "evaluate",
        "register",
    ],
)
def test_ctrl_c_leaves_nothing_half_written(fault: Checkout, command: str) -> None:
    before = {name: sha256_tree(fault.root / name) for name in OUTPUTS}
    child = subprocess.Popen(
        ["tailmark", *command.split()],
        cwd=fault.root,
        env=fault.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    first = child.stdout.readline()
    child.send_signal(signal.SIGINT)
    shown = first + child.communicate(timeout=60)[0]
    assert child.returncode == EXIT_INTERRUPTED, shown
    for name in OUTPUTS:
        assert not [*(fault.root / name).rglob(".*.tmp"), *(fault.root / name).rglob(".*.old")]
    assert {name: sha256_tree(fault.root / name) for name in OUTPUTS} == before
