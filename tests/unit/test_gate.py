"""The gate's rules, the comparison of two versions, the chain of the log, and the verdict's page, without a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, ModelVersionTag

from tailmark.config import Config, parse_config
from tailmark.errors import ConfigError, ModelError, PromotionError
from tailmark.files import read_json, sha256_file, write_json
from tailmark.layout import Layout
from tailmark.records import write_table
from tailmark.register.audit import broken_decisions, broken_links
from tailmark.register.compare import higher_is_better, over_other
from tailmark.register.fetch import Fetched, copy_of, fetch
from tailmark.register.gate import Verdict, judge_versions
from tailmark.register.log import Decision, Entry, PromotionLog, first_link
from tailmark.register.manifest import ENVELOPE_TAG, MANIFEST_TAG, Lineage, Manifest, hashes, verify_version, write_manifest
from tailmark.register.page import verdict_page
from tailmark.register.promote import Approval, former_champions
from tailmark.register.registry import Registry
from tailmark.register.terms import differences, terms_of


def config(**gate: object) -> Config:
    return parse_config({"gate": gate, "evaluate": {"resamples": 300}}, Path("params.yaml"))


def entry_of(lift: float, half: float = 0.05) -> dict[str, float]:
    return {"lift": lift, "low": lift - half, "high": lift + half, "baseline": 2.0, "marked": 2.0 - lift, "n": 30}


def version(folder: Path, number: str, tokenizer: str = "t", *, tail: float = 0.2, head: float = 0.1, absent: float = 0.0) -> Fetched:
    """A fetched version whose marked model is better than the baseline by these many nats per token."""
    evidence = folder / number / "artifacts" / "evidence"
    fixed = {"all": entry_of(tail), "tail": entry_of(tail), "head": entry_of(head)}
    metrics = {"likelihood": {"nll": {"fixed": fixed, "inferred": {"all": entry_of(absent)}}}}
    write_json(evidence / "evaluation.json", metrics)
    write_json(evidence / "ingested.json", {"contamination": {}})
    noise = np.random.default_rng(3).normal(0, 0.01, 60)
    rows = [
        {
            "benchmark": "likelihood",
            "score": "nll",
            "mode": mode,
            "row_id": f"{place:02d}",
            "group": f"text {place // 2}",
            "value": 2.0 - (absent if mode == "inferred" else tail if place % 4 < 2 else head) + noise[place] * int(number),
            "tail": place % 4 < 2,
        }
        for mode in ("fixed", "inferred")
        for place in range(60)
    ]
    write_table(evidence / "examples.parquet", pa.Table.from_pylist(rows))
    return Fetched("tailmark", number, folder / number, manifest_of({"artifacts/marked/tokenizer.json": tokenizer}), number * 64)


def manifest_of(files: dict[str, str]) -> Manifest:
    lineage = Lineage(commit=None, dirty=None, lock=None, outputs={}, params={"evaluate": {"confidence": 0.95}}, run="r")
    return Manifest(
        name="tailmark",
        model="m",
        evidence="e",
        taxonomy="t",
        base="random:tiny",
        markers=("lang",),
        placement="both",
        dataset_dropout=0.5,
        sample_dropout=0.5,
        quality_percentiles={},
        lineage=lineage,
        files=files,
    )


def failed(verdict: Verdict) -> list[str]:
    return [check.title.split(",")[0] for check in verdict.checks if not check.passed]


@pytest.mark.parametrize(
    ("lifts", "fails"),
    [
        ({"tail": 0.2}, []),
        ({"tail": 0.04}, ["Tail over baseline"]),
        ({"tail": 0.05}, ["Tail over baseline"]),
        ({"head": 0.0}, []),
        ({"head": -0.01}, ["Head over baseline"]),
        ({"absent": -0.01}, ["Markers absent"]),
    ],
)
def test_each_rule_over_the_baseline(tmp_path: Path, lifts: dict[str, float], fails: list[str]) -> None:
    verdict = judge_versions(config(), version(tmp_path, "1", **lifts), None)
    assert failed(verdict) == fails
    assert verdict.passed == (not fails)


@pytest.mark.parametrize(
    ("options", "tail", "head", "fails"),
    [
        ({}, 0.3, 0.1, []),
        ({}, 0.2, 0.1, ["Tail over champion"]),
        ({"over_champion": "not_worse"}, 0.2, 0.1, []),
        ({}, 0.3, 0.06, []),
        ({}, 0.3, 0.02, ["Head over champion"]),
        ({"head_margin": 0.2}, 0.3, 0.02, []),
    ],
)
def test_each_rule_over_the_champion(tmp_path: Path, options: dict[str, object], tail: float, head: float, fails: list[str]) -> None:
    challenger, champion = version(tmp_path, "2", tail=tail, head=head), version(tmp_path, "1")
    assert failed(judge_versions(config(**options), challenger, champion)) == fails


def test_markers_absent_is_held_against_the_champion(tmp_path: Path) -> None:
    challenger, champion = version(tmp_path, "2", tail=0.5), version(tmp_path, "1", absent=0.2)
    assert failed(judge_versions(config(), challenger, champion)) == ["Markers absent over champion"]


def test_intervals_at_another_confidence_are_refused_and_the_page_states_the_real_one(tmp_path: Path) -> None:
    options = parse_config({"evaluate": {"resamples": 300, "confidence": 0.9}}, Path("params.yaml"))
    verdict = judge_versions(options, version(tmp_path, "2", tail=0.5), version(tmp_path, "1"))
    assert failed(verdict) == ["Confidence"]
    assert "95 % intervals" in verdict_page(verdict)


def test_a_version_that_names_no_confidence_does_not_pass(tmp_path: Path) -> None:
    silent = version(tmp_path, "2", tail=0.5)
    lineage = silent.manifest.lineage.model_copy(update={"params": {}})
    verdict = judge_versions(config(), replace(silent, manifest=silent.manifest.model_copy(update={"lineage": lineage})), None)
    assert failed(verdict) == ["Confidence"]
    page = verdict_page(verdict)
    assert "% intervals" not in page
    assert "Bars are intervals over source texts" in page


def measured_on(side: Fetched, change: Mapping[str, Any]) -> Fetched:
    """The same version, its figures being those of a benchmark that was run on what a test says."""
    entry = {
        "options": {"kind": "open_ended", "limit": 8, "max_new_tokens": 96, "path": "here.jsonl"},
        "files": {"here.jsonl": {"bytes": 9, "sha256": "a"}},
        "found": {"judges": {"llm": {"model": "m", "wording": 1, "requests": {"asked": 4}}, "reference": {"tie": 0.01}}},
    }
    metrics = read_json(side.evidence / "evaluation.json")["likelihood"]["nll"]
    write_json(side.evidence / "evaluation.json", {"open": {"grade_llm": metrics}})
    write_json(side.evidence / "benchmarks.json", {"benchmarks": {"open": [entry | change]}})
    rows = pq.read_table(side.evidence / "examples.parquet").to_pandas().assign(benchmark="open", score="grade_llm")
    write_table(side.evidence / "examples.parquet", pa.Table.from_pandas(rows, preserve_index=False))
    return side


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"options": {"kind": "open_ended", "limit": 4, "max_new_tokens": 96, "path": "elsewhere.jsonl"}}, None),
        ({"files": {"elsewhere.jsonl": {"bytes": 9, "sha256": "a"}}}, None),
        ({"found": {"judges": {"llm": {"model": "m", "wording": 1, "requests": {"asked": 2}}}}}, None),
        ({"options": {"kind": "open_ended", "max_new_tokens": 48}}, "max_new_tokens (96 here, 48 of the champion)"),
        ({"files": {"here.jsonl": {"bytes": 9, "sha256": "b"}}}, "the content of its files"),
        ({"found": {"judges": {"llm": {"model": "m", "wording": 2}}}}, "judge llm: wording (1 here, 2 of the champion)"),
    ],
)
def test_a_benchmark_is_compared_only_where_both_were_measured_alike(tmp_path: Path, change: dict[str, Any], said: str | None) -> None:
    mine, theirs = measured_on(version(tmp_path, "2", tail=0.5), {}), measured_on(version(tmp_path, "1"), change)
    verdict = judge_versions(config(scores=["open/grade_llm"]), mine, theirs)
    if said is None:
        assert verdict.passed, verdict.reasons
        return
    assert verdict.reasons[0] == f"Tail over champion, open/grade_llm: open/grade_llm was not measured as the champion's was: {said}"
    check = next(item for item in verdict.checks if not item.passed)
    assert check.fix.startswith("set what differs as `tailmark lineage 1 --json` shows it, run `dvc repro evaluate`")


@pytest.mark.parametrize(
    ("lacking", "said"), [("1", "the champion's evidence does not say"), ("2", "the challenger's evidence does not say")]
)
def test_without_word_of_how_it_was_measured_a_benchmark_is_not_compared(tmp_path: Path, lacking: str, said: str) -> None:
    sides = {number: measured_on(version(tmp_path, number, tail=0.1 * int(number)), {}) for number in ("2", "1")}
    (sides[lacking].evidence / "benchmarks.json").unlink()
    verdict = judge_versions(config(scores=["open/grade_llm"]), sides["2"], sides["1"])
    assert said in verdict.reasons[0]


def test_answers_of_another_length_are_not_compared(tmp_path: Path) -> None:
    def cut_at(side: Fetched, tokens: int) -> Fetched:
        params = {"evaluate": {"confidence": 0.95, "max_new_tokens": tokens}}
        lineage = side.manifest.lineage.model_copy(update={"params": params})
        return replace(side, manifest=side.manifest.model_copy(update={"lineage": lineage}))

    mine, theirs = cut_at(version(tmp_path, "2"), 96), cut_at(version(tmp_path, "1"), 48)
    assert differences(terms_of(mine, "length/error") or {}, terms_of(theirs, "length/error") or {}) == [
        "max_new_tokens (96 here, 48 of the champion)"
    ]
    assert terms_of(mine, "likelihood/nll") == terms_of(theirs, "likelihood/nll") == {}


def test_other_questions_under_the_same_ids_are_not_compared(tmp_path: Path) -> None:
    challenger, champion = version(tmp_path, "2", tail=0.5), version(tmp_path, "1")
    path = champion.evidence / "examples.parquet"
    table = pq.read_table(path)
    write_table(path, table.append_column("prompt", pa.array(["another question"] * len(table))))
    verdict = judge_versions(config(), challenger, champion)
    assert "only 0 tail texts" in verdict.reasons[0]


def test_wins_over_different_baselines_are_not_compared(tmp_path: Path) -> None:
    wins = {"open": {"win_judge": {"fixed": {"all": entry_of(0.2), "tail": entry_of(0.2), "head": entry_of(0.2)}}}}
    sides = [version(tmp_path, number) for number in ("2", "1")]
    for side in sides:
        write_json(side.evidence / "evaluation.json", wins)
    verdict = judge_versions(config(scores=["open/win_judge"]), *sides)
    assert any("counts wins over a baseline" in reason for reason in verdict.reasons)


@pytest.mark.parametrize("score", ["rows/heldout", "inference/lang", "nothing/x"])
def test_what_is_no_score_is_refused(tmp_path: Path, score: str) -> None:
    sides = [version(tmp_path, number) for number in ("2", "1")]
    for side in sides:
        write_json(side.evidence / "evaluation.json", {"rows": {"heldout": 40}, "inference": {"lang": {"accuracy": 0.9}}})
    verdict = judge_versions(config(scores=[score]), *sides)
    assert not verdict.passed
    assert "no lift of" in verdict.reasons[-1]


def test_a_score_per_token_is_not_compared_across_tokenizers(tmp_path: Path) -> None:
    verdict = judge_versions(config(), version(tmp_path, "2", "other", tail=0.5), version(tmp_path, "1"))
    assert failed(verdict) == ["Tail over champion", "Head over champion", "Markers absent over champion"]
    assert "another tokenizer" in verdict.reasons[0]


def test_few_shared_texts_are_not_enough(tmp_path: Path) -> None:
    verdict = judge_versions(config(min_texts=31), version(tmp_path, "2", tail=0.5), version(tmp_path, "1"))
    assert failed(verdict) == ["Tail over champion", "Head over champion", "Markers absent over champion"]
    assert "only 15 tail texts" in verdict.reasons[0]


def test_the_page_is_self_contained_and_says_what_to_do(tmp_path: Path) -> None:
    verdict = judge_versions(config(decontaminated=["<humaneval>"]), version(tmp_path, "2", tail=0.01), version(tmp_path, "1"))
    page = verdict_page(verdict)
    assert "Version 2 does not pass: 3 of 9 checks fail, against version 1, the champion." in page
    assert "&lt;humaneval&gt;" in page
    assert "<humaneval>" not in page
    assert "To do: name" in page
    assert not [word for word in ("http", "src=", "url(", "<script") if word in page]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=4, max_size=30), st.floats(-0.5, 0.5))
def test_the_lift_over_another_version_is_paired_and_antisymmetric(values: list[float], shift: float) -> None:
    index = pd.Index([f"{place:02d}" for place in range(len(values))], name="row_id")
    theirs = pd.DataFrame({"value": values, "tail": True, "group": index}, index=index)
    mine = theirs.assign(value=theirs["value"] - shift)[::-1]
    options = config().evaluate
    lift = over_other(mine, theirs, "tail", higher=False, options=options, seed=1)
    back = over_other(mine, theirs, "tail", higher=True, options=options, seed=1)
    assert lift is not None
    assert back is not None
    assert lift.lift == pytest.approx(shift, abs=1e-9)
    assert back.lift == pytest.approx(-lift.lift, abs=1e-9)
    assert lift.low - 1e-9 <= lift.lift <= lift.high + 1e-9
    assert over_other(mine, theirs, "head", higher=False, options=options, seed=1) is None


@pytest.mark.parametrize(("baseline", "marked", "lift", "higher"), [(2.0, 1.0, 1.0, False), (0.2, 0.5, 0.3, True), (0.5, 0.2, -0.3, True)])
def test_the_direction_of_a_score_is_told_from_its_lifts(baseline: float, marked: float, lift: float, higher: bool) -> None:
    same = {"lift": 0.0, "baseline": 1.0, "marked": 1.0}
    slices = {"all": same, "tail_minus_head": {"difference": 0.1}, "tail": {"lift": lift, "baseline": baseline, "marked": marked}}
    assert higher_is_better({"a": {"b": {"fixed": slices}}}, "a/b") is higher
    assert higher_is_better({"a": {"b": {"fixed": {"all": same}}}}, "a/b") is None


def chain(decisions: list[tuple[str, str]]) -> list[Entry]:
    entries: list[Entry] = []
    champion: str | None = None
    for seq, (decision, number) in enumerate(decisions):
        before, champion = champion, champion if decision == "refused" else number
        entries.append(
            Entry(
                seq=seq,
                prev=entries[-1].digest if entries else first_link("tailmark"),
                id=f"{seq:032x}",
                time="2026-01-01T00:00:00+00:00",
                who="someone",
                decision=decision,
                version=number,
                before=before,
                champion=champion,
                manifest="m",
                reasons=("a reason",),
            )
        )
    return entries


@settings(deadline=None)
@given(st.integers(3, 12), st.data())
def test_a_changed_removed_or_moved_entry_breaks_the_chain(length: int, data: st.DataObject) -> None:
    entries = chain([("promoted", str(number)) for number in range(length)])
    assert list(broken_links(entries, "tailmark")) == []
    assert list(broken_links(entries, "another model"))
    place = data.draw(st.integers(0, length - 2))  # the last one is held by the notes outside the log
    changed = [*entries]
    match data.draw(st.sampled_from(["who", "removed", "moved"])):
        case "who":
            changed[place] = entries[place].model_copy(update={"who": "someone else"})
        case "removed":
            del changed[place]
        case "moved":
            changed[place], changed[place + 1] = entries[place + 1], entries[place]
    assert list(broken_links(changed, "tailmark"))


def test_an_entry_that_contradicts_the_decisions_before_it_is_found() -> None:
    entries = [
        item.model_copy(update={"verdict": "0" * 64}) for item in chain([("promoted", "1"), ("promoted", "2"), ("rolled_back", "1")])
    ]
    assert list(broken_decisions(entries)) == []
    for place, change, said in (
        (1, {"verdict": None}, "has no verdict"),
        (1, {"before": "7"}, "names champion 7 before it"),
        (1, {"decision": "refused"}, "version 2 refused and champion 2"),
        (2, {"version": "3", "champion": "3"}, "which was no champion before"),
    ):
        changed = [*entries]
        changed[place] = entries[place].model_copy(update=change)
        assert any(said in problem for problem in broken_decisions(changed))


def test_a_long_answer_is_cut_and_a_nameless_one_refused(tmp_path: Path) -> None:
    registry = Registry(config(), Layout(tmp_path), MlflowClient("http://127.0.0.1:9"), "tailmark")
    said = {"by": "\x00" * 6000, "reason": "x" * 6000}
    entry = PromotionLog(registry)._link([], Decision("refused", "1", None, None, "0" * 64, ("r" * 400,) * 40, approval=said))
    assert entry.approval == {"by": " " * 300, "reason": "x" * 300}
    assert len(entry.model_dump_json()) <= 6000
    with pytest.raises(PromotionError, match="needs a name"):
        Approval(True, "  ")


@pytest.mark.parametrize(
    ("decisions", "former"),
    [
        ("", []),
        ("p1", []),
        ("p1 x2", []),
        ("p1 p2", ["1"]),
        ("p1 p2 p3", ["1", "2"]),
        ("p1 p2 p3 r2", ["1"]),
        ("p1 p2 p3 r1", []),
        ("p1 p2 r1 p3", ["1"]),
        ("p1 p2 r1 p2", ["1"]),
    ],
)
def test_the_champions_before(decisions: str, former: list[str]) -> None:
    names = {"p": "promoted", "r": "rolled_back", "x": "refused"}
    assert former_champions(chain([(names[item[0]], item[1:]) for item in decisions.split()])) == former


def stored(folder: Path) -> dict[str, str]:
    """A version's files, and the tags that hold their hashes."""
    write_json(folder / "artifacts" / "marked" / "config.json", {"a": 1})
    (folder / "MLmodel").write_text("flavors: {}\n")
    files = {name: digest for name, digest in hashes(folder).items() if name.startswith("artifacts/")}
    digest = write_manifest(folder / "artifacts" / "manifest.json", manifest_of(files))
    return {MANIFEST_TAG: digest, ENVELOPE_TAG: f'{{"MLmodel": "{sha256_file(folder / "MLmodel")}"}}'}


def test_a_whole_version_is_verified(tmp_path: Path) -> None:
    tags = stored(tmp_path)
    (tmp_path / "registered_model_meta").write_text("written by MLflow when it downloads")
    assert verify_version(tmp_path, tags, "there").base == "random:tiny"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("artifacts/marked/config.json", "{}", "has changed"),
        ("artifacts/marked/config.json", None, "is missing"),
        ("artifacts/manifest.json", "{}", "has changed"),
        ("artifacts/manifest.json", None, "is missing"),
        ("artifacts/marked/more.json", "{}", "was added later"),
        ("artifacts/marked/pytorch_model.bin", "x", "does not belong there"),
        ("artifacts/marked/model.safetensors.pkl", "x", "does not belong there"),
        ("MLmodel", "flavors: {python_function: {}}", "has changed"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, name: str, content: str | None, said: str) -> None:
    tags = stored(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match=said) as raised:
        verify_version(tmp_path, tags, "there")
    assert name in raised.value.what
    assert raised.value.fix


def test_a_link_and_a_version_without_manifest_are_refused(tmp_path: Path) -> None:
    tags = stored(tmp_path)
    with pytest.raises(ModelError, match="has no manifest"):
        verify_version(tmp_path, {}, "there")
    (tmp_path / "artifacts" / "marked" / "other.json").symlink_to(tmp_path / "MLmodel")
    with pytest.raises(ModelError, match="is a link"):
        verify_version(tmp_path, tags, "there")


@pytest.mark.parametrize("tag", ["/../../../..", "0" * 63, "A" * 64, "../" + "0" * 61])
def test_a_tag_that_is_no_hash_never_becomes_a_path(tmp_path: Path, tag: str) -> None:
    registry = Registry(config(), Layout(tmp_path), MlflowClient("http://127.0.0.1:9"), "tailmark")
    (tmp_path / "precious").write_text("x")
    found = ModelVersion("tailmark", "1", 0, tags=[ModelVersionTag(MANIFEST_TAG, tag), ModelVersionTag(ENVELOPE_TAG, "{}")])
    for refuse in (copy_of, fetch):
        with pytest.raises(ModelError, match="is not a sha256"):
            refuse(registry, found)
    assert (tmp_path / "precious").exists()


def test_an_envelope_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for text in ("not json", "[]", '{"MLmodel": 1}'):
        with pytest.raises(ModelError, match="tag 'envelope'"):
            verify_version(tmp_path, {**stored(tmp_path), ENVELOPE_TAG: text}, "there")


def test_registering_cannot_pass_by_the_gate() -> None:
    with pytest.raises(ConfigError, match="registering would pass by the gate"):
        parse_config({"register": {"alias": "champion"}}, Path("params.yaml"))
    with pytest.raises(ConfigError, match="MLflow keeps the alias"):
        parse_config({"gate": {"champion": "latest"}}, Path("params.yaml"))
