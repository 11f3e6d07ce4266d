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
    from tailmark.generate.modes import Tagger
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

log_app = typer.Typer(help="The promotion log: what was decided, by whom, why.", no_args_is_help=True)
app.add_typer(log_app, name="log")

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
def train(
    arm: ArmOption,
    plan: Annotated[bool, typer.Option("--plan", help="say what it would take, and stop")] = False,
    tokens_per_s: Annotated[float | None, typer.Option(min=1, help="with --plan: throughput of one GPU")] = None,
    price: Annotated[float | None, typer.Option(min=0, help="with --plan: price of one GPU for one hour")] = None,
    clean: Annotated[bool, typer.Option("--clean", help="instead: remove unfinished trainings of the arm on other inputs")] = False,
) -> None:
    """Fine-tune one arm with DeepSpeed; an interrupted run goes on where it was."""
    if plan:
        from tailmark.train import plan as planning

        planning.run(*_context(), _arm(arm), tokens_per_s, price)
        return
    from tailmark.train import stage

    if clean:
        stage.clean(*_context(), _arm(arm))
        return
    stage.run(*_context(), _arm(arm))


@app.command()
def evaluate(
    from_scores: Annotated[
        bool, typer.Option("--from-scores", help="instead: make metrics, plots and report again from the scores that are there")
    ] = False,
) -> None:
    """Compare the marked model with its baseline on held-out rows, by slice, with intervals."""
    from tailmark.evaluate import stage

    if from_scores:
        stage.from_scores(*_context())
        return
    config, layout = _context()
    asked = {mode for item in config.evaluate.benchmarks for mode in item.modes or config.evaluate.modes}
    stage.run(config, layout, _tagger() if "on-the-fly" in asked else None)


@app.command()
def register() -> None:
    """Put the marked model with its evidence and card into the registry."""
    from tailmark.register import stage

    stage.run(*_context())


@app.command()
def promote(
    version: Annotated[str | None, typer.Argument(help="a version: 3, @challenger, models:/tailmark/3 (default: `register.alias`)")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="judge and show the verdict, decide nothing")] = False,
    approved_by: Annotated[str | None, typer.Option(help="who agreed, where `gate.approval` asks for a person")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the verdict as JSON")] = False,
) -> None:
    """Hold a version against the champion and the baseline; make it the champion if it passes, else exit with 1."""
    from tailmark.register import command

    if not command.promote(*_context(), version, approved_by=approved_by, dry_run=dry_run, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def rollback(
    to: Annotated[str | None, typer.Option(help="a former champion's version (default: the one before)")] = None,
    reason: Annotated[str, typer.Option(help="why, for the log")] = "",
) -> None:
    """Give the champion's alias back to the champion before."""
    from tailmark.register import command

    command.roll_back(*_context(), to, reason)


@app.command()
def lineage(
    version: Annotated[str | None, typer.Argument(help="a version: 3, @champion, models:/tailmark/3 (default: `register.alias`)")] = None,
    data: Annotated[str | None, typer.Option(help="instead: which versions came from the output with this hash in dvc.lock")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, with all options")] = False,
) -> None:
    """Say where a registered version came from: commit, dvc.lock, params; or what came from a version of the data."""
    from tailmark.register import command

    command.lineage(*_context(), version, data, as_json=as_json)


@log_app.command("show")
def log_show(as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Print every decision."""
    from tailmark.register import command

    command.show_log(*_context(), as_json=as_json)


@log_app.command("verify")
def log_verify(
    head: Annotated[str | None, typer.Option(help="an entry noted elsewhere, NUMBER:HASH, that must still be there")] = None,
) -> None:
    """Find an entry that was changed, removed or moved, and an alias that is not where the log says."""
    from tailmark.register import command

    command.verify_log(*_context(), head)


@log_app.command("settle")
def log_settle() -> None:
    """Move the champion's alias to where the log's last entry says."""
    from tailmark.register import command

    command.settle_log(*_context())


@app.command()
def lifts(png: Annotated[Path | None, typer.Option(help="also draw them into this file")] = None) -> None:
    """Print the table of lifts of the last evaluation."""
    from tailmark.evaluate.table import print_lifts, read_measures, save_lift_png
    from tailmark.files import read_json

    layout = _context()[1]
    print_lifts(layout)
    if png is not None:
        save_lift_png(read_json(layout.evaluated / "metrics.json"), png, read_measures(layout.evaluated))


@app.command()
def generate(
    prompt: Annotated[str | None, typer.Argument(help="what to ask")] = None,
    markers: Annotated[str, typer.Option(help="markers to ask for, e.g. lang=French,length_tokens=60")] = "",
    model: Annotated[str, typer.Option(help="a model folder; with --endpoint the model's name there")] = "models/marked",
    mode: Annotated[
        str | None, typer.Option(help="absent, inferred, fixed, forced, on-the-fly or wrong (default: fixed with --markers, else inferred)")
    ] = None,
    constrained: Annotated[bool, typer.Option("--constrained", help="hold the marker list to the taxonomy: valid, and faster")] = False,
    endpoint: Annotated[str | None, typer.Option(help="ask an OpenAI-compatible API instead, e.g. http://localhost:8000/v1")] = None,
    key_variable: Annotated[str | None, typer.Option(help="the environment variable that holds the endpoint's key")] = None,
    system: Annotated[str | None, typer.Option(help="a system message")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="most tokens of an answer; a marker list has its own allowance")] = 256,
    temperature: Annotated[float, typer.Option(min=0, help="0: the most likely token each time")] = 0.0,
    top_p: Annotated[float, typer.Option(min=0.01, max=1, help="draw from the most likely tokens with this probability together")] = 1.0,
    seed: Annotated[int, typer.Option(help="of the draws")] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="a text at which the answer ends; can be given again")] = None,
    file: Annotated[Path | None, typer.Option(help="instead of one prompt: a file of them, JSON Lines")] = None,
    out: Annotated[Path | None, typer.Option(help="with --file: where the answers go, JSON Lines")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="with --file: prompts that are answered at a time")] = 16,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Answer a prompt, or a file of them; the markers the model wrote are apart from the answer."""
    from tailmark.generate import batch, command
    from tailmark.generate.request import Sampling

    options = command.Options(
        model=model,
        endpoint=endpoint,
        key_variable=key_variable,
        taxonomy=_taxonomy_file() if endpoint and Path("params.yaml").exists() else None,
        markers=[item for item in markers.split(",") if item.strip()],
        mode=mode,
        constrained=constrained,
        system=system,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        sampling=Sampling(temperature, top_p, seed),
        stop=tuple(stop or ()),
    )
    tagger = _tagger() if mode == "on-the-fly" else None
    if prompt is not None and file is None and out is None:
        command.run(prompt, options, tagger=tagger, as_json=as_json)
    elif prompt is None and file is not None and out is not None:
        batch.run(file, out, options, tagger=tagger)
    else:
        raise typer.BadParameter("give either a prompt, or --file and --out")


@app.command()
def serve(
    model: Annotated[
        str | None, typer.Option(help="a model folder, or a registered version: models:/tailmark@champion (default: `serve.model`)")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="a folder of the model without markers, to compare with")] = None,
    host: Annotated[str | None, typer.Option(help="the address to listen at (default: `serve.host`, 127.0.0.1)")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="the port (default: `serve.port`, 8000; 0: a free one)")] = None,
    engine: Annotated[str | None, typer.Option(help="a vLLM or SGLang server of the same folder decodes, e.g. http://gpu:8001/v1")] = None,
) -> None:
    """Serve a marked model behind an OpenAI-compatible API; all other options stand under `serve` in params.yaml."""
    from tailmark.config import Config, parse_config
    from tailmark.layout import Layout
    from tailmark.serve import command

    checkout = Path("params.yaml").exists()
    config, layout = _context() if checkout else (Config(), Layout(Path.cwd()))
    said = {"model": model, "baseline": baseline, "host": host, "port": port, "engine": engine}
    section = config.serve.model_dump() | {name: value for name, value in said.items() if value is not None}
    options = parse_config({"serve": section}, Path("command line")).serve
    command.run(config, layout, options, _tagger() if checkout and "on-the-fly" in options.modes else None)


def _tagger() -> Tagger:
    """Reads prompts with the annotators that need no answer."""
    from tailmark.annotate.onthefly import OnTheFly
    from tailmark.taxonomy import load_taxonomy

    config, layout = _context()
    reader = OnTheFly(load_taxonomy(layout.root / config.taxonomy.file), config.annotate.llm, layout.state)
    return lambda prompts: [{name: item.value for name, (item, _) in found.items()} for found in reader.find(prompts)]


@app.command()
def status(
    count: Annotated[int, typer.Option("--last", min=1, help="how many runs")] = 5,
) -> None:
    """The last runs of the flows, how far they came, what the gate said, and the commands to go on."""
    from tailmark import status as showing
    from tailmark.layout import Layout

    showing.run(Layout(Path.cwd()), count)


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
