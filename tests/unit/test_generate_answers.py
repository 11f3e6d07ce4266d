"""No part of a list is ever an answer; answers that were made are not made again; modes say what they promise."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tailmark.config import Endpoint
from tailmark.errors import ConfigError, DataError, TaxonomyError
from tailmark.generate import batch, local
from tailmark.generate.command import Asking, Options, _show
from tailmark.generate.loading import LoadedModel, load_model
from tailmark.generate.local import LocalModel
from tailmark.generate.modes import Markers, Messages, Mode, requests_for, shuffled
from tailmark.generate.request import Request, Sampling
from tailmark.generate.splitting import read_answer
from tailmark.generate.store import AnswerStore, request_key
from tailmark.taxonomy import LIST_CLOSE, LIST_OPEN, MarkerList, escape, render
from tests.marked_model import marked_model

LISTED = render({"domain": "Legal", "lang": "French"})
PIECES = [
    LIST_OPEN,
    LIST_CLOSE,
    LISTED,
    "<MARKER_LIST_>",
    "MARKER_LIST",
    "<lang>French</lang>",
    "\n",
    " ",
    "word",
    "<MARKER_LIST:lang>",
    "<",
    "_",
]
messy = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return marked_model(tmp_path_factory.mktemp("answers"))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load_model(folder)


def read(raw: str, *stop: str) -> str:
    return read_answer(raw, tokens=1, finished=True, stop=stop).text


@settings(max_examples=400)
@given(messy)
def test_nothing_of_a_list_is_an_answer(raw: str) -> None:
    """What a text of the data says of lists is escaped (`<MARKER_LIST_>`); what is not, the model wrote as its list."""
    shown = read(raw)
    assert shown.count(LIST_OPEN) <= raw.count("<MARKER_LIST_>")
    assert LIST_CLOSE not in shown
    assert "<MARKER_LIST:" not in shown


@given(st.lists(st.one_of(st.sampled_from(PIECES), texts), max_size=8).map("".join))
def test_what_the_data_say_of_lists_comes_back(text: str) -> None:
    answer = read_answer(f"{LISTED}\n{escape(text)}", tokens=1, finished=True)
    assert (answer.text, answer.markers) == (text, {"domain": "Legal", "lang": "French"})


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (f"{LISTED}\nBonjour", "Bonjour"),
        (f"Bonjour\n{LISTED}\nle monde", "Bonjour\nle monde"),
        (f"{LISTED}\n{LISTED}\nBonjour", "Bonjour"),
        (f"{LIST_OPEN}\n{LISTED}\nBonjour", "Bonjour"),
        (f"{LISTED}\n{LIST_CLOSE}\nBonjour", "\nBonjour"),
        (f"{LIST_OPEN}\n<lang>French</domain>\nnonsense\n{LIST_CLOSE}\nBonjour", "Bonjour"),
        (f"{LIST_OPEN}\n<lang>French</lang>\nnever closed", ""),
        (f"Bonjour {LIST_OPEN}\n<lang>Fre", "Bonjour "),
        ("Bonjour <MARKER_LIST", "Bonjour "),
        (escape(f"Write {LISTED} first."), f"Write {LISTED} first."),
    ],
)
def test_lists_a_model_may_write(raw: str, shown: str) -> None:
    assert read(raw) == shown


def test_an_answer_ends_at_the_first_stop_text() -> None:
    assert read(f"{LISTED}\nGuten Tag French end", "end", "French") == "Guten Tag "
    assert read("nothing of it", "end") == "nothing of it"


REQUEST = Request(
    [{"role": "user", "content": "Hi"}], {"lang": "French"}, "constrained", {"lang": "French"}, ("domain",), Sampling(0.5), ("x",)
)


def test_a_key_holds_all_that_an_answer_depends_on() -> None:
    others = [
        replace(REQUEST, messages=[{"role": "user", "content": "Ho"}]),
        replace(REQUEST, markers=None),
        replace(REQUEST, markers={}),
        replace(REQUEST, written={}),
        replace(REQUEST, listing="absent", written={}),
        replace(REQUEST, names=None),
        replace(REQUEST, sampling=Sampling(0.5, seed=1)),
        replace(REQUEST, stop=()),
    ]
    keys = {request_key("m", request, 9) for request in [REQUEST, *others]} | {request_key("n", REQUEST, 9), request_key("m", REQUEST, 8)}
    assert len(keys) == len(others) + 3
    assert request_key("m", replace(REQUEST, markers=MarkerList({"lang": "French"})), 9) == request_key("m", REQUEST, 9)


def test_what_was_answered_is_not_asked_again(loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [Request([{"role": "user", "content": text}]) for text in ("one", "two", "one", "three")]
    store = tmp_path / "answers.jsonl"
    first = LocalModel(loaded, batch_size=2, store=store).answer(requests, max_new_tokens=4)
    assert first[0] == first[2]
    assert len(AnswerStore(store)) == 3
    torn = store.read_text()[:-30]  # as a kill leaves it
    store.write_text(torn)
    asked: list[Sequence[Request]] = []
    original = local.generate_batches
    monkeypatch.setattr(local, "generate_batches", lambda model, new, **more: asked.append(new) or original(model, new, **more))
    assert LocalModel(loaded, batch_size=2, store=store).answer(requests, max_new_tokens=4) == first
    assert [len(item) for item in asked] == [1]
    assert len(AnswerStore(store)) == 3


PROMPTS: list[Messages] = [[{"role": "user", "content": text}] for text in "abcd"]
GIVEN: list[Markers] = [{"lang": "French", "length_tokens": 5}, {"lang": "German"}, {}, {"lang": "French"}]


def test_modes() -> None:
    by_mode = {mode: requests_for(mode, PROMPTS, markers=GIVEN, tagger=lambda prompts: [{"lang": "Greek"}] * len(prompts)) for mode in Mode}
    assert {(request.markers, request.listing) for request in by_mode[Mode.ABSENT]} == {(None, "absent")}
    assert {(request.markers, request.listing) for request in by_mode[Mode.INFERRED]} == {(None, "free")}
    assert [(request.markers, request.listing, request.written) for request in by_mode[Mode.FIXED]] == [
        (item, "free", {}) for item in GIVEN
    ]
    assert [(item.markers, item.listing, item.written) for item in by_mode[Mode.FORCED]] == [(item, "constrained", item) for item in GIVEN]
    assert {str(request.markers) for request in by_mode[Mode.ON_THE_FLY]} == {str({"lang": "Greek"})}
    assert [sorted(request.markers or {}) for request in by_mode[Mode.WRONG]] == [sorted(item) for item in GIVEN]
    assert all(item.listing == "constrained" for item in requests_for(Mode.FIXED, PROMPTS, markers=GIVEN, constrained=True))


@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from(["x", "y", 1, 2.5]), max_size=3), min_size=1, max_size=9),
    st.integers(0, 9),
)
def test_shuffled_values_are_others_where_they_can_be(markers: list[dict[str, str | float]], seed: int) -> None:
    keys = [str(place) for place in range(len(markers))]
    found = shuffled(markers, keys, seed)
    assert [sorted(item) for item in found] == [sorted(item) for item in markers]
    for name in "abc":
        before = [item[name] for item in markers if name in item]
        after = [item[name] for item in found if name in item]
        assert sorted(before, key=str) == sorted(after, key=str)
        same = sum(left == right for left, right in zip(before, after, strict=True))
        most = max((before.count(value) for value in before), default=0)
        assert same <= max(0, 2 * most - len(before))


def ask(folder: Path, tmp_path: Path, lines: str, **options: object) -> list[dict[str, object]]:
    source, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    source.write_text(lines, encoding="utf-8")
    batch.run(source, out, Options(str(folder), max_new_tokens=3, **options))  # type: ignore[arg-type]
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["out.jsonl", "prompts.jsonl"]
    return [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n")[:-1]]


def test_a_file_of_prompts(folder: Path, tmp_path: Path) -> None:
    lines = '{"prompt": "Qui\u2028 ?", "id": 7, "markers": {"lang": "French"}}\n'
    lines += '{"messages": [{"role": "user", "content": "Who?"}], "markers": {"length_tokens": 9}}\n'
    rows = ask(folder, tmp_path, lines, mode="forced", markers=["domain=Legal"], system="Be brief.")
    assert [row.get("id") for row in rows] == [7, None]
    assert [row["markers_asked"] for row in rows] == [{"domain": "Legal", "lang": "French"}, {"domain": "Legal", "length_tokens": 9}]
    markers = [row["markers"] for row in rows]
    assert isinstance(markers[1], dict)
    assert markers[1].items() >= {"domain": "Legal", "length_tokens": "9"}.items()
    assert rows[0]["messages"] == [{"role": "user", "content": "Qui\u2028 ?"}]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "empty"),
        ('{"prompt": "a"}\nnonsense', "line 2"),
        ('{"prompt": 3}', "neither a `prompt` nor `messages`"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "neither a `prompt` nor `messages`"),
        ('{"prompt": "a", "markers": ["lang"]}', "not a prompt"),
        ('{"prompt": "a", "markers": {"lang": "Frnch"}}', "did you mean 'French'"),
    ],
)
def test_a_file_that_cannot_be_asked(folder: Path, tmp_path: Path, lines: str, said: str) -> None:
    with pytest.raises((DataError, TaxonomyError), match=said):
        ask(folder, tmp_path, lines)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "forcd"}, "did you mean 'forced'"),
        ({"mode": "fixed"}, "needs markers"),
        ({"mode": "absent", "markers": ["lang=French"]}, "takes no markers"),
        ({"mode": "wrong", "markers": ["lang=French"]}, "between prompts"),
        ({"mode": "on-the-fly"}, r"params\.yaml"),
        ({"endpoint": "localhost:80"}, "http"),
    ],
)
def test_options_that_do_not_go_together(folder: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        asking = Asking(Options(str(folder), **options))  # type: ignore[arg-type]
        asking.requests([PROMPTS[0]], [{}])
        asking.generator()


MIXED = '{"prompt": "Qui ?", "markers": {"lang": "French"}}\n{"prompt": "Who?"}\n'


def test_markers_of_a_file_are_asked_for_without_a_mode(folder: Path, tmp_path: Path) -> None:
    rows = ask(folder, tmp_path, MIXED)
    assert [row["markers_asked"] for row in rows] == [{"lang": "French"}, {}]
    requests = Asking(Options(str(folder))).requests(PROMPTS[:2], [{"lang": "French"}, {}])
    assert [request.markers for request in requests] == [{"lang": "French"}, None]


def test_a_length_says_its_bucket_after_prompts_and_options_are_put_together(tmp_path: Path) -> None:
    folder = marked_model(tmp_path, markers=("lang", "length_bucket", "length_tokens"))
    asked = [{"length_tokens": 10}, {"lang": "French"}, {"length_bucket": "medium"}]
    requests = Asking(Options(str(folder), markers=["length_tokens=1200"])).requests([PROMPTS[0]] * 3, asked)
    assert [dict(request.markers or {}) for request in requests] == [
        {"length_bucket": "concise", "length_tokens": 10},
        {"lang": "French", "length_bucket": "long", "length_tokens": 1200},
        {"length_bucket": "medium", "length_tokens": 1200},
    ]


def test_a_model_answers_in_bf16(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on GPUs and CPUs with AMX: all other tests compute in fp32 (`TAILMARK_CPU_BF16`), so that they can compare exactly."""
    monkeypatch.setattr("tailmark.generate.loading.native_bf16", lambda: True)
    loaded = load_model(folder)
    assert loaded.model.dtype == torch.bfloat16
    requests = [Request(messages, listing=listing) for messages in PROMPTS[:2] for listing in ("constrained", "free", "absent")]  # type: ignore[arg-type]
    answers = LocalModel(loaded, batch_size=6).answer(requests, max_new_tokens=12)
    for request, answer in zip(requests, answers, strict=True):
        assert answer.tokens
        assert request.listing != "constrained" or answer.closed
        assert all(loaded.taxonomy.allows(name, value) for name, value in answer.markers.items()) or request.listing == "free"


@pytest.mark.parametrize("mode", ["absent", "inferred"])
def test_a_mode_without_markers_refuses_a_file_that_has_some(folder: Path, tmp_path: Path, mode: str) -> None:
    with pytest.raises(ConfigError, match="takes no markers"):
        ask(folder, tmp_path, MIXED, mode=mode)


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"endpoint": "http://h/v1", "key_variable": "sk-secret"}, "--key-variable"),
        ({"endpoint": "http://user:sk-secret@h/v1"}, "--endpoint"),
    ],
)
def test_a_key_written_in_the_wrong_place_is_not_shown(options: dict[str, str], option: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Asking(Options("m", **options)).generator()  # type: ignore[arg-type]
    assert raised.value.where == option
    assert "secret" not in raised.value.render()
    with pytest.raises(ValidationError) as invalid:
        Endpoint(base_url=options["endpoint"], model="m", key_variable=options.get("key_variable"))
    assert "sk-secret" not in str(invalid.value)


def test_a_conversation_that_the_template_refuses_is_named(loaded: LoadedModel) -> None:
    tokenizer = copy.copy(loaded.tokenizer)
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(DataError, match=r"roles must alternate[\s\S]*'Who goes there\?'"):
        LocalModel(replace(loaded, tokenizer=tokenizer), batch_size=1).answer(
            [Request([{"role": "user", "content": "Who goes there?"}])], max_new_tokens=1
        )


def test_values_that_look_like_markup_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    _show(read_answer("<MARKER_LIST>\n<lang>[/x]</lang>\n</MARKER_LIST>\nYes", tokens=1, finished=True), {"domain": "[bold]"})
    shown = capsys.readouterr().err
    assert "[/x]" in shown
    assert "[bold]" in shown
