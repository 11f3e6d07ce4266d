"""A PostgreSQL server of the tests' own: Debian's where one is installed, else the one in the package `pgserver`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534
START_S = 60.0


def binaries() -> Path | None:
    """The folder with `postgres` and `initdb`; None where there is none."""
    found = shutil.which("initdb")
    if found and (Path(found).resolve().parent / "postgres").is_file():
        return Path(found).resolve().parent
    package = importlib.util.find_spec("pgserver")
    if package is None or package.origin is None:
        return None
    folder = Path(package.origin).parent / "pginstall" / "bin"
    return folder if (folder / "postgres").is_file() else None


@contextmanager
def postgres() -> Iterator[str]:
    """The address of an empty database, on this machine only; the test is skipped where PostgreSQL is not to be had.

    PostgreSQL refuses to run as root, so there it runs as nobody, in a folder that is its own.
    """
    folder = binaries()
    if folder is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("PostgreSQL or psycopg is not installed (`pip install pgserver 'psycopg[binary]'`)")
    home = Path(tempfile.mkdtemp(prefix="tailmark-postgres-"))
    identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
    if identity:
        os.chown(home, NOBODY, NOBODY)
    data, port = home / "data", free_port()
    process = None
    try:
        making = [str(folder / "initdb"), "-D", str(data), "-U", "tailmark", "--auth=trust", "--encoding=UTF8", "--no-sync", "--no-locale"]
        subprocess.run(making, cwd=home, check=True, capture_output=True, **identity)
        command = [str(folder / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(home), "-F"]
        process = subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **identity)
        url = f"postgresql://tailmark@127.0.0.1:{port}/postgres"
        wait_for(url)
        yield url
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown: it does not wait for clients
            process.wait(timeout=30)
        shutil.rmtree(home, ignore_errors=True)


def wait_for(url: str) -> None:
    import psycopg

    limit = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.1)
        else:
            return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
