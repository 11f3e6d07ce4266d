"""The probability of a value in a marker list, and of answers below lists, with a tiny random model."""

from __future__ import annotations

import pytest
import torch

from tailmark.chat import render_prompt, token_ids
from tailmark.evaluate.likelihood import Scored, score_answers
from tailmark.generate.loading import LoadedModel, load_model
from tailmark.taxonomy import render
from tests.marked_model import marked_model

ASKED = [{"role": "user", "content": "What is a lien?"}]
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
