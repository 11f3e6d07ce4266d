"""What a run is made from is written down when it starts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tailmark import provenance
from tailmark.config import Config, parse_config
from tailmark.files import read_json
from tailmark.layout import Layout

TAXONOMY = "name: small\nmarkers:\n  lang: {kind: categorical, definition: language, values: {French: f}}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "taxonomy.yaml").write_text(TAXONOMY)
    return tmp_path


def config() -> Config:
    return parse_config({"taxonomy": {"file": "taxonomy.yaml"}, "seed": 5}, Path("params.yaml"))


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments], cwd=root, check=True, capture_output=True)


def test_record_holds_what_is_needed_to_run_it_again(root: Path) -> None:
    path = provenance.record_start("train", config(), Layout(root), "marked")
    record = read_json(path)
    assert path.parent == root / ".tailmark" / "provenance" / "train-marked"
    assert record["config"]["seed"] == 5
    assert record["packages"]["torch"]
    assert len(record["taxonomy"]) == 64
    assert record["hardware"]["cores"] >= 1
    assert record["code"] == {"commit": None, "dirty": None}


def test_the_half_record_of_a_killed_run_is_cleared_up(root: Path) -> None:
    folder = provenance.record_start("train", config(), Layout(root), "marked").parent
    (whole,) = folder.iterdir()
    ended = subprocess.Popen(["true"])
    ended.wait()
    killed, at_work = (
        folder / f".20260101T000000Z-{ended.pid}.json.{ended.pid}.tmp",
        folder / f".20260101T000000Z-1.json.{os.getppid()}.tmp",
    )
    killed.write_text("{")
    at_work.write_text("{")
    provenance.record_start("train", config(), Layout(root), "marked")
    assert set(folder.iterdir()) == {whole, at_work}


def test_commit_and_dirty(root: Path) -> None:
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "start")
    clean = provenance.code_version(root)
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    (root / "dvc.lock").write_text("written by every run\n")
    assert provenance.code_version(root)["dirty"] is False
    (root / "new.py").touch()
    assert provenance.code_version(root)["dirty"] is True


def test_data_hashes_are_those_of_what_the_stage_reads(root: Path) -> None:
    train = 'foreach: [a, b]\n    do: {cmd: x, deps: ["data/${item}", code]}'
    (root / "dvc.yaml").write_text(f"stages:\n  train:\n    {train}\n  last: {{cmd: x}}\n")
    outs = "".join(f"  prepare@{name}:\n    outs:\n    - path: data/{name}\n      md5: hash-{name}\n" for name in "ab")
    (root / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n{outs}")
    assert provenance.data_hashes(root, "train@b") == {"data/b": "hash-b"}
    assert provenance.data_hashes(root, "last") == {}
    assert provenance.data_hashes(root / "nowhere", "train@b") == {}


def test_a_record_is_written_without_a_taxonomy(tmp_path: Path) -> None:
    """The stage `base` needs none; a stage that reads it says itself that it is missing."""
    record = provenance.describe("base", Config(), Layout(tmp_path))
    assert record["taxonomy"] is None
