"""A server of a team in a checkout of the test's own, started as docs/deploy.md says, without containers."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.e2e.conftest import BIN, Checkout
from tests.postgres import free_port

ACCOUNT, PASSWORD = "ann", "correct horse battery"
START_S, END_S = 400.0, 700.0
PUBLIC = ("MLFLOW", "PREFECT", "SERVE")
INSIDE = ("POSTGRES", "STORE", *PUBLIC)


def require_programs() -> None:
    """Skip where a program is missing that docs/deploy.md has people install."""
    places = os.pathsep.join([str(BIN), os.environ["PATH"], "/usr/sbin"])
    missing = [name for name in ("nginx", "rclone", "openssl") if shutil.which(name, path=places) is None]
    if not (shutil.which("psql", path=places) or list(Path("/usr/lib/postgresql").glob("*/bin/psql"))):
        missing.append("postgresql")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (apt install postgresql nginx-light; pip install -r requirements-server.txt)")


@dataclass
class Server:
    """The services of one checkout.

    Attributes:
        state: the folder of what they keep.
        ports: of the proxy.
        inside: those behind it.
        model: what the model server serves, where it is started.
    """

    checkout: Checkout
    state: Path
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in PUBLIC})
    inside: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in INSIDE})

    model: str = "models:/tailmark@challenger"

    @property
    def settings(self) -> dict[str, str]:
        chosen = {f"TAILMARK_{name}_PORT": str(port) for name, port in self.ports.items()}
        inside = {f"TAILMARK_INSIDE_{name}": str(port) for name, port in self.inside.items()}
        return self.checkout.environment | chosen | inside | {"TAILMARK_MODEL": self.model}

    @property
    def written(self) -> dict[str, str]:
        """What `make secrets` wrote."""
        lines = (self.checkout.root / "infra" / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if line[:1].isalpha())

    @contextmanager
    def running(self, *options: str) -> Iterator[None]:
        """While the block runs, so do the services."""
        command = [sys.executable, "-m", "infra.native", "--state", str(self.state), *options]
        log = self.state.parent / f"{self.state.name}.log"
        with log.open("w") as shown:
            process = subprocess.Popen(command, cwd=self.checkout.root, env=self.settings, stdout=shown, stderr=subprocess.STDOUT)
        try:
            limit = time.monotonic() + START_S
            while "Ctrl-C ends all of them" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < limit, log.read_text()
                time.sleep(0.5)
            yield
        finally:
            process.terminate()
            process.wait(END_S)

    @property
    def shell(self) -> dict[str, str]:
        """The environment of a shell on the machine, after `source .tailmark/server/environment`."""
        shown = subprocess.run(
            ["bash", "-c", f". {self.state}/environment && env -0"],
            env=self.checkout.environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return dict(item.split("=", 1) for item in shown.split("\0") if "=" in item)

    @property
    def from_outside(self) -> dict[str, str]:
        """The environment of a client on another machine: an account, and the certificate to trust."""
        certificate = str(self.checkout.root / "infra" / "secrets" / "tls.crt")
        token = base64.b64encode(f"{ACCOUNT}:{PASSWORD}".encode()).decode()
        return self.checkout.environment | {
            "MLFLOW_TRACKING_URI": f"https://localhost:{self.ports['MLFLOW']}",
            "MLFLOW_TRACKING_USERNAME": ACCOUNT,
            "MLFLOW_TRACKING_PASSWORD": PASSWORD,
            "MLFLOW_TRACKING_SERVER_CERT_PATH": certificate,
            "PREFECT_API_URL": f"https://localhost:{self.ports['PREFECT']}/api",
            "PREFECT_API_SSL_CERT_FILE": certificate,
            "PREFECT_CLIENT_CUSTOM_HEADERS": f'{{"Authorization": "Basic {token}"}}',
            "PREFECT_HOME": str(self.state / "prefect-outside"),
        }

    def run(self, *command: str, env: Mapping[str, str] | None = None, check: bool = True) -> str:
        """What a command in the checkout prints, in the shell of the machine where no other environment is given."""
        done = subprocess.run(
            command,
            cwd=self.checkout.root,
            env=dict(env or self.shell),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}"
        return done.stdout

    def answer(self, name: str, path: str = "/", *options: str) -> int:
        """The status with which the proxy answers."""
        shown = self.run(
            "curl", "--silent", "--output", os.devnull, "--write-out", "%{http_code}",
            "--cacert", "infra/secrets/tls.crt", *options, f"https://localhost:{self.ports[name]}{path}",
        )  # fmt: skip
        return int(shown)

    def log(self, name: str) -> str:
        return (self.state / "logs" / f"{name}.log").read_text(errors="replace")


@contextmanager
def place() -> Iterator[Path]:
    """A folder for what services keep: not pytest's, which PostgreSQL cannot enter where root runs it as someone else."""
    folder = Path(mkdtemp(prefix="tailmark-server-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def set_up(checkout: Checkout) -> None:
    """Secrets and an account, as `make secrets` and infra/account.sh make them."""
    checkout.run("infra/secrets.sh")
    subprocess.run(["infra/account.sh", ACCOUNT], cwd=checkout.root, input=PASSWORD, text=True, check=True, capture_output=True)


def deployments(shown: str) -> list[str]:
    """The names in what `make deploy` prints."""
    return re.findall(r"^  ([a-z-]+/[a-z-]+) ", shown, re.MULTILINE)
