"""What this machine has: the settings of `infra/.env`, and the programs that `native.py` starts."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from infra.processes import Refused

NEEDED = ("POSTGRES_PASSWORD", "MLFLOW_DB_PASSWORD", "PREFECT_DB_PASSWORD", "STORE_ACCESS_KEY", "STORE_SECRET_KEY", "TAILMARK_HOST")


def read_env(path: Path) -> dict[str, str]:
    """The settings of a `.env` file, under those of the environment.

    Raises:
        Refused: the file or a secret is missing.
    """
    if not path.exists():
        raise Refused(f"{path} is not there.\n  fix:   make secrets")
    lines = [line.partition("=") for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    settings = {name: os.environ.get(name, value) for name, _, value in lines}
    empty = [name for name in NEEDED if not settings.get(name)]
    if empty:
        raise Refused(f"{path} has no value for {', '.join(empty)}.\n  fix:   fill it in, or remove the file and run `make secrets`")
    return settings


def find_program(name: str) -> str:
    """The path of a program, also of those that Debian does not put on everyone's PATH.

    Raises:
        Refused: it is not installed.
    """
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=places)
    if found is None:
        raise Refused(f"{name} is not installed.\n  fix:   apt install postgresql nginx-light; pip install -r requirements-server.txt")
    return found


def postgres_programs() -> Path:
    """The folder with `initdb`, `postgres`, `psql`, `pg_dump`: Debian's newest, else that of the package `pgserver`.

    Raises:
        Refused: there is none.
    """
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    package = importlib.util.find_spec("pgserver")
    if package is not None and package.origin is not None:
        folders.append(Path(package.origin).parent / "pginstall" / "bin")
    for folder in folders:
        if all((folder / name).exists() for name in ("initdb", "postgres", "psql", "pg_dump")):
            return folder
    raise Refused("PostgreSQL is not installed.\n  fix:   apt install postgresql, or pip install pgserver")
