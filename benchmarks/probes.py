"""Ask the models of finished sweeps what their evaluations did not: every probe of the members that docs/experiment.md reports it for.

    python -m benchmarks.probes sweeps/paper-dropouts.yaml --revision REV    # `make experiment` does it after the sweeps

A member's data and models are taken from DVC's cache into a worktree that is removed afterwards; nothing is trained. Results are kept in
`--out`/probes, a file for each probe and member, and not made again: remove a file to make it anew. Prints their tables, in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import markdown
from flows.guard import guarded
from tailmark.console import say
from tailmark.errors import StageFailed
from tailmark.files import write_text
from tasks import git
from tasks.comparison import outcome
from tasks.sweepfile import Member, members, read_sweep
from tasks.workspace import branch_of, result

PROBES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "paper": {"lists": ("50_50", "50_50,seed=18"), "decoding": ("50_50", "50_50,seed=18"), "repairs": ("50_50", "50_50,seed=18")},
    "paper-ablation": {"given": ("prompt,seed=18",)},
    "paper-dropouts": {"inferred": ("50_50", "list-dropout", "list-dropout-20", "list-dropout-30"), "quality": ("quality",)},
    "length": {"endings": ("steps", "sentences", "ends", "everything")},
}
"""By the sweep's name: which probe is run of which members."""

Results = list[dict[str, Any]]
"""A probe's lines; the first says the machine and the commit."""


def wanted(root: Path, file: str, revision: str, profile: str) -> Iterator[tuple[str, Member]]:
    """Every probe of a sweep with a member that it is run of and that is done."""
    sweep = read_sweep(root / file)
    every = {member.name: member for member in members(sweep, root, git.resolve(root, revision), profile)}
    for probe, names in PROBES.get(sweep.name, {}).items():
        yield from ((probe, every[name]) for name in names if outcome(root, every[name].run) is not None)


def asked(root: Path, probe: str, member: Member, folder: Path) -> Results:
    """A probe's lines of one member, made where they are not there.

    Raises:
        StageFailed: the probe ended with an error, which it has printed.
    """
    out = (folder / "probes" / f"{probe}-{member.run}.jsonl").resolve()
    if not out.exists():
        say(f"\n{probe} of {member.name}:")
        out.parent.mkdir(parents=True, exist_ok=True)
        with result(root, branch_of(member.run)) as place:
            _run(root, place, probe, out)
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def _run(root: Path, place: Path, probe: str, out: Path) -> None:
    """Run a probe of this checkout's code (`-P`: not the worktree's) over what the worktree holds."""
    code = os.pathsep.join([str(root), str(root / "src")])
    command = [sys.executable, "-P", "-m", f"benchmarks.{probe}", "--out", str(out)]
    if subprocess.run(command, cwd=place, env=os.environ | {"PYTHONPATH": code}, check=False).returncode != 0:
        raise StageFailed(f"The probe '{probe}' failed.", where=str(place), fix="its message stands above; mend that and run it again")


def table(results: Mapping[str, Results]) -> Iterator[str]:
    """One table for a probe: a line for each result of each member."""
    columns = list(dict.fromkeys(key for lines in results.values() for line in lines[1:] for key in line))
    rows = [(name, line) for name, lines in results.items() for line in lines[1:]]
    return markdown.table(("member", *columns), ([name, *(_cell(line.get(key, "")) for key in columns)] for name, line in rows))


def _cell(value: object) -> str:
    return "; ".join(f"{key}: {_cell(item)}" for key, item in value.items()) if isinstance(value, Mapping) else str(value)


def page(root: Path, given: argparse.Namespace, failed: list[str]) -> Iterator[str]:
    """The tables of all probes of all sweeps, each with its commits; `failed` gets those that failed, which do not end the others."""
    for file in given.files:
        by_probe: dict[str, dict[str, Results]] = {}
        for probe, member in wanted(root, file, given.revision, given.profile):
            try:
                by_probe.setdefault(probe, {})[member.name] = asked(root, probe, member, given.out)
            except StageFailed as error:
                say(str(error))
                failed.append(f"{probe} of {member.name}")
        for probe, results in ((name, results) for name, results in by_probe.items() if results):
            commits = sorted({str(lines[0]["code"]["commit"])[:7] for lines in results.values()})
            yield f"## {read_sweep(root / file).name}: {probe}\n\nCode of {', '.join(commits)}."
            yield "\n".join(table(results))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, print all tables and keep them in `probes.md`; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="the sweeps")
    parser.add_argument("--revision", default="HEAD", help="what the sweeps ran from")
    parser.add_argument("--profile", default="bench")
    parser.add_argument("--out", type=Path, default=Path(".tailmark/experiment"))
    return guarded(lambda: _show(parser.parse_args(arguments)))


def _show(given: argparse.Namespace) -> None:
    failed: list[str] = []
    text = "\n\n".join(page(Path.cwd(), given, failed))
    if text:
        say(f"\n{text}")
        write_text(given.out / "probes.md", text + "\n")
    if failed:
        fix = "their messages stand above; mend that and run this again: it does only what is missing"
        raise StageFailed(f"{len(failed)} probes failed: {', '.join(failed)}.", fix=fix)


if __name__ == "__main__":
    sys.exit(main())
