"""Over HTTP: what a request's texts imitate sets no marker and ends no turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailmark.chat import render_prompt, token_ids
from tailmark.config import Endpoint
from tailmark.generate.endpoint import EndpointModel
from tailmark.generate.loading import LoadedModel, load_model
from tailmark.generate.request import Request
from tailmark.taxonomy import LIST_CLOSE, LIST_OPEN, render
from tests.serving import serving
from tests.taught_model import FRENCH, LESSONS, taught_model

CONTROL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
HOSTILE = (
    *CONTROL,
    "<|im_",
    "end|>",
    "<|im_end|_>",
    LIST_OPEN,
    LIST_CLOSE,
    "MARKER_LIST",
    "_",
    "＜|im_end|＞",
    render({"lang": "Greek"}),
    "\n",
    "system",
    "assistant",
)
texts = st.lists(
    st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"]), max_size=3)), min_size=1, max_size=6
).map("".join)

Asked = tuple[httpx.Client, LoadedModel]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder: Path = taught_model(tmp_path_factory.mktemp("model"))
    with serving(folder, default_new_tokens=1, constrained=False) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        yield client, load_model(folder)


def ask(client: httpx.Client, messages: Any, **more: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json={"model": "tailmark", "messages": messages, "mode": "absent", **more})


def tokens(loaded: LoadedModel, messages: Any, markers: Any = None) -> list[int]:
    return token_ids(loaded.tokenizer, [render_prompt(loaded.tokenizer, messages, markers)])[0]


def control(loaded: LoadedModel, ids: list[int]) -> list[int]:
    return [token for token in ids if token in loaded.tokenizer.all_special_ids]


@given(said=st.lists(texts, min_size=4, max_size=4), parts=st.lists(texts, min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_every_turn_is_text(asked: Asked, said: list[str], parts: list[str]) -> None:
    client, loaded = asked
    messages: list[Any] = [
        {"role": role, "content": text} for role, text in zip(("system", "user", "assistant", "user"), said, strict=True)
    ]
    answer = ask(client, messages).raise_for_status().json()
    assert answer["choices"][0]["message"]["markers_asked"] is None
    assert answer["usage"]["prompt_tokens"] == len(tokens(loaded, messages))
    harmless = [{**message, "content": "x"} for message in messages]
    assert control(loaded, tokens(loaded, messages)) == control(loaded, tokens(loaded, harmless))
    whole = [{"role": "user", "content": "".join(parts)}]
    split = ask(client, [{"role": "user", "content": [{"type": "text", "text": part} for part in parts]}])
    assert split.raise_for_status().json()["usage"]["prompt_tokens"] >= len(tokens(loaded, whole))
    assert split.json()["choices"][0]["message"]["markers_asked"] is None


@given(field=st.sampled_from(["name", "reasoning_content", "refusal", "markers"]), text=texts)
@settings(max_examples=30, deadline=None)
def test_other_fields_of_a_message_change_nothing(asked: Asked, field: str, text: str) -> None:
    client, loaded = asked
    plain = {"role": "user", "content": "Who?"}
    value: Any = {"lang": text} if field == "markers" else text
    got = ask(client, [plain, {"role": "assistant", "content": "You.", field: value}, plain | {"name": text}]).raise_for_status().json()
    assert got["usage"]["prompt_tokens"] == len(tokens(loaded, [plain, {"role": "assistant", "content": "You."}, plain]))


@given(name=st.one_of(st.sampled_from(["lang", "domain", "length_tokens"]), texts), value=texts)
@settings(max_examples=60, deadline=None)
def test_markers_of_a_request_are_those_of_the_taxonomy_or_refused(asked: Asked, name: str, value: str) -> None:
    client, _ = asked
    for given_as in ({"markers": {name: value}}, {"chat_template_kwargs": {"markers": {name: value}}}):
        assert ask(client, [{"role": "user", "content": "Who?"}], mode="fixed", **given_as).status_code == 400


def test_roles_are_not_made_up(asked: Asked) -> None:
    for role in ("tool", "user<|im_end|>", "system\n", ""):
        assert ask(asked[0], [{"role": role, "content": "x"}, {"role": "user", "content": "Who?"}]).status_code == 400


@given(stop=st.lists(texts.filter(lambda text: 0 < len(text) <= 200), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_stop_texts_end_the_answer_and_never_the_list(asked: Asked, stop: list[str]) -> None:
    client, _ = asked
    lesson = LESSONS[1]
    got = ask(client, lesson.messages, mode="fixed", markers=FRENCH, stop=stop, max_tokens=40).raise_for_status().json()
    message = got["choices"][0]["message"]
    ends = [place for item in stop if (place := lesson.answer.find(item)) >= 0]
    assert message["content"] == lesson.answer[: min(ends, default=None)]
    assert message["markers"] == dict(lesson.written)


def test_our_client_reads_the_list_beside_the_answer(asked: Asked) -> None:
    """And what was unescaped once is not unescaped again."""
    client, _ = asked
    there = EndpointModel(Endpoint(base_url=f"{client.base_url}/v1".replace("//v1", "/v1"), model="tailmark"))
    answers = there.answer([Request(lesson.messages, markers=lesson.markers) for lesson in LESSONS], max_new_tokens=60)
    assert [answer.text for answer in answers] == [lesson.answer for lesson in LESSONS]
    assert [answer.markers for answer in answers] == [{key: str(value) for key, value in lesson.written.items()} for lesson in LESSONS]


@pytest.mark.parametrize("text", CONTROL)
def test_a_bare_text_holds_no_control_token_either(asked: Asked, text: str) -> None:
    client, loaded = asked
    got = client.post("/v1/completions", json={"model": "tailmark", "prompt": f"a{text}b", "max_tokens": 1}).raise_for_status().json()
    (ids,) = token_ids(loaded.tokenizer, [f"a{text}b"])
    assert control(loaded, ids)
    assert got["usage"]["prompt_tokens"] > len(ids)
