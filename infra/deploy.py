"""`make deploy`: the work pool and the deployments of `prefect.yaml` on the server at `PREFECT_API_URL`, made or renewed.

TAILMARK_POOL (default: tailmark) and TAILMARK_POOL_TYPE (process, kubernetes) name the pool, TAILMARK_CHECKOUT the checkout on the worker's
machine (default: this one), TAILMARK_SCHEDULE and TAILMARK_TIMEZONE when `nightly` runs, TAILMARK_NOTIFY_BLOCK who is told what happens.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DEFAULTS = {
    "TAILMARK_POOL": "tailmark",
    "TAILMARK_POOL_TYPE": "process",
    "TAILMARK_CHECKOUT": str(ROOT),
    "TAILMARK_SCHEDULE": "0 3 * * *",
    "TAILMARK_TIMEZONE": "UTC",
}
JOB_TEMPLATE = ROOT / "infra" / "kubernetes" / "base-job-template.json"


def main() -> int:
    """Make or renew everything and print where it is; returns the exit code."""
    settings = {name: os.environ.get(name) or value for name, value in DEFAULTS.items()}
    os.environ.update(settings, DO_NOT_TRACK="true")
    if not os.environ.get("PREFECT_API_URL"):
        print("No Prefect server is named.\n  fix:   export PREFECT_API_URL=https://HOST:4200/api (docs/deploy.md)", file=sys.stderr)
        return 2
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            client.hello().raise_for_status()
            make_pool(client, settings)
            code = deploy(settings)
            if code == 0:
                show(client, settings)
    except (OSError, _http_error()) as error:
        print(f"The Prefect server does not answer: {error}", file=sys.stderr)
        print(f"  where: {os.environ['PREFECT_API_URL']}", file=sys.stderr)
        print(
            "  fix:   start it; behind the proxy, set PREFECT_CLIENT_CUSTOM_HEADERS and PREFECT_API_SSL_CERT_FILE (docs/deploy.md)",
            file=sys.stderr,
        )
        return 2
    return code or automate()


def _http_error() -> type[Exception]:
    import httpx

    return httpx.HTTPError


def make_pool(client: Any, settings: Mapping[str, str]) -> None:
    """The work pool; one that is there keeps its limits, its job template is that of the repository."""
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound

    name, kind = settings["TAILMARK_POOL"], settings["TAILMARK_POOL_TYPE"]
    template = json.loads(JOB_TEMPLATE.read_text(encoding="utf-8")) if kind == "kubernetes" else None
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        extra = {"base_job_template": template} if template else {}
        client.create_work_pool(WorkPoolCreate(name=name, type=kind, **extra))
    else:
        if template:
            client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))


def deploy(settings: Mapping[str, str]) -> int:
    """`prefect deploy --all`, whose own output is shown only where it fails."""
    command: Sequence[str] = [str(Path(sys.executable).parent / "prefect"), "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
    return done.returncode


def show(client: Any, settings: Mapping[str, str]) -> None:
    """What there is now, when it runs, and what to do next."""
    from prefect.settings import PREFECT_UI_URL

    place = PREFECT_UI_URL.value() or os.environ["PREFECT_API_URL"].removesuffix("/api")
    print(f"pool {settings['TAILMARK_POOL']} ({settings['TAILMARK_POOL_TYPE']}): {place}/work-pools/work-pool/{settings['TAILMARK_POOL']}")
    flows = {flow.id: flow.name for flow in client.read_flows()}
    for deployment in sorted(client.read_deployments(), key=lambda item: (flows[item.flow_id], item.name)):
        if "tailmark" not in deployment.tags:
            continue
        name = f"{flows[deployment.flow_id]}/{deployment.name}"
        crons = [f"{item.schedule.cron} {item.schedule.timezone}" for item in deployment.schedules if item.active]
        print(f"  {name:24s}{', '.join(crons) or 'on request':22s}{place}/deployments/deployment/{deployment.id}")
    print(f"next:  a worker:  prefect worker start --pool {settings['TAILMARK_POOL']}   (compose and `make server` start one)")
    print("       a run:     prefect deployment run pipeline/on-request --watch")


def automate() -> int:
    """The automations: data that arrive start `nightly`, dead runs are marked, and people are told where a block for messages is named."""
    command = [sys.executable, "-m", "flows.automations", "install", "--refresh", "refresh/nightly"]
    block = os.environ.get("TAILMARK_NOTIFY_BLOCK")
    return subprocess.run([*command, *(["--block", block] if block else [])], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
