"""Two machines: two network namespaces of this one, joined by a virtual cable, one rank in each, over gloo."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailmark.errors import EXIT_STOPPED, EXIT_USER_ERROR
from tests.trainings import checkpoint_at, copy_project, make_project, none_left, same_curves, same_results, start, train, wait_for

pytestmark = pytest.mark.slow

ADDRESSES = ("10.231.7.1", "10.231.7.2")
PORT = 29517


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Names of two namespaces that reach each other at `ADDRESSES`, and nothing else."""
    names = [f"tailmark-{os.getpid()}-{number}" for number in range(2)]
    cables = [f"tm{os.getpid() % 100000}n{number}" for number in range(2)]
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", cables[0], "netns", names[0], "type", "veth", "peer", "name", cables[1], "netns", names[1])
        for name, cable, address in zip(names, cables, ADDRESSES, strict=True):
            _ip("-n", name, "link", "set", cable, "name", "node0")
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "node0")
            _ip("-n", name, "link", "set", "node0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
    except (OSError, subprocess.CalledProcessError) as error:
        _remove(names)
        pytest.skip(f"network namespaces are not permitted here: {getattr(error, 'stderr', error)}")
    yield names
    _remove(names)


def _remove(names: list[str]) -> None:
    for name in names:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _start_on(host: str, number: int, root: Path) -> subprocess.Popen[str]:
    env = {"TAILMARK_NODE": str(number), "GLOO_SOCKET_IFNAME": "node0"}
    return start(root, prefix=["ip", "netns", "exec", host], env=env)


def _lose(host: str) -> None:
    """End everything on a host at once, as a power cut does."""
    listed = subprocess.run(["ip", "netns", "pids", host], capture_output=True, text=True, check=True).stdout
    for process in listed.split():
        os.kill(int(process), signal.SIGKILL)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def unbroken(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks on one machine."""
    root = copy_project(project, tmp_path_factory.mktemp("unbroken"), ranks=2, zero_stage=2)
    train(root)
    return root


@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed"])
@pytest.mark.parametrize("lost", [1, 0])
def test_a_machine_is_lost_and_the_job_goes_on(
    project: Path, unbroken: Path, hosts: list[str], tmp_path: Path, lost: int, launcher: str
) -> None:
    root = copy_project(
        project, tmp_path, nodes=2, ranks=1, zero_stage=2, launcher=launcher, rendezvous=f"{ADDRESSES[0]}:{PORT}", timeout_minutes=2
    )
    machines = [_start_on(host, number, root) for number, host in enumerate(hosts)]
    wait_for(checkpoint_at(root, 10), machines[0])
    _lose(hosts[lost])
    when = time.monotonic()
    _, err = machines[1 - lost].communicate(timeout=120)
    assert time.monotonic() - when < 60
    assert machines[1 - lost].returncode == EXIT_USER_ERROR
    assert err.startswith(f"error: Rank {lost} ended without a word"), err
    machines[lost].communicate(timeout=60)
    assert none_left(root)

    again = [_start_on(host, number, root) for number, host in enumerate(hosts)]
    shown = [machine.communicate(timeout=240) for machine in again]
    assert [machine.returncode for machine in again] == [0, 0], shown
    assert "going on from checkpoint step-0000" in shown[0][0]
    assert "machine 1 of 2" in shown[1][0]
    same_results(root, unbroken)


def test_sigterm_on_any_machine_saves_on_all_and_one_machine_goes_on(
    project: Path, unbroken: Path, hosts: list[str], tmp_path: Path
) -> None:
    root = copy_project(project, tmp_path, nodes=2, ranks=1, zero_stage=2, rendezvous=f"{ADDRESSES[0]}:{PORT}", timeout_minutes=2)
    machines = [_start_on(host, number, root) for number, host in enumerate(hosts)]
    wait_for(checkpoint_at(root, 10), machines[0])
    machines[1].send_signal(signal.SIGTERM)
    said = [machine.communicate(timeout=120) for machine in machines]
    assert [machine.returncode for machine in machines] == [EXIT_STOPPED, EXIT_STOPPED], said
    assert none_left(root)

    copy_params = copy_project(project, tmp_path, ranks=1, zero_stage=2)
    assert "converting checkpoint" in train(copy_params)
    same_curves(root, unbroken)
