"""The few things that flows ask of git."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from tailmark.errors import ConfigError, StageFailed

_NEVER = (".dvc/config.local", ".tailmark")
"""What holds credentials, and what is a run's own: not committed in a repository that does not ignore them either."""

_AUTHOR = ("-c", "user.name=tailmark", "-c", "user.email=tailmark@localhost")


def git(root: Path, *arguments: str, env: dict[str, str] | None = None) -> str:
    """Run git and return what it printed.

    Raises:
        StageFailed: it failed; its own message is in the error.
    """
    done = subprocess.run(
        ["git", *arguments], cwd=root, env=os.environ | (env or {}), capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["without a message"]
        raise StageFailed(f"`git {arguments[0]}` failed: {said[-1]}", where=str(root), fix="mend that and run the same command again")
    return done.stdout.strip()


def resolve(root: Path, revision: str) -> str:
    """The commit that a branch, tag or hash names.

    Raises:
        ConfigError: there is no such revision.
    """
    try:
        return git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except StageFailed:
        fix = "give a branch, a tag or a commit that `git log` shows; `git fetch` brings those of others"
        raise ConfigError(f"There is no revision '{revision}'.", where=str(root), fix=fix) from None


def has_branch(root: Path, branch: str) -> bool:
    """Whether there is such a branch; no, outside git."""
    command = ["git", "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}"]
    return subprocess.run(command, cwd=root, capture_output=True, check=False).returncode == 0


def file_at(root: Path, revision: str, path: str) -> str | None:
    """The text of a file as a revision holds it; None where it holds none."""
    done = subprocess.run(["git", "show", f"{revision}:{path}"], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def changes(root: Path) -> list[str]:
    """Files that differ from the last commit, new ones too; `dvc.lock` does not count: every run writes it."""
    lines = git(root, "status", "--porcelain", "--untracked-files=all", "--", ".", ":!dvc.lock").splitlines()
    return [line.strip().split(maxsplit=1)[-1] for line in lines]


def snapshot(root: Path) -> str:
    """A commit that holds the working tree as it is, on top of the last one; neither index nor branch changes."""
    with tempfile.TemporaryDirectory() as folder:
        env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git(root, "read-tree", "HEAD", env=env)
        git(root, "add", "--all", "--", *_all(root), env=env)
        tree = git(root, "write-tree", env=env)
    return git(root, *author(root), "commit-tree", tree, "-p", "HEAD", "-m", "Uncommitted changes that a run was started with")


def _all(root: Path) -> list[str]:
    """Pathspecs of all that may be committed. (Git refuses to leave out by name what it ignores anyway.)"""
    open_ = [name for name in _NEVER if subprocess.run(["git", "check-ignore", "-q", name], cwd=root, check=False).returncode != 0]
    return [".", *(f":!{name}" for name in open_)]


def commit_all(root: Path, message: str) -> bool:
    """Commit whatever differs from the last commit; returns whether anything did."""
    git(root, "add", "--all", "--", *_all(root))
    if not git(root, "diff", "--cached", "--name-only"):
        return False
    git(root, *author(root), "-c", "commit.gpgsign=false", "commit", "--quiet", "--no-verify", "-m", message)
    return True


def author(root: Path) -> tuple[str, ...]:
    """Options that name an author where the machine's configuration names none."""
    done = subprocess.run(["git", "config", "user.email"], cwd=root, capture_output=True, check=False)
    return () if done.returncode == 0 or os.environ.get("GIT_AUTHOR_EMAIL") else _AUTHOR
