"""Registered versions, and the log of what was decided about them."""

from __future__ import annotations

from typing import Annotated

import typer

from tailmark.cli.context import context

app = typer.Typer()
log_app = typer.Typer(help="The promotion log: what was decided, by whom, why.", no_args_is_help=True)


@app.command()
def promote(
    version: Annotated[str | None, typer.Argument(help="a version: 3, @challenger, models:/tailmark/3 (default: `register.alias`)")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="judge and show the verdict, decide nothing")] = False,
    approved_by: Annotated[str | None, typer.Option(help="who agreed, where `gate.approval` asks for a person")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the verdict as JSON")] = False,
) -> None:
    """Hold a version against the champion and the baseline; make it the champion if it passes, else exit with 1."""
    from tailmark.register import command

    if not command.promote(*context(), version, approved_by=approved_by, dry_run=dry_run, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def rollback(
    to: Annotated[str | None, typer.Option(help="a former champion's version (default: the one before)")] = None,
    reason: Annotated[str, typer.Option(help="why, for the log")] = "",
) -> None:
    """Give the champion's alias back to the champion before."""
    from tailmark.register import command

    command.roll_back(*context(), to, reason)


@app.command()
def lineage(
    version: Annotated[str | None, typer.Argument(help="a version: 3, @champion, models:/tailmark/3 (default: `register.alias`)")] = None,
    data: Annotated[str | None, typer.Option(help="instead: which versions came from the output with this hash in dvc.lock")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, with all options")] = False,
) -> None:
    """Say where a registered version came from: commit, dvc.lock, params; or what came from a version of the data."""
    from tailmark.register import command

    command.lineage(*context(), version, data, as_json=as_json)


@log_app.command("show")
def log_show(as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Print every decision."""
    from tailmark.register import command

    command.show_log(*context(), as_json=as_json)


@log_app.command("verify")
def log_verify(
    head: Annotated[str | None, typer.Option(help="an entry noted elsewhere, NUMBER:HASH, that must still be there")] = None,
) -> None:
    """Find an entry that was changed, removed or moved, and an alias that is not where the log says."""
    from tailmark.register import command

    command.verify_log(*context(), head)


@log_app.command("settle")
def log_settle() -> None:
    """Move the champion's alias to where the log's last entry says."""
    from tailmark.register import command

    command.settle_log(*context())
