"""The flow `pipeline` as a platform runs it: a real Prefect server, a real process worker, git worktrees, and what can go wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow_checkout import BIN, STAGES, Checkout, make, stage_processes
from tests.prefect_server import Platform, alive, platform, until


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("prefect")) as found:
        found.deploy("pipeline")
        yield found


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return make(tmp_path / "checkout")


def start(served: Platform, checkout: Checkout, **parameters: object) -> str:
    return served.run("tests-0", root=str(checkout.root), **parameters)


def test_a_worktree_leaves_a_branch_that_anyone_can_check_out(served: Platform, checkout: Checkout, tmp_path: Path) -> None:
    shared = checkout.out / "shared.git"
    subprocess.run(["git", "init", "-q", "--bare", str(shared)], check=True)
    checkout.run("git", "remote", "add", "team", str(shared))
    run = start(served, checkout, overrides=["seed=5"], git_remote="team")
    assert served.wait(run) == "COMPLETED", served.tail(run)
    assert sorted(checkout.ran()) == ["first", "last", "left", "right"]

    (branch,) = checkout.branches()
    assert checkout.run("git", "status", "--porcelain") == ""
    assert not list((checkout.root / ".tailmark" / "worktrees").iterdir())
    clone = Checkout(tmp_path / "clone")
    subprocess.run(["git", "clone", "-q", "--branch", branch, str(shared), str(clone.root)], check=True)
    assert "seed: 5" in (clone.root / "params.yaml").read_text()
    clone.run("dvc", "pull", "-q")
    assert "up to date" in clone.run("dvc", "repro")
    assert clone.run("git", "status", "--porcelain") == ""

    artifacts = served.api("POST", "artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [run]}}})
    assert {item["key"] for item in artifacts} == {"stage-first", "stage-side-left", "stage-side-right", "stage-last", "result"}
    assert f"git checkout {branch}" in next(item["data"] for item in artifacts if item["key"] == "result")
    assert "| lines | 2 |" in next(item["data"] for item in artifacts if item["key"] == "stage-last")
    shown = subprocess.run([BIN / "tailmark", "status"], cwd=checkout.root, capture_output=True, text=True, check=True).stdout
    assert f"{branch.removeprefix('tailmark/')}  finished" in shown
    assert "4 ran" in shown
    assert f"git checkout {branch}" in shown


@pytest.mark.slow
def test_a_failed_stage_is_not_tried_again_and_loses_nothing(served: Platform, checkout: Checkout) -> None:
    (checkout.root / "dvc.yaml").write_text(
        STAGES.format(out=checkout.out).replace("cat left.txt right.txt", "echo it cannot; exit 2; cat")
    )
    checkout.commit("broken")
    run = start(served, checkout, jobs=1)
    assert served.wait(run) == "FAILED"
    assert "Stage 'last' failed (exit code 2)" in served.message(run)
    assert "it cannot" in served.logs(run)
    assert checkout.ran() == ["first", "left", "right", "last"]
    assert checkout.branches(), "what was complete is on a branch"

    (checkout.root / "dvc.yaml").write_text(STAGES.format(out=checkout.out))
    checkout.commit("mended")
    again = start(served, checkout)
    assert served.wait(again) == "COMPLETED", served.tail(again)
    assert checkout.ran()[4:] == ["last"]


def test_cancelling_leaves_no_process(served: Platform, checkout: Checkout) -> None:
    checkout.hold("first")
    run = start(served, checkout)
    until(lambda: checkout.ran() == ["first"], what=served.tail(run))
    stages = stage_processes(served, checkout)
    assert stages
    served.cancel(run)
    until(lambda: not any(alive(number) for number in stages), 10)
    assert served.wait(run, seconds=60) == "CANCELLED"
    assert stage_processes(served, checkout) == []
    assert not list((checkout.root / ".tailmark" / "worktrees").iterdir())
