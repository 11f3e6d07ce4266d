"""The stages, in the order in which they run."""

from __future__ import annotations

from typing import Annotated

import typer

from tailmark.cli.context import arm_named, context, tagger

app = typer.Typer()

ArmOption = Annotated[str, typer.Option(help="baseline or marked")]


@app.command()
def ingest() -> None:
    """Sources to canonical records: quarantine, deduplication, split, subset."""
    from tailmark.ingest import stage

    stage.run(*context())


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

        command.run(*context(), prompt, as_json=as_json)
    elif dry_run:
        from tailmark.annotate.llm import run

        run.dry_run(*context())
    else:
        from tailmark.annotate import stage

        stage.run(*context())


@app.command()
def validate(
    accept: Annotated[bool, typer.Option("--accept", help="instead: measure drift from the last validated distributions")] = False,
) -> None:
    """Check the annotated records against a suite made from the taxonomy."""
    if accept:
        from tailmark.validate import accept as accepting

        accepting.accept(*context())
        return
    from tailmark.validate import stage

    stage.run(*context())


@app.command()
def base() -> None:
    """Bring the base model into a Hugging Face folder."""
    from tailmark.base import stage

    stage.run(*context())


@app.command()
def prepare(arm: ArmOption) -> None:
    """Render, drop out, tokenize, verify and pack the training rows of one arm."""
    from tailmark.prepare import stage

    stage.run(*context(), arm_named(arm))


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

        planning.run(*context(), arm_named(arm), tokens_per_s, price)
        return
    from tailmark.train import stage

    if clean:
        stage.clean(*context(), arm_named(arm))
        return
    stage.run(*context(), arm_named(arm))


@app.command()
def evaluate(
    from_scores: Annotated[
        bool, typer.Option("--from-scores", help="instead: make metrics, plots and report again from the scores that are there")
    ] = False,
) -> None:
    """Compare the marked model with its baseline on held-out rows, by slice, with intervals."""
    from tailmark.evaluate import stage

    if from_scores:
        stage.from_scores(*context())
        return
    config, layout = context()
    asked = {mode for item in config.evaluate.benchmarks for mode in item.modes or config.evaluate.modes}
    stage.run(config, layout, tagger() if "on-the-fly" in asked else None)


@app.command()
def register() -> None:
    """Put the marked model with its evidence and card into the registry."""
    from tailmark.register import stage

    stage.run(*context())
