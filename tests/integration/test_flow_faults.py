"""What goes wrong under a deployed pipeline: nothing is lost, nothing runs twice, the reason is told. A real server, a real worker."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow_checkout import Checkout, kill_worker, make, stage_processes
from tests.prefect_server import Platform, alive, platform, until

pytestmark = pytest.mark.slow


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


def test_a_killed_stage_is_tried_again(served: Platform, checkout: Checkout) -> None:
    (checkout.out / "kill-left").touch()
    run = start(served, checkout)
    assert served.wait(run) == "COMPLETED", served.tail(run)
    assert sorted(checkout.ran()) == ["first", "last", "left", "left", "right"]


def test_a_stage_that_takes_too_long_is_ended(served: Platform, checkout: Checkout) -> None:
    checkout.hold("first")
    run = start(served, checkout, hours_per_stage=0.002)
    assert served.wait(run) == "FAILED"
    assert "took longer than 7 s" in served.message(run)
    assert checkout.ran() == ["first"]
    until(lambda: not stage_processes(served, checkout), 20)


def test_the_same_stage_asked_for_twice_runs_once(served: Platform, checkout: Checkout) -> None:
    """Two runs ask for the same, a third for something else: three branches, and nothing is made twice."""
    held = checkout.hold("first")
    same = [start(served, checkout) for _ in range(2)]
    until(lambda: any("another run makes the same" in line for run in same for line in served.logs(run)), what=served.tail(same[0]))
    other = start(served, checkout, overrides=["seed=9"])
    until(lambda: checkout.ran() == ["first", "first"], what=served.tail(other))
    held.unlink()
    for run in [*same, other]:
        assert served.wait(run) == "COMPLETED", served.tail(run)
    assert sorted(checkout.ran()) == ["first", "first", "last", "left", "right"]
    assert len(checkout.branches()) == 3


def test_a_second_run_in_the_checkout_itself_is_refused(served: Platform, checkout: Checkout) -> None:
    held = checkout.hold("first")
    run = start(served, checkout, workspace="checkout")
    until(lambda: checkout.ran() == ["first"], what=served.tail(run))
    second = start(served, checkout, workspace="checkout")
    assert served.wait(second) == "FAILED"
    assert "Another run works in this checkout" in served.message(second)
    held.unlink()
    assert served.wait(run) == "COMPLETED", served.tail(run)
    assert "up to date" in checkout.run("dvc", "repro")


def test_the_server_restarts(served: Platform, checkout: Checkout) -> None:
    held = checkout.hold("first")
    run = start(served, checkout)
    until(lambda: checkout.ran() == ["first"], what=served.tail(run))
    served.stop_server(signal.SIGKILL)
    time.sleep(10)
    served.start_server()
    held.unlink()
    assert served.wait(run) == "COMPLETED", served.tail(run)
    assert sorted(checkout.ran()) == ["first", "last", "left", "right"]


@pytest.fixture
def small_cache(checkout: Checkout) -> Iterator[Path]:
    """A DVC cache on a disk of 1 MiB."""
    cache = checkout.root / ".dvc" / "cache"
    cache.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(cache)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield cache
    subprocess.run(["umount", "--lazy", str(cache)], check=False)


def test_a_full_disk_is_told_and_the_next_run_goes_on(served: Platform, checkout: Checkout, small_cache: Path) -> None:
    (checkout.root / "in.txt").write_bytes(os.urandom(3 << 20))
    checkout.commit("larger")
    run = start(served, checkout)
    assert served.wait(run) == "FAILED"
    assert "Stage 'first' failed" in served.message(run)
    assert any("No space left on device" in line for line in served.logs(run))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_cache)], check=True)
    again = start(served, checkout)
    assert served.wait(again) == "COMPLETED", served.tail(again)


def test_the_next_run_goes_on_where_the_worker_was_killed(served: Platform, checkout: Checkout) -> None:
    """SIGKILL to the worker and its flow runs: their stages end too, and the next run takes what is complete."""
    checkout.hold("left")
    run = start(served, checkout, jobs=1)
    until(lambda: checkout.ran() == ["first", "left"], what=served.tail(run))
    stages = stage_processes(served, checkout)
    kill_worker(served)
    until(lambda: not any(alive(number) for number in stages), 30)
    (checkout.out / "hold-left").unlink()
    served.start_worker()
    again = start(served, checkout)
    assert served.wait(again) == "COMPLETED", served.tail(again)
    assert checkout.ran()[2:].count("first") == 0


def test_a_secret_is_nowhere(tmp_path: Path) -> None:
    """Planted where secrets stand: in the worker's environment, in a DVC remote's settings, in a block. Then every file is searched."""
    secret = "sesame-7f3a9c"
    home, checkout = tmp_path / "prefect", make(tmp_path / "checkout")
    checkout.run("dvc", "remote", "add", "spare", "webdavs://example.org/store")
    checkout.run("dvc", "remote", "modify", "--local", "spare", "password", secret)
    checkout.commit("remote")
    variables = {"OPENAI_API_KEY": secret, "TAILMARK_NOTIFY_URL": f"json://user:{secret}@127.0.0.1:9/x", "MLFLOW_TRACKING_PASSWORD": secret}
    with platform(home, **variables) as served:
        done = subprocess.run(
            ["python", "-m", "flows.automations", "block", "team"],
            cwd=home,
            env=served.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "kept in block slack-webhook/team"
        subprocess.run(
            ["python", "-m", "flows.automations", "install", "--block", "slack-webhook/team"], cwd=home, env=served.environment, check=True
        )
        served.deploy("pipeline")
        (checkout.out / "broken").touch()
        failed = start(served, checkout)
        assert served.wait(failed) == "FAILED"
        (checkout.out / "broken").unlink()
        run = start(served, checkout, overrides=["seed=3"])
        assert served.wait(run) == "COMPLETED", served.tail(run)
    searched = [path for root in (home, checkout.root) for path in root.rglob("*") if path.is_file() and path.name != "config.local"]
    assert {"prefect.db", "mlflow.db", "worker.log"} <= {path.name for path in searched}
    assert [str(path) for path in searched if secret.encode() in path.read_bytes()] == []
    command = ["git", "cat-file", "--batch-all-objects", "--batch", "--buffer"]
    objects = subprocess.run(command, cwd=checkout.root, capture_output=True, check=True).stdout
    assert b"seed: 3" in objects
    assert secret.encode() not in objects
