"""A registered version made again from nothing but its card."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tailmark.files import sha256_file
from tailmark.provenance import locked_outputs
from tests.e2e.conftest import Checkout

pytestmark = pytest.mark.slow


def test_a_version_is_made_again_from_its_card(tiny: Checkout, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tailmark.config import load_config; from tailmark.layout import Layout\n"
        "from tailmark.register.registry import open_registry; from tailmark.register.fetch import fetch\n"
        "with open_registry(load_config(Path('params.yaml')), Layout(Path.cwd())) as registry:\n"
        "    print((fetch(registry, registry.resolve('@challenger')).folder / 'artifacts' / 'README.md').read_text())\n"
    )
    card = tiny.run("python", "-c", script).stdout
    commit = re.search(r"\| commit \| ([0-9a-f]{40}) \|", card)
    options = re.search(r"```yaml\n(.*?)```", card, re.DOTALL)
    weights = re.search(r"\| `model\.safetensors` \(sha256\) \| ([0-9a-f]{64}) \|", card)
    outputs = dict(re.findall(r"\| `([a-z/]+)` \(DVC\) \| ([0-9a-f.dir]+) \|", card))
    assert commit, card
    assert options, card
    assert weights, card
    assert outputs.keys() == {"data/annotated", "models/base", "models/marked"}
    assert "no commit holds" not in card

    again = Checkout(tmp_path / "again")
    subprocess.run(["git", "clone", "-q", str(tiny.root), str(again.root)], check=True)
    again.run("git", "checkout", "-q", commit[1])
    (again.root / "params.yaml").write_text(options[1])
    again.run("dvc", "repro", "train@marked")
    assert sha256_file(again.root / "models" / "marked" / "model.safetensors") == weights[1]
    made = locked_outputs(again.root)
    assert {path: made[path] for path in outputs} == outputs, "data, base and every file of the model, not the weights alone"
