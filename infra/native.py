"""The services of `compose.yaml` without containers: `python -m infra.native` starts them in the foreground, Ctrl-C ends them.

It runs the scripts of `infra/services` that the containers run, with the same `infra/.env`, certificate, accounts and proxy
configuration. What the services keep lies in `.tailmark/server`, their logs in its `logs`. It needs PostgreSQL, nginx, and what
requirements-server.txt names. `.tailmark/server/environment` is for the shell of whoever works on this machine: `source` it.
"""

from __future__ import annotations

import argparse
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from infra.host import find_program, postgres_programs, read_env
from infra.processes import Processes, Refused, answers

INFRA = Path(__file__).resolve().parent
ROOT = INFRA.parent
SERVANT = "postgres"  # runs PostgreSQL where this is run by root
INSIDE = {"POSTGRES": "15432", "STORE": "19000", "MLFLOW": "15000", "PREFECT": "14200", "SERVE": "18000"}
"""Ports on the loopback interface behind the proxy; `TAILMARK_INSIDE_<NAME>` says others."""


class Server:
    """All services of one machine.

    Attributes:
        settings: what `infra/.env` says.
        state: the folder of what the services keep.
        secrets: the folder of certificate and accounts.
        temporary: a folder that is gone at the end.
    """

    def __init__(self, settings: Mapping[str, str], state: Path, secrets: Path, temporary: Path, processes: Processes) -> None:
        self.settings, self.state, self.secrets, self.temporary, self.processes = settings, state, secrets, temporary, processes
        self.inside = {name: os.environ.get(f"TAILMARK_INSIDE_{name}", port) for name, port in INSIDE.items()}
        for folder in ("store", "nginx"):
            (state / folder).mkdir(mode=0o700, exist_ok=True)
        if os.getuid() == 0:
            state.chmod(0o711)  # PostgreSQL, which will not run as root, passes through to its own folder
        self.postgres = postgres_programs()

    @property
    def base(self) -> dict[str, str]:
        """What every service gets: this machine's PATH with the virtual environment and PostgreSQL first, and no one else's settings."""
        path = os.pathsep.join([str(Path(sys.executable).parent), str(self.postgres), os.environ.get("PATH", os.defpath)])
        foreign = ("PREFECT_", "MLFLOW_", "AWS_", "PG", "POSTGRES_", "STORE_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        names = {name: value for name, value in self.settings.items() if name.startswith("TAILMARK_") and "KEY" not in name}
        return kept | names | {"PATH": path, "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}

    def database(self, user: str, password: str) -> dict[str, str]:
        """How a service reaches PostgreSQL."""
        return self.base | {"PGHOST": "127.0.0.1", "PGPORT": self.inside["POSTGRES"], "PGUSER": user, "PGPASSWORD": password}

    @property
    def store(self) -> dict[str, str]:
        """How a service reaches the S3-compatible store."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.inside['STORE']}",
            "AWS_ACCESS_KEY_ID": self.settings["STORE_ACCESS_KEY"],
            "AWS_SECRET_ACCESS_KEY": self.settings["STORE_SECRET_KEY"],
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    @property
    def clients(self) -> dict[str, str]:
        """How a client on this machine reaches the services, past the proxy."""
        return self.store | {
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.inside['MLFLOW']}",
            "PREFECT_API_URL": f"http://127.0.0.1:{self.inside['PREFECT']}/api",
            "PREFECT_UI_URL": f"https://{self.settings['TAILMARK_HOST']}:{self.settings['TAILMARK_PREFECT_PORT']}",
            "PREFECT_HOME": str(self.state / "prefect-client"),
            "TAILMARK_CHECKOUT": str(ROOT),
            "TAILMARK_SCHEDULE": self.settings.get("TAILMARK_SCHEDULE", ""),
            "TAILMARK_TIMEZONE": self.settings.get("TAILMARK_TIMEZONE", ""),
        }

    def write_environment(self) -> Path:
        """A file to `source` in a shell on this machine: clients of the services, and what a backup needs."""
        administrator = {"PGHOST": "127.0.0.1", "PGPORT": self.inside["POSTGRES"], "PGUSER": "postgres"}
        values = self.clients | administrator | {"PGPASSWORD": self.settings["POSTGRES_PASSWORD"]}
        path = self.state / "environment"
        path.touch(mode=0o600)
        lines = ["# Written by infra.native at each start. Holds secrets."]
        lines += [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
        lines.append(f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:{shlex.quote(str(self.postgres))}:$PATH")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def start_postgres(self) -> None:
        """PostgreSQL on the loopback interface, with passwords; root may not run it, so there the account `postgres` or `nobody` does."""
        home, identity = self.state / "postgres", self._identity()
        if not (home / "data" / "PG_VERSION").exists():
            self._make_cluster(home, identity)
        command = [str(self.postgres / "postgres"), "-D", str(home / "data"), "-h", "127.0.0.1", "-p", self.inside["POSTGRES"], "-k", ""]
        self.processes.start("postgres", command, self.base, cwd=home, **identity)
        environment = self.database("postgres", self.settings["POSTGRES_PASSWORD"])
        asking = [str(self.postgres / "psql"), "--dbname", "postgres", "--command", "SELECT 1"]
        self.processes.wait("postgres", lambda: subprocess.run(asking, env=environment, capture_output=True, check=False).returncode == 0)

    def _identity(self) -> dict[str, Any]:
        if os.getuid() != 0:
            return {}
        accounts = {entry.pw_name: entry for entry in pwd.getpwall()}
        account = accounts.get(SERVANT) or accounts["nobody"]
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

    def _make_cluster(self, home: Path, identity: Mapping[str, Any]) -> None:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(mode=0o700)
        password = home / "password"
        password.touch(mode=0o600)
        password.write_text(self.settings["POSTGRES_PASSWORD"] + "\n", encoding="utf-8")
        for path in (home, password) if identity else ():
            os.chown(path, identity["user"], identity["group"])
        making = [str(self.postgres / "initdb"), "-D", str(home / "data"), "-U", "postgres", "--encoding=UTF8", "--locale=C"]
        making += ["--auth=scram-sha-256", f"--pwfile={password}"]
        done = subprocess.run(making, env=self.base, cwd=home, capture_output=True, text=True, check=False, **identity)
        password.unlink()
        if done.returncode:
            way_out = f"\n  fix:   run this as another user than root, or choose a --state that {SERVANT} can reach" if identity else ""
            raise Refused(f"initdb failed: {done.stderr.strip()}{way_out}")

    def start_store(self) -> None:
        """rclone's S3 server over a folder."""
        keys = f'"{self.settings["STORE_ACCESS_KEY"]},{self.settings["STORE_SECRET_KEY"]}"'  # quoted: a list in the form of CSV
        command = [find_program("rclone"), "serve", "s3", str(self.state / "store"), "--addr", f"127.0.0.1:{self.inside['STORE']}"]
        self.processes.start("store", command, self.base | {"RCLONE_AUTH_KEY": keys, "RCLONE_CONFIG": os.devnull})
        self.processes.wait("store", lambda: answers(f"http://127.0.0.1:{self.inside['STORE']}/"))

    def start_proxy(self) -> None:
        """nginx with the configuration of the container."""
        home = self.state / "nginx"
        listen = self.settings["TAILMARK_BIND"]
        values = {"TAILMARK_HOST": self.settings["TAILMARK_HOST"], "TAILMARK_SECRETS": str(self.secrets), "TAILMARK_RESOLVER": ""}
        for name in ("MLFLOW", "PREFECT", "SERVE"):
            values[f"TAILMARK_{name}_LISTEN"] = f"{listen}:{self.settings[f'TAILMARK_{name}_PORT']}"
            values[f"TAILMARK_{name}_UPSTREAM"] = f"127.0.0.1:{self.inside[name]}"
        text = re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], (INFRA / "proxy" / "proxy.conf.template").read_text(encoding="utf-8"))
        places = "".join(f"{name}_temp_path {home}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        http = f"access_log {home}/access.log;\n{places}{text}"
        who = f"user {pwd.getpwuid(os.getuid()).pw_name};\n" if os.getuid() == 0 else ""
        (home / "nginx.conf").write_text(
            f"{who}daemon off;\npid {home}/nginx.pid;\nerror_log {home}/error.log;\nevents {{}}\nhttp {{\n{http}}}\n", encoding="utf-8"
        )
        (home / "nginx.pid").unlink(missing_ok=True)  # of one that was killed
        command = [find_program("nginx"), "-p", str(home), "-e", str(home / "error.log"), "-c", str(home / "nginx.conf")]
        self.processes.start("proxy", command, self.base)
        self.processes.wait("proxy", (home / "nginx.pid").exists)

    def service(self, name: str, port: str, health: str, environment: Mapping[str, str]) -> None:
        """A server of `infra/services`, once it answers at `health`."""
        listening = {"LISTEN": f"127.0.0.1:{port}"}
        self.processes.start(name, [str(INFRA / "services" / f"{name}.sh")], {**environment, **listening})
        self.processes.wait(name, lambda: answers(f"http://127.0.0.1:{port}{health}"))

    def start_stores(self) -> None:
        """PostgreSQL with its databases and the store with its buckets: what a backup is restored into."""
        services = INFRA / "services"
        administrator = self.database("postgres", self.settings["POSTGRES_PASSWORD"])
        passwords = {name: self.settings[name] for name in ("MLFLOW_DB_PASSWORD", "PREFECT_DB_PASSWORD")}
        self.start_postgres()
        self.start_store()
        self.processes.once("databases", [str(services / "databases.sh")], administrator | passwords)
        self.processes.once("buckets", [str(services / "buckets.sh")], self.base | self.store)

    def start_servers(self) -> None:
        """MLflow and Prefect, each after its migration, and the proxy."""
        migrate = str(INFRA / "services" / "migrate.sh")
        mlflow = self.database("mlflow", self.settings["MLFLOW_DB_PASSWORD"])
        prefect = self.database("prefect", self.settings["PREFECT_DB_PASSWORD"]) | {"PREFECT_HOME": str(self.state / "prefect")}
        self.processes.once("migrate-mlflow", [migrate, "mlflow"], mlflow)
        self.processes.once("migrate-prefect", [migrate, "prefect"], prefect)
        self.service("mlflow", self.inside["MLFLOW"], "/health", mlflow | self.store)
        self.service("prefect", self.inside["PREFECT"], "/api/health", prefect)
        self.start_proxy()

    def start_model_server(self) -> None:
        """The champion; there must be one."""
        folder = self.state / "served"
        folder.mkdir(exist_ok=True)
        key = {"TAILMARK_SERVE_KEY": self.settings["TAILMARK_SERVE_KEY"], "TAILMARK_SERVED": str(folder)}
        self.service("serve", self.inside["SERVE"], "/health/ready", self.base | self.clients | key)

    def start_worker(self) -> None:
        """A worker of the pool in this checkout, with temporary files apart from those of other accounts, whom Prefect's would shut out."""
        temporary = {"TMPDIR": str(self.temporary)}
        self.processes.start("worker", [str(INFRA / "services" / "worker.sh")], self.base | self.clients | temporary)


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the services, say where they are, and end them with Ctrl-C; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.native", description="The services of infra/compose.yaml, without containers.")
    parser.add_argument("--env", type=Path, default=INFRA / ".env", help="settings (default: infra/.env)")
    parser.add_argument("--secrets", type=Path, default=INFRA / "secrets", help="certificate and accounts (default: infra/secrets)")
    parser.add_argument(
        "--state", type=Path, default=ROOT / ".tailmark" / "server", help="what the services keep (default: .tailmark/server)"
    )
    parser.add_argument("--serve", action="store_true", help="also the model server, with the champion")
    parser.add_argument("--stores-only", action="store_true", help="PostgreSQL and the store alone, for a restore")
    parser.add_argument("--no-worker", action="store_true", help="without a worker on this machine")
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell starts `command &` with Ctrl-C ignored
        signal.signal(number, signal.default_int_handler)
    try:
        settings = read_env(options.env)
        state = options.state.resolve()
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="tailmark-") as temporary, Processes(state / "logs") as processes:
            server = Server(settings, state, options.secrets.resolve(), Path(temporary), processes)
            server.start_stores()
            if not options.stores_only:
                server.start_servers()
            if not (options.stores_only or options.no_worker):
                server.start_worker()
            if options.serve:
                server.start_model_server()
            _say_where(server, everything=not options.stores_only)
            processes.watch()
    except Refused as refused:
        print(f"\n{refused}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped.")
    return 0


def _say_where(server: Server, *, everything: bool) -> None:
    host = server.settings["TAILMARK_HOST"]
    print()
    for name, variable in {"MLflow": "MLFLOW", "Prefect": "PREFECT"}.items() if everything else ():
        print(f"  {name + ':':8s} https://{host}:{server.settings[f'TAILMARK_{variable}_PORT']}")
    print(f"  a shell on this machine: source {server.write_environment()}")
    print("Ctrl-C ends all of them.", flush=True)


if __name__ == "__main__":
    sys.exit(main())
