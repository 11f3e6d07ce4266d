"""Where a run works: what it starts from, what it shares, what it leaves. Real git, real DVC."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tailmark import runs, tracking
from tailmark.config import load_config
from tailmark.errors import ConfigError, StageFailed, Stopped
from tailmark.layout import Layout
from tailmark.profiles import use_profile
from tasks import leash, process
from tasks.datachange import Change
from tasks.git import changes, has_branch
from tasks.parameters import Request
from tasks.stored import folder_files, read_output
from tasks.workspace import checkout, result, start_commit, worktree

ROOT = Path(__file__).resolve().parents[2]


def git(root: Path, *arguments: str) -> str:
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    return subprocess.run(["git", *author, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template")
    git(root, "init", "-q", "-b", "main")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=root, check=True)
    (root / "params").mkdir()
    for name in ("demo", "tiny"):
        (root / "params" / f"{name}.yaml").write_text((ROOT / "params" / f"{name}.yaml").read_text())
    use_profile(root, "demo")
    (root / ".gitignore").write_text("/.tailmark/\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "start")
    return root


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "home"))


def request(home: Path, **asked: object) -> Request:
    return Request.model_validate({"root": home, **asked})


def test_what_to_do_with_changes(home: Path) -> None:
    head = git(home, "rev-parse", "HEAD")
    assert {start_commit(home, "HEAD", choice) for choice in ("refuse", "include", "ignore")} == {head}
    (home / "dvc.lock").write_text("schema: '2.0'\n")
    assert changes(home) == [], "every run writes dvc.lock"
    (home / "params.yaml").write_text((home / "params.yaml").read_text() + "\n")
    (home / "new file.txt").write_text("new")
    before = git(home, "status", "--porcelain")
    with pytest.raises(ConfigError, match=r"params\.yaml") as caught:
        start_commit(home, "HEAD", "refuse")
    assert "uncommitted" in str(caught.value)
    assert start_commit(home, "HEAD", "ignore") == head
    held = start_commit(home, "HEAD", "include")
    assert git(home, "show", f"{held}:new file.txt") == "new"
    assert git(home, "rev-parse", f"{held}^") == head
    assert (git(home, "status", "--porcelain"), git(home, "rev-parse", "HEAD")) == (before, head)


def test_changes_do_not_matter_to_another_revision(home: Path) -> None:
    git(home, "branch", "older")
    (home / "more.txt").write_text("more")
    git(home, "add", "-A")
    git(home, "commit", "-q", "-m", "more")
    (home / "more.txt").write_text("changed")
    assert start_commit(home, "older", "refuse") == git(home, "rev-parse", "older")


@pytest.mark.parametrize("revision", ["nothing", "--help", ""])
def test_no_such_revision(home: Path, revision: str) -> None:
    with pytest.raises(ConfigError, match="There is no revision"):
        start_commit(home, revision, "refuse")


def test_a_worktree_shares_what_runs_go_on_from(home: Path) -> None:
    with worktree(request(home, overrides=("seed=5",), profile="tiny"), "run-1") as place:
        assert place.root != home
        state = Layout(place.root).state
        assert (state / "scratch").resolve() == Layout(home).state / "scratch"
        assert not (state / "data_docs").exists()
        assert str(home / ".dvc" / "cache") in (place.root / ".dvc" / "config.local").read_text()
        assert "seed: 5" in git(place.root, "show", "HEAD:params.yaml"), "options are committed before anything runs"
        assert "profile: tiny" in git(place.root, "show", "HEAD:params.yaml")
        (place.root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    assert not place.root.exists()
    assert git(home, "worktree", "list").count("\n") == 0
    assert git(home, "show", "tailmark/run-1:dvc.lock").startswith("schema")
    assert "seed: 17" in (home / "params.yaml").read_text()
    assert git(home, "status", "--porcelain") == ""


@pytest.mark.parametrize("address", ["../data/train/a.jsonl", "zip://*.csv::../data/train/a.jsonl"])
def test_a_path_that_leaves_the_checkout_means_the_same_file_in_a_worktree(home: Path, address: str) -> None:
    outside = home.parent / "data" / "train"
    outside.mkdir(parents=True)
    (outside / "a.jsonl").write_text("{}")
    source = json.dumps([{"kind": "jsonl", "name": "a", "path": address, "license": "CC0-1.0", "prompt": "q", "completion": "a"}])
    for name in ("run-1", "run-2"):
        with worktree(request(home, overrides=(f"ingest.sources={source}",)), name) as place:
            path = load_config(place.root / "params.yaml").ingest.sources[0].path
            assert path == address
            assert (place.root / address.split("::")[-1]).read_text() == "{}"
    assert (outside / "a.jsonl").exists(), "leaving a worktree takes nothing away outside"


def test_credentials_are_not_committed_though_git_would_take_them(home: Path) -> None:
    (home / ".dvc" / ".gitignore").unlink()
    (home / ".gitignore").unlink()
    git(home, "add", "-A", "--", ".", ":!.tailmark", ":!.dvc/tmp", ":!.dvc/cache")
    git(home, "commit", "-q", "-m", "ignores nothing")
    subprocess.run([sys.executable, "-m", "dvc", "remote", "add", "--local", "store", "webdavs://example.org/x"], cwd=home, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "remote", "modify", "--local", "store", "password", "sesame"], cwd=home, check=True)
    held = start_commit(home, "HEAD", "include")
    with worktree(request(home, overrides=("seed=5",), uncommitted="include"), "run-1") as place:
        assert "sesame" in (place.root / ".dvc" / "config.local").read_text()
    for commit in (held, "tailmark/run-1"):
        names = git(home, "ls-tree", "-r", "--name-only", commit).splitlines()
        assert not [name for name in names if name.startswith(".tailmark") or name == ".dvc/config.local"]


@pytest.mark.parametrize(
    ("header", "overrides", "told"),
    [
        (True, ["seed=5"], False),
        (True, ["train.end_loss_weight=1.0"], True),
        (True, ["train.end_loss_weight=2.0"], True),
        (False, ["seed=5"], True),
    ],
)
def test_code_older_than_an_option_is_not_told_of_it_unless_it_is_asked_for(
    home: Path, header: bool, overrides: list[str], told: bool
) -> None:
    lines = (home / "params.yaml").read_text().splitlines()
    older = [line for line in lines if "end_loss_weight" not in line and (header or not line.startswith("#"))]
    assert len(older) < len(lines)
    (home / "params.yaml").write_text("\n".join(older) + "\n")
    git(home, "commit", "-q", "-a", "-m", "as an earlier version wrote it")
    with worktree(request(home, overrides=tuple(overrides), profile="tiny"), "older") as place:
        assert ("end_loss_weight" in (place.root / "params.yaml").read_text()) == told
        assert load_config(place.root / "params.yaml").profile == "tiny"


@pytest.mark.parametrize("asked", [{"overrides": ["sed=5"]}, {"profile": "no-such"}, {"overrides": ["prepare.epochs=0"]}])
def test_what_cannot_be_asked_for_leaves_nothing(home: Path, asked: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="fix:"), worktree(request(home, **asked), "run-1"):
        pass
    assert not has_branch(home, "tailmark/run-1")
    assert list((Layout(home).state / "worktrees").iterdir()) == []


def test_a_run_that_made_nothing_leaves_no_branch(home: Path) -> None:
    with pytest.raises(StageFailed), worktree(request(home, overrides=("seed=5",)), "run-1"):
        raise StageFailed("the first stage failed")
    assert not has_branch(home, "tailmark/run-1")


def test_the_worktree_of_a_killed_run_is_cleared_up_by_the_next(home: Path) -> None:
    killed = worktree(request(home, overrides=("seed=5",)), "killed")
    place = killed.__enter__()
    runs.begin(Layout(home), "pipeline", "killed", commit=place.commit).update(process=2**22 + 1)
    (place.root / "dvc.lock").write_text("schema: '2.0'\n")
    with worktree(request(home), "next") as other:
        assert [path.name for path in other.root.parent.parent.iterdir()] == ["next"]
    assert git(home, "show", "tailmark/killed:dvc.lock") == "schema: '2.0'"
    with suppress(OSError):  # its folder is gone
        killed.__exit__(None, None, None)


_RUN = """
import sys, time
from pathlib import Path
from tasks.parameters import Request
from tasks.workspace import worktree
with worktree(Request(root=Path(sys.argv[1]), overrides=("seed=5",)), "again") as place:
    (place.root / "dvc.lock").write_text("schema: '2.0'")
    print("works", flush=True)
    time.sleep(100)
"""


def test_a_killed_run_of_the_same_name_is_no_obstacle(home: Path) -> None:
    """A member of a sweep has the same name when it is started again, and its record is overwritten before anything is cleared up."""
    with subprocess.Popen([sys.executable, "-c", _RUN, str(home)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "works\n"
        with pytest.raises(StageFailed, match=f"process {run.pid}"), worktree(request(home), "again"):
            pass
        run.kill()
    runs.begin(Layout(home), "pipeline", "again")
    with worktree(request(home, overrides=("seed=6",)), "again") as place:
        assert "seed: 6" in (place.root / "params.yaml").read_text()
        assert not (place.root / "dvc.lock").exists()
        with pytest.raises(StageFailed, match=f"process {os.getpid()}"), worktree(request(home), "again"):
            pass
    assert list((Layout(home).state / "worktrees").iterdir()) == []


def test_a_checkout_takes_one_run_and_no_other_options(home: Path) -> None:
    with pytest.raises(ConfigError, match="cannot have another revision"), checkout(request(home, overrides=("seed=5",))):
        pass
    with checkout(request(home)), pytest.raises(StageFailed, match=f"process {os.getpid()}"), checkout(request(home)):
        pass
    with checkout(request(home)) as place:
        assert (place.root, place.home, place.branch) == (home, home, None)


def test_a_store_that_is_away_is_named_without_its_password(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:sesame@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config, layout = load_config(home / "params.yaml"), Layout(home)
    assert tracking.open_parent(config, layout, "run-1") is None
    tracking.prepare(config, layout)
    tracking.close_parent(config, layout, "0" * 32, "FAILED")
    with tracking.start_run("ingest", config=config, layout=layout, stage="ingest"):
        pass
    shown = capsys.readouterr().out
    assert shown.count("MLflow cannot be reached") >= 4
    assert "***@127.0.0.1:9" in shown
    assert "sesame" not in shown


def test_outputs_are_read_by_branch(home: Path) -> None:
    (home / "dvc.yaml").write_text("stages:\n  a:\n    cmd: mkdir d && echo 1 > d/x && echo 2 > f\n    outs: [d, f]\n")
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=home, check=True)
    git(home, "add", "-A")
    git(home, "commit", "-q", "-m", "made")
    assert read_output(home, "main", "f") == b"2\n"
    assert read_output(home, "main~1", "f") is None
    assert read_output(home, "main", "other") is None
    files = folder_files(home, "main", "d")
    assert files is not None
    assert files["x"].read_text() == "1\n"
    files["x"].unlink()
    assert folder_files(home, "main", "d") is None, "a part of it is gone"


def test_what_a_run_made_can_be_read_as_files_and_is_taken_away_again(home: Path) -> None:
    (home.parent / "shared").mkdir()
    with worktree(request(home, overrides=("seed=3",)), "run") as place:
        (place.root / "dvc.yaml").write_text("stages:\n  a:\n    cmd: mkdir d && echo 1 > d/x\n    outs: [d]\n")
        subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=place.root, check=True)
    with result(home, "tailmark/run") as root:
        assert (root / "d" / "x").read_text() == "1\n"
        assert load_config(root / "params.yaml").seed == 3
        assert git(root, "status", "--porcelain") == ""
        with pytest.raises(StageFailed, match=f"process {os.getpid()}"), result(home, "tailmark/run"):
            pass
        assert root.exists(), "who found it taken has not taken it away"
    assert not root.exists()
    assert len(git(home, "worktree", "list").splitlines()) == 1
    root.mkdir(parents=True)  # what a killed one left
    with result(home, "tailmark/run") as again:
        assert (again / "d" / "x").exists()
    with pytest.raises(ConfigError, match="no revision 'tailmark/other'"), result(home, "tailmark/other"):
        pass


def test_how_far_data_may_move() -> None:
    assert Change(10, 10, 0, None).reasons(1, 1) == ["nothing was trained before"]
    still = Change(100, 3, 2, {"lang": 0.1, "domain": 0.02})
    assert still.share == 0.05
    assert still.reasons(0.1, 0.05) == []
    moved = still.reasons(0.05, 0.04)
    assert [text.split()[0] for text in moved] == ["lang", "3"]
    assert still.markdown().index("| lang |") < still.markdown().index("| domain |"), "the furthest first"


@pytest.fixture
def started() -> None:
    process.allow()


def run_in_thread(command: str, limit_s: float | None = None) -> tuple[threading.Thread, list[object]]:
    found: list[object] = []

    def run() -> None:
        try:
            found.append(process.stream(["sh", "-c", command], cwd=Path("/"), env={"PATH": os.defpath}, line=found.append, limit_s=limit_s))
        except (Stopped, StageFailed) as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


@pytest.mark.usefixtures("started")
def test_a_process_is_ended_with_all_it_started() -> None:
    thread, found = run_in_thread("sleep 317 & echo $!; wait")
    deadline = time.monotonic() + 20
    while not found:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child = int(str(found[0]))
    began = time.monotonic()
    process.end_all(leash.PROMPT)
    thread.join(10)
    assert time.monotonic() - began < sum(leash.PROMPT.values())
    assert isinstance(found[-1], Stopped)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    with pytest.raises(Stopped):
        process.stream(["true"], cwd=Path("/"), env={}, line=print)
    process.allow()
    assert process.stream(["true"], cwd=Path("/"), env={"PATH": os.defpath}, line=print) == 0


@pytest.mark.usefixtures("started")
def test_a_time_limit() -> None:
    thread, found = run_in_thread("sleep 318", limit_s=0.3)
    thread.join(30)
    assert isinstance(found[-1], StageFailed)
    assert "hours_per_stage" in str(found[-1])


def test_prompt_is_less_than_ten_seconds() -> None:
    assert sum(leash.PROMPT.values()) < 10
    assert list(leash.PROMPT) == [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]


def test_the_leash_ends_what_its_holder_left_behind(tmp_path: Path) -> None:
    """The holder is killed by SIGKILL, so that only the leash can end the group."""
    script = (
        "import sys; from pathlib import Path; from tasks import process\n"
        "command, env = ['sh', '-c', 'echo $$; exec sleep 319'], {'PATH': '/usr/bin:/bin'}\n"
        "process.stream(command, cwd=Path('/'), env=env, line=lambda text: print(text, flush=True))\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert holder.stdout is not None
    group = int(holder.stdout.readline())
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{group}/stat").exists() and Path(f"/proc/{group}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)
