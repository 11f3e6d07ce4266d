"""Probes of what sweeps made: which are run of whom, what is kept of them, and what happens where one fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import probes, quality, repairs
from benchmarks.decoding import sampled
from tailmark.config import load_config
from tailmark.errors import StageFailed
from tailmark.evaluate.sample import Row
from tailmark.evaluate.scores import Score, ScoredMode
from tailmark.evaluate.store import EXAMPLES
from tailmark.generate.request import Request, Sampling
from tailmark.taxonomy import MarkerList
from tasks.sweepfile import Member, read_sweep

ROOT = Path(__file__).resolve().parents[2]
HEAD = {"hardware": {}, "code": {"commit": "0123456789", "dirty": False}}
MEMBER = Member("one", "sweep-s-one-12345678", "bench", ())


def test_every_probe_is_a_module_and_every_member_stands_in_its_sweep() -> None:
    sweeps = {sweep.name: sweep for sweep in (read_sweep(path) for path in (ROOT / "sweeps").glob("*.yaml"))}
    for name, asked in probes.PROBES.items():
        for probe, members in asked.items():
            assert import_module(f"benchmarks.{probe}").__doc__
            assert set(members) <= set(sweeps[name].members)


def test_a_table_has_a_line_for_each_result_of_each_member() -> None:
    found = {"a": [HEAD, {"list": "own", "lift": 1.5}], "b": [HEAD, {"list": "none", "lift": -2, "asked": {"10": {"beyond": 0.5}}}]}
    assert list(probes.table(found)) == [
        "| member | list | lift | asked |",
        "|---|---|---|---|",
        "| a | own | 1.5 |  |",
        "| b | none | -2 | 10: beyond: 0.5 |",
    ]


def test_what_is_kept_is_not_made_again(tmp_path: Path) -> None:
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes" / f"given-{MEMBER.run}.jsonl").write_text(f'{json.dumps(HEAD)}\n{{"lift": 1}}\n')
    assert probes.asked(tmp_path, "given", MEMBER, tmp_path) == [HEAD, {"lift": 1}]


def test_a_probe_that_fails_says_so_and_leaves_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def git(*arguments: str) -> str:
        author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        return subprocess.run(["git", *author, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout

    root = tmp_path / "home"
    root.mkdir()
    git("init", "-q")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=root, check=True)
    shutil.copy(ROOT / "params" / "tiny.yaml", root / "params.yaml")
    for package in ("benchmarks", "src"):
        (root / package).symlink_to(ROOT / package)
    git("add", "-A")
    git("commit", "-q", "-m", "start")
    git("branch", f"tailmark/{MEMBER.run}")
    with pytest.raises(StageFailed, match="probe 'given' failed"):
        probes.asked(root, "given", MEMBER, tmp_path / "out")
    assert "models/baseline" in "".join(capfd.readouterr())
    assert list((tmp_path / "out" / "probes").iterdir()) == []
    assert len(git("worktree", "list").splitlines()) == 1


def test_each_prompt_is_drawn_with_a_seed_of_its_own() -> None:
    one, other = Request((), {"lang": "French"}), Request(())
    drawn = [Request((), {"lang": "French"}, sampling=Sampling(0.7, 0.95, 18000)), Request((), sampling=Sampling(0.7, 0.95, 18001))]
    assert sampled([one, other], 18000) == drawn


def test_a_quality_that_is_heard_is_told_from_one_that_is_not() -> None:
    rising = {
        "baseline": [0.0, 1.0, None],
        "reference": [2.0, 2.0, 2.0],
        **{bucket: [-float(bucket)] * 3 for bucket in ("4", "3", "2", "1")},
    }
    found = quality.summary(rising, ["a", "b", "c"])
    assert (found["spearman"], found["verdict"], found["n"]) == (1, "rises", 2), "a prompt without a score somewhere does not count"
    assert (found["baseline"], found["reference"]) == (0.5, 2)
    flat = quality.summary({**rising, **{bucket: [1.0, 1.0, 1.0] for bucket in ("4", "3", "2", "1")}}, ["a", "b", "c"])
    assert (flat["spearman"], flat["verdict"]) == (0, "unclear")


def test_a_prompt_s_program_is_what_is_left_without_its_words() -> None:
    code = "a = 1\n\nprint(a)"
    prompts = [f"This program gives wrong answers. Correct it.\n\n{code}", f"{code}\n\nSome tests fail. Fix the code.", code]
    assert {repairs.program(prompt) for prompt in prompts} == {code}


def test_repairs_are_compared_problem_by_problem() -> None:
    def score(mode: ScoredMode, number: int, value: float) -> Score:
        row = Row(str(number), (), "", MarkerList({}), {}, tail=False, group="one problem" if number < 3 else "another")
        return Score(row, "repair", mode, "similarity", value)

    before, after = (0.5, 0.5, 0.2), (0.7, 0.7, 0.4)
    scores = [score("baseline", number, value) for number, value in enumerate(before, 1)]
    scores += [score("fixed", number, value) for number, value in enumerate(after, 1)]
    (line,) = repairs.compared(scores)
    assert line | {"low": 0, "high": 0} == {
        "score": "similarity", "mode": "fixed", "baseline": 0.4, "marked": 0.6, "lift": 0.2, "low": 0, "high": 0, "n": 3, "problems": 2,
    }  # fmt: skip
    assert line["low"] == line["high"] == 0.2, "the same gain everywhere leaves nothing to chance"


def test_the_quality_probe_reads_the_answers_that_the_evaluation_kept(tmp_path: Path) -> None:
    def row(mode: str, score: str, answer: str, benchmark: str = "quality_lever") -> dict[str, object]:
        texts = dict.fromkeys(("markers", "given", "written", "reference", "arm", "prompt", "slices"), "{}")
        return {
            **texts,
            "benchmark": benchmark,
            "mode": mode,
            "score": score,
            "row_id": f"{benchmark}/a",
            "group": "a",
            "tail": False,
            "value": 1.0,
            "answer": answer,
        }

    rows = [row("baseline", "reference_4", "plain"), row("fixed", "reference_4", "worst"), row("fixed", "reference_1", "best")]
    rows.append(row("fixed", "win_reference", "other", "heldout_prompts"))
    pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLES), tmp_path / "examples.parquet")
    assert quality.kept(tmp_path / "examples.parquet") == {
        "baseline": {"a": "plain"},
        "4": {"a": "worst"},
        "3": {},
        "2": {},
        "1": {"a": "best"},
    }


def test_repairs_are_read_from_the_whole_of_their_source(tmp_path: Path) -> None:
    config = load_config(ROOT / "params" / "bench.yaml")
    wide = repairs.whole(config, {"condefects"}, tmp_path / "checkout")
    assert [source.name for source in wide.ingest.sources] == ["condefects"]
    assert (wide.ingest.rows, wide.ingest.decontaminate.sets) == (None, ())
    assert str(wide.ingest.sources[0].path) == str(tmp_path / "shared/data/train/condefects.jsonl.gz")  # type: ignore[union-attr]
