"""A registered version outside this environment: in one made from its own requirements, and behind `mlflow models serve`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import httpx
import pytest

from tailmark.files import sha256_tree
from tailmark.register.fetch import fetch, load_registered
from tailmark.register.registry import open_registry
from tests.integration.versions import checkout, make_config, mlflow_on_postgres, register, wait_for
from tests.postgres import free_port

pytestmark = pytest.mark.slow

MESSAGES = [{"role": "user", "content": "Good morning"}]
ASK = """
import json, sys
import mlflow

model = mlflow.pyfunc.load_model(sys.argv[1])
print(json.dumps(model.predict([{"messages": json.loads(sys.argv[2])}], params={"markers": "lang=French", "max_new_tokens": 4})))
"""


def environment() -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYTHONPATH"))}
    return clean | {"HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


def test_it_answers_in_an_environment_made_from_its_own_requirements(tmp_path: Path) -> None:
    config, layout = make_config(), checkout(tmp_path / "checkout")
    register(config, layout, 1)
    with open_registry(config, layout) as registry:
        folder = fetch(registry, registry.resolve("@challenger")).folder
    before = sha256_tree(folder)
    venv.create(tmp_path / "clean", with_pip=True)
    python = str(tmp_path / "clean" / "bin" / "python")
    install = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
        "-r",
        str(folder / "requirements.txt"),
    ]
    subprocess.run(install, check=True, env=environment(), capture_output=True, timeout=800)
    listed = subprocess.run([python, "-m", "pip", "list", "--format=freeze"], check=True, capture_output=True, text=True).stdout
    assert "tailmark" not in listed
    done = subprocess.run(
        [python, "-B", "-c", ASK, str(folder), json.dumps(MESSAGES)], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])[0]
    assert set(answer) == {"answer", "markers"}
    assert sha256_tree(folder) == before


def test_it_answers_through_mlflow_models_serve_from_a_server_with_its_artifacts(tmp_path: Path) -> None:
    """Artifacts go and come over HTTP here: what is registered, verified, loaded and served is what the server holds."""
    with mlflow_on_postgres(tmp_path, served=True) as store:
        config, layout = make_config(store.uri), checkout(tmp_path / "checkout")
        register(config, layout, 1)
        assert load_registered(config, layout, "models:/tailmark@challenger").info.arm == "marked"
        port = free_port()
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/tailmark@challenger", "--env-manager", "local"]
        log = tmp_path / "serve.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port)],
                env=environment() | {"MLFLOW_TRACKING_URI": store.uri},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_for(process, f"http://127.0.0.1:{port}/ping", log, limit_s=240)
            asked = {"dataframe_records": [{"messages": MESSAGES}], "params": {"markers": "lang=French", "max_new_tokens": 4}}
            given = httpx.post(f"http://127.0.0.1:{port}/invocations", json=asked, timeout=120)
            assert given.status_code == httpx.codes.OK, given.text
            assert set(given.json()["predictions"][0]) == {"answer", "markers"}
            wrong = httpx.post(f"http://127.0.0.1:{port}/invocations", json={**asked, "params": {"markers": "mood=sad"}}, timeout=120)
            assert wrong.status_code >= 400
            assert "not a marker of this model" in wrong.text
        finally:
            os.killpg(process.pid, 15)
            process.wait(timeout=30)
