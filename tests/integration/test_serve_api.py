"""The API as the official client sees it, with a tiny random model behind a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tailmark.generate.decode import generate
from tailmark.generate.loading import LoadedModel, load_model
from tailmark.generate.modes import Mode, requests_for
from tailmark.serve.command import Server
from tailmark.taxonomy import MarkerValue
from tests.marked_model import marked_model
from tests.serving import HELLO, async_client, client, serving

GIVEN: dict[str, MarkerValue] = {"lang": "French", "length_tokens": 60}


def tagger(prompts: Sequence[Sequence[Mapping[str, str]]]) -> list[dict[str, MarkerValue]]:
    return [{"lang": "German", "quality": 0.5, "length_tokens": len(messages[-1]["content"])} for messages in prompts]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    marked = marked_model(tmp_path_factory.mktemp("serve"))
    return marked, marked_model(tmp_path_factory.mktemp("plain"), arm="baseline", markers=())


@pytest.fixture(scope="module")
def server(folders: tuple[Path, Path]) -> Iterator[Server]:
    marked, baseline = folders
    with serving(marked, baseline=str(baseline), tagger=tagger, batch_size=6) as started:
        yield started


@pytest.fixture(scope="module")
def loaded(folders: tuple[Path, Path]) -> LoadedModel:
    return load_model(folders[0])


def chat(server: Server, messages: Any = HELLO, **more: Any) -> Any:
    extra = {name: more.pop(name) for name in ("markers", "mode", "constrained", "chat_template_kwargs") if name in more}
    options = {"model": "tailmark", "max_tokens": 12, **more}
    return client(server).chat.completions.create(messages=messages, extra_body=extra, **options)


def test_a_fixed_answer_is_the_librarys_and_its_markers_stand_beside_it(server: Server, loaded: LoadedModel) -> None:
    got = chat(server, markers=GIVEN, mode="fixed")
    request = requests_for(Mode.FIXED, [HELLO], markers=[GIVEN], constrained=True)[0]
    expected = generate(loaded, [request], max_new_tokens=12, batch_size=1)[0]
    message, usage = got.choices[0].message, got.usage
    assert message.content == expected.text
    assert {name: str(value) for name, value in message.markers.items()} == expected.markers
    assert message.markers_asked == GIVEN
    assert all(f"<{name}>" in message.reasoning_content for name in expected.markers)
    assert got.choices[0].finish_reason == ("stop" if expected.finished else "length")
    assert usage.completion_tokens == expected.tokens
    details = usage.completion_tokens_details
    assert details.reasoning_tokens == details.list_tokens == expected.list_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_stream_is_the_whole_answer_and_its_first_chunk_holds_the_list(server: Server) -> None:
    whole = chat(server, markers=GIVEN)
    chunks = list(chat(server, markers=GIVEN, stream=True, stream_options={"include_usage": True}))
    first, *others, last, usage = chunks
    message = whole.choices[0].message
    assert first.choices[0].delta.markers == message.markers
    assert first.choices[0].delta.reasoning_content == message.reasoning_content
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert "".join(chunk.choices[0].delta.content for chunk in others) == message.content
    assert not any("markers" in chunk.choices[0].delta.model_dump(exclude_none=True) for chunk in others)
    assert last.choices[0].finish_reason == whole.choices[0].finish_reason
    assert (usage.choices, usage.usage) == ([], whole.usage)
    assert len({chunk.id for chunk in chunks}) == 1
    assert not any(chunk.usage for chunk in chat(server, stream=True))


EXTRA: list[dict[str, Any]] = [
    {}, {"markers": GIVEN}, {"mode": "absent"}, {"markers": GIVEN, "mode": "forced"}, {"constrained": False},
]  # fmt: skip
REQUESTS: list[dict[str, Any]] = [
    {
        "messages": [{"role": "user", "content": f"Question {number}? " + "word " * (number * 37 % 300)}],
        "max_tokens": 4 + number * 5,
        "extra_body": [{}, {"markers": GIVEN}, {"mode": "absent"}, {"markers": GIVEN, "mode": "forced"}, {"constrained": False}][
            number % 5
        ],
        **({"temperature": 1.3, "seed": number, "top_p": 0.9} if number % 3 == 0 else {}),
    }
    for number in range(16)
]


def test_answers_do_not_depend_on_who_else_asks(server: Server) -> None:
    """Sixteen requests on six places, of all lengths and modes, greedy and drawn, whole and streamed: as each of them alone."""

    async def one(asking: openai.AsyncOpenAI, number: int, stream: bool) -> str:
        made = await asking.chat.completions.create(model="tailmark", stream=stream, **REQUESTS[number])
        if not stream:
            return str(made.choices[0].message.content)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in made])

    async def alone() -> list[str]:
        async with async_client(server) as asking:
            return [await one(asking, number, stream=False) for number in range(len(REQUESTS))]

    async def together() -> list[str]:
        async with async_client(server) as asking:
            return await asyncio.gather(*(one(asking, number, stream=number % 2 == 0) for number in range(len(REQUESTS))))

    expected = asyncio.run(alone())
    assert asyncio.run(together()) == expected
    assert len(set(expected)) > 10


def test_draws(server: Server) -> None:
    drawn = [chat(server, temperature=1.5, seed=seed).choices[0].message.content for seed in (5, 5, 6)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({chat(server, temperature=1.5).choices[0].message.content for _ in range(3)}) > 1


def test_a_stop_text_ends_the_answer_and_not_the_list(server: Server) -> None:
    whole = chat(server, max_tokens=30).choices[0].message
    stop = whole.content[3:6]
    stopped = chat(server, max_tokens=30, stop=["\n</MARKER_LIST>", stop]).choices[0]
    assert stopped.message.markers == whole.markers
    assert stopped.message.content == whole.content[: whole.content.index(stop)]
    assert stopped.finish_reason == "stop"
    streamed = chat(server, max_tokens=30, stop=stop, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == stopped.message.content


@pytest.mark.parametrize("markers", [GIVEN, [["lang", "French"], ["length_tokens", 60]]])
def test_markers_as_vllm_takes_them(server: Server, markers: Any) -> None:
    ours, theirs = chat(server, markers=GIVEN), chat(server, chat_template_kwargs={"markers": markers})
    assert theirs.choices[0].message == ours.choices[0].message


def test_modes(server: Server) -> None:
    forced = chat(server, markers=GIVEN, mode="forced").choices[0].message
    assert forced.markers.items() >= GIVEN.items()
    absent = chat(server, mode="absent").choices[0].message
    assert (absent.markers, absent.markers_asked, absent.reasoning_content) == ({}, None, None)
    inferred = chat(server).choices[0].message
    assert inferred.markers_asked is None
    assert inferred.reasoning_content is not None
    tagged = chat(server, mode="on-the-fly").choices[0].message
    assert tagged.markers_asked == {"lang": "German", "length_tokens": len(HELLO[0]["content"])}


def test_a_length_brings_its_bucket_where_the_model_knows_both(tmp_path: Path) -> None:
    with serving(marked_model(tmp_path, markers=("length_bucket", "length_tokens"))) as started:
        asked = [
            chat(started, markers=markers).choices[0].message.markers_asked
            for markers in ({"length_tokens": 400}, {"length_bucket": "long"})
        ]
        both = chat(started, markers={"length_tokens": 400, "length_bucket": "long"}).choices[0].message.markers_asked
    assert asked == [{"length_bucket": "medium", "length_tokens": 400}, {"length_bucket": "long"}]
    assert both == {"length_bucket": "long", "length_tokens": 400}


def test_the_baseline_beside_it(server: Server) -> None:
    message = chat(server, model="baseline").choices[0].message
    assert (message.markers, message.markers_asked, message.reasoning_content) == ({}, None, None)
    with pytest.raises(openai.BadRequestError, match="trained without markers"):
        chat(server, model="baseline", markers=GIVEN)


def test_an_answer_can_be_sent_back(server: Server) -> None:
    message = chat(server, markers=GIVEN).choices[0].message
    turns = [{"role": "developer", "content": "Be brief."}, *HELLO, message.model_dump()]
    turns.append({"role": "user", "content": [{"type": "text", "text": "And"}, {"type": "text", "text": "?"}]})
    assert chat(server, turns).choices[0].message.content


def test_texts_are_continued_as_they_stand(server: Server) -> None:
    made = client(server).completions.create(model="tailmark", prompt="Once upon<|im_end|>", max_tokens=5)
    assert made.choices[0].text
    assert made.usage is not None
    assert made.usage.prompt_tokens > 8  # the control token's text is not the control token
    streamed = client(server).completions.create(model="tailmark", prompt="Once upon<|im_end|>", max_tokens=5, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == made.choices[0].text


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"markers": {"lnag": "French"}}, "markers", "Did you mean 'lang'?"),
    ({"markers": {"lang": "Frnch"}}, "markers", "Did you mean 'French'?"),
    ({"markers": {"length_tokens": "many"}}, "markers", "is not a whole number"),
    ({"markers": {"lang": True}}, "markers", "cannot be that"),
    ({"markers": GIVEN, "mode": "inferred"}, "markers", "takes no markers"),
    ({"mode": "fixed"}, "markers", "needs markers"),
    ({"mode": "wrong"}, "mode", "cannot be that"),
    ({"markers": GIVEN, "chat_template_kwargs": {"markers": GIVEN}}, "markers", "twice"),
    ({"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs.enable_thinking", "not supported"),
    ({"mesages": []}, "mesages", "Did you mean 'messages'?"),
    ({"n": 2}, "n", "cannot be that"),
    ({"logprobs": True}, "logprobs", "cannot be that"),
    ({"tools": [{"type": "function"}]}, "tools", "cannot be that"),
    ({"frequency_penalty": 0.5}, "frequency_penalty", "cannot be that"),
    ({"temperature": -1}, "temperature", "cannot be that"),
    ({"top_p": 0}, "top_p", "cannot be that"),
    ({"max_tokens": 5000}, "max_tokens", "At most 1024"),
    ({"messages": []}, "messages", "cannot be that"),
    ({"messages": [{"role": "assistant", "content": "Yes?"}]}, "messages", "must be the user's"),
    ({"messages": [{"role": "user", "content": "word " * 5000}]}, "messages", "too many"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "None", "half of a character"),
    ({"messages": [{"role": "tool", "content": "1"}]}, "messages", "cannot be that"),
]


@pytest.mark.parametrize(("more", "param", "says"), BAD, ids=[json.dumps(item[0])[:40] for item in BAD])
def test_bad_requests_say_what_is_wrong(server: Server, more: dict[str, Any], param: str, says: str) -> None:
    body = json.dumps({"model": "tailmark", "messages": HELLO, **more})
    answer = httpx.post(f"{server.url}/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert str(error["param"]).startswith(param)
    assert says in error["message"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [("{", "json", 400), ("[]", "json", 400), ('{"\\ud800": 1}', "json", 400), ("[" * 9999, "json", 400), ("{}", "text", 415)],
)
def test_bodies_that_are_no_request(server: Server, body: str, kind: str, status: int) -> None:
    answer = httpx.post(f"{server.url}/v1/chat/completions", content=body, headers={"Content-Type": f"application/{kind}"})
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_what_is_not_there(server: Server) -> None:
    with pytest.raises(openai.NotFoundError, match="Use one of: baseline, tailmark"):
        chat(server, model="gpt-9")
    assert httpx.get(f"{server.url}/v1/nothing").json()["error"]["code"] == "not_found"
    wrong = httpx.get(f"{server.url}/v1/completions")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


def test_what_is_served(server: Server) -> None:
    models = {model.id: model for model in client(server).models.list()}
    assert {name: getattr(model, "arm", "") for name, model in models.items()} == {"tailmark": "marked", "baseline": "baseline"}
    assert client(server).models.retrieve("tailmark").id == "tailmark"
    about = httpx.get(f"{server.url}/v1/taxonomy").json()
    assert (about["baseline"], about["baseline_missing"]) == ("baseline", None)
    assert about["modes"] == ["absent", "inferred", "fixed", "forced", "on-the-fly"]
    assert about["constrained"] == {"available": True, "default": True}
    markers = {marker["name"]: marker for marker in about["markers"]}
    assert set(markers) == {"code_type", "domain", "lang", "length_tokens"}
    assert markers["code_type"]["applies_to"] == {"domain": ["Code"]}
    assert "French" in markers["lang"]["values"]
    assert all(marker["allowed"] for marker in markers.values())


def test_health_and_metrics(server: Server) -> None:
    chat(server)
    assert httpx.get(f"{server.url}/health").json() == {"status": "ready"}
    assert httpx.get(f"{server.url}/health/live").json() == {"status": "alive"}
    metrics = httpx.get(f"{server.url}/metrics").text
    for line in ('tailmark_requests_total{endpoint="/v1/chat/completions",status="200"}', 'tailmark_list_tokens_total{model="tailmark"}'):
        assert line in metrics
    assert 'tailmark_requests_running{model="tailmark"} 0.0' in metrics


def test_the_openapi_document_says_what_is_so(server: Server) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    assert set(document["paths"]) >= {"/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/taxonomy", "/health", "/metrics"}
    chat_responses = document["paths"]["/v1/chat/completions"]["post"]["responses"]
    assert set(chat_responses) == {"200", "400", "401", "404", "408", "413", "415", "429", "500", "503", "504"}
    assert set(chat_responses["200"]["content"]) == {"application/json", "text/event-stream"}
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert document["components"]["schemas"]["ChatRequest"]["additionalProperties"] is False
