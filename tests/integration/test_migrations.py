"""Databases of older versions are brought up by the command that the servers' start runs, with what is in them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.postgres import binaries, postgres

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / "infra" / "services"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A PostgreSQL with the databases and roles that `databases.sh` makes."""
    with postgres() as url:
        folder = binaries()
        assert folder is not None
        address = urlsplit(url)
        path = os.pathsep.join([str(Path(sys.executable).parent), str(folder), os.environ["PATH"]])
        foreign = ("PG", "PREFECT_", "MLFLOW_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        found = kept | {
            "PATH": path,
            "PGHOST": str(address.hostname),
            "PGPORT": str(address.port),
            "PGUSER": str(address.username),
            "MLFLOW_DB_PASSWORD": "first",
            "PREFECT_DB_PASSWORD": "it's \\second",
            "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        }
        for _ in range(2):  # at every start
            run(found, str(SERVICES / "databases.sh"))
        yield found


def run(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def query(environment: dict[str, str], database: str, statement: str) -> list[tuple[Any, ...]]:
    import psycopg

    with psycopg.connect(host=environment["PGHOST"], port=environment["PGPORT"], user=database, dbname=database) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def revision(environment: dict[str, str], database: str) -> str:
    return str(query(environment, database, "SELECT version_num FROM alembic_version")[0][0])


def test_mlflow_of_an_older_version(environment: dict[str, str]) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine
    from mlflow.store.tracking.dbmodels.initial_models import Base

    url = f"postgresql://mlflow@{environment['PGHOST']}:{environment['PGPORT']}/mlflow"
    options = _get_alembic_config(url)
    history = [item.revision for item in ScriptDirectory.from_config(options).walk_revisions()]
    Base.metadata.create_all(create_sqlalchemy_engine(url))
    command.upgrade(options, history[20])
    assert revision(environment, "mlflow") == history[20]
    query(
        environment,
        "mlflow",
        "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) VALUES (7, 'kept', 's3://x', 'active')",
    )

    run(environment, str(SERVICES / "migrate.sh"), "mlflow")
    assert revision(environment, "mlflow") == history[0]
    reading = f"import mlflow; print(mlflow.MlflowClient('{url}').get_experiment_by_name('kept').experiment_id)"
    assert run(environment, sys.executable, "-c", reading).splitlines()[-1] == "7"
    run(environment, str(SERVICES / "migrate.sh"), "mlflow")


def test_prefect_of_an_older_version(environment: dict[str, str]) -> None:
    scripts = run(environment, sys.executable, "-c", "import prefect.server.database as d; print(d.__path__[0])").splitlines()[-1]
    migrations = sorted((Path(scripts) / "_migrations" / "versions" / "postgresql").glob("*.py"))
    older, newest = (path.name.split("_")[4] for path in (migrations[-12], migrations[-1]))
    server = environment | {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://prefect@{environment['PGHOST']}:{environment['PGPORT']}/prefect"
    }
    run(server, "prefect", "server", "database", "upgrade", "--yes", "--revision", older)
    assert revision(environment, "prefect") == older
    query(environment, "prefect", "INSERT INTO flow (id, name, tags) VALUES (gen_random_uuid(), 'kept', '[]')")

    run(environment, str(SERVICES / "migrate.sh"), "prefect")
    assert revision(environment, "prefect") == newest
    assert query(environment, "prefect", "SELECT name FROM flow") == [("kept",)]


def test_roles_own_only_what_is_theirs(environment: dict[str, str]) -> None:
    owners = query(environment, "mlflow", "SELECT datname, pg_get_userbyid(datdba) FROM pg_database WHERE datname IN ('mlflow', 'prefect')")
    assert sorted(owners) == [("mlflow", "mlflow"), ("prefect", "prefect")]
    rights = query(
        environment,
        "mlflow",
        "SELECT has_database_privilege('mlflow', 'prefect', 'CONNECT'), rolsuper FROM pg_roles WHERE rolname = 'mlflow'",
    )
    assert rights == [(False, False)]
