"""The first process of a sandbox: builds the walls, runs the steps, says how each ended. Started by path, with nothing but the job."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any, TextIO

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import walls  # type: ignore[import-not-found,unused-ignore]

_POLL_S = 0.01
_PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Read the job from standard input, answer on the descriptor it names."""
    job: dict[str, Any] = json.load(sys.stdin.buffer)
    walls.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program may signal its parent
    os.set_inheritable(job["answer"], False)
    with os.fdopen(job["answer"], "w", encoding="utf-8") as answer:
        try:
            found = _in_namespaces(job, answer) if job["namespaces"] else _steps(job, answer)
        except OSError as error:
            found = {"broken": str(error)}
        if found is not None:
            json.dump(found, answer)


def _in_namespaces(job: dict[str, Any], answer: TextIO) -> dict[str, Any] | None:
    """The steps, by a child that is the first process of its PID namespace; None in the process that only waits for it."""
    if os.geteuid() != 0:
        walls.new_user(0)
    walls.unshare(walls.NEWNS | walls.NEWPID | walls.NEWNET | walls.NEWIPC | walls.NEWUTS)
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return None
    walls.die_with_parent()
    walls.new_root(job["folder"], job["shown"], job["links"], job["disk_mib"])
    return _steps(job, answer)


def _steps(job: dict[str, Any], answer: TextIO) -> dict[str, Any]:
    """Run the steps; says first that the walls are up: what is missing after that is the program's doing."""
    if not job["namespaces"]:
        walls.adopt_orphans()
        os.chdir(job["folder"])
    for name, text in job["files"].items():
        if folder := os.path.dirname(name):
            os.makedirs(folder, exist_ok=True)
        with open(name, "w", encoding="utf-8") as file:
            file.write(text)
    answer.write("up\n")
    answer.flush()
    ended: list[dict[str, Any]] = []
    for step in job["steps"]:
        ended.append(_step(job, step))
        if ended[-1]["code"] != 0:
            break
    return {"steps": ended}


def _step(job: dict[str, Any], step: dict[str, Any]) -> dict[str, Any]:
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _exec(job, step)
    reason = ""
    code: int | None = None
    while code is None:
        code = _reap(child)
        if time.monotonic() - start > step["timeout_s"]:
            reason = reason or "time"
        elif _memory(job) > job["memory_mib"] << 20:
            reason = reason or "memory"
        if reason:
            _kill_all(job)
        elif code is None:
            time.sleep(_POLL_S)
    seconds = time.monotonic() - start
    _kill_all(job)
    return {"code": code, "reason": reason, "seconds": round(seconds, 3)}


def _reap(child: int) -> int | None:
    """The exit status of `child` (negative: the signal), None while it runs; other children that ended are let go (0: all are)."""
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return -signal.SIGKILL
        if process == 0:
            return None
        if process == child:
            return os.waitstatus_to_exitcode(status)


def _exec(job: dict[str, Any], step: dict[str, Any]) -> None:
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if job["namespaces"]:
            walls.become_nobody()
        else:
            walls.die_with_parent()
        others = 0 if job["namespaces"] else _threads_of_user()
        walls.limit(job["memory_mib"], job["processes"] + others, job["output_mib"], int(step["timeout_s"]) + 1)
        walls.refuse_calls()
        os.execvpe(step["command"][0], step["command"], job["environment"])
    except (OSError, ValueError) as error:
        os.write(2, f"sandbox: {error}\n".encode())
    finally:
        os._exit(126)


def _threads_of_user() -> int:
    """Those that the limit of processes counts beside the program's."""
    count = 0
    for name in os.listdir("/proc"):
        try:
            count += len(os.listdir(f"/proc/{name}/task")) if name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.getuid() else 0
        except OSError:
            continue
    return count


def _members(job: dict[str, Any]) -> list[int]:
    """The processes of the program: all of the PID namespace, or our descendants."""
    everyone = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    if job["namespaces"]:
        return [process for process in everyone if process != os.getpid()]
    parents = {process: _parent(process) for process in everyone}
    found: set[int] = {os.getpid()}
    while more := {process for process, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {os.getpid()})


def _parent(process: int) -> int:
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _memory(job: dict[str, Any]) -> int:
    """Bytes that the program's processes hold; pages that several share count for each."""
    total = 0
    for process in _members(job):
        try:
            with open(f"/proc/{process}/statm", encoding="ascii") as file:
                total += int(file.read().split()[1]) * _PAGE
        except (OSError, IndexError):
            continue
    return total


def _kill_all(job: dict[str, Any]) -> None:
    """End every process of the program, also one that is being born."""
    while members := [process for process in _members(job) if _alive(process)]:
        for process in members:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.001)
    _reap(0)


def _alive(process: int) -> bool:
    """Not ended; what has ended and nobody has asked for stays in the list until it is asked for."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


if __name__ == "__main__":
    main()
