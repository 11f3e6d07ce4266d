"""docs/sources.md: its examples are read as they stand there."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tailmark.config import Source, parse_config
from tailmark.ingest.adapters import read_source
from tailmark.ingest.candidate import Candidate
from tests.documents import blocks

BLOCKS = [block.text for block in blocks("docs/sources.md")]
SHAPES = {"messages": "messages", "conversations": "sharegpt", "instruction": "alpaca"}


def rows_and_options(block: str) -> tuple[str, dict[str, object]]:
    lines = block.strip("\n").splitlines()
    rows = "".join(line + "\n" for line in lines if line.startswith("{"))
    options = YAML(typ="safe").load("\n".join(line for line in lines if not line.startswith("{"))) or {}
    return rows, options


def test_the_first_example_is_a_config() -> None:
    config = parse_config(YAML(typ="safe").load(BLOCKS[0]), Path("params.yaml"))
    assert [source.name for source in config.ingest.sources] == ["support"]


@pytest.mark.parametrize("block", BLOCKS[1:], ids=range(1, len(BLOCKS)))
def test_every_row_of_an_example_becomes_a_candidate(tmp_path: Path, block: str) -> None:
    rows, options = rows_and_options(block)
    shape = next((shape for key, shape in SHAPES.items() if f'"{key}"' in rows), None)
    if "topics" in rows:
        options |= {"prompt": "{task}", "completion": "{rating}"}
    (tmp_path / "x.jsonl").write_text(rows, encoding="utf-8")
    source = Source.model_validate({"kind": "jsonl", "name": "mine", "path": "x.jsonl", "shape": shape, **options})
    found = list(read_source(source, tmp_path))
    assert found
    assert all(isinstance(row, Candidate) for row in found), found
    if "topics" in rows:
        assert isinstance(found[0], Candidate)
        assert found[0].metadata == {"marker.quality": "4.5", "marker.source": "Human"}
