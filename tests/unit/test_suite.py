"""What all benchmarks share: their files, which items are drawn, how a run goes through the modes; and the scores of translations."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tailmark.taxonomy
from tailmark.config import Config, LengthBuckets, QualityLever, Repair, Translation, parse_config
from tailmark.errors import ConfigError, DataError
from tailmark.evaluate.sample import HeldOut, Row
from tailmark.evaluate.scores import Measure, ScoredMode
from tailmark.evaluate.suite import runner
from tailmark.evaluate.suite.base import Benchmark, Item, Messages, Probe, sample
from tailmark.evaluate.suite.buckets import in_words
from tailmark.evaluate.suite.data import Files
from tailmark.evaluate.suite.registry import KINDS, build
from tailmark.evaluate.suite.repair import RepairBenchmark
from tailmark.evaluate.suite.translation import TranslationBenchmark, corpus_scores
from tailmark.generate.request import Answer, Request
from tailmark.layout import Layout
from tailmark.measure.lengths import PAPER_STEPS
from tailmark.taxonomy import MarkerList, load_taxonomy

TAXONOMY = load_taxonomy(Path(tailmark.taxonomy.__file__).with_name("paper.yaml"))


def answer(text: str) -> Answer:
    return Answer(text, {"domain": "Legal"}, text, 1, False, True, True)


class Echo(Benchmark):
    """Scores an answer by its length; marked prompts say nothing of the length in words."""

    name = "echo"
    measures = (Measure("echo", "length", "Length", "characters"),)
    modes = ("inferred", "fixed", "wrong", "on-the-fly")
    not_run: Mapping[str, str] = {"half": "of no use"}
    files: Mapping[str, Mapping[str, str | int]] = {"here.jsonl": {"bytes": 3, "sha256": "x"}}
    parallel = 3

    def load(self) -> Sequence[Item]:
        return [
            Item(str(place), ({"role": "user", "content": "short!"},), "ok", {"domain": value, "style": "Formal"}, {"domain": value})
            for place, value in enumerate(("Legal", "Math", "Legal", "Math"))
        ]

    def prompt(self, item: Item, mode: ScoredMode) -> Messages:
        return item.messages if mode in ("baseline", "inferred") else ({"role": "user", "content": "?"},)

    def score(self, item: Item, answer: Answer) -> Mapping[str, float]:
        return {"length": float(len(answer.text)), "place": float(item.id)}


class FakeBench(SimpleNamespace):
    """Answers with what was asked."""

    def answers(self, requests: Mapping[ScoredMode, Sequence[Request]], what: str, tokens: int | None) -> dict[ScoredMode, list[Answer]]:
        assert what == "echo"
        self.asked |= {mode: (list(asked), tokens) for mode, asked in requests.items()}
        return {mode: [answer(str(request.messages[-1]["content"])) for request in asked] for mode, asked in requests.items()}


def bench(**evaluate: Any) -> Any:
    config = Config.model_validate({"evaluate": evaluate})
    info = SimpleNamespace(markers=("domain", "lang"))
    rows = tuple(
        Row(
            str(place), ({"role": "user", "content": f"Translate {place}."},), text, MarkerList({}), {"task": task, "lang": lang}, False, ""
        )
        for place, (text, task, lang) in enumerate(
            [("Der Hafen ist still.", "Translation", "German"), ("港很安静。", "Translation", "Chinese"), ("No.", "Rewrite", "English")]
        )
    )
    heldout = HeldOut(rows, {}, frozenset({"Legal"}), 0, "")
    return FakeBench(config=config, marked=SimpleNamespace(info=info, taxonomy=TAXONOMY), heldout=heldout, asked={})


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "build", lambda *_: Echo())


@pytest.mark.usefixtures("echo")
def test_every_item_is_asked_in_every_mode_and_scored(tmp_path: Path) -> None:
    here = bench(modes=("absent", "inferred", "fixed", "wrong"), benchmarks=[{"kind": "translation", "max_new_tokens": 7}])
    suite = runner.run_suite(here, Layout(tmp_path))
    assert list(here.asked) == ["baseline", "inferred", "fixed", "wrong"]
    assert {tokens for _, tokens in here.asked.values()} == {7}
    fixed, wrong = ([dict(request.markers) for request in here.asked[mode][0]] for mode in ("fixed", "wrong"))
    assert fixed == [{"domain": value} for value in ("Legal", "Math", "Legal", "Math")]
    assert all(one["domain"] != other["domain"] for one, other in zip(fixed, wrong, strict=True))
    assert here.asked["baseline"][0][0].markers is here.asked["inferred"][0][0].markers is None
    assert len(suite.scores) == 4 * 4 * 2
    values = {(item.mode, item.row.id): item.value for item in suite.scores if item.score == "length"}
    assert values["baseline", "echo/0"] == 6
    assert values["fixed", "echo/3"] == 1
    assert [item.value for item in suite.scores if item.score == "place" and item.mode == "fixed"] == [0, 1, 2, 3]
    first = suite.scores[0]
    assert (first.row.completion, first.row.tail, first.row.group, first.prompt) == ("ok", True, "0", "short!")
    assert suite.measures == Echo.measures
    assert suite.report["echo"][0]["not_run"] == {"half": "of no use"}
    assert suite.report["echo"][0]["items"] == 4


@pytest.mark.usefixtures("echo")
def test_on_the_fly_asks_the_tagger_and_needs_one(tmp_path: Path) -> None:
    here = bench(benchmarks=[{"kind": "translation", "modes": ["on-the-fly"]}])
    runner.run_suite(here, Layout(tmp_path))
    assert list(here.asked) == ["baseline"]
    runner.run_suite(here, Layout(tmp_path), lambda prompts: [{"domain": "Math", "style": "Formal"} for _ in prompts])
    assert [dict(request.markers) for request in here.asked["on-the-fly"][0]] == [{"domain": "Math"}] * 4


@pytest.mark.usefixtures("echo")
def test_modes_that_give_markers_need_a_marker_the_model_knows(tmp_path: Path) -> None:
    here = bench(benchmarks=[{"kind": "translation"}])
    here.marked.info.markers = ("lang",)
    runner.run_suite(here, Layout(tmp_path))
    assert list(here.asked) == ["baseline", "inferred"]


@given(st.sets(st.integers(0, 50), min_size=1), st.integers(1, 20), st.integers(0, 5))
def test_another_item_displaces_at_most_one(numbers: set[int], limit: int, seed: int) -> None:
    items = [Item(str(number), ()) for number in sorted(numbers)]
    drawn = sample(items, limit, seed)
    assert [item.id for item in drawn] == [item.id for item in items if item in drawn]
    assert len(drawn) == min(limit, len(items))
    more = sample([*items, Item("new", ())], limit, seed)
    assert len({item.id for item in drawn} - {item.id for item in more}) <= 1


def test_files_are_read_from_a_glob_and_digested(tmp_path: Path) -> None:
    folder = tmp_path / "eval"
    folder.mkdir()
    (folder / "b.jsonl").write_text('{"n": 2}\n\n{"n": 3}\n')
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(b'{"n": 1}\n'))
    files = Files(tmp_path, "eval/*.jsonl*")
    assert [row["n"] for row in files.jsonl()] == [1, 2, 3]
    assert list(files.digests) == ["eval/a.jsonl.gz", "eval/b.jsonl"]
    assert str(tmp_path) not in json.dumps(files.digests)
    url = Files(tmp_path, f"file://{folder / 'b.jsonl'}")
    assert len(list(url.jsonl())) == 2


@pytest.mark.parametrize(("content", "message"), [("{", "not JSON"), ("[1]", "holds a list")])
def test_what_is_no_object_is_named_with_its_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"n": 1}\n' + content)
    with pytest.raises(DataError, match=message) as caught:
        list(Files(tmp_path, "x.jsonl").jsonl())
    assert caught.value.where == "x.jsonl, line 2"


@pytest.mark.parametrize("path", ["none.jsonl", "none/*.jsonl", "nosuch://x/y.jsonl"])
def test_a_path_without_files_is_an_error(path: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="benchmark"):
        list(Files(tmp_path, path).jsonl())


def test_every_kind_of_the_configuration_has_a_class() -> None:
    from typing import get_args

    from tailmark.config import Benchmark as AnyBenchmark

    branches = get_args(get_args(AnyBenchmark)[0])
    assert {kind for branch in branches for kind in get_args(branch.model_fields["kind"].annotation)} == set(KINDS)


def test_an_unknown_option_of_a_benchmark_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'limit'"):
        parse_config({"evaluate": {"benchmarks": [{"kind": "translation", "limmit": 3}]}}, Path("params.yaml"))
    with pytest.raises(ConfigError, match="expected tags"):
        parse_config({"evaluate": {"benchmarks": [{"kind": "humaneval"}]}}, Path("params.yaml"))


def test_repairs_are_compared_by_lines(tmp_path: Path) -> None:
    here = bench()
    right = "def f(n):\n    return n + 1\n\nprint(f(1))"
    fixed = Row("9", ({"role": "user", "content": "Fix."},), right, MarkerList({}), {"task": "CodeFix"}, False, "")
    here.heldout = HeldOut((fixed,), {}, frozenset(), 0, "")
    made = build(Repair(kind="repair"), here, Layout(tmp_path))
    assert isinstance(made, RepairBenchmark)
    (item,) = made.load()
    assert made.score(item, answer(f"Here:\n```python\n{right}  \n\n```")) == {"exact": 1.0, "similarity": 1.0}
    assert made.score(item, answer(right.replace("+", "-"))) == {"exact": 0.0, "similarity": pytest.approx(2 / 3)}
    assert made.score(item, answer("")) == {"exact": 0.0, "similarity": 0.0}


def test_translations_are_scored_by_sentence_and_together(tmp_path: Path) -> None:
    here = bench(modes=("inferred",), benchmarks=[{"kind": "translation"}])
    made = build(Translation(kind="translation", comet="wmt"), here, Layout(tmp_path))
    assert isinstance(made, TranslationBenchmark)
    assert not isinstance(made, Probe)
    items = made.load()
    assert [item.labels["lang"] for item in items] == ["German", "Chinese"]
    assert made.score(items[0], answer("Der Hafen ist still.")) == pytest.approx({"chrf": 100, "bleu": 100})
    assert made.score(items[0], answer("")) == {"chrf": 0, "bleu": 0}
    near = made.score(items[0], answer("Der Hafen ist leise."))
    assert 20 < near["chrf"] < 90
    right = [answer(item.reference) for item in items]
    assert made.judge(items, {"baseline": right, "inferred": [answer("x")] * 2}) == {}
    assert made.found["corpus"]["baseline"]["Chinese"]["chrf"] == pytest.approx(100)
    assert made.found["corpus"]["inferred"]["all"]["chrf"] < 5
    assert made.not_run == {"COMET": "unbabel-comet is not installed"}
    assert corpus_scores(items, ["Der Hafen ist still.", ""])["all"]["chrf"] == pytest.approx(50)


@pytest.mark.parametrize(
    ("benchmarks", "said"),
    [
        ([{"kind": "repair"}, {"kind": "repair", "limit": 3}], "two are called 'repair'"),
        ([{"kind": "open_ended"}, {"kind": "open_ended"}], "two are called 'open_ended'"),
        ([{"kind": "open_ended", "name": "repair"}, {"kind": "repair"}], "two are called 'repair'"),
        ([{"kind": "open_ended", "name": "length"}], "another name"),
        ([{"kind": "open_ended", "name": "rows"}], "another name"),
        ([{"kind": "open_ended", "name": "heldout"}], "another name"),
        ([{"kind": "open_ended", "name": "train"}], "another name"),
    ],
)
def test_figures_of_two_benchmarks_are_never_mixed(benchmarks: list[dict[str, str]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_config({"evaluate": {"benchmarks": benchmarks}}, Path("params.yaml"))


@pytest.mark.usefixtures("echo")
def test_values_that_the_taxonomy_lacks_are_not_asked_for(tmp_path: Path) -> None:
    """A benchmark's own names of languages or domains need not be those of a taxonomy; its slices keep them."""
    here = bench(modes=("fixed",), benchmarks=[{"kind": "translation"}])
    here.marked.taxonomy = SimpleNamespace(allows=lambda name, value: (name, value) == ("domain", "Math"))
    suite = runner.run_suite(here, Layout(tmp_path))
    assert [dict(request.markers) for request in here.asked["fixed"][0]] == [{}, {"domain": "Math"}] * 2
    assert {item.row.labels["domain"] for item in suite.scores} == {"Legal", "Math"}


def test_files_of_one_name_in_several_folders_are_told_apart(tmp_path: Path) -> None:
    for folder in ("aya", "okapi"):
        (tmp_path / "sets" / folder).mkdir(parents=True)
        (tmp_path / "sets" / folder / "fr.csv").write_text(folder)
    for path in ("sets/**/*.csv", "sets/*/*.csv", "sets/[ao]*/fr.csv", str(tmp_path / "sets/*/fr.csv")):
        files = Files(tmp_path, path)
        assert [name for name, _ in files.contents()] == ["sets/aya/fr.csv", "sets/okapi/fr.csv"]
        assert len(files.digests) == 2


def test_steps_are_said_in_words() -> None:
    assert in_words(PAPER_STEPS) == {
        "concise": "Answer in fewer than 300 words.",
        "medium": "Answer in 300 to 1000 words.",
        "long": "Answer in more than 1000 words.",
    }
    assert in_words((("few", 0), ("many", 9))) == {"few": "Answer in fewer than 9 words.", "many": "Answer in more than 8 words."}


def test_buckets_that_the_taxonomy_lacks_are_not_asked_for(tmp_path: Path) -> None:
    here = bench(max_new_tokens=2000)
    here.marked = SimpleNamespace(
        info=SimpleNamespace(markers=("length_bucket", "quality_bucket")),
        taxonomy=SimpleNamespace(markers={}, allows=lambda name, value: (name, value) != ("length_bucket", "medium") and value != "3"),
        folder=tmp_path,
    )
    lengths: Any = build(LengthBuckets(kind="length_buckets", limit=1), here, Layout(tmp_path))
    assert set(lengths.not_run) == {"bucket medium"}
    assert [measure.score for measure in lengths.measures] == ["inside", "inside_concise", "inside_long"]
    quality: Any = build(QualityLever(kind="quality_lever"), here, Layout(tmp_path))
    assert quality.not_run == {"all of it": "the taxonomy has no quality_bucket 3"}
    assert not quality.measures
