"""Checkpoints in S3-compatible storage: a real server of that protocol on this machine, the real client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tailmark.config import Config
from tailmark.layout import Layout
from tailmark.train import checkpoint
from tailmark.train.job import Job
from tailmark.train.remote import Remote
from tailmark.train.upload import uploading

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("s3fs", reason="s3fs is not installed: requirements-s3.txt")
    server_module = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem(skip_instance_cache=True).mkdir("checkpoints")
    yield "s3://checkpoints/tailmark"
    server.stop()


def _job(root: Path, url: str) -> Job:
    identity = {"config": "a", "data": "b", "base": "c", "taxonomy": "d"}
    return Job(Config.model_validate({"train": {"upload": url}}), Layout(root), "marked", identity)


def _seal(job: Job, step: int) -> None:
    temporary = job.checkpoints / f".{checkpoint.step_name(step)}"
    temporary.mkdir(parents=True)
    (temporary / "zero_pp_rank_0_mp_rank_00_optim_states.pt").write_bytes(bytes(20_000_000))
    checkpoint.seal(temporary, job, step, {"step": step})


def test_checkpoints_go_to_s3_and_come_back(bucket: str, tmp_path: Path) -> None:
    job = _job(tmp_path / "here", bucket)
    with uploading(job):
        for step in (5, 10, 15):
            _seal(job, step)
    remote = Remote(job, bucket)
    assert remote.names()[0] == "step-000015"
    assert len(remote.names()) <= 2
    there = _job(tmp_path / "there", bucket)
    assert Remote(there, bucket).fetch(there.checkpoints) == checkpoint.newest_usable(there)
