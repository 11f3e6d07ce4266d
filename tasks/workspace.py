"""Where a run works: in the checkout itself, or in a git worktree of its own that shares the DVC cache and unfinished trainings."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from dvc.config import Config as DvcConfig

from tailmark import runs
from tailmark.config import load_config
from tailmark.console import say
from tailmark.errors import ConfigError, StageFailed
from tailmark.layout import Layout
from tailmark.profiles import keep_known, known_options, override, use_profile
from tailmark.tracking import PARENT_VARIABLE
from tasks import git
from tasks.graph import cache_folder, dvc_settings
from tasks.parameters import AS_COMMITTED, Request, Uncommitted

_SHARED = ("llm-cache", "mlflow", "mlflow-unsent", "registry", "scratch")
"""What runs share of `.tailmark`: what they go on from, and where they report. The rest is a run's own."""

_NEIGHBOUR = re.compile(r"""(?:^|[\s"'\[,:])\.\./([^./][^/\s"'\],:*?]*)""", re.MULTILINE)
"""The first name of a path that leaves the checkout."""


@dataclass(frozen=True)
class Workspace:
    """A place in which stages run.

    Attributes:
        root: the folder that holds `dvc.yaml` and everything the stages read and write.
        home: the checkout that the run belongs to; the same folder, or the one the worktree came from.
        branch: where the result is committed; None in a checkout.
        commit: what the stages run from; None outside git.
        parent: the MLflow run that the stages' runs nest under.
    """

    root: Path
    home: Path
    branch: str | None = None
    commit: str | None = None
    parent: str | None = None

    def under(self, parent: str | None) -> Workspace:
        """The same place, with the stages' MLflow runs under `parent`."""
        return replace(self, parent=parent)

    @property
    def environment(self) -> dict[str, str]:
        """A stage's environment: this process's, its virtual environment's commands first, the worktree's own code, output unbuffered."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        found = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "SHELL": "/bin/sh"}
        if self.root != self.home and (self.root / "src").is_dir():
            found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(self.root / "src"), os.environ.get("PYTHONPATH", "")]))
        if self.parent:
            found[PARENT_VARIABLE] = self.parent
        return found


@contextmanager
def checkout(request: Request) -> Iterator[Workspace]:
    """The checkout as it stands, for one run at a time.

    Raises:
        ConfigError: the request asks for what only a worktree can give.
        StageFailed: another run works there.
    """
    root = request.root.resolve()
    if (request.revision, request.profile, request.overrides) != ("HEAD", AS_COMMITTED, ()):
        raise ConfigError(
            "A run in the checkout takes its files and `params.yaml` as they are; it cannot have another revision, profile or overrides.",
            where=str(root),
            fix="choose the workspace 'worktree', or edit `params.yaml`",
        )
    with _only_run(Layout(root).state, root):
        yield Workspace(root, root)


@contextmanager
def _only_run(folder: Path, root: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "pipeline.lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StageFailed(
                f"Another run works in this checkout: process {file.read()}.",
                where=str(root),
                fix="wait until it ends; runs in worktrees (`--worktree`) can go on side by side",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def worktree(request: Request, name: str) -> Iterator[Workspace]:
    """A worktree on the branch `tailmark/<name>`, removed when the block ends; what was made until then is committed on the branch.

    The branch of a run that failed before it made anything is removed too.

    Raises:
        ConfigError: there is no such revision, profile or option, or the tree has changes and the request refuses them.
        StageFailed: a run of this name works there.
    """
    home = request.root.resolve()
    _clear_up(home)
    start = start_commit(home, request.revision, request.uncommitted)
    root = _place(home, name)
    with _only_run(root.parent, root):
        _take_away(home, root)  # a run of this name that was killed may have left one
        with _in_worktree(request, name, home, root, start) as place:
            yield place


@contextmanager
def _in_worktree(request: Request, name: str, home: Path, root: Path, start: str) -> Iterator[Workspace]:
    branch = branch_of(name)
    git.git(home, "worktree", "add", "--quiet", "-B", branch, str(root), start)
    empty: str | None = start
    try:
        _share(home, root)
        empty = _set_options(root, request, name)
        _link_neighbours(home, root)
        _bring_data(root)
        yield Workspace(root, home, branch, empty)
        empty = None
    finally:
        _leave(home, root, branch, empty)


@contextmanager
def result(home: Path, revision: str) -> Iterator[Path]:
    """What a run made, as files to read: a worktree of its branch with data and models from the cache, removed when the block ends.

    Raises:
        ConfigError: there is no such revision.
        StageFailed: another process reads it there.
    """
    home, commit = home.resolve(), git.resolve(home, revision)
    root = _place(home, f"result-{commit[:12]}")
    with _only_run(root.parent, root):
        _take_away(home, root)
        git.git(home, "worktree", "add", "--quiet", "--detach", str(root), commit)
        try:
            _share(home, root)
            _link_neighbours(home, root)
            _bring_data(root)
            yield root
        finally:
            shutil.rmtree(root.parent, ignore_errors=True)
            git.git(home, "worktree", "prune")


def _take_away(home: Path, root: Path) -> None:
    """Remove a worktree and the links beside it, but not the lock that stands there too."""
    shutil.rmtree(root, ignore_errors=True)
    for path in root.parent.iterdir():
        if path.is_symlink():
            path.unlink()
    git.git(home, "worktree", "prune")


def _place(home: Path, name: str) -> Path:
    """Where a run's worktree stands: in a folder of the run's own, beside its lock and links to the checkout's neighbours."""
    return Layout(home).state / "worktrees" / name / home.name


def branch_of(name: str) -> str:
    """The branch of the run with this name."""
    return f"tailmark/{name}"


def start_commit(home: Path, revision: str, uncommitted: Uncommitted) -> str:
    """The commit that a run starts from.

    Raises:
        ConfigError: there is no such revision, or it is what is checked out, with changes that are refused.
    """
    commit = git.resolve(home, revision)
    if uncommitted == "ignore" or commit != git.resolve(home, "HEAD"):
        return commit
    changed = git.changes(home)
    if not changed:
        return commit
    if uncommitted == "include":
        return git.snapshot(home)
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    raise ConfigError(
        f"The working tree has changes that are not committed: {', '.join(changed[:3])}{more}.",
        where=str(home),
        fix="commit them, or say what to do with them: `uncommitted` may be include or ignore",
    )


def _share(home: Path, root: Path) -> None:
    """Give the worktree the checkout's DVC cache, remotes and what runs share of its state."""
    with DvcConfig(dvc_dir=str(root / ".dvc")).edit("local") as settings:
        settings.update(dvc_settings(home))
        settings.setdefault("cache", {})["dir"] = cache_folder(home)
    state = Layout(home).state
    Layout(root).state.mkdir(exist_ok=True)
    for name in _SHARED:
        (state / name).mkdir(exist_ok=True)
        (Layout(root).state / name).symlink_to(state / name, target_is_directory=True)


def _set_options(root: Path, request: Request, name: str) -> str:
    """Write and check `params.yaml`; committed before anything runs, so that every record of the run names a commit that holds it.

    Returns that commit.
    """
    known = known_options(root)
    if request.profile != AS_COMMITTED:
        use_profile(root, request.profile)
    override(root, request.overrides)
    if known is not None:  # the revision's code may be older than this one
        keep_known(root, known | {name for name, _, _ in (text.partition("=") for text in request.overrides)})
    load_config(root / "params.yaml")
    git.commit_all(root, f"Options of {name}\n\n" + "\n".join([f"profile: {request.profile}", *request.overrides]))
    return git.resolve(root, "HEAD")


def _link_neighbours(home: Path, root: Path) -> None:
    """Let an option's path to a neighbour of the checkout (`../shared/data`) lead to the same file from the worktree."""
    for name in set(_NEIGHBOUR.findall((root / "params.yaml").read_text(encoding="utf-8"))):
        if (home.parent / name).exists() and name != root.name:
            (root.parent / name).symlink_to(home.parent / name)


def _clear_up(home: Path) -> None:
    """Take away the worktrees of runs whose process is gone; what they had made is committed on their branches."""
    for record in runs.last_runs(Layout(home)):
        root = _place(home, record.name)
        if record.gone and root.exists():
            with suppress(StageFailed, OSError):  # another run clears up at the same time
                _leave(home, root, branch_of(record.name), record.commit)


def _bring_data(root: Path) -> None:
    """Take from the cache what `dvc.lock` and `.dvc` files name; what is not there is made, or pulled, by the stages that need it."""
    command = [sys.executable, "-m", "dvc", "checkout", "--quiet", "--allow-missing"]
    if (root / "dvc.lock").exists() or any(git.git(root, "ls-files", "*.dvc").splitlines()):
        subprocess.run(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def _leave(home: Path, root: Path, branch: str, empty: str | None) -> None:
    """Commit what was made, and take the worktree away; the branch too, where it is at the commit `empty`."""
    try:
        git.commit_all(root, f"What {branch.removeprefix('tailmark/')} made")
    finally:
        shutil.rmtree(root.parent, ignore_errors=True)
        git.git(home, "worktree", "prune")
    if git.resolve(home, branch) == empty:
        git.git(home, "branch", "--quiet", "-D", branch)
    else:
        say(f"The result is on branch {branch}: `git checkout {branch}`, then `dvc checkout`.")
