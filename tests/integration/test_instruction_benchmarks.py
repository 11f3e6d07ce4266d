"""Length, language, open-ended, quality lever and buckets end to end: a tiny random model in both arms, three judges, a real endpoint."""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

from tailmark.base import stage as base_stage
from tailmark.chat import marker_template
from tailmark.config import Config
from tailmark.errors import DataError
from tailmark.evaluate import stage
from tailmark.evaluate.scores import Score
from tailmark.evaluate.suite.base import Probe
from tailmark.evaluate.suite.length import LengthInstructedBenchmark
from tailmark.evaluate.suite.registry import build
from tailmark.evaluate.suite.runner import Suite, run_suite
from tailmark.layout import ARMS, Layout
from tailmark.modelfolder import ModelInfo, write_model_info
from tailmark.records import annotated_schema, record_id, write_shards
from tailmark.taxonomy import Taxonomy, load_taxonomy
from tests.chat_server import Server, completion, serving

TAXONOMY = Path(__file__).parents[2] / "src/tailmark/taxonomy/paper.yaml"
MARKERS = ("domain", "lang", "length_bucket", "length_tokens", "quality", "quality_bucket")
SHARED = Path(__file__).parents[3] / "shared" / "data" / "eval"
DOMAINS = ("Culture", "Technology", "Legal")


def record(number: int, taxonomy: Taxonomy) -> dict[str, Any]:
    prompt = [{"role": "user", "content": f"Describe scene {number} of the harbour."}]
    completion_ = f"The harbour was quiet in the morning, and boat {number} stayed where it was."
    values = {"lang": "English", "domain": "Legal" if number % 25 < 2 else DOMAINS[number % 2], "length_tokens": 17}
    values |= {"quality": number / 60, "quality_bucket": str(4 - number * 4 // 60)}
    names = sorted(taxonomy.markers)
    return {
        "id": record_id(prompt, completion_), "prompt": prompt, "completion": completion_, "source_name": "harbour", "license": "CC0-1.0",
        "split": "heldout" if number % 5 == 0 else "train", "metadata": [], "markers": {name: values.get(name) for name in names},
        "origin": dict.fromkeys(names), "confidence": dict.fromkeys(names),
    }  # fmt: skip


def write_models(layout: Layout) -> None:
    digest = load_taxonomy(TAXONOMY).digest
    for arm in ARMS:
        folder = layout.trained(arm)
        shutil.copytree(layout.base, folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = marker_template(tokenizer.chat_template)
        tokenizer.save_pretrained(folder)
        shutil.copy(TAXONOMY, folder / "taxonomy.yaml")
        facts: dict[str, Any] = {
            "placement": "both",
            "dataset_dropout": 0.5,
            "sample_dropout": 0.5,
            "taxonomy": digest,
            "base": "random:tiny",
        }
        write_model_info(folder, ModelInfo(arm=arm, markers=MARKERS if arm == "marked" else (), **facts))
    tokenizer = AutoTokenizer.from_pretrained(layout.base)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_labels": 1}
    reward = LlamaForSequenceClassification(LlamaConfig(vocab_size=len(tokenizer), pad_token_id=0, **shape))
    reward.save_pretrained(layout.root / "models/reward")
    tokenizer.save_pretrained(layout.root / "models/reward")


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def write_files(root: Path) -> None:
    limits = [(3, "Name a boat."), (4, "Name a harbour."), (500, "Tell a long story.")]
    instructed = [{"instruction": f"In {n} words or less: {text}", "original_instruction": text, "max_len": n} for n, text in limits]
    lines(root / "length.jsonl.gz", instructed)
    clusters = ["Python Loops", "Contract Disputes", "Python Lists", "Sailing"]
    prompts = [{"uid": f"u{number}", "cluster": name, "prompt": f"Explain number {number}."} for number, name in enumerate(clusters)]
    lines(root / "arena.jsonl.gz", prompts)
    answers = [{"uid": f"u{n}", "messages": [{"role": "user", "content": ""}, {"content": {"answer": f"It is {n}."}}]} for n in range(3)]
    lines(root / "answers.jsonl.gz", answers)
    with zipfile.ZipFile(root / "languages.zip", "w") as archive:
        for name in ("crosslingual/okapi/fr", "crosslingual/okapi/ru", "monolingual/aya/ru", "monolingual/okapi/en"):
            rows = "\n".join(f'"Say, in so many words, what {number} is.",okapi' for number in range(4))
            archive.writestr(f"test_sets/{name}.csv", f"prompt,source\n{rows}\n")


BENCHMARKS: list[dict[str, Any]] = [
    {"kind": "length_instructed", "path": "length.jsonl.gz", "max_limit": 100},
    {"kind": "language_confusion", "path": "zip://test_sets/**/*.csv::languages.zip", "limit": 6, "languages": ["fr", "ru"]},
    {
        "kind": "open_ended", "name": "arena", "path": "arena.jsonl.gz", "references": "answers.jsonl.gz",
        "domains": {"*Python*": "Technology", "*Contract*": "Legal"},
    },
    {"kind": "open_ended", "name": "heldout_prompts", "limit": 6},
    {"kind": "quality_lever", "limit": 3},
    {"kind": "length_buckets", "limit": 2},
]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as state:
        state.react = lambda body, _number: completion("[[6]]" if "whole number" in body["messages"][0]["content"] else "[[B>A]]")
        yield state


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, server: Server) -> tuple[Config, Layout]:
    layout = Layout(tmp_path_factory.mktemp("checkout"))
    judges = [{"kind": "reference"}, {"kind": "reward", "model": "models/reward"}, {"kind": "llm", "base_url": server.url, "model": "m"}]
    evaluate = {"max_new_tokens": 12, "resamples": 50, "batch_size": 16, "benchmarks": BENCHMARKS, "judges": judges}
    sections = {"base": {"source": "random:tiny"}, "taxonomy": {"file": str(TAXONOMY)}, "longtail": {"threshold": 0.1}}
    config = Config.model_validate({**sections, "evaluate": evaluate})
    base_stage.run(config, layout)
    write_models(layout)
    write_files(layout.root)
    taxonomy = load_taxonomy(TAXONOMY)
    rows = sorted((record(number, taxonomy) for number in range(60)), key=lambda row: str(row["id"]))
    write_shards(layout.annotated / "rows", rows, annotated_schema(taxonomy))
    return config, layout


@pytest.fixture(scope="module")
def suite(checkout: tuple[Config, Layout]) -> Suite:
    return run_suite(stage.load_bench(*checkout), checkout[1])


def scores(suite: Suite, benchmark: str, score: str, mode: str) -> dict[str, Score]:
    return {item.row.id: item for item in suite.scores if (item.benchmark, item.score, item.mode) == (benchmark, score, mode)}


def entry(suite: Suite, name: str) -> dict[str, Any]:
    return dict(suite.report[name][0])


def test_length_is_told_in_words_or_by_the_marker(suite: Suite) -> None:
    baseline, fixed = (scores(suite, "length_instructed", "violation", mode) for mode in ("baseline", "fixed"))
    assert baseline.keys() == fixed.keys()
    assert len(baseline) == 2
    assert all("words or less" in item.prompt and not item.given for item in baseline.values())
    assert all("words or less" not in item.prompt for item in fixed.values())
    assert {item.given["length_tokens"] for item in fixed.values()} == {3, 4}
    assert "1 prompts with a limit above max_limit" in entry(suite, "length_instructed")["not_run"]["higher limits"]


def test_an_answer_over_its_limit_loses(suite: Suite) -> None:
    over = {mode: scores(suite, "length_instructed", "violation", mode) for mode in ("baseline", "fixed")}
    for judge in ("reward", "llm"):
        won = scores(suite, "length_instructed", f"win_{judge}", "fixed")
        both = scores(suite, "length_instructed", f"both_{judge}", "fixed")
        assert won.keys() == over["fixed"].keys()
        for name, item in won.items():
            ours, theirs = over["fixed"][name].value, over["baseline"][name].value
            assert (name in both) == (ours == theirs == 0)
            assert ours == theirs or item.value == theirs
    assert not any("reference" in item.score for item in suite.scores if item.benchmark == "length_instructed")


def test_languages_have_their_rates(suite: Suite) -> None:
    found = entry(suite, "language_confusion")
    assert found["items"] == 6
    rates = found["found"]["rates"]
    assert rates.keys() == {"monolingual", "crosslingual"}
    assert rates["crosslingual"].keys() == {"baseline", "inferred", "fixed"}
    assert rates["monolingual"]["fixed"].keys() == {"aya/ru", "aya/all", "all/ru", "all/all"}
    given = scores(suite, "language_confusion", "counts", "fixed")
    assert {item.given["lang"] for item in given.values()} == {"French", "Russian"}
    assert len(found["files"]) == 4
    assert all(name.endswith("::languages.zip") for name in found["files"])


def test_every_judge_gives_win_rates_by_head_and_tail(suite: Suite) -> None:
    found = entry(suite, "heldout_prompts")["found"]
    assert found["win_rates"].keys() == {"reference", "reward", "llm"}
    for rates in found["win_rates"].values():
        assert rates["fixed"].keys() == {"all", "head", "tail"}
        assert rates["fixed"]["all"]["n"] == rates["fixed"]["head"]["n"] + rates["fixed"]["tail"]["n"] == 6
    llm = found["win_rates"]["llm"]["fixed"]["all"]
    assert (llm["win_rate"], llm["steady"], llm["ties"]) == (0.5, 0, 1), "the server always prefers B, which decides nothing"
    assert found["agreement"]["fixed"].keys() == {"llm, reference", "llm, reward", "reference, reward"}
    assert found["judges"]["reference"]["signature"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:2")
    assert found["judges"]["llm"]["requests"]["invalid"] == 0
    wins = {item.value for item in scores(suite, "heldout_prompts", "win_reference", "baseline").values()}
    assert wins == {0.5}
    assert all(item.given.keys() == {"domain", "lang"} for item in scores(suite, "heldout_prompts", "win_llm", "fixed").values())


def test_arena_prompts_have_references_and_domains(suite: Suite) -> None:
    found = entry(suite, "arena")
    assert found["not_run"] == {"judge reference": "1 of 4 prompts have no reference answer"}
    fixed = scores(suite, "arena", "win_llm", "fixed")
    assert {name.split("/")[1]: dict(item.row.labels) for name, item in fixed.items()} == {
        "u0": {"domain": "Technology"}, "u1": {"domain": "Legal"}, "u2": {"domain": "Technology"}, "u3": {},
    }  # fmt: skip
    assert {name for name, item in fixed.items() if item.row.tail} == {"arena/u1"}
    assert scores(suite, "arena", "win_reference", "fixed").keys() == {"arena/u0", "arena/u1", "arena/u2"}
    assert sorted(found["files"]) == ["answers.jsonl.gz", "arena.jsonl.gz"]


def test_quality_is_asked_for_bucket_by_bucket(suite: Suite) -> None:
    found = entry(suite, "quality_lever")["found"]
    assert found["llm"]["means"] == {"4": 6, "3": 6, "2": 6, "1": 6}
    assert (found["llm"]["verdict"], found["llm"]["spearman"]) == ("unclear", 0)
    assert found["reward"]["n"] == 3
    asked = scores(suite, "quality_lever", "reward_4", "fixed")
    worst = [number / 60 for number in range(15) if number % 5]
    assert {(item.given["quality_bucket"], item.given["quality"]) for item in asked.values()} == {("4", max(worst))}
    assert scores(suite, "quality_lever", "reward_4", "baseline").keys() == asked.keys()


def test_buckets_out_of_reach_are_not_asked_for(suite: Suite) -> None:
    found = entry(suite, "length_buckets")
    assert found["not_run"].keys() == {"bucket medium", "bucket long"}
    baseline, fixed = (scores(suite, "length_buckets", "inside_concise", mode) for mode in ("baseline", "fixed"))
    assert {item.value for item in (*baseline.values(), *fixed.values())} == {1.0}
    assert all("fewer than 300 words" in item.prompt for item in baseline.values())
    assert all("fewer than" not in item.prompt and item.given == {"length_bucket": "concise"} for item in fixed.values())


def test_the_same_inputs_give_the_same_and_nothing_is_paid_twice(suite: Suite, checkout: tuple[Config, Layout], server: Server) -> None:
    asked = len(server.asked)
    again = run_suite(stage.load_bench(*checkout), checkout[1])
    assert len(server.asked) == asked
    assert again.scores == suite.scores
    assert json.dumps(again.report, sort_keys=True) == json.dumps(suite.report, sort_keys=True)


def test_a_file_in_another_form_is_an_error_of_the_user(checkout: tuple[Config, Layout]) -> None:
    config, layout = checkout
    bench = stage.load_bench(config, layout)
    options = config.evaluate.benchmarks[0].model_copy(update={"path": "arena.jsonl.gz"})
    with pytest.raises(DataError, match="max_len"):
        LengthInstructedBenchmark(options, bench, layout).load()


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not there")
def test_the_shared_files_load(checkout: tuple[Config, Layout]) -> None:
    config, layout = checkout
    named = [
        {"kind": "length_instructed", "path": str(SHARED / "alpaca_eval_length_instructed.jsonl.gz")},
        {"kind": "language_confusion", "path": f"zip://test_sets/**/*.csv::{SHARED / 'language_confusion.zip'}"},
        {"kind": "open_ended", "path": str(SHARED / "arena_hard_v0.1.jsonl.gz"),
         "references": str(SHARED / "arena_hard_v0.1_answers_gpt-4-0314.jsonl.gz")},
    ]  # fmt: skip
    parsed = Config.model_validate({"evaluate": {"benchmarks": named}}).evaluate.benchmarks
    bench = stage.load_bench(config, layout)
    counts = []
    for options in parsed:
        made = build(options, bench, layout)
        assert not isinstance(made, Probe)
        items = made.load()
        counts.append(len(items))
        assert len({item.id for item in items}) == len(items)
    assert counts == [799, 6586, 500]
