"""What is done with a result: read it, ask the model, serve it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tailmark.cli.context import context, tagger, taxonomy_file

app = typer.Typer()


@app.command()
def lifts(png: Annotated[Path | None, typer.Option(help="also draw them into this file")] = None) -> None:
    """Print the table of lifts of the last evaluation."""
    from tailmark.evaluate.table import print_lifts, read_measures, save_lift_png
    from tailmark.files import read_json

    layout = context()[1]
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
        taxonomy=taxonomy_file() if endpoint and Path("params.yaml").exists() else None,
        markers=[item for item in markers.split(",") if item.strip()],
        mode=mode,
        constrained=constrained,
        system=system,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        sampling=Sampling(temperature, top_p, seed),
        stop=tuple(stop or ()),
    )
    reader = tagger() if mode == "on-the-fly" else None
    if prompt is not None and file is None and out is None:
        command.run(prompt, options, tagger=reader, as_json=as_json)
    elif prompt is None and file is not None and out is not None:
        batch.run(file, out, options, tagger=reader)
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
    config, layout = context() if checkout else (Config(), Layout(Path.cwd()))
    said = {"model": model, "baseline": baseline, "host": host, "port": port, "engine": engine}
    section = config.serve.model_dump() | {name: value for name, value in said.items() if value is not None}
    options = parse_config({"serve": section}, Path("command line")).serve
    command.run(config, layout, options, tagger() if checkout and "on-the-fly" in options.modes else None)


@app.command()
def status(
    count: Annotated[int, typer.Option("--last", min=1, help="how many runs")] = 5,
) -> None:
    """The last runs of the flows, how far they came, what the gate said, and the commands to go on."""
    from tailmark import status as showing
    from tailmark.layout import Layout

    showing.run(Layout(Path.cwd()), count)
