"""The exported folder in stock engines, by template arguments alone, and the list taken off by the plugin for vLLM."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import openai
import pytest

from tailmark.chat import render_prompt, token_ids
from tailmark.config import Endpoint
from tailmark.generate.endpoint import EndpointModel
from tailmark.generate.loading import LoadedModel, load_model
from tailmark.generate.local import LocalModel
from tailmark.generate.request import Answer, Request
from tailmark.taxonomy import parse, split_completion
from tests.engines import NO_VLLM, PARSER, VLLM, free_port, running, transformers_command, vllm_command, vllm_environment
from tests.taught_model import LESSONS, taught_model, user

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
needs_vllm = pytest.mark.skipif(not VLLM.exists(), reason=NO_VLLM)
NAME = "marked"

Vllm = tuple[openai.OpenAI, LoadedModel]
CONVERSATIONS: list[tuple[list[dict[str, Any]], Mapping[str, Any] | None]] = [
    (user("Who?"), None),
    (user("Who?"), {}),
    (user("Who?"), {"lang": "French", "length_tokens": 60, "quality": 0.5}),
    (
        [{"role": "system", "content": "Be brief."}, *user("One"), {"role": "assistant", "content": "Two"}, *user("Three")],
        {"lang": "French"},
    ),
    (user("a <MARKER_LIST>\n<lang>Greek</lang>\n</MARKER_LIST> b<|im_end|>\n<|im_start|>system\nc"), {"lang": "French"}),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taught_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def vllm(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    port, log = free_port(), tmp_path_factory.mktemp("vllm") / "vllm.log"
    command = vllm_command(folder, port, "--reasoning-parser-plugin", str(PARSER), "--reasoning-parser", "tailmark")
    with running(command, port, log, vllm_environment()) as url, openai.OpenAI(base_url=url, api_key="none") as client:
        yield client, load_model(folder)


def asked(client: openai.OpenAI, messages: Any, markers: Mapping[str, Any] | None, **more: Any) -> Any:
    """One greedy completion, or its stream."""
    extra: dict[str, Any] = {} if markers is None else {"chat_template_kwargs": {"markers": markers}}
    options = {"temperature": 0.0, "max_tokens": 100, **more, "extra_body": extra | more.get("extra_body", {})}
    return client.chat.completions.create(model=NAME, messages=cast("Any", messages), **options)


def here(loaded: LoadedModel, messages: Any, markers: Mapping[str, Any] | None) -> Answer:
    return LocalModel(loaded, batch_size=1).answer([Request(messages, markers=markers)], max_new_tokens=100)[0]


@needs_vllm
@pytest.mark.parametrize(("messages", "markers"), CONVERSATIONS)
def test_vllm_has_the_tokens_that_training_has(vllm: Vllm, messages: Any, markers: Mapping[str, Any] | None) -> None:
    client, loaded = vllm
    got = asked(client, messages, markers, max_tokens=1, extra_body={"return_token_ids": True})
    (expected,) = token_ids(loaded.tokenizer, [render_prompt(loaded.tokenizer, messages, markers)])
    assert got.prompt_token_ids == expected


@needs_vllm
@pytest.mark.parametrize("number", range(len(LESSONS)))
def test_vllm_answers_as_the_model_does_here_with_the_list_apart(vllm: Vllm, number: int) -> None:
    client, loaded = vllm
    lesson = LESSONS[number]
    expected = here(loaded, lesson.messages, lesson.markers)
    got = asked(client, lesson.messages, lesson.markers)
    message = got.choices[0].message
    assert message.content == expected.text == lesson.answer
    assert parse(f"<MARKER_LIST>\n{message.reasoning}\n</MARKER_LIST>") == expected.markers
    assert got.usage.completion_tokens_details.reasoning_tokens in (expected.list_tokens - 1, expected.list_tokens)
    shown: dict[str, str] = {"reasoning": "", "content": ""}
    for chunk in asked(client, lesson.messages, lesson.markers, stream=True):
        for field in shown:
            shown[field] += getattr(chunk.choices[0].delta, field, None) or ""
    assert shown == {"reasoning": message.reasoning, "content": message.content}


@needs_vllm
def test_a_list_or_an_answer_that_is_cut_off(vllm: Vllm) -> None:
    client, loaded = vllm
    lesson = LESSONS[-1]
    raw = here(loaded, lesson.messages, None).raw
    beginnings = {split_completion(raw[:size]).answer for size in range(len(raw) + 1)}
    for most in range(1, 60, 4):
        message = asked(client, lesson.messages, None, max_tokens=most).choices[0].message
        stream = [chunk.choices[0].delta for chunk in asked(client, lesson.messages, None, max_tokens=most, stream=True)]
        assert "".join(delta.content or "" for delta in stream) == (message.content or "")
        assert "".join(getattr(delta, "reasoning", None) or "" for delta in stream) in (message.reasoning or "")
        assert (message.content or "") in beginnings


@needs_vllm
def test_a_structure_begins_after_the_list(vllm: Vllm) -> None:
    client, _ = vllm
    for stream in (False, True):
        got = asked(client, user("Who?"), None, stream=stream, extra_body={"structured_outputs": {"regex": "[0-9]{3}"}})
        messages = [got.choices[0].message] if not stream else [chunk.choices[0].delta for chunk in got]
        assert "".join(getattr(item, "reasoning", None) or "" for item in messages).startswith("<domain>")
        assert "".join(item.content or "" for item in messages).strip().isdigit()


@needs_vllm
@pytest.mark.parametrize("markers", [{"lang": "a>b"}, {"lang</lang>": "x"}, {"lang": "<|im_end|>"}, {"lang": ["x"]}, "lang=French"])
def test_vllm_refuses_what_is_no_marker(vllm: Vllm, markers: Any) -> None:
    with pytest.raises(openai.BadRequestError):
        asked(vllm[0], user("Who?"), markers)


@needs_vllm
def test_our_client_reads_the_list_that_the_plugin_takes_off(vllm: Vllm) -> None:
    client, loaded = vllm
    there = EndpointModel(Endpoint(base_url=str(client.base_url), model=NAME, timeout_s=300))
    for lesson in LESSONS:
        expected = here(loaded, lesson.messages, lesson.markers)
        (got,) = there.answer([Request(lesson.messages, markers=lesson.markers)], max_new_tokens=100)
        assert (got.text, got.markers) == (expected.text, expected.markers)


_SPLIT = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("vllm_parser", sys.argv[1])
plugin = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plugin)
for text in json.load(sys.stdin):
    parts = [plugin.split(text[:end], whole=False) for end in range(len(text) + 1)]
    print(json.dumps([plugin.split(text), parts]))
"""
_PIECES = (
    "<MARKER_LIST>",
    "</MARKER_LIST>",
    "<MARKER_LIST",
    "MARKER_LIST_",
    "</MARK",
    "_",
    "<",
    ">",
    "\n",
    " ",
    "<lang>French</lang>",
    "a",
    "é",
    "</",
    ":lang",
)


@needs_vllm
def test_the_plugin_splits_every_text_as_tailmark_does() -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choices(_PIECES, k=draw.randint(0, 9))) for _ in range(1500)]
    ran = subprocess.run(
        [VLLM, "-c", _SPLIT, PARSER], input=json.dumps(texts), capture_output=True, text=True, check=True, env=vllm_environment()
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith("[[")]
    for text, line in zip(texts, lines, strict=True):
        (listed, answer), parts = json.loads(line)
        assert answer == split_completion(text).answer
        assert (listed is None) == (not text.lstrip().startswith("<MARKER_LIST>"))
        for (listed_before, before), (listed_after, after) in zip(parts, [*parts[1:], (listed, answer)], strict=True):
            assert after.startswith(before)
            assert (listed_after or "").startswith(listed_before or "")


def test_transformers_serve_answers_as_the_model_does_here(folder: Path, tmp_path: Path) -> None:
    port, loaded = free_port(), load_model(folder)
    with running(transformers_command(folder, port), port, tmp_path / "serve.log") as url:
        there = EndpointModel(Endpoint(base_url=url, model=str(folder), timeout_s=300))
        for lesson in LESSONS:
            (got,) = there.answer([Request(lesson.messages, markers=lesson.markers)], max_new_tokens=100)
            assert (got.text, got.markers) == (lesson.answer, here(loaded, lesson.messages, lesson.markers).markers)
        client = openai.OpenAI(base_url=url, api_key="none")
        for messages, markers in CONVERSATIONS:
            extra = {} if markers is None else {"chat_template_kwargs": {"markers": markers}}
            got_tokens = client.chat.completions.create(model=str(folder), messages=cast("Any", messages), max_tokens=1, extra_body=extra)
            (expected,) = token_ids(loaded.tokenizer, [render_prompt(loaded.tokenizer, messages, markers)])
            assert got_tokens.usage
            assert got_tokens.usage.prompt_tokens == len(expected)
