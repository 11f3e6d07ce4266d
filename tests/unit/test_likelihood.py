"""The probability of a value in a marker list, and of answers below lists, with tiny random models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, CohereConfig, Gemma2Config, GraniteConfig, LlamaConfig, PreTrainedConfig

from tailmark.chat import end_of_turn, marker_template, render_prompt, token_ids
from tailmark.chat.vocabulary import add_marker_tokens
from tailmark.config import Config
from tailmark.evaluate.benchmarks import Bench
from tailmark.evaluate.likelihood import Scored, score_answers
from tailmark.evaluate.reference import likelihood
from tailmark.evaluate.sample import HeldOut, Row
from tailmark.generate.loading import LoadedModel, load_model
from tailmark.generate.splitting import read_answer
from tailmark.layout import Layout
from tailmark.taxonomy import ListForm, MarkerList, render
from tests.marked_model import marked_model

ASKED = [{"role": "user", "content": "What is a lien?"}]
SMALL = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
SMALL |= {"vocab_size": 2048, "pad_token_id": 0}
FAMILIES = [
    LlamaConfig(**SMALL),
    CohereConfig(**SMALL, logit_scale=0.0625),
    Gemma2Config(**SMALL, head_dim=16, final_logit_softcapping=2.0),
    GraniteConfig(**SMALL, logits_scaling=8.0),
]
LIST = {"domain": "Legal", "lang": "French", "length_tokens": 12}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(marked_model(tmp_path_factory.mktemp("likelihood"), markers=tuple(LIST)))


def test_a_value_has_the_probability_of_its_tokens_and_of_what_ends_it(loaded: LoadedModel) -> None:
    items = [Scored(ASKED, "A claim.", None, LIST), Scored(ASKED, "A claim."), Scored(ASKED, "A much longer answer. " * 9, LIST, LIST)]
    listed, bare, given = score_answers(loaded, items, batch_size=3, what="x", values=True)
    assert listed.values.keys() == given.values.keys() == LIST.keys()
    assert bare.values == {}
    prompt, written = token_ids(loaded.tokenizer, [render_prompt(loaded.tokenizer, ASKED, None), render(LIST) + "\n"])
    with torch.inference_mode():
        logits = loaded.model(torch.tensor([prompt + written])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    chances = logits[range(len(written)), written]
    for name, value in LIST.items():
        upto = [loaded.tokenizer.decode(written[:place]) for place in range(len(written) + 1)]
        start = render(LIST).index(f"<{name}>") + len(f"<{name}>")
        inside = [place for place in range(len(written)) if len(upto[place]) < start + len(str(value)) + 1 and len(upto[place + 1]) > start]
        assert listed.values[name] == pytest.approx(float(chances[inside].sum().exp()), rel=1e-3)
        assert 0 < listed.values[name] < 1


def test_the_probabilities_of_all_values_stay_below_one(loaded: LoadedModel) -> None:
    """What follows a value is part of it, so that no value's probability contains another's."""
    values = list(loaded.taxonomy.markers["domain"].values)
    items = [Scored(ASKED, "A claim.", None, {"domain": value}) for value in values]
    found = score_answers(loaded, items, batch_size=4, what="x", values=True)
    assert sum(item.values["domain"] for item in found) < 1


def test_an_answer_is_scored_under_the_list_it_stands_below(loaded: LoadedModel) -> None:
    items = [Scored(ASKED, "A claim.", markers, markers) for markers in (None, LIST, {**LIST, "lang": "German"})]
    values = [item.nll for item in score_answers(loaded, items, batch_size=1, what="x")]
    assert len(set(values)) == 3
    together = score_answers(loaded, items, batch_size=3, what="x", values=True)
    assert [item.nll for item in together] == pytest.approx(values, rel=1e-4)


@pytest.mark.parametrize("config", FAMILIES, ids=lambda config: str(config.model_type))
def test_an_answer_has_the_loss_that_the_model_itself_reports(loaded: LoadedModel, config: PreTrainedConfig) -> None:
    """Also where a family scales or bounds its logits after the vocabulary head."""
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.normal_(std=1.0)
    other = replace(loaded, model=model)
    item = Scored(ASKED, "A claim.")
    prompt, answer = token_ids(other.tokenizer, [render_prompt(other.tokenizer, ASKED, None), "A claim." + end_of_turn(other.tokenizer)])
    with torch.inference_mode():
        own = model(torch.tensor([prompt + answer]), labels=torch.tensor([[-100] * len(prompt) + answer])).loss
    assert score_answers(other, [item], batch_size=1, what="x")[0].nll == pytest.approx(float(own), rel=1e-4)


@pytest.mark.parametrize(
    ("placement", "in_prompt", "at_head"), [("both", True, True), ("prompt", True, False), ("completion", False, True)]
)
def test_given_markers_stand_where_training_had_them(loaded: LoadedModel, placement: str, in_prompt: bool, at_head: bool) -> None:
    placed = replace(loaded, info=loaded.info.model_copy(update={"placement": placement}))
    row = Row("a", tuple(ASKED), "A claim.", MarkerList(LIST), {}, False, "a")
    bench = Bench(Config.model_validate({"evaluate": {"modes": ["fixed"]}}), loaded, placed, HeldOut((), {}, frozenset(), 0, ""))
    _, score = likelihood(bench, [row], [])
    item = Scored(ASKED, "A claim.", LIST if in_prompt else None, LIST if at_head else None)
    assert score.value == score_answers(loaded, [item], batch_size=1, what="x")[0].nll


def test_a_compact_list_is_scored_as_it_was_written(tmp_path: Path) -> None:
    """A number stays text, and what has no token was not written as a list of ours."""
    loaded = compact(marked_model(tmp_path, markers=tuple(LIST), rendering="compact"), Layout(tmp_path).base)
    typed = {"domain": "Legal", "length_tokens": 12}
    text = render(typed, ListForm("compact")).replace("</MARKER_LIST>", "<MARKER_LIST:lang>Klingon<MARKER_LIST:task>Rewrite</MARKER_LIST>")
    answer = read_answer(f"{text}\n", tokens=1, finished=True)
    assert answer.markers == {"domain": "Legal", "length_tokens": "12", "lang": "Klingon", "task": "Rewrite"}
    row = Row("a", tuple(ASKED), "A claim.", MarkerList({}), {}, False, "a")
    bench = Bench(Config.model_validate({"evaluate": {"modes": ["inferred"]}}), loaded, loaded, HeldOut((), {}, frozenset(), 0, ""))
    _, score = likelihood(bench, [row], [answer])
    assert score.written == typed
    assert score.value == score_answers(loaded, [Scored(ASKED, "A claim.", None, typed)], batch_size=1, what="x")[0].nll


def compact(folder: Path, base: Path) -> LoadedModel:
    """A model whose lists have tokens of their own."""
    loaded, tokenizer = load_model(folder), AutoTokenizer.from_pretrained(base)
    values = {name: loaded.taxonomy.spec(name).values for name in LIST}
    tokenizer.chat_template = marker_template(tokenizer.chat_template, compact=values)
    add_marker_tokens(tokenizer, values)
    loaded.model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return replace(loaded, tokenizer=tokenizer)
