"""Promotion as a flow: judge, ask a person where `gate.approval` says so, decide.

`python -m flows.promote [--version V]` runs it in this checkout; `--rollback [--to V]` gives the alias back to an earlier champion.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.exceptions import FlowPauseTimeout, TerminationSignal
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL

from tailmark.config import load_config
from tailmark.console import say
from tailmark.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, TailmarkError
from tailmark.register.promote import Approval, Proposal
from tasks.approval import ask
from tasks.promotion import decide_version, judge_version, markdown, roll_back
from tasks.server import local_server

REFUSED = 1


@flow(name="promote")
def promote(root: Path = Path(), version: str | None = None) -> dict[str, Any]:
    """Hold a version (default: the challenger) against champion and baseline, and make it the champion if it passes.

    Returns the promotion log's entry as JSON. A refusal is a result, not a failure.

    Raises:
        PromotionError: another decision moved the champion meanwhile.
    """
    root = root.resolve()
    proposal = judge_version(root, version)
    return decide_version(root, proposal, _approval(root, proposal))


def _approval(root: Path, proposal: Proposal) -> Approval | None:
    """A person's answer, where one is needed: what fails the gate is refused without asking. No answer in time is a refusal."""
    gate = load_config(root / "params.yaml").gate
    if not (gate.approval and proposal.verdict.passed):
        return None
    say(f"promote: waiting for a person's answer, up to {gate.approval_hours:g} h, at {PREFECT_UI_URL.value() or PREFECT_API_URL.value()}")
    try:
        title = f"{proposal.verdict.name} version {proposal.version} passes the gate: make it the champion?"
        return ask(markdown(proposal.verdict), gate.approval_hours, title)
    except FlowPauseTimeout:
        return Approval(False, "nobody", f"no answer within {gate.approval_hours:g} h")


@flow(name="rollback")
def rollback(root: Path = Path(), to: str | None = None, reason: str = "") -> dict[str, Any]:
    """Give the champion's alias back to the champion before, or to an earlier one. Returns the log's entry as JSON.

    Raises:
        PromotionError: there is no earlier champion, or that version never was one.
    """
    return roll_back(root.resolve(), to, reason)


def main(arguments: Sequence[str] | None = None) -> int:
    """Promote, or roll back, in the current folder; returns the exit code: 1 where the gate or the person refused."""
    parser = argparse.ArgumentParser(prog="python -m flows.promote", description="Move the champion's alias, through the gate.")
    parser.add_argument("--version", metavar="V", help="the version to promote (default: the challenger)")
    parser.add_argument("--rollback", action="store_true", help="instead: back to an earlier champion")
    parser.add_argument("--to", metavar="V", help="with --rollback: which one (default: the one before)")
    parser.add_argument("--reason", default="", help="with --rollback: why, for the log")
    options = parser.parse_args(arguments)
    try:
        load_config(Path("params.yaml"))
        with local_server():
            entry = rollback(Path.cwd(), options.to, options.reason) if options.rollback else promote(Path.cwd(), options.version)
    except TailmarkError as error:
        print(f"\n{error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except (KeyboardInterrupt, TerminationSignal):
        print("\nStopped; nothing was decided that is not in `tailmark log show`.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return REFUSED if entry["decision"] == "refused" else 0


if __name__ == "__main__":
    sys.exit(main())
