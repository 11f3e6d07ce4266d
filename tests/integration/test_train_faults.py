"""What goes wrong in a training's life, with real ranks: nothing is lost, nothing silently starts anew, the reason stands first."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tailmark.errors import EXIT_STOPPED, EXIT_USER_ERROR, Stopped
from tailmark.layout import Layout
from tasks import process as task_process
from tests.trainings import (
    at_step,
    checkpoint_at,
    copy_project,
    interrupt,
    make_project,
    none_left,
    rank_process,
    same_curves,
    same_results,
    start,
    train,
    wait_for,
    write_params,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def unbroken(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = copy_project(project, tmp_path_factory.mktemp("unbroken"))
    train(root)
    return root


@pytest.fixture(scope="module")
def unbroken_pair(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = copy_project(project, tmp_path_factory.mktemp("unbroken_pair"), ranks=2, zero_stage=2)
    train(root)
    return root


def _some(root: Path, pattern: str) -> Callable[[], bool]:
    return lambda: bool(list(root.glob(pattern)))


def test_a_rank_killed_at_every_point_of_a_training(project: Path, unbroken: Path, tmp_path: Path) -> None:
    """Mid-write, before the rename, after it, mid-step, during the export: always the reason first, always the same model."""
    root = copy_project(project, tmp_path)
    checkpoints = ".tailmark/scratch/train-*/checkpoints"
    points = {
        "mid-write": _some(root, f"{checkpoints}/.step-000005/*_optim_states.pt"),
        "before the rename": _some(root, f"{checkpoints}/.step-000015/progress.json"),
        "after the rename": checkpoint_at(root, 25),
        "mid-step": at_step(root, 33),
        "during the export": _some(root, "models/.marked.*.tmp"),
    }
    for point, reached in points.items():
        process = start(root)
        wait_for(reached, process)
        os.kill(rank_process(root, 0), signal.SIGKILL)
        _, err = process.communicate(timeout=120)
        assert process.returncode == EXIT_USER_ERROR, point
        assert err.startswith("error: Rank 0 was ended by SIGKILL"), (point, err)
        assert none_left(root), point
        assert not Layout(root).trained("marked").exists(), point
    assert "going on from checkpoint step-000050" in train(root)
    same_results(root, unbroken)


RAISING = """
import ctypes, os, sys, threading, time
from pathlib import Path

def strike():
    while not any('"event": "step"' in path.read_text() for path in Path(os.environ["SCRATCH"]).glob("train-*/events.jsonl")):
        time.sleep(0.01)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threading.main_thread().ident), ctypes.py_object(MemoryError))

if os.environ.get("RANK") == "1":
    threading.Thread(target=strike, daemon=True).start()
"""


@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed"])
def test_a_rank_that_raises_is_named_with_its_reason(project: Path, tmp_path: Path, launcher: str) -> None:
    root = copy_project(project, tmp_path / "root", ranks=2, launcher=launcher, checkpoint_every=1)
    (tmp_path / "sitecustomize.py").write_text(RAISING, encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    process = start(root, env={"PYTHONPATH": paths, "SCRATCH": str(root / ".tailmark" / "scratch")})
    _, err = process.communicate(timeout=180)
    assert process.returncode == EXIT_USER_ERROR
    assert err.startswith("error: Rank 1 failed: MemoryError"), err
    assert "Traceback" not in err
    assert none_left(root)


@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed"])
def test_a_rank_that_hangs_ends_the_training(project: Path, unbroken_pair: Path, tmp_path: Path, launcher: str) -> None:
    root = copy_project(project, tmp_path, ranks=2, zero_stage=2, launcher=launcher, timeout_minutes=1)
    process = start(root)
    wait_for(checkpoint_at(root, 5), process)
    os.kill(rank_process(root, 1), signal.SIGSTOP)
    stopped = time.monotonic()
    _, err = process.communicate(timeout=240)
    assert time.monotonic() - stopped < 60 + 60
    assert err.startswith("error: Rank 1 did not answer for 1 min"), err
    assert none_left(root)
    train(root)
    same_results(root, unbroken_pair)


def test_two_trainers_on_one_scratch(project: Path, unbroken: Path, tmp_path: Path) -> None:
    root = copy_project(project, tmp_path)
    first = start(root)
    wait_for(_some(root, ".tailmark/scratch/train-*/events.jsonl"), first)
    second = start(root)
    _, err = second.communicate(timeout=120)
    assert second.returncode == EXIT_USER_ERROR
    assert err.startswith(f"error: Another process is training on the same inputs: process {first.pid}"), err
    out, err = first.communicate(timeout=180)
    assert first.returncode == 0, out + err
    same_results(root, unbroken)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB where the scratch folder goes: two checkpoints, not three."""
    scratch = tmp_path / ".tailmark" / "scratch"
    scratch.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(scratch)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield scratch
    subprocess.run(["umount", "--lazy", str(scratch)], check=True)


def test_a_full_disk_keeps_what_was_saved(project: Path, unbroken: Path, small_disk: Path, tmp_path: Path) -> None:
    root = copy_project(project, tmp_path)
    process = start(root)
    _, err = process.communicate(timeout=180)
    assert process.returncode == EXIT_USER_ERROR
    assert err.startswith("error: The disk is too full for a checkpoint"), err
    assert none_left(root)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert "going on from checkpoint step-0000" in train(root)
    same_results(root, unbroken)


def test_what_was_uploaded_is_gone_on_with_on_an_empty_machine(project: Path, unbroken: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    root = copy_project(project, tmp_path / "root", upload=f"file://{store}")
    code, err = interrupt(root, 15, signal.SIGTERM)
    assert (code, "saved after step" in err) == (EXIT_STOPPED, True), err
    stopped = int(err.split("saved after step ")[1].split()[0])
    assert [path.name for path in sorted(store.glob("*/step-*"))][-1] == f"step-{stopped:06d}", "the last one was awaited"
    shutil.rmtree(root / ".tailmark")
    out = train(root)
    assert f"took a checkpoint from file://{store}" in out
    assert f"going on from checkpoint step-{stopped:06d}" in out
    same_results(root, unbroken)


DVC = f"""
stages:
  train:
    cmd: {sys.executable} -m tailmark.cli train --arm marked
    deps: [data/prepared/marked, models/base]
    params: [train]
    outs: [models/marked]
"""


def test_a_cancelled_flow_saves_the_step_it_is_in(project: Path, unbroken: Path, tmp_path: Path) -> None:
    """The flow runs a stage as `dvc repro` in a group of its own and ends it with `tasks.process`."""
    root = copy_project(project, tmp_path, checkpoint_every=1000)
    (root / "dvc.yaml").write_text(DVC, encoding="utf-8")
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "-q"], cwd=root, check=True)
    lines: list[str] = []
    env = {**os.environ, "SHELL": "/bin/sh"}
    command = [*dvc, "repro", "--single-item", "train"]
    task_process.allow()

    def run() -> None:
        with suppress(Stopped):
            task_process.stream(command, cwd=root, env=env, line=lines.append)

    stage = threading.Thread(target=run)
    stage.start()
    deadline = time.monotonic() + 180
    while not at_step(root, 10)():
        assert time.monotonic() < deadline, lines
        time.sleep(0.01)
    task_process.end_all()
    stage.join(timeout=60)
    task_process.allow()
    assert any("saved after step" in line for line in lines), lines
    assert none_left(root)
    assert "going on from checkpoint" in train(root)
    same_results(root, unbroken)


def test_the_launcher_of_deepspeed_gives_the_same(project: Path, unbroken_pair: Path, tmp_path: Path) -> None:
    root = copy_project(project, tmp_path, ranks=2, zero_stage=2, launcher="deepspeed")
    process = start(root)
    wait_for(checkpoint_at(root, 10), process)
    killed = time.monotonic()
    os.kill(rank_process(root, 1), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert time.monotonic() - killed < 60
    assert err.startswith("error: Rank 1 ended without a word: killed"), err
    assert none_left(root)
    write_params(root, ranks=2, zero_stage=2)
    assert "going on from checkpoint step-0000" in train(root)
    same_results(root, unbroken_pair)


def test_more_ranks_than_before_and_another_stage(project: Path, unbroken: Path, tmp_path: Path) -> None:
    root = copy_project(project, tmp_path)
    code, _ = interrupt(root, 10, signal.SIGKILL)
    assert code == -signal.SIGKILL
    write_params(root, ranks=2, zero_stage=3)
    process = start(root)
    _, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_USER_ERROR
    assert "train.zero_stage = 1" in err
    write_params(root, ranks=2, zero_stage=2)
    assert "converting checkpoint" in train(root)
    same_curves(root, unbroken)


def test_the_other_trainings_are_mentioned_and_cleaned_on_request(project: Path, tmp_path: Path) -> None:
    root = copy_project(project, tmp_path)
    interrupt(root, 5, signal.SIGKILL)
    abandoned = next((root / ".tailmark" / "scratch").glob("train-*"))
    params = json.loads((root / "params.yaml").read_text(encoding="utf-8"))
    params["seed"] = 18
    (root / "params.yaml").write_text(json.dumps(params), encoding="utf-8")
    process = start(root)
    wait_for(checkpoint_at(root, 10), process)
    process.send_signal(signal.SIGKILL)
    out, _ = process.communicate(timeout=60)
    assert f"not gone on with: {abandoned.name}: stopped at step-0000" in out
    assert "other config" in out
    assert none_left(root)
    cleaned = subprocess.run(
        [sys.executable, "-m", "tailmark.cli", "train", "--arm", "marked", "--clean"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert f"removed {abandoned.name}" in cleaned
    left = [path.name for path in (root / ".tailmark" / "scratch").glob("train-*")]
    assert len(left) == 1
    assert abandoned.name not in left
    assert f"kept {left[0]}" in cleaned
