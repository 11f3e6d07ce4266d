"""What a program in the sandbox can do, and above all what it cannot."""

from __future__ import annotations

import os
import textwrap
import time
from pathlib import Path

import pytest

from tailmark.evaluate.sandbox import NAMESPACES, RLIMITS, Isolation, Limits, Outcome, Step, python, ready, run
from tailmark.evaluate.sandbox.run import _told

SMALL = Limits(memory_mib=256, processes=40, disk_mib=24, output_mib=4)


@pytest.fixture(params=[NAMESPACES, RLIMITS])
def isolation(request: pytest.FixtureRequest) -> Isolation:
    if against := ready(request.param):
        pytest.skip(against)
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def namespaces() -> Isolation:
    if against := ready(NAMESPACES):
        pytest.skip(against)
    return NAMESPACES


def execute(code: str, isolation: Isolation, *arguments: str, timeout_s: float = 20.0, limits: Limits = SMALL) -> Outcome:
    steps = [Step((python(), "-I", "-S", "main.py", *arguments), timeout_s)]
    return run({"main.py": textwrap.dedent(code)}, steps, limits=limits, isolation=isolation)


def processes(mark: str) -> list[str]:
    """Command lines on this machine that hold a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return [line for line in found if mark in line]


def test_a_good_program_runs(isolation: Isolation) -> None:
    outcome = execute("import json, math; open('note', 'w').write('x'); print(json.dumps(math.pi)[:4])", isolation)
    assert (outcome.codes, outcome.reason, outcome.stdout) == ((0,), "", "3.14\n")


def test_steps_stop_at_the_first_that_fails(isolation: Isolation) -> None:
    steps = [Step(("sh", "-c", f"echo {number}; exit {number}"), 20.0) for number in (0, 3, 0)]
    outcome = run({}, steps, isolation=isolation)
    assert (outcome.codes, outcome.stdout) == ((0, 3), "0\n3\n")
    assert not outcome.passed(steps)


def test_an_endless_loop_is_killed_in_time(isolation: Isolation) -> None:
    start = time.monotonic()
    outcome = execute("while True: pass", isolation, timeout_s=0.5)
    assert (outcome.reason, outcome.codes) == ("time", (-9,))
    assert time.monotonic() - start < 30


def test_no_socket_can_be_opened(isolation: Isolation) -> None:
    code = """
        import socket
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            try:
                socket.socket(family)
            except OSError as error:
                print(type(error).__name__)
    """
    assert execute(code, isolation).stdout.split() == ["PermissionError"] * 3


def test_no_other_namespace_can_be_entered(isolation: Isolation) -> None:
    code = """
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        print(libc.unshare(0x10000000), libc.mount(b"none", b"/", b"tmpfs", 0, b""), libc.ptrace(0, 0, 0, 0))
    """
    assert execute(code, isolation).stdout.split() == ["-1", "-1", "-1"]


def test_the_home_folder_and_the_checkout_cannot_be_read(namespaces: Isolation, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("never")
    secret.chmod(0o644)
    code = f"""
        import os
        for path in {[str(secret), str(Path.home()), str(Path(__file__)), "/proc/1/environ", "/etc/passwd"]!r}:
            try:
                os.listdir(path) if path == {str(Path.home())!r} else open(path).read()
                print("read", path, os.listdir(path) if os.path.isdir(path) else "")
            except OSError:
                print("refused")
    """
    lines = execute(code, namespaces).stdout.splitlines()
    told = [line for line in lines if line != "refused"]
    # Where an interpreter lies under the home folder, the way to it is there, and nothing else.
    assert told in ([], [f"read {Path.home()} {[Path(os.path.relpath(python(), Path.home())).parts[0]]}"])
    assert len(lines) == 5


def test_nothing_outside_the_working_folder_can_be_written(namespaces: Isolation) -> None:
    code = """
        for path in ("/usr/x", "/etc/x", "/lib/x", "/dev/x", "/proc/sys/kernel/hostname"):
            try:
                open(path, "w").write("x")
                print("wrote", path)
            except OSError:
                pass
        print(open("/tmp/x", "w").write("x"))
    """
    assert execute(code, namespaces).stdout == "1\n"


def test_the_disk_cannot_be_filled(namespaces: Isolation) -> None:
    code = """
        written = 0
        try:
            for number in range(100):
                with open(f"file{number}", "wb") as file:
                    written += file.write(bytes(3_000_000))
        except OSError as error:
            print(error.errno, written < 25_000_000)
    """
    assert execute(code, namespaces).stdout == "28 True\n"


def test_one_file_cannot_grow_without_end(isolation: Isolation) -> None:
    code = """
        try:
            with open("file", "wb") as file:
                while True:
                    file.write(bytes(1_000_000))
        except OSError as error:
            print(error.errno)
    """
    assert execute(code, isolation).stdout == "27\n"


def test_endless_output_ends(isolation: Isolation) -> None:
    outcome = execute("while True: print('x' * 10_000)", isolation)
    assert outcome.codes != (0,)
    assert 0 < len(outcome.stdout) <= 64_000


def test_memory_is_bounded(isolation: Isolation) -> None:
    assert "MemoryError" in execute("bytearray(2_000_000_000)", isolation).stderr


def test_memory_of_all_processes_together_is_bounded(isolation: Isolation) -> None:
    code = """
        import os, time
        for _ in range(8):
            if os.fork() == 0:
                held = bytearray(b"x") * 60_000_000
                time.sleep(30)
        time.sleep(30)
    """
    assert execute(code, isolation, timeout_s=29.0).reason == "memory"


def test_a_fork_bomb_meets_its_limit_and_leaves_nothing(isolation: Isolation) -> None:
    code = """
        import os, sys, time
        refused = 0
        for _ in range(400):
            try:
                if os.fork() == 0:
                    time.sleep(600)
            except BlockingIOError:
                refused += 1
        print(refused > 300)
    """
    mark = f"bomb-{os.getpid()}"
    assert execute(code, isolation, mark, timeout_s=30.0, limits=Limits(memory_mib=2_000, processes=40)).stdout == "True\n"
    assert not processes(mark)


def test_a_daemon_does_not_survive(isolation: Isolation) -> None:
    code = """
        import os, sys
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execvp("sleep", ["sleep", sys.argv[1]])
            os._exit(0)
        import time
        time.sleep(0.3)
        print("done")
    """
    mark = f"611.{os.getpid()}"
    assert execute(code, isolation, mark).stdout == "done\n"
    assert not processes(mark)


def test_signals_do_not_reach_the_machine(namespaces: Isolation) -> None:
    code = """
        import os, signal
        seen = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        print(len(seen) <= 2, os.getuid() != 0)
        try:
            os.kill(-1, signal.SIGTERM)
        except OSError:
            pass
    """
    outcome = execute(code, namespaces)
    assert outcome.stdout == "True True\n"
    assert os.getpid() > 0


def test_what_it_needs_is_said_where_it_cannot_be_built() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root is refused the weaker walls")
    assert "root" in ready(RLIMITS)


def test_the_harness_is_answered_by_itself_alone(isolation: Isolation) -> None:
    """Nothing that a program writes where it may write comes between."""
    code = """
        import os
        written = 0
        for number in range(3, 256):
            try:
                written += os.write(number, b"x")
            except OSError:
                pass
        print(written)
    """
    outcome = execute(code, isolation)
    assert (outcome.codes, outcome.stdout) == ((0,), "0\n")


def test_a_program_that_interrupts_its_parent_goes_on_and_can_be_interrupted(isolation: Isolation) -> None:
    code = """
        import os, signal, time
        try:
            os.kill(os.getppid(), signal.SIGINT)
        except PermissionError:  # root's sandbox belongs to another user than its program
            pass
        time.sleep(0.3)
        print("on", flush=True)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    """
    outcome = execute(code, isolation)
    assert outcome.stdout == "on\n"
    assert "KeyboardInterrupt" in outcome.stderr


def test_a_program_that_kills_its_parent_has_failed() -> None:
    """For root `ready` refuses these walls; this program does nothing but end its parent."""
    outcome = execute("import os; os.kill(os.getppid(), 9)", RLIMITS)
    assert outcome.codes == (-9,)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", "broken"),
        ('{"broken": "no room"}', "broken"),
        ("up\n", "steps"),
        ('up\n{"steps"', "steps"),
        ("up\n[1]", "steps"),
        ('up\n{"broken": "no fork"}', "broken"),
    ],
)
def test_what_is_missing_once_the_walls_are_up_is_the_programs_doing(said: str, told: str) -> None:
    assert list(_told(said)) == [told]
