"""Constrained, forced and absent lists with a tiny random model: what comes out is what the model would choose token by token."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Lfm2Config, MambaConfig, MistralConfig, PreTrainedConfig

from tailmark.chat import render_list, render_prompt, token_ids
from tailmark.errors import ModelError
from tailmark.generate.decode import generate
from tailmark.generate.loading import LoadedModel, load_model
from tailmark.generate.request import Request
from tailmark.taxonomy import LIST_OPEN, MarkerValue, parse
from tests.marked_model import marked_model

GIVEN: dict[str, MarkerValue] = {"domain": "Code", "length_tokens": 60}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(marked_model(tmp_path_factory.mktemp("constrained")))


def ask(text: str, **more: Any) -> Request:
    return Request([{"role": "user", "content": text}], **{"listing": "constrained", **more})


REQUESTS = [
    ask("a " * 20),
    ask("Who?", written=GIVEN, markers=GIVEN),
    ask("b", listing="free"),
    ask("Why not?", names=("lang",)),
    ask("c " * 7, listing="absent"),
    ask("d", written={"lang": "French"}, names=()),
    ask("e", names=()),
]


def slowly(loaded: LoadedModel, request: Request, most: int) -> list[int]:
    """The same by hand: one token after the other, each from a forward pass over everything before it."""
    prompt = token_ids(loaded.tokenizer, [render_prompt(loaded.tokenizer, request.messages, request.markers)])[0]
    tokens: list[int] = []
    node = loaded.grammar.start(request.written, request.names)
    left = most
    while left:
        with torch.inference_mode():
            logits = loaded.model(torch.tensor([prompt + tokens])).logits[0, -1]
        if options := list(node.options):
            tokens.append(max(options, key=lambda token: float(logits[token])))
            node = node.options[tokens[-1]]
            continue
        left -= 1
        tokens.append(int(logits.argmax()))
        if tokens[-1] in loaded.stop_ids:
            break
    return tokens


@pytest.mark.parametrize("request_", [item for item in REQUESTS if item.listing == "constrained"])
def test_guessing_ahead_changes_nothing(loaded: LoadedModel, request_: Request) -> None:
    answer = generate(loaded, [request_], max_new_tokens=8, batch_size=1)[0]
    expected = slowly(loaded, request_, 8)
    assert answer.tokens == len(expected)
    assert answer.raw == loaded.tokenizer.decode([token for token in expected if token not in loaded.stop_ids])


def test_rows_at_different_points_do_not_disturb_each_other(loaded: LoadedModel) -> None:
    together = generate(loaded, REQUESTS, max_new_tokens=10, batch_size=len(REQUESTS))
    assert together == [generate(loaded, [request], max_new_tokens=10, batch_size=1)[0] for request in REQUESTS]


def test_lists_are_valid_hold_what_is_given_and_cost_few_passes(loaded: LoadedModel) -> None:
    requests = [ask(f"Question {number}?", written=GIVEN if number % 2 else {}) for number in range(12)]
    for request, answer in zip(requests, generate(loaded, requests, max_new_tokens=4, batch_size=5), strict=True):
        head = answer.raw[: answer.raw.index("</MARKER_LIST>") + len("</MARKER_LIST>")]
        written = {name: loaded.taxonomy.typed(name, text) for name, text in parse(head).items()}
        assert dict(answer.markers) == parse(head)
        assert written.items() >= request.written.items()
        assert token_ids(loaded.tokenizer, [render_list(written)])[0].__len__() == answer.list_tokens
        assert answer.list_passes <= answer.list_tokens / 2
        assert (answer.listed, answer.closed) == (True, True)


def test_what_is_given_whole_takes_no_pass(loaded: LoadedModel) -> None:
    answer = generate(loaded, [ask("?", written={"lang": "French"}, names=())], max_new_tokens=2, batch_size=1)[0]
    assert answer.markers == {"lang": "French"}
    assert answer.list_passes == 0
    assert answer.list_tokens > 10


def test_only_the_list(loaded: LoadedModel) -> None:
    requests = [ask("?"), ask("? " * 9, listing="absent")]
    constrained, absent = generate(loaded, requests, max_new_tokens=5, batch_size=2, list_only=True)
    assert (constrained.text, constrained.closed, constrained.tokens) == ("", True, constrained.list_tokens)
    assert (absent.tokens, absent.finished) == (0, True)


class Eager:
    """The model with a strong wish to begin a list with every token it writes."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.model, self.starts = loaded.model, loaded.list_starts
        self.device, self.generation_config = loaded.model.device, loaded.model.generation_config
        self.config = loaded.model.config

    def __call__(self, **arguments: Any) -> Any:
        output = self.model(**arguments)
        logits = output.logits.clone()
        logits[..., self.starts] += 1000
        return SimpleNamespace(logits=logits, past_key_values=output.past_key_values)


def test_absent_keeps_a_list_from_beginning(loaded: LoadedModel) -> None:
    eager = replace(loaded, model=Eager(loaded))
    free, absent = generate(eager, [ask("?", listing="free"), ask("?", listing="absent")], max_new_tokens=6, batch_size=2)
    assert free.raw.lstrip().startswith("<")
    assert not absent.raw.lstrip().startswith("<")
    assert not absent.listed
    starts = [loaded.tokenizer.decode([token]).strip() for token in loaded.list_starts]
    assert all(LIST_OPEN.startswith(text) for text in starts)


def test_a_model_that_writes_no_lists_is_left_alone(tmp_path: Path) -> None:
    baseline = load_model(marked_model(tmp_path, arm="baseline", markers=()))
    for listing in ("absent", "constrained"):
        plain, held = generate(baseline, [ask("Hi", listing="free"), ask("Hi", listing=listing)], max_new_tokens=5, batch_size=2)
        assert plain == held


def test_only_a_constrained_list_can_be_given_markers() -> None:
    with pytest.raises(ValueError, match="constrained"):
        ask("?", listing="free", written={"lang": "French"})


SMALL = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
WITHOUT_FULL_ATTENTION = [
    MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=6),
    Lfm2Config(**SMALL, num_key_value_heads=2, layer_types=["conv", "full_attention"], block_ff_dim=64),
    MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=1),
]


@pytest.mark.parametrize("config", WITHOUT_FULL_ATTENTION, ids=lambda config: str(config.model_type))
def test_guesses_that_could_not_be_taken_back_are_not_made(loaded: LoadedModel, config: PreTrainedConfig) -> None:
    other = replace(loaded, model=AutoModelForCausalLM.from_config(config).eval())
    with pytest.raises(ModelError, match="does not attend to all that came before"):
        generate(other, [ask("Who?")], max_new_tokens=2, batch_size=1)


def test_a_window_as_wide_as_the_context_is_no_window(loaded: LoadedModel) -> None:
    model = copy.copy(loaded.model)
    model.config = copy.deepcopy(loaded.model.config)
    model.config.sliding_window = model.config.max_position_embeddings
    assert generate(replace(loaded, model=model), [ask("Who?")], max_new_tokens=2, batch_size=1)[0].closed
