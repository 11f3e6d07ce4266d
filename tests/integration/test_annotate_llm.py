"""Stage `annotate` with an LLM: through its command, against a small real server and a real model."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tailmark.annotate import stage
from tailmark.annotate.command import run as on_a_prompt
from tailmark.annotate.llm.run import dry_run
from tailmark.config import Config, load_config
from tailmark.errors import EXIT_INTERRUPTED, BudgetExceeded, ConfigError, DataError, EndpointError
from tailmark.files import read_json, sha256_tree
from tailmark.layout import Layout
from tailmark.records import RECORD, read_rows, record_id, write_shards
from tailmark.taxonomy import load_taxonomy
from tailmark.tracking import start_run
from tests.chat_server import Reaction, Server, completion, problem, serving

PAPER = Path(__file__).resolve().parents[2] / "src" / "tailmark" / "taxonomy" / "paper.yaml"
SECRET = "sk-planted-90b2e6f3d1"
ROWS = 40


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


def record(number: int) -> dict[str, Any]:
    prompt = [{"role": "user", "content": f"What is special about the number {number}?"}]
    answer = f"The number {number} has many properties that people like to talk about."
    stated = [("marker.domain", "Math")] if number % 4 == 0 else []
    return {
        "id": record_id(prompt, answer), "prompt": prompt, "completion": answer, "source_name": "test", "license": "MIT",
        "split": "train", "metadata": stated,
    }  # fmt: skip


def checkout(root: Path, url: str, rows: int = ROWS, **options: Any) -> Path:
    params = {
        "taxonomy": {"file": str(PAPER)},
        "annotate": {"workers": 1, "llm": {"base_url": url, "model": "m", "markers": ["domain", "task"], "retries": 1} | options},
    }
    root.mkdir(exist_ok=True)
    with (root / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    write_shards(root / "data/ingested/rows", sorted((record(number) for number in range(rows)), key=lambda row: str(row["id"])), RECORD)
    return root


def command(root: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tailmark.cli", "annotate", *arguments], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def context(root: Path) -> tuple[Config, Layout]:
    return load_config(root / "params.yaml"), Layout(root)


def answer(body: dict[str, Any]) -> Reaction:
    return completion("Culture" if "Question: domain" in body["messages"][0]["content"] else "Unspecified")


def answers(root: Path) -> int:
    path = root / ".tailmark/llm-cache/answers.sqlite"
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(path) as database:
            return int(database.execute("SELECT count(*) FROM answers").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, EXIT_INTERRUPTED)])
def test_a_killed_run_is_taken_up_where_it_was(server: Server, tmp_path: Path, sent: signal.Signals, code: int) -> None:
    root = checkout(tmp_path, server.url, concurrency=4)
    released = threading.Event()

    def react(body: dict[str, Any], number: int) -> Reaction:
        if number >= 25:
            released.wait(60)
        return answer(body)

    server.react = react
    process = command(root)
    while answers(root) < 25:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(sent)
    err = process.communicate(timeout=60)[1]
    assert (process.returncode, "Traceback" in err) == (code, False), err
    assert not (root / "data/annotated").exists()
    answered = {json.dumps(body["messages"]) for body in server.asked[:25]}
    server.asked.clear()
    released.set()

    server.react = lambda body, _number: answer(body)
    stage.run(*context(root))
    asked = {json.dumps(body["messages"]) for body in server.asked}
    assert not asked & answered, "an answer was paid for twice"
    assert (len(asked), len(server.asked)) == (45, 45)
    rows = list(read_rows(root / "data/annotated/rows"))
    assert Counter((row["origin"]["domain"], row["markers"]["domain"]) for row in rows) == {("llm", "Culture"): 30, ("dataset", "Math"): 10}
    assert {row["confidence"]["domain"] for row in rows if row["origin"]["domain"] == "llm"} == {None}
    report = read_json(root / "data/annotated/report.json")["llm"]
    assert report["markers"]["domain"] == {"asked": 30, "value": 30, "unspecified": 0, "invalid": 0, "unanswered": 0}
    assert report["markers"]["task"]["unspecified"] == 40
    assert server.url not in json.dumps(report)

    before = sha256_tree(root / "data/annotated")
    stage.run(*context(root))
    assert len(server.asked) == 45
    assert sha256_tree(root / "data/annotated") == before


def test_an_estimate_asks_nothing_and_writes_nothing(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.react = lambda body, _number: answer(body)
    root = checkout(tmp_path, server.url, input_price=2, output_price=8, max_cost=9)
    dry_run(*context(root))
    out = capsys.readouterr().out
    assert server.asked == []
    assert not (root / "data/annotated").exists()
    for text in ("markers that rows lack: domain 30, task 40", "about 70 requests", "cost", "annotate.llm.max_cost is 9", ": enough"):
        assert text in out
    stage.run(*context(root))
    assert (len(server.asked), "to pay for: about 70 requests" in capsys.readouterr().out) == (70, True)
    dry_run(*context(root))
    out = capsys.readouterr().out
    assert "about 0 requests" in out
    assert "answered before: 70" in out


def test_an_estimate_from_a_sample_is_about_right(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("tailmark.annotate.llm.run.SAMPLE", 12)
    dry_run(*context(checkout(tmp_path, server.url)))
    out = capsys.readouterr().out
    assert "from a sample of 12" in out
    assert 60 <= int(out.split("to pay for: about ")[1].split()[0]) <= 80


def test_a_wrong_key_stops_at_once_and_is_shown_nowhere(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDPOINT_KEY", SECRET)
    server.react = lambda body, number: answer(body) if number < 5 else problem(401, f"Incorrect API key provided: {SECRET}")
    root = checkout(tmp_path, server.url, key_variable="ENDPOINT_KEY", concurrency=1)
    process = command(root)
    out, err = process.communicate(timeout=240)
    assert (process.returncode, len(server.asked)) == (2, 6), err
    assert "Traceback" not in err
    for text in ("401", "ENDPOINT_KEY", "fix:"):
        assert text in err
    assert SECRET not in out + err
    assert (root / ".tailmark/provenance/annotate").is_dir()
    assert [path for path in root.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()] == []
    assert not (root / "data/annotated").exists()


@pytest.mark.slow
def test_a_tracked_run_does_not_show_the_key(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDPOINT_KEY", SECRET)
    config, layout = context(checkout(tmp_path, server.url, key_variable="ENDPOINT_KEY"))
    with start_run("annotate", config=config, layout=layout, stage="annotate"):
        stage.run(config, layout)
    stored = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(b"ENDPOINT_KEY" in content for path, content in stored.items() if "mlflow" in path.parts)
    assert [path for path, content in stored.items() if SECRET.encode() in content] == []


def test_a_missing_key_is_told_before_anything_else(server: Server, tmp_path: Path) -> None:
    config, layout = context(checkout(tmp_path, server.url, key_variable="NO_SUCH_KEY"))
    (layout.ingested / "rows/part-00000.parquet").unlink()
    with pytest.raises(EndpointError, match="NO_SUCH_KEY"):
        stage.run(config, layout)


def test_a_budget_that_is_used_up_says_how_to_go_on(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.react = lambda body, _number: answer(body)
    with pytest.raises(BudgetExceeded, match="max_requests"):
        stage.run(*context(checkout(tmp_path, server.url, max_requests=20)))
    assert "not enough" in capsys.readouterr().out
    assert len(server.asked) == 20
    assert not (tmp_path / "data/annotated").exists()
    stage.run(*context(checkout(tmp_path, server.url, max_requests=70)))
    assert len(server.asked) == 70


PROMPT = "Translate into French, in 20 words: the library opens at nine."


def test_markers_of_a_bare_prompt(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {"lang": "French", "task": "Translation", "length_tokens": "20", "code_type": "python", "domain": "Culture"}
    asked = []

    def react(body: dict[str, Any], _number: int) -> Reaction:
        asked.append(body["messages"][0]["content"].split("Question: ")[1].split(".")[0])
        return completion(said.get(asked[-1], "Unspecified"))

    server.react = react
    config, layout = context(checkout(tmp_path, server.url))
    on_a_prompt(config, layout, PROMPT)
    assert capsys.readouterr().out.strip() == "domain=Culture,lang=French,length_tokens=20,task=Translation"
    ten = {"domain", "format", "lang", "length_bucket", "length_paragraphs", "length_sentences", "length_tokens", "style", "task"}
    assert sorted(asked) == sorted(ten), "the paper's ten fields, but code_type only where the domain is Code"
    on_a_prompt(config, layout, PROMPT, as_json=True)
    assert json.loads(capsys.readouterr().out)["lang"] == {"value": "French", "origin": "llm", "confidence": None}
    with pytest.raises(DataError, match="empty"):
        on_a_prompt(config, layout, " ")


def test_without_a_model_a_bare_prompt_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "params.yaml").write_text(f"taxonomy: {{file: {PAPER}}}\n")
    on_a_prompt(*context(tmp_path), "Pourquoi les feuilles des arbres tombent-elles en automne ?")
    assert capsys.readouterr().out.strip() == "lang=French"
    with pytest.raises(ConfigError, match=r"No LLM is set up"):
        dry_run(*context(tmp_path))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Address and name of a tiny random model behind `transformers serve`."""
    from tailmark.base.tiny import tiny_model, tiny_tokenizer

    folder = tmp_path / "tiny"
    tokenizer = tiny_tokenizer()
    tiny_model(tokenizer, seed=1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    log = (tmp_path / "serve.log").open("w")
    process = subprocess.Popen([*command, "--device", "cpu"], stdout=log, stderr=log)
    try:
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                break
            assert process.poll() is None, (tmp_path / "serve.log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", str(folder)
    finally:
        process.kill()  # it ends on SIGTERM only after the answer it is writing
        process.wait(30)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["marker", "all"])
def test_a_real_model_behind_a_real_server(served: tuple[str, str], tmp_path: Path, protocol: str) -> None:
    """A random model says nothing that is in the taxonomy: every answer is counted as invalid, and none gets into the data."""
    url, model = served
    config, layout = context(checkout(tmp_path / "a", url, 8, model=model, protocol=protocol, timeout_s=300))
    stage.run(config, layout)
    rows = list(read_rows(layout.annotated / "rows"))
    assert len(rows) == 8
    taxonomy = load_taxonomy(PAPER)
    assert all(row["markers"][name] in (None, *taxonomy.markers[name].values) for row in rows for name in ("domain", "task"))
    counts = read_json(layout.annotated / "report.json")["llm"]["markers"]
    assert {name: item["asked"] for name, item in counts.items()} == {"domain": 6, "task": 8}
    assert all(item["asked"] == item["value"] + item["unspecified"] + item["invalid"] for item in counts.values())
    assert sum(item["invalid"] for item in counts.values()) > 10
