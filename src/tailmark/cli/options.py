"""Options and taxonomies: what they are, and what changes with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tailmark.cli.context import taxonomy_file

config_app = typer.Typer(help="Show the resolved options, or switch to another profile.", no_args_is_help=True)
taxonomy_app = typer.Typer(help="Show, check or compare taxonomies: which markers exist, with which values.", no_args_is_help=True)


@config_app.command("show")
def config_show() -> None:
    """Print every option with its value and where it comes from."""
    import json

    from tailmark.profiles import resolved_options

    options = resolved_options(Path.cwd())
    width = max(len(option.name) for option in options)
    for option in options:
        typer.echo(f"{option.name:<{width}}  {option.origin:<14}  {json.dumps(option.value, ensure_ascii=False)}")


@config_app.command("use")
def config_use(
    name: Annotated[str, typer.Argument(help="a profile: the name of a file in params/")],
    reset: Annotated[bool, typer.Option("--reset", help="drop the values you set yourself")] = False,
) -> None:
    """Write params.yaml from a profile; values you set yourself are kept."""
    from tailmark.profiles import use_profile

    kept = use_profile(Path.cwd(), name, reset=reset)
    typer.echo(f"params.yaml now holds profile '{name}'.")
    for option in kept:
        typer.echo(f"  kept your own value: {option.name} = {option.value}")
    if kept:
        typer.echo(f"  `tailmark config use {name} --reset` drops them.")


@taxonomy_app.command("show")
def taxonomy_show(
    file: Annotated[Path | None, typer.Argument(help="a taxonomy file (default: `taxonomy.file` of params.yaml)")] = None,
    marker: Annotated[str | None, typer.Option(help="only this marker, with all its values and examples")] = None,
) -> None:
    """Print the markers with kinds, values and definitions."""
    from tailmark.taxonomy import command

    command.show(file if file is not None else taxonomy_file(), marker)


@taxonomy_app.command("check")
def taxonomy_check(
    file: Annotated[Path | None, typer.Argument(help="a taxonomy file (default: `taxonomy.file` of params.yaml)")] = None,
) -> None:
    """Say what is wrong with a file: every problem, with its line."""
    from tailmark.taxonomy import command

    command.check(file if file is not None else taxonomy_file())


@taxonomy_app.command("diff")
def taxonomy_diff(
    old: Annotated[Path, typer.Argument(help="a taxonomy file")], new: Annotated[Path, typer.Argument(help="another")]
) -> None:
    """Say what changed from one file to another, and which data and models become stale."""
    from tailmark.layout import ARMS, Layout
    from tailmark.taxonomy import command

    layout = Layout(Path.cwd())
    models = {f"model {arm}": layout.trained(arm) / "tailmark.json" for arm in ARMS}
    command.diff(old, new, {"annotated data": layout.annotated / "report.json"} | models)
