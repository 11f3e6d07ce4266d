"""SIGKILL at random points of every data stage: the rerun gives the same bytes, and nothing half-written is ever seen."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tailmark.files import sha256_tree

ROOT = Path(__file__).resolve().parents[2]
ROWS = 400
DOMAINS = ["Code"] * 18 + ["Legal", "Medical"]
KILLS = 20

CHILD = """
import sys
from pathlib import Path
from tailmark.config import Config
from tailmark.layout import Layout
import tailmark.{stage}.stage as stage
if __name__ == "__main__":
    stage._FEW = 0  # several processes, as for many rows
    config = Config.model_validate_json(Path("config.json").read_text())
    print("ready", flush=True)
    stage.run(config, Layout(Path.cwd()){more})
"""
OUTPUTS = {"ingest": "data/ingested", "annotate": "data/annotated", "validate": "data/validated", "prepare": "data/prepared/marked"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sources, an evaluation set and options, but no data yet."""
    root = tmp_path_factory.mktemp("checkout")
    draw = random.Random(1)
    words = ["the", "a", "of", "to", "law", "code", "court", "patient", "loop", "value", "returns", "when", "under", "blood", "list"]
    lines = []
    for number in range(ROWS):
        answer = " ".join(draw.choices(words, k=30)).capitalize() + "."
        lines.append(json.dumps({"q": f"Question {number // 2}?", "a": answer, "topic": DOMAINS[number % 20]}))
    lines += [lines[3], lines[4].replace(".", " indeed."), "{", json.dumps({"q": "no answer"})]
    (root / "mine.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (root / "eval.jsonl").write_text(json.dumps({"text": json.loads(lines[9])["a"]}), encoding="utf-8")
    (root / "config.json").write_text(json.dumps(_options()), encoding="utf-8")
    for stage in OUTPUTS:
        more = ", 'marked'" if stage == "prepare" else ""
        (root / f"{stage}.py").write_text(CHILD.format(stage=stage, more=more), encoding="utf-8")
    return root


def make_base(root: Path) -> None:
    """The base model of `prepare`, without weights."""
    from transformers import LlamaConfig

    from tailmark.base.tiny import tiny_tokenizer

    tiny_tokenizer().save_pretrained(root / "models" / "base")
    LlamaConfig().save_pretrained(root / "models" / "base")


def _options() -> dict[str, object]:
    source = {"kind": "jsonl", "name": "mine", "path": "mine.jsonl", "prompt": "q", "completion": "a", "markers": {"domain": "topic"}}
    evaluation = {"sets": [{"name": "held", "path": "eval.jsonl", "fields": ["text"]}]}
    return {
        "engine": {"workers": 2},
        "taxonomy": {"file": str(ROOT / "src" / "tailmark" / "taxonomy" / "paper.yaml")},
        "ingest": {"sources": [source], "decontaminate": evaluation},
        "validate": {"stop": [], "min_rows": 1},
        "prepare": {"pack_length": 512},
    }


def start(root: Path, stage: str) -> subprocess.Popen[str]:
    """The stage in a process of its own, at the point where its imports are done."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GX_ANALYTICS_ENABLED": "false"}
    child = subprocess.Popen([sys.executable, f"{stage}.py"], cwd=root, env=environment, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def finish(root: Path, stage: str) -> tuple[str, float]:
    """Run the stage to its end: the hash of what it wrote, and the seconds it took."""
    child = start(root, stage)
    began = time.monotonic()
    child.communicate(timeout=900)
    assert child.returncode == 0
    return sha256_tree(root / OUTPUTS[stage]), time.monotonic() - began


def kill(root: Path, stage: str, after: float) -> bool:
    """Kill the stage after some seconds; False: it had ended before."""
    child = start(root, stage)
    time.sleep(after)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    return child.returncode == -signal.SIGKILL


def leftovers(root: Path) -> list[Path]:
    return [path for path in root.rglob(".*") if path.suffix in (".tmp", ".old")]


def check_kills(root: Path, stage: str, kills: int, seed: int) -> None:
    expected, seconds = finish(root, stage)
    output, draw, killed = root / OUTPUTS[stage], random.Random(seed), 0
    for attempt in range(4 * kills):
        if attempt % 2:  # every other time there is no earlier result to fall back on
            shutil.rmtree(output)
        killed += kill(root, stage, draw.uniform(0, seconds))
        assert not output.exists() or sha256_tree(output) == expected
        assert finish(root, stage)[0] == expected
        assert leftovers(root) == []
        if killed == kills:
            return
    pytest.fail(f"only {killed} kills hit the stage while it ran")


def test_ingest_survives_kills(checkout: Path) -> None:
    check_kills(checkout, "ingest", kills=3, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_every_data_stage_survives_twenty_kills(checkout: Path) -> None:
    make_base(checkout)
    for number, stage in enumerate(OUTPUTS):
        check_kills(checkout, stage, KILLS, seed=number)
