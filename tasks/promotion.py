"""Judging and deciding a promotion as Prefect tasks; a proposal goes on as a dataclass, an entry as JSON, a verdict also as artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact

from tailmark.config import load_config
from tailmark.layout import Layout
from tailmark.register import command
from tailmark.register.gate import Verdict
from tailmark.register.promote import Approval, Proposal, decide, judge, rollback
from tailmark.register.registry import open_registry
from tasks import announce


@task
def judge_version(root: Path, version: str | None) -> Proposal:
    """Hold a version against champion and baseline; the verdict becomes an artifact, and a page under `.tailmark/promotion`."""
    layout = Layout(root)
    with open_registry(load_config(root / "params.yaml"), layout) as registry:
        proposal = judge(registry, version)
    command.show_verdict(proposal, command.keep_page(layout, proposal))
    announce.verdict(proposal.verdict)
    create_markdown_artifact(
        markdown=markdown(proposal.verdict), key=f"verdict-version-{proposal.version}", description="the gate's verdict"
    )
    return proposal


@task
def decide_version(root: Path, proposal: Proposal, approval: Approval | None) -> dict[str, Any]:
    """Promote or refuse, and write it into the log. Returns the log's entry."""
    with open_registry(load_config(root / "params.yaml"), Layout(root)) as registry:
        entry = decide(registry, proposal, approval)
        command.show_entry(registry, entry)
    announce.decided(entry)
    return entry.model_dump(mode="json")


@task
def roll_back(root: Path, to: str | None, reason: str) -> dict[str, Any]:
    """Give the champion's alias back. Returns the log's entry."""
    with open_registry(load_config(root / "params.yaml"), Layout(root)) as registry:
        entry = rollback(registry, to, reason)
        command.show_entry(registry, entry)
    announce.decided(entry)
    return entry.model_dump(mode="json")


def markdown(verdict: Verdict) -> str:
    """The verdict as Prefect shows it."""
    said = "may become the champion" if verdict.passed else "does not pass"
    lines = [f"# {verdict.name} version {verdict.challenger.version} {said}", ""]
    lines += ["| check | | what was found |", "|---|---|---|"]
    for check in verdict.checks:
        found = check.said if check.passed or not check.fix else f"{check.said}. To do: {check.fix}"
        lines.append(f"| {check.title} | {'holds' if check.passed else '**fails**'} | {found.replace('|', '/')} |")
    return "\n".join(lines) + "\n"
