from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tailmark.config import Engine
from tailmark.engine import mapper, workers_of
from tailmark.errors import DataError
from tests.unit import engine_functions as functions

TWO = Engine(workers=2)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order_and_see_what_the_initializer_set_up(workers: int) -> None:
    with mapper(Engine(), workers, functions.remember, (10,)) as run:
        assert list(run(functions.times_remembered, range(40))) == [10 * number for number in range(40)]
        assert list(run(functions.times_remembered, [])) == []
        assert list(run(functions.times_remembered, [7])) == [70]


def test_several_workers_are_several_processes() -> None:
    with mapper(TWO) as run:
        others = set(run(functions.process, [0.05] * 12))
    assert len(others) == 2
    assert os.getpid() not in others
    with mapper(Engine(workers=1)) as run:
        assert set(run(functions.process, [0.0])) == {os.getpid()}


@pytest.mark.parametrize("workers", [1, 2])
def test_chunks_are_read_as_they_are_needed(workers: int) -> None:
    read = 0

    def chunks() -> object:
        nonlocal read
        for number in range(1_000):
            read += 1
            yield number

    with mapper(Engine(), workers, functions.remember, (1,)) as run:
        results = iter(run(functions.times_remembered, chunks()))  # type: ignore[arg-type]
        assert next(results) == 0
        assert read <= 2 * workers


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_raised_in_its_place(workers: int) -> None:
    with mapper(Engine(), workers) as run:
        results = run(functions.refuse_three, range(6))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(DataError, match="three"):
            next(results)


def test_a_killed_worker_is_an_error_that_says_how_to_go_on() -> None:
    with pytest.raises(DataError, match="killed") as caught, mapper(TWO) as run:
        list(run(functions.die_at_three, range(6)))
    assert "engine.workers" in caught.value.render()


def test_workers_default_to_the_cores_this_process_may_use() -> None:
    assert workers_of(Engine()) == len(os.sched_getaffinity(0))
    assert workers_of(Engine(workers=3)) == 3
    assert workers_of(Engine(workers=3), 2) == 2


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = "from tests.unit import engine_functions as f; f.wait_in_workers(__import__('sys').argv[1])"
    parent = subprocess.Popen([sys.executable, "-c", code, str(pids)], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 60
    while len(workers := pids.read_text().split() if pids.exists() else []) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while any(map(functions.alive, map(int, workers))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(workers) == 2
    assert not any(map(functions.alive, map(int, workers)))


def test_a_ray_cluster_that_does_not_answer_is_named() -> None:
    pytest.importorskip("ray", reason="ray is optional: pip install -r requirements-ray.txt")
    with pytest.raises(DataError, match="cannot be reached") as caught, mapper(Engine(kind="ray", address="127.0.0.1:9")):
        pass
    assert "127.0.0.1:9" in caught.value.render()


@pytest.mark.slow
def test_a_local_ray_cluster_gives_what_processes_give() -> None:
    pytest.importorskip("ray", reason="ray is optional: pip install -r requirements-ray.txt")
    cluster = Engine(kind="ray", address="local", workers=2)
    with mapper(cluster, 0, functions.remember, (10,)) as run:
        assert list(run(functions.times_remembered, range(40))) == [10 * number for number in range(40)]
        assert len(set(run(functions.process, [0.05] * 6))) == 2
        with pytest.raises(DataError, match="three is refused") as caught:
            list(run(functions.refuse_three, range(6)))
        assert caught.value.fix == "another"
    with pytest.raises(DataError, match="killed"), mapper(cluster) as run:
        list(run(functions.die_at_three, range(6)))
