"""System calls behind the sandbox's walls. Standard library only: it runs before anything else is there, and on Linux."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
from collections.abc import Mapping, Sequence

_LIBC = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_KEPT = {2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}
"""What statvfs says of a mount, to what a remount must repeat: a user namespace may not take such flags away."""

_PDEATHSIG, _DUMPABLE, _SECCOMP, _SUBREAPER, _NO_NEW_PRIVS = 1, 4, 22, 36, 38
NOBODY = 65534
_SIGKILL = 9

_CALLS: Mapping[str, tuple[int, Mapping[str, int]]] = {
    "x86_64": (
        0xC000003E,
        {"socket": 41, "ptrace": 101, "mount": 165, "unshare": 272, "setns": 308, "bpf": 321, "io_uring_setup": 425},
    ),
    "aarch64": (
        0xC00000B7,
        {"socket": 198, "ptrace": 117, "mount": 40, "unshare": 97, "setns": 268, "bpf": 280, "io_uring_setup": 425},
    ),
}
"""Machine to its audit number and the system calls that are refused: those that reach a network or another namespace."""


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(option: int, value: int) -> None:
    _checked(_LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0), "prctl")


def die_with_parent() -> None:
    """Killed by the kernel when the process that started this one ends."""
    _prctl(_PDEATHSIG, _SIGKILL)


def adopt_orphans() -> None:
    """Children whose parent ended become this process's."""
    _prctl(_SUBREAPER, 1)


def unshare(flags: int) -> None:
    """Leave namespaces for new ones."""
    _checked(_LIBC.unshare(flags), "unshare")


def new_user(inside: int) -> None:
    """A user namespace in which this process is user and group `inside`."""
    uid, gid = os.geteuid(), os.getegid()
    unshare(NEWUSER)
    _prctl(_DUMPABLE, 1)  # else /proc/self belongs to root after a change of user
    for name, text in (("setgroups", "deny"), ("uid_map", f"{inside} {uid} 1"), ("gid_map", f"{inside} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    _checked(_LIBC.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()), f"mount {target}")


def new_root(root: str, shown: Sequence[str], links: Mapping[str, str], disk_mib: int) -> None:
    """Make `root`, an empty folder, the root of the file system: the paths `shown` in it, read-only, and the tmpfs `/box` to work in.

    Needs a mount namespace and a PID namespace of its own. Afterwards nothing else of the machine's files can be reached.
    """
    _mount("none", "/", "", _REC | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NOSUID | _NODEV, "size=1m,mode=755")
    for path in shown:
        _show(path, root + path)
    for path, target in links.items():
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        os.symlink(target, root + path)
    os.makedirs(root + "/box")
    _mount("tmpfs", root + "/box", "tmpfs", _NOSUID | _NODEV, f"size={disk_mib}m,nr_inodes=20000,mode=777")
    os.makedirs(root + "/proc")
    _mount("proc", root + "/proc", "proc", _NOSUID | _NODEV)
    os.symlink("/box", root + "/tmp")
    _mount("none", root, "", _BIND | _REMOUNT | _RDONLY | _NOSUID | _NODEV)
    os.chdir(root)
    _checked(_LIBC.pivot_root(b".", b"."), "pivot_root")
    _checked(_LIBC.umount2(b".", 2), "umount the old root")  # 2: MNT_DETACH
    os.chdir("/box")


def _show(path: str, place: str) -> None:
    if os.path.isdir(path):
        os.makedirs(place, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        os.close(os.open(place, os.O_CREAT, 0o644))
    _mount(path, place, "", _BIND | _REC)
    if not path.startswith("/dev/"):
        kept = sum(flag for told, flag in _KEPT.items() if os.statvfs(place).f_flag & told)
        _mount("none", place, "", _BIND | _REMOUNT | _RDONLY | _NOSUID | kept)


def become_nobody() -> None:
    """Give up every right: another user namespace as user `nobody`, where the program's processes are counted by themselves."""
    if os.geteuid() == 0 and _has_nobody():
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    new_user(NOBODY)


def _has_nobody() -> bool:
    """Whether this user namespace has that user: one of a single user, as we make them, has not."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        ranges = [line.split() for line in file]
    return any(int(first) <= NOBODY < int(first) + int(count) for first, _, count in ranges)


def limit(memory_mib: int, processes: int, output_mib: int, cpu_s: int) -> None:
    """Resource limits of this process and all it starts; memory is that of writable pages, so reserving addresses is free."""
    memory = memory_mib << 20
    bounds = {
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_NPROC: processes,
        resource.RLIMIT_FSIZE: output_mib << 20,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
    }
    for name, value in bounds.items():
        resource.setrlimit(name, (value, value))


def refuse_calls() -> None:
    """Seccomp: the calls of `_CALLS` fail with EACCES, those of another architecture end the process. Irrevocable, also over exec.

    Raises:
        OSError: the kernel or the machine does not do it.
    """
    if platform.machine() not in _CALLS:
        raise OSError(f"no list of system calls for {platform.machine()}")
    architecture, calls = _CALLS[platform.machine()]
    numbers = sorted(calls.values())
    refuse, allow, kill = 0x00050000 | 13, 0x7FFF0000, 0x80000000
    steps = [
        (0x20, 0, 0, 4),  # load the architecture
        (0x15, 1, 0, architecture),
        (0x06, 0, 0, kill),
        (0x20, 0, 0, 0),  # load the call's number
        (0x35, len(numbers) + 1, 0, 0x40000000),  # another numbering of the same calls (x32)
        *[(0x15, len(numbers) - place, 0, number) for place, number in enumerate(numbers)],
        (0x06, 0, 0, allow),
        (0x06, 0, 0, refuse),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
    _prctl(_NO_NEW_PRIVS, 1)
    _checked(_LIBC.prctl(_SECCOMP, ctypes.c_ulong(2), ctypes.c_ulong(ctypes.addressof(program)), 0, 0), "seccomp")
