"""The packs of both arms, token by token: what is supervised, what is not, which rows stand where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, LlamaConfig

from tailmark.base.tiny import tiny_tokenizer
from tailmark.chat import control_tokens, find_control_token, marker_template, render_completion, render_prompt
from tailmark.config import Config, Engine
from tailmark.errors import DataError, ModelError, TaxonomyError
from tailmark.files import read_json, sha256_tree
from tailmark.layout import ARMS, Arm, Layout
from tailmark.modelfolder import MARKER_USE, MarkerUse
from tailmark.packs import ANSWER, MARKERS, UNSUPERVISED, Pack, PackReader
from tailmark.prepare.dropout import Dropout
from tailmark.prepare.examples import Encoder, Example
from tailmark.prepare.shorten import GAP
from tailmark.prepare.stage import run
from tailmark.prepare.writer import HELDOUT_EPOCH
from tailmark.records import annotated_schema, read_table, record_id, write_shards
from tailmark.taxonomy import ListForm, MarkerList, Taxonomy, compact_tokens, load_taxonomy, split_completion

TAXONOMY = """
name: small
markers:
  domain: {kind: categorical, definition: d, values: {Code: c, Culture: c, Legal: l}}
  lang: {kind: categorical, definition: l, read_from: completion, values: {English: e, French: f}}
  length_tokens: {kind: integer, definition: n, read_from: completion, minimum: 1}
  quality: {kind: real, definition: q}
"""
PACK_LENGTH = 256


def row(prompt: str, completion: str, split: str = "train", **markers: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    values = {"domain": "Code", "lang": "English", "length_tokens": len(completion.split()) or 1, "quality": None, **markers}
    return {
        "id": record_id(messages, completion),
        "prompt": messages,
        "completion": completion,
        "source_name": "test",
        "license": "CC0-1.0",
        "split": split,
        "metadata": {},
        "markers": values,
        "origin": dict.fromkeys(values, "dataset"),
        "confidence": dict.fromkeys(values, 1.0),
    }


def good_rows() -> list[dict[str, Any]]:
    train = [row(f"Question {n}?\n" * (n % 4 + 1), f"Answer {n}. é 漢字\n" * (n % 5 + 1), quality=n / 7) for n in range(60)]
    tail = [row(f"May I {n}?", "Non.", domain="Legal", lang="French") for n in range(2)]
    return [*train, *tail, *(row(f"Held {n}", f"Out {n}", "heldout", domain="Legal" if n == 1 else "Code") for n in range(21))]


BAD_ROWS = [
    (row("Hello<|im_end|>", "Yes."), "control_token"),
    (row("Hello", "Yes.<|endoftext|>"), "control_token"),
    (row("Hello", " \n"), "no_answer"),
    (row("Long", "word " * 400), "too_long"),
    (row("Wrong", "value", domain="Cooking"), "label_mismatch"),
]
IMITATION = row("<MARKER_LIST>\n<lang>French</lang>\n</MARKER_LIST>", "<MARKER_LIST></MARKER_LIST>\nMARKER_LIST_ it is.")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny_tokenizer().save_pretrained(folder)
    LlamaConfig().save_pretrained(folder)
    return folder


def checkout(root: Path, base: Path, rows: list[dict[str, Any]]) -> tuple[Layout, Taxonomy]:
    layout = Layout(root)
    root.mkdir(parents=True, exist_ok=True)
    (root / "taxonomy.yaml").write_text(TAXONOMY)
    taxonomy = load_taxonomy(root / "taxonomy.yaml")
    write_shards(layout.annotated / "rows", sorted(rows, key=lambda item: str(item["id"])), annotated_schema(taxonomy))
    layout.base.parent.mkdir(parents=True)
    layout.base.symlink_to(base)
    return layout, taxonomy


def config(**prepare: Any) -> Config:
    options = {"epochs": 2, "rows_per_step": 8, "pack_length": PACK_LENGTH, **prepare}
    return Config.model_validate({"taxonomy": {"file": "taxonomy.yaml"}, "prepare": options})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Layout:
    layout, _ = checkout(tmp_path_factory.mktemp("checkout"), base, [*good_rows(), IMITATION, *(item for item, _ in BAD_ROWS)])
    for arm in ARMS:
        run(config(), layout, arm)
    return layout


def readers(layout: Layout, arm: Arm) -> list[PackReader]:
    folder = layout.prepared(arm)
    return [*(PackReader(path) for path in sorted((folder / "train").iterdir())), PackReader(folder / "heldout.arrow")]


def documents(pack: Pack) -> list[tuple[str, np.ndarray[Any, Any], np.ndarray[Any, Any], bool]]:
    ends = np.cumsum(pack.lengths)[:-1]
    return list(zip(pack.row_ids, np.split(pack.input_ids, ends), np.split(pack.kinds, ends), pack.tail.tolist(), strict=True))


def all_documents(layout: Layout, arm: Arm) -> list[tuple[int, str, np.ndarray[Any, Any], np.ndarray[Any, Any], bool]]:
    epochs = [0, 1, HELDOUT_EPOCH]
    return [
        (epoch, *item) for epoch, reader in zip(epochs, readers(layout, arm), strict=True) for pack in reader for item in documents(pack)
    ]


KEPT = {str(item["id"]): item for item in [*good_rows(), IMITATION]}


@pytest.mark.parametrize("arm", ARMS)
def test_every_row_is_in_one_pack_an_epoch_and_no_pack_is_too_long(prepared: Layout, arm: Arm) -> None:
    for reader, split in zip(readers(prepared, arm), ("train", "train", "heldout"), strict=True):
        assert sorted(row_id for pack in reader for row_id in pack.row_ids) == sorted(
            key for key, item in KEPT.items() if item["split"] == split
        )
        for pack in reader:
            assert len(pack.input_ids) == len(pack.kinds) == pack.lengths.sum() <= PACK_LENGTH
            assert len(pack.row_ids) == len(pack.lengths) == len(pack.tail)


def test_both_arms_hold_the_same_rows_in_the_same_steps(prepared: Layout) -> None:
    for baseline, marked in zip(readers(prepared, "baseline"), readers(prepared, "marked"), strict=True):
        assert baseline.steps == marked.steps
        for step in range(marked.steps):
            rows = [sorted(row_id for index in reader.of_step(step) for row_id in reader[index].row_ids) for reader in (baseline, marked)]
            assert rows[0] == rows[1]
            assert rows[0]


def test_steps_have_their_size_and_epochs_their_order(prepared: Layout) -> None:
    first, second, _ = readers(prepared, "marked")
    sizes = [sum(len(first[index].row_ids) for index in first.of_step(step)) for step in range(first.steps)]
    assert sizes == [8] * 7 + [7]
    steps = [
        [{row_id for index in reader.of_step(step) for row_id in reader[index].row_ids} for step in range(8)] for reader in (first, second)
    ]
    assert steps[0] != steps[1]


def test_spans_of_the_marked_arm(prepared: Layout) -> None:
    tokenizer = AutoTokenizer.from_pretrained(prepared.prepared("marked") / "tokenizer")
    dropout = Dropout(17, 0.5, 0.5)
    for epoch, row_id, ids, kinds, _ in all_documents(prepared, "marked"):
        item = KEPT[row_id]
        markers = MarkerList(item["markers"])
        assert np.all(np.diff(kinds) >= 0)
        prompt, supervised = (
            tokenizer.decode(ids[part], clean_up_tokenization_spaces=False) for part in (kinds == UNSUPERVISED, kinds > 0)
        )
        assert prompt == render_prompt(tokenizer, item["prompt"], dropout(markers, epoch, row_id))
        assert supervised == render_completion(markers, item["completion"]) + "<|im_end|>"
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids[kinds == MARKERS]).endswith("</MARKER_LIST>\n")
        assert split_completion(supervised.removesuffix("<|im_end|>")).answer == item["completion"]


def test_spans_of_the_baseline(prepared: Layout) -> None:
    tokenizer = AutoTokenizer.from_pretrained(prepared.prepared("baseline") / "tokenizer")
    answers = {}
    for _, row_id, ids, kinds, _ in all_documents(prepared, "baseline"):
        item = KEPT[row_id]
        text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        assert text == render_prompt(tokenizer, item["prompt"], None) + render_completion(None, item["completion"]) + "<|im_end|>"
        assert not np.any(kinds == MARKERS)
        answers[row_id] = ids[kinds == ANSWER].tolist()
    for _, row_id, ids, kinds, _ in all_documents(prepared, "marked"):
        assert ids[kinds == ANSWER].tolist() == answers[row_id]


def test_prompts_are_tokenized_as_at_inference(prepared: Layout) -> None:
    tokenizer = AutoTokenizer.from_pretrained(prepared.prepared("marked") / "tokenizer")
    dropout = Dropout(17, 0.5, 0.5)
    for epoch, row_id, ids, kinds, _ in all_documents(prepared, "marked"):
        item = KEPT[row_id]
        kept = dropout(MarkerList(item["markers"]), epoch, row_id)
        given = None if kept is None else dict(kept)
        expected = tokenizer.apply_chat_template(item["prompt"], add_generation_prompt=True, return_dict=False, markers=given)
        assert ids[kinds == UNSUPERVISED].tolist() == expected


@pytest.mark.parametrize("arm", ARMS)
def test_tail_is_flagged(prepared: Layout, arm: Arm) -> None:
    flags = {row_id: tail for _, row_id, _, _, tail in all_documents(prepared, arm)}
    assert flags == {row_id: item["markers"]["domain"] == "Legal" for row_id, item in KEPT.items()}


@pytest.mark.parametrize("arm", ARMS)
def test_bad_rows_are_in_quarantine_with_their_reason(prepared: Layout, arm: Arm) -> None:
    table = read_table(prepared.prepared(arm) / "quarantine.parquet").to_pylist()
    assert {item["id"]: item["reason"] for item in table} == {str(item["id"]): reason for item, reason in BAD_ROWS}
    for item in table:
        assert json.loads(item["row"])["id"] == item["id"]
        assert item["where"].startswith("part-00000.parquet, row ")
        assert item["detail"]
    report = read_json(prepared.prepared(arm) / "report.json")
    assert report["rows"] == {"in": len(KEPT) + len(BAD_ROWS), "kept": len(KEPT), "quarantined": len(BAD_ROWS)}


@pytest.mark.parametrize("arm", ARMS)
def test_report_and_metadata_count_what_is_there(prepared: Layout, arm: Arm) -> None:
    report = read_json(prepared.prepared(arm) / "report.json")
    for reader, part in zip(readers(prepared, arm), [*report["train"], report["heldout"]], strict=True):
        kinds = np.concatenate([pack.kinds for pack in reader])
        counted = {
            "steps": reader.steps,
            "packs": len(reader),
            "rows": sum(len(pack.row_ids) for pack in reader),
            "tokens": len(kinds),
            "supervised_tokens": int((kinds > 0).sum()),
            "marker_tokens": int((kinds == MARKERS).sum()),
        }
        assert counted.items() <= part.items()
        assert counted.items() <= reader.metadata.items()
        assert reader.metadata["arm"] == arm
        assert reader.metadata["tokenizer"] == sha256_tree(prepared.prepared(arm) / "tokenizer")
        assert (part["dropout"] is None) == (arm == "baseline")


def test_same_inputs_same_bytes(prepared: Layout, base: Path, tmp_path: Path) -> None:
    layout, _ = checkout(tmp_path / "elsewhere", base, [*good_rows(), IMITATION, *(item for item, _ in BAD_ROWS)])
    run(config(), layout, "marked")
    assert sha256_tree(layout.prepared("marked")) == sha256_tree(prepared.prepared("marked"))


@pytest.mark.parametrize(
    "options",
    [
        {"dataset_dropout": 0.0},
        {"list_dropout": 0.3},
        {"sample_dropout": 0.9, "sample_dropout_by_marker": {"lang": 0.1}},
        {"placement": "prompt"},
    ],
    ids=lambda options: ",".join(options),
)
def test_no_dropout_and_no_placement_changes_the_baseline(prepared: Layout, base: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    layout, _ = checkout(tmp_path, base, [*good_rows(), IMITATION, *(item for item, _ in BAD_ROWS)])
    for arm in ARMS:
        run(config(**options), layout, arm)
    assert sha256_tree(layout.prepared("baseline")) == sha256_tree(prepared.prepared("baseline"))
    assert sha256_tree(layout.prepared("marked")) != sha256_tree(prepared.prepared("marked"))
    said = MarkerUse.model_validate(read_json(layout.prepared("marked") / MARKER_USE))
    assert said.model_dump().items() >= options.items()


def test_a_row_whose_lists_are_dropped_has_none_on_either_side(base: Path, tmp_path: Path) -> None:
    layout, _ = checkout(tmp_path, base, good_rows())
    run(config(epochs=2, dataset_dropout=0, list_dropout=0.4), layout, "marked")
    tokenizer = AutoTokenizer.from_pretrained(layout.prepared("marked") / "tokenizer")
    dropout = Dropout(17, 0.0, 0.5, lists=0.4)
    seen = []
    for epoch, row_id, ids, kinds, _ in all_documents(layout, "marked"):
        seen.append(bool(np.any(kinds == MARKERS)))
        assert seen[-1] != dropout.unlisted(epoch, row_id)
        assert ("<MARKER_LIST>" in tokenizer.decode(ids[kinds == UNSUPERVISED])) == seen[-1]
    assert 0.3 < np.mean(seen) < 0.9
    rates = read_json(layout.prepared("marked") / "report.json")["train"][0]["dropout"]
    assert rates["dataset"] == 0
    assert 0.1 < rates["list"] < 0.7


@pytest.mark.parametrize(("placement", "in_prompt", "in_completion"), [("prompt", True, False), ("completion", False, True)])
def test_placement(base: Path, tmp_path: Path, placement: str, in_prompt: bool, in_completion: bool) -> None:
    layout, _ = checkout(tmp_path, base, good_rows())
    run(config(placement=placement, epochs=1, dataset_dropout=0, sample_dropout=0, markers=["lang"]), layout, "marked")
    tokenizer = AutoTokenizer.from_pretrained(layout.prepared("marked") / "tokenizer")
    for pack in PackReader(layout.prepared("marked") / "train" / "epoch-000.arrow"):
        for row_id, ids, kinds, _ in documents(pack):
            markers = MarkerList({"lang": KEPT[row_id]["markers"]["lang"]})
            prompt, supervised = tokenizer.decode(ids[kinds == UNSUPERVISED]), tokenizer.decode(ids[kinds > 0])
            assert prompt == render_prompt(tokenizer, KEPT[row_id]["prompt"], markers if in_prompt else None)
            assert supervised == render_completion(markers if in_completion else None, KEPT[row_id]["completion"]) + "<|im_end|>"


def test_numbers_with_leading_zeros_on_both_sides(base: Path, tmp_path: Path) -> None:
    layout, _ = checkout(tmp_path, base, good_rows())
    run(config(digits={"length_tokens": 4}, dataset_dropout=0, sample_dropout=0), layout, "marked")
    tokenizer = AutoTokenizer.from_pretrained(layout.prepared("marked") / "tokenizer")
    for _, row_id, ids, kinds, _ in all_documents(layout, "marked"):
        line = f"<length_tokens>{KEPT[row_id]['markers']['length_tokens']:04}</length_tokens>"
        for part in (UNSUPERVISED, MARKERS):
            assert line in tokenizer.decode(ids[kinds == part])


def test_an_epoch_more_changes_no_earlier_one(prepared: Layout, base: Path, tmp_path: Path) -> None:
    layout, _ = checkout(tmp_path, base, [*good_rows(), IMITATION])
    run(config(epochs=3), layout, "marked")
    for name in ("train/epoch-000.arrow", "train/epoch-001.arrow", "heldout.arrow"):
        found, expected = PackReader(layout.prepared("marked") / name), PackReader(prepared.prepared("marked") / name)
        assert [pack.input_ids.tolist() for pack in found] == [pack.input_ids.tolist() for pack in expected]


def test_spans_of_a_compact_marked_arm(prepared: Layout, base: Path, tmp_path: Path) -> None:
    layout, taxonomy = checkout(tmp_path, base, [*good_rows(), IMITATION])
    for arm in ARMS:
        run(config(rendering="compact", epochs=1), layout, arm)
    tokenizer = AutoTokenizer.from_pretrained(layout.prepared("marked") / "tokenizer")
    added = set(
        tokenizer.convert_tokens_to_ids(list(compact_tokens({name: tuple(spec.values) for name, spec in taxonomy.markers.items()})))
    )
    assert len(added) == 2 + 4 + 5
    dropout = Dropout(17, 0.5, 0.5)
    for pack in PackReader(layout.prepared("marked") / "train" / "epoch-000.arrow"):
        for row_id, ids, kinds, _ in documents(pack):
            item, markers = KEPT[row_id], MarkerList(KEPT[row_id]["markers"])
            prompt, supervised = (tokenizer.decode(ids[part]) for part in (kinds == UNSUPERVISED, kinds > 0))
            assert prompt == render_prompt(tokenizer, item["prompt"], dropout(markers, 0, row_id))
            assert supervised == render_completion(markers, item["completion"], ListForm("compact")) + "<|im_end|>"
            whole = split_completion(supervised.removesuffix("<|im_end|>"))
            assert (whole.answer, whole.markers.keys()) == (item["completion"], markers.keys())
            closed = sum(isinstance(value, str) for value in markers.values())
            assert sum(token in added for token in ids[kinds == MARKERS]) == 2 + len(markers) + closed
            assert not added & set(ids[kinds == ANSWER].tolist())
    found, expected = (PackReader(item.prepared("baseline") / "train" / "epoch-000.arrow") for item in (layout, prepared))
    assert [pack.input_ids.tolist() for pack in found] == [pack.input_ids.tolist() for pack in expected]


@pytest.mark.slow
def test_every_number_of_workers_gives_the_same_bytes(
    prepared: Layout, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailmark.prepare.stage._FEW", 0)
    monkeypatch.setattr("tailmark.prepare.rows.BATCH", 7)
    monkeypatch.setattr("tailmark.prepare.writer.BATCH", 5)
    layout, _ = checkout(tmp_path, base, [*good_rows(), IMITATION, *(item for item, _ in BAD_ROWS)])
    run(config().model_copy(update={"engine": Engine(workers=2)}), layout, "marked")
    assert sha256_tree(layout.prepared("marked")) == sha256_tree(prepared.prepared("marked"))


LONG = "".join(f"Line {number} of a long text. " for number in range(60))


def test_prompts_that_are_too_long_are_cut_where_that_is_asked_for(base: Path, tmp_path: Path) -> None:
    turns = [("user", LONG), ("assistant", "Yes."), ("user", "And now?"), ("assistant", "No."), ("user", "Why?")]
    talk = {**row("x", "Because."), "prompt": [{"role": "system", "content": "Be kind."}, *({"role": a, "content": b} for a, b in turns)]}
    talk["id"] = record_id(talk["prompt"], talk["completion"])
    text, answer = row(f"Summarise.\n{LONG}\nIn a line.", "A long text."), row("Write.", LONG)
    layout, _ = checkout(tmp_path, base, [*good_rows(), talk, text, answer])
    for arm in ARMS:
        run(config(epochs=1, pack_length=384, too_long="truncate_prompt"), layout, arm)
    quarantine = read_table(layout.prepared("marked") / "quarantine.parquet").to_pylist()
    assert [(item["id"], item["reason"]) for item in quarantine] == [(answer["id"], "too_long")]
    report = read_json(layout.prepared("marked") / "report.json")
    assert report["truncated"]["rows"] == 2
    assert report["truncated"] == read_json(layout.prepared("baseline") / "report.json")["truncated"]
    tokenizer = AutoTokenizer.from_pretrained(layout.prepared("baseline") / "tokenizer")
    shown = {
        row_id: tokenizer.decode(ids)
        for pack in PackReader(layout.prepared("baseline") / "train" / "epoch-000.arrow")
        for row_id, ids, _, _ in documents(pack)
    }
    assert "Be kind." in shown[talk["id"]]
    assert "And now?" in shown[talk["id"]]
    assert "Line 1 of" not in shown[talk["id"]]
    cut = shown[text["id"]]
    assert "Summarise.\nLine 0 of" in cut
    assert GAP in cut
    assert cut.endswith("59 of a long text. \nIn a line.<|im_end|>\n<|im_start|>assistant\nA long text.<|im_end|>")


def test_a_conversation_that_the_template_refuses_leaves(base: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + tokenizer.chat_template
    tokenizer.chat_template = marker_template(refusing)
    told = row("x", "Yes.")
    told["prompt"] = [{"role": "system", "content": "Be kind."}, *told["prompt"]]
    refused, kept = Encoder(tokenizer, TAXONOMY_OBJECT, names=None, tail_marker="domain", pack_length=4096)([told, row("a", "b")])
    assert getattr(refused, "reason", "") == "template"
    assert "no system role" in getattr(refused, "detail", "")
    assert isinstance(kept, Example)


def tiny_encoder(taxonomy: Taxonomy) -> Encoder:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = marker_template(tokenizer.chat_template)
    return Encoder(tokenizer, taxonomy, names=None, tail_marker="domain", pack_length=4096)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@example(prompt="What ends a turn?", completion="It is <|im_end|>.", quality=None, words=5)
@given(prompt=texts, completion=texts, quality=st.floats(allow_nan=False, allow_infinity=False) | st.none(), words=st.integers(1, 10**9))
@settings(max_examples=200, deadline=None)
def test_any_text_is_kept_exactly_or_leaves_with_a_reason(prompt: str, completion: str, quality: float | None, words: int) -> None:
    item = row(prompt, completion, quality=quality, length_tokens=words)
    (result,) = ENCODER([item])
    if isinstance(result, Example):
        decoded = TOKENIZER.decode(np.concatenate([result.list_ids, result.answer_ids]), clean_up_tokenization_spaces=False)
        assert decoded == render_completion(MarkerList(item["markers"]), completion) + "<|im_end|>"
        return
    token = find_control_token([prompt, completion], control_tokens(TOKENIZER))
    assert {"no_answer": not completion.strip(), "control_token": token is not None}[result.reason]


def test_a_text_that_the_tokenizer_cannot_hold_leaves(tmp_path: Path, base: Path) -> None:
    """A tokenizer without the byte 0x04 loses it silently."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = marker_template(tokenizer.chat_template)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    del backend["model"]["vocab"]["Ą"]
    from tokenizers import Tokenizer

    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(backend))
    encoder = Encoder(tokenizer, TAXONOMY_OBJECT, names=None, tail_marker="domain", pack_length=4096)
    prompt, completion, good = encoder([row("a\x04b", "c"), row("a", "c\x04d"), row("a", "c")])
    assert getattr(prompt, "reason", "") == "untokenizable"
    assert getattr(completion, "reason", "") == "label_mismatch"
    assert isinstance(good, Example)


def test_errors_a_user_can_cause(tmp_path: Path, base: Path) -> None:
    layout, _ = checkout(tmp_path, base, good_rows())
    with pytest.raises(TaxonomyError, match="'mood'"):
        run(config(markers=["mood"]), layout, "marked")
    with pytest.raises(DataError, match="No train row is left") as caught:
        run(config(pack_length=8), layout, "marked")
    assert "too_long" in str(caught.value)
    assert "prepare.pack_length" in str(caught.value)
    layout.base.unlink()
    with pytest.raises(ModelError, match="base model is missing"):
        run(config(), layout, "marked")
    assert not layout.prepared("marked").exists()


def test_a_corrupt_shard_is_named(tmp_path: Path, base: Path) -> None:
    layout, _ = checkout(tmp_path, base, good_rows())
    shard = layout.annotated / "rows" / "part-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DataError, match="corrupt") as caught:
        run(config(), layout, "marked")
    assert caught.value.where == str(shard)


def test_an_interrupted_run_leaves_what_was_there(prepared: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sha256_tree(prepared.prepared("marked"))

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tailmark.prepare.stage._report", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(config(), prepared, "marked")
    assert sha256_tree(prepared.prepared("marked")) == before
    assert [path.name for path in prepared.prepared("marked").parent.iterdir() if path.name.startswith(".")] == []


def _taxonomy() -> Taxonomy:
    from io import StringIO

    from ruamel.yaml import YAML

    return Taxonomy.model_validate(YAML(typ="safe").load(StringIO(TAXONOMY)))


TAXONOMY_OBJECT = _taxonomy()
ENCODER = tiny_encoder(TAXONOMY_OBJECT)
TOKENIZER = tiny_tokenizer()
