"""What keeps a training alive, each part alone: checkpoints, locks, launch commands, reasons, copies at a URL, abandoned scratch."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest
import torch

from tailmark.config import Config
from tailmark.errors import EXIT_USER_ERROR, CheckpointError, ConfigError, Stopped, StorageError, TrainingError, ValidationFailed
from tailmark.files import read_json, sha256_file, write_json
from tailmark.layout import Layout
from tailmark.train import checkpoint, engine, launch, scratch, worker
from tailmark.train.failure import failure
from tailmark.train.job import Job, read_job
from tailmark.train.launchers import launch_command, node_number
from tailmark.train.locks import hold_as_rank, is_held, only_trainer
from tailmark.train.remote import Remote
from tailmark.train.universal import fitting
from tailmark.train.upload import Uploader, uploading
from tasks import leash, process

IDENTITY = {"config": "a", "data": "b", "base": "c", "taxonomy": "d"}


def _job(tmp_path: Path, node: int = 0, **train: Any) -> Job:
    return Job(Config.model_validate({"train": train}), Layout(tmp_path), "marked", IDENTITY, node=node)


def _seal(job: Job, step: int) -> Path:
    temporary = job.checkpoints / f".{checkpoint.step_name(step)}"
    temporary.mkdir(parents=True)
    for rank in range(job.world_size):
        (temporary / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").write_bytes(bytes(range(200)))
    checkpoint.seal(temporary, job, step, {"step": step})
    return job.checkpoints / checkpoint.step_name(step)


def _part(folder: Path) -> Path:
    return folder / "zero_pp_rank_0_mp_rank_00_optim_states.pt"


def test_the_newest_complete_checkpoint_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = _job(tmp_path, keep_checkpoints=2)
    assert checkpoint.newest_usable(job) is None
    for step in (5, 10, 15):
        _seal(job, step)
    assert [path.name for path in checkpoint.found(job)] == ["step-000015", "step-000010"]
    (job.checkpoints / ".step-000020").mkdir()
    newest = checkpoint.newest_usable(job)
    assert newest is not None
    assert newest.name == "step-000015"
    assert not (job.checkpoints / ".step-000020").exists()
    _part(newest).write_bytes(bytes(200))
    before = checkpoint.newest_usable(job)
    assert before is not None
    assert before.name == "step-000010"
    assert "checkpoint step-000015 cannot be used: 'zero_pp_rank_0_mp_rank_00_optim_states.pt' is damaged" in capsys.readouterr().out
    assert (job.checkpoints / "damaged-step-000015").is_dir()
    assert checkpoint.newest_usable(job) == before


def test_a_damaged_checkpoint_does_not_hold_up_later_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailmark.train.upload._LOOK_S", 0.02)
    url = f"file://{tmp_path / 'store'}"
    job = _job(tmp_path / "here", upload=url, keep_checkpoints=1)
    for step in (50, 100):
        _seal(_job(tmp_path / "here", keep_checkpoints=2), step)
    for _ in range(2):  # and once more, after the same step
        _part(job.checkpoints / "step-000100").write_bytes(bytes(200))
        assert checkpoint.newest_usable(job) == job.checkpoints / "step-000050"
        _seal(_job(tmp_path / "here", keep_checkpoints=2), 100)
    shutil.rmtree(job.checkpoints / "step-000100")
    with uploading(job):
        _seal(job, 60)
    assert [path.name for path in checkpoint.found(job)] == Remote(job, url).names() == ["step-000060"]
    assert {path.name for path in job.checkpoints.glob("damaged-*")} == {"damaged-step-000100", "damaged-step-000100-2"}


def test_no_secret_is_left_in_the_scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = _job(tmp_path)
    job.scratch.mkdir(parents=True)
    (job.scratch / "environment").write_text("", encoding="utf-8")
    for name in ("HF_TOKEN", "HF_SECRET_KEY", "HF_password", "NCCL_DEBUG"):
        monkeypatch.setenv(name, "found")
    given = launch._environment(job)
    file = job.scratch / "environment"
    assert [line for line in file.read_text(encoding="utf-8").splitlines() if line.endswith("=found")] == ["NCCL_DEBUG=found"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert given["HF_TOKEN"] == "found"


def test_memory_is_kept_where_a_cpu_computes_and_the_user_says_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = _job(tmp_path)
    job.scratch.mkdir(parents=True)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(launch, "has_gpu", lambda: False)
    assert "glibc.malloc.mmap_max=0" in launch._environment(job)["GLIBC_TUNABLES"]
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    assert launch._environment(job)["GLIBC_TUNABLES"] == "glibc.malloc.check=1"
    monkeypatch.delenv("GLIBC_TUNABLES")
    monkeypatch.setattr(launch, "has_gpu", lambda: True)
    assert "GLIBC_TUNABLES" not in launch._environment(job)


@pytest.mark.parametrize(("free", "full"), [((20, 8), False), ((20, 0), True), ((10,), True)])
def test_only_a_full_disk_is_called_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: tuple[int, ...], full: bool) -> None:
    """A checkpoint of 16 MB; MiB free before and after; another rank was killed while it wrote."""
    model = torch.nn.Linear(1000, 1000, bias=False)
    left = iter(free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=next(left) * 2**20))
    with pytest.raises(StorageError if full else RuntimeError), engine._full_disk(SimpleNamespace(module=model), tmp_path):
        raise RuntimeError("Connection closed by peer")


def test_a_rank_ends_also_where_it_can_leave_no_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = _job(tmp_path)
    job.problem(0).mkdir(parents=True)  # where the note should be
    (job.problem(0) / "file").touch()

    def train(_: Job) -> None:
        raise ValidationFailed("this", where="there", fix="so")

    monkeypatch.setattr(worker, "train", train)
    monkeypatch.setattr(worker, "die_with_parent", lambda: None)
    monkeypatch.setattr(os, "_exit", sys.exit)
    monkeypatch.setattr(sys, "argv", ["worker", str(job.write())])
    with pytest.raises(SystemExit) as ended:
        worker.main()
    assert ended.value.code == EXIT_USER_ERROR
    assert "could not be written" in capsys.readouterr().err


def test_a_training_that_vanishes_while_it_is_looked_at_is_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = _job(tmp_path)
    other = Job(job.config, job.layout, "marked", {**IDENTITY, "taxonomy": "old"})
    _seal(other, 10)
    walk = os.walk

    def vanishing(top: Path) -> Any:
        found = list(walk(top))
        shutil.rmtree(top)
        return found

    monkeypatch.setattr(os, "walk", vanishing)
    assert [item.size for item in scratch.unfinished(job)] == [0]


def test_the_manifest_says_what_the_checkpoint_is_of(tmp_path: Path) -> None:
    manifest = read_json(_seal(_job(tmp_path, ranks=2, zero_stage=2), 5) / checkpoint.MANIFEST)
    assert (manifest["step"], manifest["identity"]) == (5, IDENTITY)
    assert manifest["run"] == {"world_size": 2, "zero_stage": 2, "offload_optimizer": False}
    assert sorted(manifest["files"]) == ["progress.json", *(f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in range(2))]
    assert {tuple(sorted(file)) for file in manifest["files"].values()} == {("bytes", "sha256")}


def test_a_checkpoint_without_the_part_of_a_rank_is_not_sealed(tmp_path: Path) -> None:
    job = _job(tmp_path, nodes=2)
    temporary = job.checkpoints / ".step-000005"
    temporary.mkdir(parents=True)
    _part(temporary).touch()
    with pytest.raises(CheckpointError, match="parts of 1 of 2 ranks"):
        checkpoint.seal(temporary, job, 5, {})
    assert checkpoint.found(job) == []


@pytest.mark.parametrize("harm", ["flip", "cut", "lose", "manifest"])
def test_no_usable_checkpoint_is_refused_with_the_way_out(tmp_path: Path, harm: str) -> None:
    job = _job(tmp_path)
    part = _part(_seal(job, 5))
    if harm == "flip":
        part.write_bytes(part.read_bytes()[:-1] + b"\0")
    elif harm == "cut":
        part.write_bytes(part.read_bytes()[:100])
    elif harm == "lose":
        part.unlink()
    else:
        (part.parent / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"rm -r .*train-marked-"):
        checkpoint.newest_usable(job)


@pytest.mark.parametrize("name", list(IDENTITY))
def test_a_checkpoint_of_other_inputs_is_refused(tmp_path: Path, name: str) -> None:
    job = _job(tmp_path)
    folder = _seal(job, 5)
    other = Job(job.config, job.layout, job.arm, {**IDENTITY, name: "x"})
    shutil.copytree(folder, other.checkpoints / folder.name)
    with pytest.raises(CheckpointError, match=f"other inputs: {name}"):
        checkpoint.newest_usable(other)


@pytest.mark.parametrize(("before", "now"), [({"zero_stage": 3, "ranks": 2}, {"zero_stage": 3}), ({"zero_stage": 2}, {"zero_stage": 3})])
def test_zero_3_does_not_go_on_otherwise_and_says_how_it_does(tmp_path: Path, before: dict[str, int], now: dict[str, int]) -> None:
    folder = _seal(_job(tmp_path, **before), 5)
    with pytest.raises(CheckpointError, match=rf"train\.ranks = {before.get('ranks', 1)}, train\.zero_stage = {before['zero_stage']}"):
        fitting(folder, _job(tmp_path, **now))
    assert fitting(folder, _job(tmp_path, **before)) == folder


def test_a_job_comes_back_as_it_was_written(tmp_path: Path) -> None:
    job = _job(tmp_path, ranks=3, learning_rate=3e-4, node=1)
    assert read_job(job.write()) == job


def test_one_trainer_at_a_time_also_while_ranks_of_an_earlier_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailmark.train.locks._WAIT_S", 0.3)
    assert not is_held(tmp_path)
    with only_trainer(tmp_path):
        assert is_held(tmp_path)
        with pytest.raises(CheckpointError, match=f"Another process .*: process {os.getpid()} on"), only_trainer(tmp_path):
            pass
    held = hold_as_rank(tmp_path)
    with pytest.raises(CheckpointError, match="Ranks of an earlier start"), only_trainer(tmp_path):
        pass
    held.close()
    with only_trainer(tmp_path), hold_as_rank(tmp_path), hold_as_rank(tmp_path):
        pass


@pytest.mark.parametrize("variable", ["TAILMARK_NODE", "SLURM_NODEID", "JOB_COMPLETION_INDEX"])
def test_a_machine_finds_its_number(tmp_path: Path, variable: str) -> None:
    options = _job(tmp_path, nodes=3, rendezvous="first:29500").config.train
    assert node_number(options, {variable: "2"}) == 2
    with pytest.raises(ConfigError, match="TAILMARK_NODE to 0 on the first"):
        node_number(options, {variable: "3"})
    with pytest.raises(ConfigError, match="TAILMARK_NODE to 0 on the first"):
        node_number(options, {})
    assert node_number(_job(tmp_path).config.train, {variable: "2"}) == 0, "one machine leads itself, wherever it runs"


def test_the_commands_of_the_launchers(tmp_path: Path) -> None:
    worker = ["tailmark.train.worker", "job.json"]
    one = launch_command(_job(tmp_path, ranks=4), worker)
    assert one[1:3] == ["-m", "torch.distributed.run"]
    assert {"--standalone", "--nproc-per-node", "4"} <= set(one)
    assert one[-3:] == ["-m", *worker]

    two = launch_command(_job(tmp_path, nodes=2, node=1), worker, {"TAILMARK_RENDEZVOUS": "first:29500"})
    assert "--standalone" not in two
    assert "--nnodes 2 --node-rank 1 --master-addr first --master-port 29500" in " ".join(two)

    deepspeed = launch_command(_job(tmp_path, nodes=2, ranks=3, node=1, launcher="deepspeed", rendezvous="first:29500"), worker)
    assert deepspeed[1:3] == ["-m", "deepspeed.launcher.launch"]
    world = next(item for item in deepspeed if item.startswith("--world_info=")).removeprefix("--world_info=")
    assert json.loads(base64.urlsafe_b64decode(world)) == {"node-0": [0, 1, 2], "node-1": [0, 1, 2]}
    assert {"--node_rank=1", "--master_addr=first", "--master_port=29500", "--module"} <= set(deepspeed)

    (tmp_path / "hosts").write_text("# machines\nfirst slots=8\nsecond slots=8\n", encoding="utf-8")
    ssh = launch_command(_job(tmp_path, nodes=2, ranks=8, hostfile="hosts"), worker)
    assert ssh[1:3] == ["-m", "deepspeed.launcher.runner"]
    assert f"--hostfile {tmp_path / 'hosts'}" in " ".join(ssh)


def test_deepspeeds_launcher_takes_our_command(tmp_path: Path) -> None:
    """Its own parser reads the command for a hostfile, so that no option is misspelt."""
    from deepspeed.launcher.runner import parse_args

    (tmp_path / "hosts").write_text("first slots=8\nsecond slots=8\n", encoding="utf-8")
    job = _job(tmp_path, nodes=2, ranks=8, hostfile="hosts", rendezvous="first:29500")
    read = parse_args(launch_command(job, ["tailmark.train.worker", "job.json"])[3:])
    assert (read.num_nodes, read.num_gpus, read.master_addr, read.master_port) == (2, 8, "first", 29500)
    assert (read.user_script, read.user_args, read.module) == ("tailmark.train.worker", ["job.json"], True)


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"nodes": 2}, "do not know where to meet"),
        ({"nodes": 2, "hostfile": "none"}, "no such hostfile"),
        ({"nodes": 3, "hostfile": "hosts"}, "names 1 machine"),
    ],
)
def test_a_launch_that_cannot_be_says_what_is_missing(tmp_path: Path, train: dict[str, Any], said: str) -> None:
    (tmp_path / "hosts").write_text("first slots=8\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        launch_command(_job(tmp_path, **train), ["worker"], {})


def test_the_ranks_own_error_comes_before_what_followed_from_it(tmp_path: Path) -> None:
    job = _job(tmp_path, ranks=2)
    write_json(job.problem(0), {"kind": "crash", "what": "RuntimeError: Connection closed by peer [127.0.0.1]:1", "where": "x.py:1"})
    write_json(job.problem(1), {"kind": "crash", "what": "ValueError: odd", "where": "y.py:2"})
    error = failure(job, 1)
    assert isinstance(error, TrainingError)
    assert str(error).startswith("Rank 1 failed: ValueError: odd\n  where: rank 1, y.py:2")
    write_json(job.problem(1), {"kind": "ValidationFailed", "what": "this", "where": "there", "fix": "so"})
    error = failure(job, 1)
    assert isinstance(error, ValidationFailed)
    assert (error.what, error.where, error.fix) == ("this", "there", "so")
    write_json(job.problem(1), {"kind": "Stopped", "what": "saved"})
    assert isinstance(failure(job, 1), Stopped)


def test_a_rank_that_says_nothing_is_found_by_what_the_others_say(tmp_path: Path) -> None:
    job = _job(tmp_path, ranks=2, timeout_minutes=3)
    write_json(job.problem(0), {"kind": "crash", "what": "RuntimeError: Timed out waiting 180000ms for recv operation", "where": "x.py:1"})
    assert str(failure(job, 1)).startswith("Rank 1 did not answer for 3 min")
    write_json(job.problem(0), {"kind": "crash", "what": "RuntimeError: Connection closed by peer", "where": "x.py:1"})
    assert str(failure(job, 1)).startswith("Rank 1 ended without a word")
    write_json(job.problem(1), {"kind": "crash", "what": "RuntimeError: Connection closed by peer", "where": "y.py:1"})
    assert str(failure(job, 1)).startswith("Rank 0 failed: RuntimeError: Connection closed")
    job.problem(1).unlink()
    summary = "Root Cause (first observed failure):\n[0]:\n  rank      : 0 (local_rank: 0)\n  exitcode  : -9 (pid: 5)\n"
    job.log.write_text(summary, encoding="utf-8")
    assert str(failure(job, 1)).startswith("Rank 0 was ended by SIGKILL")
    both = "Failures:\n[1]:\n  rank      : 1 (local_rank: 1)\n  exitcode  : -11 (pid: 6)  (SIGSEGV)\n" + summary.replace(": -9", ": 1")
    job.log.write_text(both, encoding="utf-8")
    assert str(failure(job, 1)).startswith("Rank 1 was ended by SIGSEGV"), "the launcher calls the one that noticed the root cause"


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"file://{tmp_path / 'store'}" if request.param == "file" else f"memory://{uuid.uuid4().hex}"


def _flip(url: str) -> None:
    fs, root = fsspec.core.url_to_fs(url)
    path = next(path for path in fs.find(root) if "step-000010" in path and path.endswith("optim_states.pt"))
    fs.pipe_file(path, bytes(200))


def test_checkpoints_come_back_from_a_url_and_damaged_ones_do_not(tmp_path: Path, url: str) -> None:
    job = _job(tmp_path / "here", upload=url)
    remote = Remote(job, url)
    assert remote.names() == []
    for step in (5, 10, 15):
        remote.send(_seal(job, step), keep=2)
    assert remote.names() == ["step-000015", "step-000010"]

    there = _job(tmp_path / "there", upload=url)
    fetched = Remote(there, url).fetch(there.checkpoints)
    assert fetched is not None
    assert fetched == checkpoint.newest_usable(there)
    assert {path.name: sha256_file(path) for path in fetched.iterdir()} == {
        path.name: sha256_file(path) for path in (job.checkpoints / "step-000015").iterdir()
    }

    fs, root = fsspec.core.url_to_fs(remote.url)
    fs.rm(f"{root}/step-000015/{checkpoint.MANIFEST}")
    elsewhere = _job(tmp_path / "elsewhere", upload=url)
    fetched = Remote(elsewhere, url).fetch(elsewhere.checkpoints)
    assert fetched is not None
    assert fetched.name == "step-000010", "without its manifest a checkpoint is not complete"
    _flip(remote.url)
    nowhere = _job(tmp_path / "nowhere", upload=url)
    with pytest.raises(CheckpointError, match="No checkpoint there can be used"):
        Remote(nowhere, url).fetch(nowhere.checkpoints)
    assert not list(nowhere.checkpoints.glob("*"))


def test_a_copy_that_arrives_changed_is_not_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = _job(tmp_path / "here")
    remote = Remote(job, f"file://{tmp_path / 'store'}")
    put = type(remote._fs).put_file

    def harm(self: Any, source: str, target: str, **options: Any) -> None:
        put(self, source, target, **options)
        with Path(target).open("r+b") as file:
            file.write(b"x")

    monkeypatch.setattr(type(remote._fs), "put_file", harm)
    with pytest.raises(StorageError, match="came back changed"):
        remote.send(_seal(job, 5), keep=2)
    assert remote.names() == []


def test_a_url_that_cannot_be_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.upload"):
        Remote(_job(tmp_path), "nosuch://bucket")


def test_a_failed_copy_is_warned_of_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tailmark.train.upload._FIRST_WAIT_S", 0.05)
    monkeypatch.setattr("tailmark.train.upload._LOOK_S", 0.02)
    blocked = tmp_path / "store"
    blocked.touch()  # a file where the folder should be
    job = _job(tmp_path / "here", upload=f"file://{blocked}")
    with uploading(job):
        _seal(job, 5)
        time.sleep(0.3)
        blocked.unlink()
        _seal(job, 10)
    assert Remote(job, f"file://{blocked}").names()[0] == "step-000010", "the last one is awaited"
    assert "warning: checkpoint step-000005 is not at" in capsys.readouterr().out
    assert not (job.scratch / "upload").exists()


def test_a_storage_that_stays_away_is_given_up_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tailmark.train.upload._FIRST_WAIT_S", 0.01)
    (tmp_path / "store").touch()
    job = _job(tmp_path / "here", upload=f"file://{tmp_path / 'store'}")
    uploader = Uploader(job, Remote(job, f"file://{tmp_path / 'store'}"))
    uploader.start()
    _seal(job, 5)
    uploader.finish()
    assert not uploader.is_alive()
    assert "gave up after 5 more tries: checkpoint step-000005 is not at" in capsys.readouterr().out
    with pytest.raises(StorageError, match="cannot be read"):
        Remote(job, f"file://{tmp_path / 'store'}").fetch(job.checkpoints)


def test_a_copy_goes_on_while_newer_checkpoints_push_the_old_one_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailmark.train.upload._LOOK_S", 0.02)
    job = _job(tmp_path / "here", upload=f"file://{tmp_path / 'store'}", keep_checkpoints=1)
    begun, go_on = threading.Event(), threading.Event()
    put = Remote._put

    def slowly(self: Remote, file: Path, target: str) -> None:
        begun.set()
        go_on.wait(10)
        put(self, file, target)

    monkeypatch.setattr(Remote, "_put", slowly)
    with uploading(job):
        _seal(job, 5)
        assert begun.wait(10)
        _seal(job, 10)
        assert not (job.checkpoints / "step-000005").exists()
        go_on.set()
    assert Remote(job, job.config.train.upload or "").names() == ["step-000010"]


def test_only_other_trainings_that_do_not_run_are_cleaned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = _job(tmp_path)
    _seal(job, 5)
    others = [Job(job.config, job.layout, "marked", {**IDENTITY, "taxonomy": name}) for name in ("old", "runs")]
    for other in others:
        other.write()
        _seal(other, 10)
    baseline = Job(job.config, job.layout, "baseline", {**IDENTITY, "taxonomy": "old"})
    _seal(baseline, 5)
    scratch.mention(job)
    assert "stopped at step-000010, other taxonomy" in capsys.readouterr().out
    with only_trainer(others[1].scratch):
        scratch.clean(job)
    assert [item.scratch.exists() for item in (job, baseline, *others)] == [True, True, False, True]
    said = capsys.readouterr().out
    assert f"removed {others[0].scratch.name}" in said
    assert f"kept {others[1].scratch.name}: running" in said


SAVING = """
import signal, sys, time
def save(*_):
    time.sleep(1)
    print("saved", flush=True)
    sys.exit(75)
signal.signal(signal.SIGINT, save)
print("ready", flush=True)
time.sleep(60)
"""


def test_a_stage_that_is_cancelled_gets_the_time_to_save() -> None:
    lines: list[str] = []
    ready = threading.Event()

    def line(text: str) -> None:
        lines.append(text)
        ready.set()

    ended: list[Stopped] = []

    def run() -> None:
        try:
            process.stream([sys.executable, "-c", SAVING], cwd=Path.cwd(), env=dict(os.environ), line=line)
        except Stopped as error:
            ended.append(error)

    stage = threading.Thread(target=run)
    stage.start()
    try:
        assert ready.wait(30)
        process.end_all()
        stage.join(30)
    finally:
        process.allow()
    assert lines == ["ready", "saved"]
    assert len(ended) == 1
    assert leash.PATIENT[signal.SIGINT] >= 60


def test_the_job_scripts_are_sound() -> None:
    """What of `infra/` can be checked without a cluster: the shell's grammar, and that YAML and hostfile can be read."""
    from ruamel.yaml import YAML

    infra = Path(__file__).resolve().parents[2] / "infra"
    subprocess.run(["bash", "-n", str(infra / "train.sbatch")], check=True)
    documents = list(YAML(typ="safe").load_all((infra / "train-job.yaml").read_text(encoding="utf-8")))
    service, job = (next(item for item in documents if item["kind"] == kind) for kind in ("Service", "Job"))
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert service["spec"]["clusterIP"] == "None"
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == 2
    assert pod["subdomain"] == service["metadata"]["name"]
    variables = {item["name"]: item["value"] for item in pod["containers"][0]["env"]}
    host, port = variables["TAILMARK_RENDEZVOUS"].split(":")
    assert host == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert int(port) == service["spec"]["ports"][0]["port"]
    hosts = [line.split() for line in (infra / "hostfile").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    assert all(len(fields) == 2 and fields[1].startswith("slots=") for fields in hosts)
