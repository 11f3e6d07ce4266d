"""The command line. Commands import what they run, so that `tailmark --help` answers at once."""

from __future__ import annotations

import os
import sys

import typer

from tailmark.cli import options, registry, stages, use
from tailmark.errors import EXIT_INTERRUPTED, EXIT_STOPPED, EXIT_USER_ERROR, Stopped, TailmarkError

app = typer.Typer(
    help="Fine-tune language models for the long tail of their data, with training-time markers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for part in (stages, registry, use):
    app.add_typer(part.app)
app.add_typer(options.config_app, name="config")
app.add_typer(options.taxonomy_app, name="taxonomy")
app.add_typer(registry.log_app, name="log")


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
