"""What of `infra/` can be checked without a container engine and a cluster. `make infra-check` installs the tools first."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
BIN = Path(sys.executable).parent
WITHOUT_SECRET = re.compile(r"\$\{(\w*(?:PASSWORD|KEY))(:?[-?][^}]*)?\}")
FLOATING = re.compile(r"^[^:]+$|:latest$|:\d+$")

Service = dict[str, Any]


def tool(name: str) -> str:
    found = shutil.which(name, path=f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (requirements-infra.txt, or your platform's packages)")
    return found


def run(*command: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return YAML(typ="safe").load((INFRA / "compose.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Service]:
    return compose["services"]


def settings(folder: Path) -> Path:
    """What `make secrets` and `account.sh` write, in a folder of the test's own."""
    environment = {**os.environ, "TAILMARK_ENV": str(folder / ".env"), "TAILMARK_SECRETS": str(folder / "secrets")}
    subprocess.run([INFRA / "secrets.sh"], env=environment, check=True, capture_output=True)
    subprocess.run(
        [INFRA / "account.sh", "ann"], env=environment, input="correct horse battery", text=True, check=True, capture_output=True
    )
    return folder


def test_the_compose_file_is_one() -> None:
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(INFRA / "compose.yaml"))


def test_no_secret_has_a_default_and_every_one_is_in_the_example() -> None:
    text = (INFRA / "compose.yaml").read_text(encoding="utf-8")
    used = WITHOUT_SECRET.findall(text)
    assert {name for name, _ in used} >= {
        "POSTGRES_PASSWORD",
        "MLFLOW_DB_PASSWORD",
        "PREFECT_DB_PASSWORD",
        "STORE_ACCESS_KEY",
        "STORE_SECRET_KEY",
    }
    assert all(rest.startswith(":?") for _, rest in used), used
    example = dict(line.split("=", 1) for line in (INFRA / ".env.example").read_text().splitlines() if line and line[0] != "#")
    assert all(example[name] == "" for name, _ in used)
    variables = set(re.findall(r"\$\{(\w+)", text)) - {"TAILMARK_BACKUP"}
    assert variables <= example.keys()


def test_images_are_pinned_nobody_is_root_and_only_the_proxy_is_open(services: dict[str, Service]) -> None:
    for name, service in services.items():
        image = service["image"]
        assert image.startswith("tailmark:") or not FLOATING.search(image), f"{name}: {image}"
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert ("ports" in service) == (name == "proxy")
        if name != "ownership":  # which gives new volumes to the others, without a network, and ends
            assert service.get("user") != "root"
            assert "data" in service["networks"] or name in ("proxy", "serve")
    assert services["ownership"]["cap_add"] == ["CHOWN"]
    assert services["ownership"]["network_mode"] == "none"


def test_what_runs_once_does_not_start_again_and_what_stays_has_a_health_check(services: dict[str, Service]) -> None:
    awaited = {
        other
        for service in services.values()
        for other, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    assert awaited == {"ownership", "databases", "buckets", "mlflow-migrate", "prefect-migrate"}
    for name, service in services.items():
        if name in awaited:
            assert service["restart"].startswith("on-failure"), name
        elif name != "backup":
            assert service["restart"] == "unless-stopped"
            assert "test" in service["healthcheck"]


def test_migrations_end_before_the_servers_start(services: dict[str, Service]) -> None:
    for name in ("mlflow", "prefect"):
        assert services[name]["depends_on"][f"{name}-migrate"]["condition"] == "service_completed_successfully"
        assert services[f"{name}-migrate"]["command"] == f"infra/services/migrate.sh {name}"


def test_commands_of_the_services_are_scripts_of_the_repository(services: dict[str, Service]) -> None:
    scripts = {
        re.findall(r"infra/services/\w+\.sh", str(service.get("command", "")))[0]
        for service in services.values()
        if "infra/" in str(service.get("command", ""))
    }
    assert len(scripts) >= 6
    assert all(os.access(ROOT / script, os.X_OK) for script in scripts)


def test_the_dockerfile_passes_hadolint() -> None:
    run(tool("hadolint"), str(INFRA / "Dockerfile"))


def test_no_image_holds_secrets() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {"infra/.env", "infra/secrets", ".git", ".tailmark", ".dvc/config.local"} <= set(ignored)
    assert {"/infra/.env", "/infra/secrets/"} <= set((ROOT / ".gitignore").read_text().split())


def test_shell_scripts_pass_shellcheck() -> None:
    scripts = sorted(map(str, [*INFRA.glob("*.sh"), *(INFRA / "services").glob("*.sh")]))
    assert len(scripts) >= 10
    run(tool("shellcheck"), "--external-sources", *scripts)


def test_secrets_are_new_each_time_and_stay_when_they_are_there(tmp_path: Path) -> None:
    first, second = settings(make(tmp_path / "a")), settings(make(tmp_path / "b"))
    values = [(folder / ".env").read_text() for folder in (first, second)]
    assert re.search(r"^POSTGRES_PASSWORD=[0-9a-f]{48}$", values[0], re.MULTILINE)
    assert values[0] != values[1]
    assert not re.search(r"^\w*(PASSWORD|KEY)=$", values[0], re.MULTILINE)
    assert (first / ".env").stat().st_mode & 0o077 == 0
    certificate = (first / "secrets" / "tls.crt").read_text()
    settings(first)
    assert (first / ".env").read_text() == values[0]
    assert (first / "secrets" / "tls.crt").read_text() == certificate


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize(("name", "password", "said"), [("a:b", "correct horse battery", "usage"), ("ann", "short", "12 characters")])
def test_bad_accounts_are_refused(name: str, password: str, said: str, tmp_path: Path) -> None:
    folder = settings(make(tmp_path / "a"))
    environment = {**os.environ, "TAILMARK_SECRETS": str(folder / "secrets")}
    before = (folder / "secrets" / "htpasswd").read_text()
    done = subprocess.run([INFRA / "account.sh", name], env=environment, input=password, text=True, capture_output=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert (folder / "secrets" / "htpasswd").read_text() == before


def test_an_account_is_replaced_and_removed(tmp_path: Path) -> None:
    folder = settings(make(tmp_path / "a"))
    environment = {**os.environ, "TAILMARK_SECRETS": str(folder / "secrets")}
    accounts = folder / "secrets" / "htpasswd"
    before = accounts.read_text()
    subprocess.run([INFRA / "account.sh", "ann"], env=environment, input="another long password", text=True, check=True)
    assert accounts.read_text().count("ann:$6$") == 1
    assert accounts.read_text() != before
    subprocess.run([INFRA / "account.sh", "--remove", "ann"], env=environment, check=True)
    assert "ann" not in accounts.read_text()


def test_nginx_takes_the_proxy_configuration(tmp_path: Path) -> None:
    nginx, folder = tool("nginx"), settings(make(tmp_path / "a"))
    values = {"TAILMARK_HOST": "tailmark.example.org", "TAILMARK_SECRETS": str(folder / "secrets"), "TAILMARK_RESOLVER": ""}
    for number, name in enumerate(("MLFLOW", "PREFECT", "SERVE")):
        values |= {f"TAILMARK_{name}_LISTEN": f"127.0.0.1:{8440 + number}", f"TAILMARK_{name}_UPSTREAM": f"127.0.0.1:{9440 + number}"}
    text = (INFRA / "proxy" / "proxy.conf.template").read_text()
    assert set(re.findall(r"\$\{(\w+)\}", text)) == values.keys()
    filled = re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], text)
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n{filled}}}\n")
    run(nginx, "-t", "-q", "-p", str(tmp_path), "-e", str(tmp_path / "error.log"), "-c", str(tmp_path / "nginx.conf"))


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `kubectl apply --kustomize infra` would send."""
    kubectl = tool("kubectl")
    folder = settings(tmp_path_factory.mktemp("kustomize"))
    for name in ("kubernetes", "proxy"):
        shutil.copytree(INFRA / name, folder / name)
    shutil.copy(INFRA / "kustomization.yaml", folder)
    (folder / "all.yaml").write_text(run(kubectl, "kustomize", str(folder)))
    return folder / "all.yaml"


def test_the_manifests_fit_the_schemas_of_kubernetes(manifests: Path) -> None:
    shown = subprocess.run([tool("kubernetes-validate"), "--strict", str(manifests)], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    run(tool("kubernetes-validate"), "--strict", str(INFRA / "train-job.yaml"))


def test_every_pod_keeps_to_the_restricted_standard(manifests: Path) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards, which the namespace enforces."""
    documents = list(YAML(typ="safe").load_all(manifests.read_text()))
    documents += list(YAML(typ="safe").load_all((INFRA / "train-job.yaml").read_text()))
    pods = [item["spec"]["template"]["spec"] for item in documents if item["kind"] in ("Deployment", "StatefulSet", "Job")]
    pods.append(job_template()["job_configuration"]["job_manifest"]["spec"]["template"]["spec"])
    assert len(pods) >= 9
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_what_pods_ask_of_secrets_and_services_is_there(manifests: Path) -> None:
    documents = list(YAML(typ="safe").load_all(manifests.read_text()))
    secret = next(item for item in documents if item["kind"] == "Secret" and item["metadata"]["name"] == "tailmark")
    text = manifests.read_text() + json.dumps(job_template())
    asked = set(re.findall(r"key\"?: \"?([A-Z_]+)", text))
    assert len(asked) >= 7
    assert asked <= secret["data"].keys()
    names = {item["metadata"]["name"] for item in documents if item["kind"] == "Service"}
    assert set(re.findall(r"http://(\w+):\d+", text)) <= names


def job_template() -> dict[str, Any]:
    return json.loads((INFRA / "kubernetes" / "base-job-template.json").read_text())


def test_prefect_makes_a_job_of_the_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the worker does it, for a run on four GPUs."""
    if importlib.util.find_spec("prefect_kubernetes") is None:
        pytest.skip("prefect-kubernetes is not installed: requirements-infra.txt")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas import FlowRun
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    async def prepared() -> dict[str, Any]:
        client = PrefectClient(api="http://127.0.0.1:9/api")  # asked for blocks only, of which there are none
        made = await KubernetesWorkerJobConfiguration.from_template_and_values(
            job_template(), {"gpus": 4, "command": "true"}, client=client
        )
        made.prepare_for_flow_run(FlowRun(flow_id=uuid.uuid4(), name="run"))
        return dict(made.job_manifest)

    job = asyncio.run(prepared())
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 4
    values = {item["name"]: item for item in container["env"]}
    assert values["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"] == {"name": "tailmark", "key": "STORE_SECRET_KEY"}
    assert values["PREFECT__FLOW_RUN_ID"]["value"]
    job["metadata"]["name"] = job["metadata"].pop("generateName") + "1"
    del pod["completions"], pod["parallelism"]  # Prefect asks for them there, Kubernetes ignores them
    (tmp_path / "job.json").write_text(json.dumps(job))
    run(tool("kubernetes-validate"), "--strict", str(tmp_path / "job.json"))


def test_every_flow_has_a_deployment_and_every_entrypoint_is_a_flow() -> None:
    deployments = YAML(typ="safe").load((ROOT / "prefect.yaml").read_text())["deployments"]
    entrypoints = [item["entrypoint"] for item in deployments]
    assert len(set(entrypoints)) == len(entrypoints)
    for entrypoint in entrypoints:
        path, name = entrypoint.split(":")
        text = (ROOT / path).read_text()
        assert f'@flow(name="{name}"' in text, entrypoint
        assert f"def {name}(" in text, entrypoint
    assert {"pipeline", "sweep", "promote", "rollback"} <= {item.split(":")[1] for item in entrypoints}
    assert all(item["work_pool"]["name"] == "{{ $TAILMARK_POOL }}" for item in deployments)
    assert [item["name"] for item in deployments if item.get("schedules")] == ["nightly"]


def test_deploy_without_a_server_says_what_to_do() -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run([sys.executable, "-m", "infra.deploy"], cwd=ROOT, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "export PREFECT_API_URL" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["infra/backup.sh"], "usage"),
        (["infra/backup.sh", "nowhere"], "usage"),
        (["infra/restore.sh", "infra"], "with SHA256SUMS in it"),
        ([sys.executable, "-m", "infra.native", "--env", "nowhere/.env"], "make secrets"),
        ([sys.executable, "-m", "infra.native", "--env", "infra/.env.example"], "no value for POSTGRES_PASSWORD, MLFLOW_DB_PASSWORD"),
    ],
)
def test_what_is_missing_is_said(command: list[str], said: str) -> None:
    clean = {name: value for name, value in os.environ.items() if name not in ("POSTGRES_PASSWORD", "MLFLOW_DB_PASSWORD")}
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
