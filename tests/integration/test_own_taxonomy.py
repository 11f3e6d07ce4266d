"""The example of docs/own-taxonomy.md: five markers of one's own through the whole pipeline, without a line of code."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tailmark.config import Config, check_markers, load_config
from tailmark.files import read_json
from tailmark.layout import ARMS, Layout
from tailmark.modelfolder import read_model_info
from tailmark.profiles import use_profile
from tailmark.records import read_rows
from tailmark.taxonomy import load_taxonomy
from tailmark.taxonomy.check import hints, problems
from tests.chat_server import Server, completion, serving

ROOT = Path(__file__).resolve().parents[2]
MARKERS = ("channel", "lang", "tone", "topic", "urgency")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


def checkout(root: Path, server: Server) -> tuple[Config, Layout]:
    for name in ("params", "docs/examples"):
        shutil.copytree(ROOT / name, root / name)
    use_profile(root, "support")
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("  llm: null", f"  llm: {{base_url: '{server.url}', model: m}}"))
    config = load_config(params)
    check_markers(config, load_taxonomy(root / config.taxonomy.file))
    return config, Layout(root)


def test_the_example_is_sound() -> None:
    path = ROOT / "docs/examples/support.yaml"
    assert problems(path) == []
    assert hints(load_taxonomy(path)) == []
    assert tuple(sorted(load_taxonomy(path).markers)) == MARKERS


@pytest.mark.slow
def test_own_markers_through_the_whole_pipeline(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tailmark.annotate import stage as annotate
    from tailmark.base import stage as base
    from tailmark.evaluate import stage as evaluate
    from tailmark.generate import command as generate
    from tailmark.ingest import stage as ingest
    from tailmark.prepare import stage as prepare
    from tailmark.register import stage as register
    from tailmark.train import stage as train
    from tailmark.validate import stage as validate

    server.react = lambda _body, _number: completion("Warm")
    config, layout = checkout(tmp_path, server)
    for run in (ingest.run, annotate.run, validate.run, base.run):
        run(config, layout)
    _check_data(layout, server)
    for arm in ARMS:
        prepare.run(config, layout, arm)
        train.run(config, layout, arm)
    evaluate.run(config, layout)
    register.run(config, layout)
    assert read_model_info(layout.trained("marked"), verify=True).markers == MARKERS
    out = capsys.readouterr().out
    assert "length control left out" in out
    metrics = read_json(layout.evaluated / "metrics.json")
    assert metrics["rows"]["train"] + metrics["rows"]["heldout"] == 48
    assert read_json(layout.registered / "result.json")["alias"] == "challenger"
    options = generate.Options(str(layout.trained("marked")), markers=["topic=Shipping", "urgency=4"], max_new_tokens=4)
    generate.run("Where is my parcel?", options, as_json=True)
    assert '"urgency": 4' in capsys.readouterr().out


def _check_data(layout: Layout, server: Server) -> None:
    rows: list[dict[str, Any]] = list(read_rows(layout.annotated / "rows"))
    assert len(rows) == 48
    assert all(set(row["markers"]) == set(MARKERS) for row in rows)
    assert {row["markers"]["channel"] for row in rows} == {"email", "chat", "phone"}
    assert {row["origin"]["lang"] for row in rows} == {"measured"}
    assert {type(row["markers"]["urgency"]) for row in rows} == {int}
    asked = [row for row in rows if row["origin"]["tone"] == "llm"]
    assert len(asked) == len(server.asked) == 4
    assert {row["markers"]["tone"] for row in asked} == {"Warm"}
    assert read_json(layout.validated / "result.json")["success"]
