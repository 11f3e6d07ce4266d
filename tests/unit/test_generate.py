"""Decoding with a tiny random model: batching changes nothing, the list never counts as answer, stops are honoured."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailmark.chat import render_prompt, token_ids
from tailmark.errors import ModelError, TaxonomyError
from tailmark.evaluate.likelihood import Scored, answer_nll
from tailmark.generate.command import Options, read_markers, run
from tailmark.generate.decode import _SHORT, LIST_TOKENS, Request, _alike, generate
from tailmark.generate.loading import LoadedModel, load_model
from tailmark.generate.row import Row
from tailmark.taxonomy import render
from tests.marked_model import marked_model

LIST = {"domain": "Legal", "lang": "French"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return marked_model(tmp_path_factory.mktemp("generate"), markers=("domain", "lang", "length_tokens"))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load_model(folder)


def ask(text: str) -> Request:
    return Request([{"role": "user", "content": text}])


def test_batched_decoding_is_the_same_as_one_by_one(loaded: LoadedModel) -> None:
    requests = [ask("a " * length) for length in (3, 40, 11, 1, 25)] + [Request(ask("b").messages, LIST)]
    together = generate(loaded, requests, max_new_tokens=12, batch_size=4)
    alone = [generate(loaded, [request], max_new_tokens=12, batch_size=1)[0] for request in requests]
    assert together == alone


@given(st.lists(st.integers(0, 5000), max_size=40), st.integers(1, 8))
def test_prompts_of_a_batch_are_of_like_length(lengths: list[int], batch_size: int) -> None:
    batches = list(_alike(lengths, batch_size))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    taken = [lengths[place] for batch in batches for place in batch]
    assert taken == sorted(taken, reverse=True)
    for batch in batches:
        longest, shortest = lengths[batch[0]], lengths[batch[-1]]
        assert len(batch) <= batch_size
        assert shortest >= longest / 2 or longest <= 2 * _SHORT


def test_greedy_means_the_most_likely_token_each_time(loaded: LoadedModel) -> None:
    request = ask("Say something.")
    written = generate(loaded, [request], max_new_tokens=6, batch_size=1)[0]
    ids = token_ids(loaded.tokenizer, [render_prompt(loaded.tokenizer, request.messages, None)])[0]
    for _ in range(written.tokens):
        with torch.inference_mode():
            ids.append(int(loaded.model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert loaded.tokenizer.decode([token for token in ids[-written.tokens :] if token not in loaded.stop_ids]) == written.raw


class Script:
    """Stands in for the choice of the next token: writes given texts, whatever the model thinks."""

    def __init__(self, loaded: LoadedModel, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        scripts = [[*ids, loaded.tokenizer.eos_token_id] for ids in token_ids(loaded.tokenizer, texts)]
        given: dict[int, list[int]] = {}
        original = Row._advance

        def scripted(row: Row) -> None:
            row.tokens[-1] = given.setdefault(id(row), scripts[len(given) % len(scripts)])[len(row.tokens) - 1]
            original(row)

        monkeypatch.setattr(Row, "_advance", scripted)


def test_the_list_is_taken_off_and_does_not_count(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    Script(loaded, [render(LIST) + "\nBonjour le monde", "Hello there"], monkeypatch)
    marked, plain = generate(loaded, [ask("?"), ask("?")], max_new_tokens=60, batch_size=2)
    assert (marked.text, marked.markers, marked.listed, marked.closed, marked.finished) == ("Bonjour le monde", LIST, True, True, True)
    assert (plain.text, plain.markers, plain.listed, plain.closed, plain.finished) == ("Hello there", {}, False, True, True)


def test_the_limit_is_of_the_answer_alone(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = "one two three four five six seven eight"
    Script(loaded, [render(LIST) + "\n" + answer, answer], monkeypatch)
    marked, plain = generate(loaded, [ask("?"), ask("?")], max_new_tokens=6, batch_size=2)
    assert (marked.finished, plain.finished) == (False, False)
    assert answer.startswith(plain.text)
    # The newline after the list may be a token of its own.
    assert plain.text.startswith(marked.text)
    assert plain.tokens == 6


@pytest.mark.parametrize("stop", ["\n", "\nB"])
def test_the_newline_after_a_list_is_not_the_answers(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, stop: str) -> None:
    Script(loaded, [render(LIST) + "\nBonjour\nBien"], monkeypatch)
    answer = generate(loaded, [replace(ask("?"), stop=(stop,))], max_new_tokens=60, batch_size=1)[0]
    assert (answer.text, answer.finished) == ("Bonjour", True)


def test_only_the_list(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    Script(loaded, [render(LIST) + "\nBonjour", "Hello there, this is long"], monkeypatch)
    marked, plain = generate(loaded, [ask("?"), ask("?")], max_new_tokens=1, batch_size=2, list_only=True)
    assert (marked.markers, marked.closed, marked.finished) == (LIST, True, True)
    assert "Bonjour" not in marked.raw
    assert (plain.listed, plain.markers) == (False, {})
    assert plain.tokens < 10


def test_a_list_that_never_closes_gives_no_answer(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = "<MARKER_LIST>\n<lang>French</lang>\n" + "word " * 2 * LIST_TOKENS
    Script(loaded, [endless], monkeypatch)
    answer = generate(loaded, [ask("?")], max_new_tokens=5, batch_size=1)[0]
    assert (answer.text, answer.closed, answer.finished, answer.tokens) == ("", False, False, LIST_TOKENS)
    assert answer.markers == {"lang": "French"}


def test_likelihood_is_that_of_a_plain_forward_pass(loaded: LoadedModel) -> None:
    items = [Scored(ask("Hi").messages, "An answer."), Scored(ask("Hi " * 30).messages, "Another, longer answer.", LIST, LIST)]
    batched = answer_nll(loaded, items, batch_size=2, what="x")
    for item, value in zip(items, batched, strict=True):
        head = render_prompt(loaded.tokenizer, item.messages, item.given) + (render(LIST) + "\n" if item.written else "")
        parts = [
            render_prompt(loaded.tokenizer, item.messages, item.given),
            head[len(render_prompt(loaded.tokenizer, item.messages, item.given)) :],
        ]
        prefix = [token for ids in token_ids(loaded.tokenizer, parts) for token in ids]
        answer = token_ids(loaded.tokenizer, [item.answer])[0] + [loaded.tokenizer.eos_token_id]
        with torch.inference_mode():
            logits = loaded.model(torch.tensor([prefix + answer])).logits[0, len(prefix) - 1 : -1].log_softmax(-1)
        expected = -float(logits[range(len(answer)), answer].mean())
        assert value == pytest.approx(expected, rel=1e-4)


def test_markers_are_checked_against_the_model(loaded: LoadedModel) -> None:
    assert dict(read_markers(loaded, ["lang=French", " length_tokens = 60"])) == {"lang": "French", "length_tokens": 60}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["lang=Frnch"], "did you mean 'French'"),
        (["lenght_tokens=5"], "did you mean 'length_tokens'"),
        (["task=Rewrite"], "was trained with: domain, lang, length_tokens"),
        (["length_tokens=soon"], "not a whole number"),
        (["lang"], "name=value"),
        (["lang=French", "lang=German"], "twice"),
    ],
)
def test_unknown_markers_are_refused(loaded: LoadedModel, given: list[str], said: str) -> None:
    with pytest.raises(TaxonomyError, match=said):
        read_markers(loaded, given)


def test_the_command_keeps_answer_and_markers_apart(
    folder: Path, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Script(loaded, [render(LIST) + "\nBonjour"], monkeypatch)
    run("Hello", Options(str(folder), markers=["lang=French"], max_new_tokens=20))
    shown = capsys.readouterr()
    assert shown.out == "Bonjour\n"
    assert "domain" in shown.err
    assert "Legal" in shown.err


def test_a_folder_without_the_template_or_files(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        load_model(tmp_path / "none")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(ModelError, match="does not take markers"):
        load_model(copy)
    (copy / "model.safetensors").unlink()
    shutil.copy(folder / "chat_template.jinja", copy)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(copy)
