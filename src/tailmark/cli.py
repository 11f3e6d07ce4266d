"""The command line. Commands import what they run, so that `tailmark --help` answers at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailmark.errors import EXIT_INTERRUPTED, EXIT_STOPPED, EXIT_USER_ERROR, Stopped, TailmarkError

if TYPE_CHECKING:
    from tailmark.config import Config
    from tailmark.layout import Arm, Layout

app = typer.Typer(
    help="Fine-tune language models for the long tail of their data, with training-time markers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="Show the resolved options, or switch to another profile.", no_args_is_help=True)
app.add_typer(config_app, name="config")
taxonomy_app = typer.Typer(help="Show, check or compare taxonomies: which markers exist, with which values.", no_args_is_help=True)
app.add_typer(taxonomy_app, name="taxonomy")

ArmOption = Annotated[str, typer.Option(help="baseline or marked")]


def _context() -> tuple[Config, Layout]:
    from tailmark.config import check_markers, load_config
    from tailmark.layout import Layout
    from tailmark.taxonomy import load_taxonomy

    root = Path.cwd()
    config = load_config(root / "params.yaml")
    if (root / config.taxonomy.file).exists():  # a stage that reads it says that it is missing
        check_markers(config, load_taxonomy(root / config.taxonomy.file))
    return config, Layout(root)


def _arm(name: str) -> Arm:
    from tailmark.errors import ConfigError
    from tailmark.layout import ARMS

    for arm in ARMS:
        if name == arm:
            return arm
    raise ConfigError(f"There is no arm '{name}'.", where="--arm", fix=f"use one of: {', '.join(ARMS)}")


@app.command()
def ingest() -> None:
    """Sources to canonical records: quarantine, deduplication, split, subset."""
    from tailmark.ingest import stage

    stage.run(*_context())


@app.command()
def annotate(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what `annotate.llm` would be asked and what that costs, and stop")
    ] = False,
    prompt: Annotated[str | None, typer.Option(help="instead: print the markers that the answer to this prompt should have")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="with --prompt: print one JSON object")] = False,
) -> None:
    """Give every record its markers, each with origin and confidence; or one prompt, on the fly."""
    if prompt is not None:
        from tailmark.annotate import command

        command.run(*_context(), prompt, as_json=as_json)
    elif dry_run:
        from tailmark.annotate.llm import run

        run.dry_run(*_context())
    else:
        from tailmark.annotate import stage

        stage.run(*_context())


@app.command()
def validate(
    accept: Annotated[bool, typer.Option("--accept", help="instead: measure drift from the last validated distributions")] = False,
) -> None:
    """Check the annotated records against a suite made from the taxonomy."""
    if accept:
        from tailmark.validate import accept as accepting

        accepting.accept(*_context())
        return
    from tailmark.validate import stage

    stage.run(*_context())


@app.command()
def base() -> None:
    """Bring the base model into a Hugging Face folder."""
    from tailmark.base import stage

    stage.run(*_context())


@app.command()
def prepare(arm: ArmOption) -> None:
    """Render, drop out, tokenize, verify and pack the training rows of one arm."""
    from tailmark.prepare import stage

    stage.run(*_context(), _arm(arm))


@app.command()
def train(arm: ArmOption, plan: Annotated[bool, typer.Option("--plan", help="say what it would take, and stop")] = False) -> None:
    """Fine-tune one arm with DeepSpeed; an interrupted run goes on where it was."""
    if plan:
        from tailmark.train import plan as planning

        planning.run(*_context(), _arm(arm))
        return
    from tailmark.train import stage

    stage.run(*_context(), _arm(arm))


@app.command()
def evaluate() -> None:
    """Compare the marked model with its baseline on held-out rows, by slice, with intervals."""
    from tailmark.evaluate import stage

    stage.run(*_context())


@app.command()
def register() -> None:
    """Put the marked model with its evidence and card into the registry."""
    from tailmark.register import stage

    stage.run(*_context())


@app.command()
def lifts(png: Annotated[Path | None, typer.Option(help="also draw them into this file")] = None) -> None:
    """Print the table of lifts of the last evaluation."""
    from tailmark.evaluate.table import print_lifts, save_lift_png
    from tailmark.files import read_json

    layout = _context()[1]
    print_lifts(layout)
    if png is not None:
        save_lift_png(read_json(layout.evaluated / "metrics.json"), png)


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="what to ask")],
    markers: Annotated[str, typer.Option(help="markers to ask for, e.g. lang=French,length_tokens=60")] = "",
    model: Annotated[Path, typer.Option(help="a model folder")] = Path("models/marked"),
    system: Annotated[str | None, typer.Option(help="a system message")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="most tokens of the answer; a marker list has its own allowance")] = 256,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Answer a prompt; the markers the model wrote are shown apart from the answer."""
    from tailmark.generate import command

    wanted = [item for item in markers.split(",") if item.strip()]
    command.run(prompt, wanted, model, max_new_tokens=max_new_tokens, system=system, as_json=as_json)


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

    command.show(file if file is not None else _taxonomy_file(), marker)


@taxonomy_app.command("check")
def taxonomy_check(
    file: Annotated[Path | None, typer.Argument(help="a taxonomy file (default: `taxonomy.file` of params.yaml)")] = None,
) -> None:
    """Say what is wrong with a file: every problem, with its line."""
    from tailmark.taxonomy import command

    command.check(file if file is not None else _taxonomy_file())


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


def _taxonomy_file() -> Path:
    from tailmark.config import load_config

    return Path.cwd() / load_config(Path.cwd() / "params.yaml").taxonomy.file


def main() -> None:
    """Run a command; errors that a user can mend are printed without a traceback."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app(standalone_mode=True)
    except TailmarkError as error:
        print(f"error: {error.render()}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except Stopped as stop:
        print(f"stopped: {stop}", file=sys.stderr)
        sys.exit(EXIT_STOPPED)
    except SystemExit as leaving:
        if leaving.code == EXIT_INTERRUPTED:  # typer's answer to Ctrl-C
            print("interrupted: what was complete is kept; run the same command again to go on", file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
