"""Quality: scores from the source or a model, and quartiles within each language."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from tailmark.annotate import passes, stage
from tailmark.annotate.quality import bucket, quartiles
from tailmark.annotate.scorers import LikelihoodScorer, open_scorer
from tailmark.config import Config, Quality
from tailmark.errors import ConfigError, DataError, ModelError, TaxonomyError
from tailmark.files import read_json, sha256_tree
from tailmark.layout import Layout
from tailmark.records import RECORD, read_rows, record_id, write_shards
from tailmark.reward import batches

PAPER = Path(__file__).resolve().parents[2] / "src" / "tailmark" / "taxonomy" / "paper.yaml"
WORDS = ["<unk>", "<s>", "</s>", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
TEMPLATE = "{% for m in messages %}{{ '<s> ' + m['content'] + ' </s> ' }}{% endfor %}"


def record(number: int, completion: str, split: str = "train", **markers: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"one {number}"}]
    return {
        "id": record_id(messages, completion), "prompt": messages, "completion": completion, "source_name": "test", "license": "MIT",
        "split": split, "metadata": {f"marker.{name}": str(value) for name, value in markers.items()},
    }  # fmt: skip


def scored() -> list[dict[str, Any]]:
    """Forty rows a language, with scores on two scales: German ones are a hundred times the English."""
    return [
        record(number, f"This is answer {number}.", lang=lang, quality=scale * number)
        for lang, scale in (("English", 1), ("German", 100))
        for number in range(40)
    ]


def run(root: Path, records: list[dict[str, Any]], taxonomy: Path = PAPER, **quality: Any) -> Layout:
    layout = Layout(root)
    plain = [row | {"metadata": sorted(row["metadata"].items())} for row in sorted(records, key=lambda row: row["id"])]
    write_shards(layout.ingested / "rows", plain, RECORD)
    config = {"taxonomy": {"file": str(taxonomy)}, "annotate": {"workers": 1, "quality": quality}}
    stage.run(Config.model_validate(config), layout)
    return layout


def save_model(folder: Path, kind: type[Any], labels: int = 1, template: str | None = TEMPLATE) -> None:
    torch.manual_seed(0)
    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    fast.chat_template = template
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_labels=labels
    )
    kind(config).save_pretrained(folder)


def test_buckets_are_quartiles_within_each_language(tmp_path: Path) -> None:
    layout = run(tmp_path, scored(), score="metadata")
    for lang, scale in (("English", 1), ("German", 100)):
        rows = [row for row in read_rows(layout.annotated / "rows") if row["markers"]["lang"] == lang]
        found = {row["markers"]["quality"]: row["markers"]["quality_bucket"] for row in rows}
        assert [found[scale * number] for number in range(40)] == ["4"] * 10 + ["3"] * 10 + ["2"] * 10 + ["1"] * 10
        assert {row["origin"]["quality_bucket"] for row in rows} == {"dataset"}
    groups = read_json(layout.annotated / "report.json")["quality"]["groups"]
    assert [(group["lang"], group["training_rows"]) for group in groups] == [("English", 40), ("German", 40)]


def test_held_out_rows_do_not_move_the_quartiles(tmp_path: Path) -> None:
    heldout = [record(900 + number, f"Held out {number}.", "heldout", lang="English", quality=1_000) for number in range(60)]
    layout = run(tmp_path, [*scored(), *heldout], score="metadata")
    rows = [row for row in read_rows(layout.annotated / "rows") if row["markers"]["lang"] == "English" and row["split"] == "train"]
    assert sum(row["markers"]["quality_bucket"] == "1" for row in rows) == 10


def test_a_bucket_that_the_source_states_stays_and_a_row_without_score_has_none(tmp_path: Path) -> None:
    extra = [record(900, "Best.", lang="English", quality=0, quality_bucket="1"), record(901, "No score.", lang="English")]
    rows = {row["completion"]: row["markers"] for row in read_rows(run(tmp_path, [*scored(), *extra], score="metadata").annotated / "rows")}
    assert rows["Best."]["quality_bucket"] == "1"
    assert rows["No score."]["quality_bucket"] is None


def test_two_or_three_scores_have_no_quartiles(tmp_path: Path) -> None:
    layout = run(tmp_path, [record(number, f"Answer {number}.", lang="English", quality=number) for number in range(3)], score="metadata")
    assert {row["markers"]["quality_bucket"] for row in read_rows(layout.annotated / "rows")} == {None}


def test_a_source_that_states_no_quality_is_an_error_that_says_what_to_map(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No row has a 'quality'") as error:
        run(tmp_path, [record(1, "One.", lang="English")], score="metadata")
    assert "map a source's field to marker 'quality'" in str(error.value)
    assert not (tmp_path / "data" / "annotated").exists()


def test_a_taxonomy_without_quality_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("name: own\nmarkers:\n  stars: {kind: integer, definition: Stars.}\n", encoding="utf-8")
    with pytest.raises(TaxonomyError, match="'quality' is not a marker"):
        run(tmp_path, [record(1, "One.")], tmp_path / "own.yaml", score="metadata")


@pytest.mark.parametrize("template", [TEMPLATE, None])
def test_a_reward_model_scores_rows_as_alone_as_in_batches(tmp_path: Path, template: str | None) -> None:
    save_model(tmp_path / "reward", LlamaForSequenceClassification, template=template)
    rows = [record(number, " ".join(WORDS[3 : 4 + number % 9])) for number in range(12)]
    scorer = open_scorer(Quality(score="reward", model="reward", batch_tokens=64), tmp_path)
    alone = [scorer.score([row])[0] for row in rows]
    assert scorer.score(rows) == pytest.approx(alone, abs=1e-3)
    assert len(set(alone)) > 5


def test_a_reward_model_annotates_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tmp_path / "reward", LlamaForSequenceClassification)
    rows = [record(number, " ".join(WORDS[3 : 4 + number % 9]), lang="English") for number in range(30)]
    stated = record(99, "one two", lang="English", quality=7.5)
    layout = run(tmp_path, [*rows, stated], score="reward", model="reward")
    found = {row["prompt"][0]["content"]: row for row in read_rows(layout.annotated / "rows")}
    assert (found["one 99"]["markers"]["quality"], found["one 99"]["origin"]["quality"]) == (7.5, "dataset")
    assert found["one 99"]["markers"]["quality_bucket"] is None  # one score on a scale of its own
    assert found["one 3"]["origin"]["quality"] == found["one 3"]["origin"]["quality_bucket"] == "classifier"
    digest = sha256_tree(layout.annotated)
    monkeypatch.setattr(stage, "_FEW", 1)
    assert sha256_tree(run(tmp_path, [*rows, stated], score="reward", model="reward").annotated) == digest
    assert passes.SLICE > 31


def test_a_model_with_more_outputs_is_no_reward_model(tmp_path: Path) -> None:
    save_model(tmp_path / "classes", LlamaForSequenceClassification, labels=3)
    with pytest.raises(ModelError, match="3 outputs; a reward model has one"):
        open_scorer(Quality(score="reward", model="classes"), tmp_path)


@pytest.mark.parametrize(("score", "model", "fix"), [("reward", "models/none", "name a folder"), ("likelihood", None, "tailmark base")])
def test_a_model_that_does_not_exist_is_found_before_anything_runs(tmp_path: Path, score: str, model: str | None, fix: str) -> None:
    with pytest.raises(ModelError, match="cannot be loaded") as error:
        run(tmp_path, [record(1, "One.")], score=score, model=model)
    assert fix in str(error.value)
    assert not (tmp_path / "data" / "annotated").exists()


def test_a_model_of_the_working_directory_is_not_that_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="there is no folder models/base in"):
        open_scorer(Quality(score="likelihood"), tmp_path / "checkout")


def test_a_reward_score_needs_a_model() -> None:
    from tailmark.config import parse_config

    with pytest.raises(ConfigError, match="score `reward` needs `model`"):
        parse_config({"annotate": {"quality": {"score": "reward"}}}, Path("params.yaml"))


def reference(scorer: LikelihoodScorer, given: str, scored: str) -> float:
    """Mean loss of the scored text's tokens, by the library's own labels."""
    head, tail = (scorer._tokenizer(text, add_special_tokens=False)["input_ids"] for text in (given, scored))
    ids = torch.tensor([[*head, *tail]])
    labels = torch.tensor([[*[-100] * len(head), *tail]])
    return float(scorer._model(input_ids=ids, labels=labels).loss.detach())


@pytest.mark.parametrize("score", ["likelihood", "ifd"])
def test_scores_are_what_the_librarys_own_loss_gives(tmp_path: Path, score: str) -> None:
    save_model(tmp_path / "model", LlamaForCausalLM)
    scorer = open_scorer(Quality(score=score, model="model", batch_tokens=40), tmp_path)
    rows = [record(number, " ".join(WORDS[3 : 5 + number])) for number in range(6)]
    for row, found in zip(rows, scorer.score(rows), strict=True):
        prompt = f"<s> {row['prompt'][0]['content']} </s> "
        given = reference(scorer, prompt, row["completion"])
        if score == "likelihood":
            assert found == pytest.approx(-given, abs=2e-4)
        else:
            ratio = given / reference(scorer, "<s>", row["completion"])
            assert found is None if ratio >= 1 else found == pytest.approx(ratio, abs=2e-4)


def test_long_texts_are_cut_and_empty_ones_have_no_score(tmp_path: Path) -> None:
    save_model(tmp_path / "model", LlamaForCausalLM)
    scorer = open_scorer(Quality(score="likelihood", model="model", max_tokens=8), tmp_path)
    assert scorer.score([record(1, "one " * 100), record(2, " ")])[1] is None
    assert scorer.score([record(1, "one " * 100)]) == scorer.score([record(2, "one " * 7)])


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 60))
def test_every_row_is_in_one_batch_within_the_bound(lengths: list[int], most: int) -> None:
    made = list(batches(lengths, most))
    assert sorted(place for batch in made for place in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= most for batch in made)


@given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=60))
def test_a_better_score_is_never_in_a_worse_bucket(scores: list[float]) -> None:
    cuts = quartiles(np.array(scores))
    found = [bucket(score, cuts) for score in sorted(scores)]
    assert found == sorted(found, reverse=True)
    assert set(found) <= {"1", "2", "3", "4"}
