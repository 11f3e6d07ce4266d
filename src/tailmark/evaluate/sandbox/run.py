"""Starts a sandbox, waits for it, and reads what came out."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

Isolation = Literal["namespaces", "rlimits"]
NAMESPACES: Isolation = "namespaces"
RLIMITS: Isolation = "rlimits"

_INNER = Path(__file__).with_name("inner.py")
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ALSO = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/full")
_GRACE_S = 10.0
_READ = 64_000
"""Most bytes read of each output."""


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    Attributes:
        memory_mib: writable memory of each process, and resident memory of all together.
        processes: processes and threads.
        disk_mib: its files, all together; they are held in memory.
        output_mib: one file, standard output and error among them.
    """

    memory_mib: int = 1_024
    processes: int = 256
    disk_mib: int = 256
    output_mib: int = 16


@dataclass(frozen=True)
class Step:
    """A command and the seconds it may take; its program is looked for on the sandbox's PATH."""

    command: tuple[str, ...]
    timeout_s: float


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    Attributes:
        codes: exit status of every step that ran (negative: the signal that ended it); after one that is not 0 nothing more runs.
        reason: why it was killed: `time` or `memory`; else empty.
        stdout, stderr: of all steps, the end of each (at most 64,000 bytes).
        seconds: of the steps together.
    """

    codes: tuple[int, ...]
    reason: str = ""
    stdout: str = ""
    stderr: str = ""
    seconds: float = field(default=0.0, compare=False)

    def passed(self, steps: Sequence[Step]) -> bool:
        """Whether every step ran and ended with 0."""
        return not self.reason and self.codes == (0,) * len(steps)


def run(
    files: Mapping[str, str],
    steps: Sequence[Step],
    *,
    limits: Limits = Limits(),
    isolation: Isolation = NAMESPACES,
    tools: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Run a program's steps in a sandbox of its own.

    Args:
        files: relative path to text; the steps start in the folder that holds them.
        tools: folders and files that the program may also read, beside the system's.
        environment: added to PATH, HOME and LANG.

    Raises:
        OSError: the sandbox could not be built (`ready` says beforehand whether it can).
    """
    with tempfile.TemporaryDirectory(prefix="tailmark-box-") as folder, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        job = {
            "namespaces": isolation == NAMESPACES,
            "folder": folder,
            "files": dict(files),
            "steps": [asdict(step) for step in steps],
            "environment": {"PATH": _path(tools), "HOME": "/box" if isolation == NAMESPACES else folder, "LANG": "C.UTF-8"}
            | dict(environment or {}),
            **asdict(limits),
            **_root(tools),
        }
        answer = _start(job, out, err, sum(step.timeout_s for step in steps) + _GRACE_S)
        if "broken" in answer:
            raise OSError(answer["broken"])
        ended = answer["steps"]
        return Outcome(
            codes=tuple(step["code"] for step in ended),
            reason=next((step["reason"] for step in ended if step["reason"]), ""),
            stdout=_tail(out),
            stderr=_tail(err),
            seconds=sum(step["seconds"] for step in ended),
        )


def _start(job: dict[str, Any], out: BinaryIO, err: BinaryIO, limit_s: float) -> dict[str, Any]:
    """Run `inner.py`; where it does not answer in time, its whole group is killed and the program counts as out of time."""
    reading, writing = os.pipe()
    command = [sys.executable, "-I", "-S", str(_INNER)]
    with os.fdopen(reading, encoding="utf-8", errors="replace") as pipe:
        with os.fdopen(writing, "wb"):
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=err, pass_fds=[writing], start_new_session=True, cwd="/"
            )
        try:
            process.communicate(json.dumps(job | {"answer": writing}).encode(), timeout=limit_s)
            return _told(pipe.read())
        except subprocess.TimeoutExpired:
            return {"steps": [{"code": -signal.SIGKILL, "reason": "time", "seconds": limit_s}]}
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _told(said: str) -> dict[str, Any]:
    """What `inner.py` said. Once the walls are up (`up`), an answer that is missing or torn is the program's doing, who ended it."""
    up, _, answer = said.partition("\n")
    if up != "up":
        return {"broken": "the sandbox ended without an answer"} | _json(up)
    return _json(answer) or {"steps": [{"code": -signal.SIGKILL, "reason": "", "seconds": 0.0}]}


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _tail(file: BinaryIO) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _READ))
    return file.read().decode("utf-8", errors="replace")


def _root(tools: Sequence[Path]) -> dict[str, Any]:
    """What of the machine's files the sandbox shows, read-only, and which of them are links (`/bin` to `usr/bin`)."""
    links = {path: os.readlink(path) for path in _SYSTEM if os.path.islink(path)}
    shown = [path for path in (*_SYSTEM, *_ALSO, *sorted(glob.glob("/etc/java*"))) if os.path.exists(path) and path not in links]
    own = [str(path) for path in (*tools, *_python()) if not any(str(path).startswith(f"{known}/") for known in shown)]
    return {"shown": [*shown, *sorted(set(own))], "links": links}


def _python() -> list[Path]:
    """The interpreter's own folder, where it does not lie among the system's; never that of a virtual environment."""
    return [Path(sys.base_prefix)] if Path(sys.base_prefix) != Path("/usr") else []


def _path(tools: Sequence[Path]) -> str:
    folders = [tool / "bin" for tool in (*tools, *_python()) if (tool / "bin").is_dir()]
    return os.pathsep.join([*map(str, folders), "/usr/local/bin", "/usr/bin", "/bin"])


@cache
def ready(isolation: Isolation) -> str:
    """Empty where such a sandbox works here, else what stands against it: one is built and tried."""
    if sys.platform != "linux":
        return "the sandbox needs Linux"
    if isolation == RLIMITS and os.geteuid() == 0:
        return "without namespaces nothing holds a program that root runs"
    try:
        outcome = run({}, [Step(("true",), 10.0)], isolation=isolation)
    except OSError as error:
        return f"{isolation} cannot be had here: {error}"
    return "" if outcome.codes == (0,) else f"{isolation} cannot be had here: {outcome.stderr.strip() or outcome.codes}"


def python() -> str:
    """The interpreter, as a sandbox finds it."""
    version = sysconfig.get_python_version()
    inside = Path(sys.base_prefix) / "bin" / f"python{version}"
    return str(inside) if inside.exists() else shutil.which("python3") or "python3"
