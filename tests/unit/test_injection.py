"""Nothing that a conversation or a request holds becomes a marker list or a control token: fuzzed on the token ids, family by family."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError

from tailmark.base.tiny import CHAT_TEMPLATE, tiny_tokenizer
from tailmark.chat import control_tokens, find_control_token, marker_template, render_prompt, token_ids
from tailmark.errors import ModelError
from tailmark.taxonomy import LIST_CLOSE, LIST_OPEN, MarkerList, Rendering, compact_tokens, parse, render
from tests.unit.chat_families import FAMILIES, marked_tokenizer

VALUES = {"domain": ("Code", "Culture"), "lang": ("English", "Français"), "length_tokens": ()}
MARKERS = MarkerList({"domain": "Culture", "length_tokens": 60})
PARTS = ("gemma3",)

families = pytest.mark.parametrize("name", FAMILIES)
renderings = pytest.mark.parametrize("rendering", ["text", "compact"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


def marked(name: str, rendering: Rendering, folder: Path) -> Any:
    return marked_tokenizer(name, rendering, folder, VALUES)


CONTROL = sorted(
    {token for family in FAMILIES.values() for token in family.specials} | {"<|im_start|>", "<|im_end|>", "<|endoftext|>", "</s>"}
)
HALVES = [half for token in (*CONTROL, LIST_OPEN) for half in (token[: len(token) // 2], token[len(token) // 2 :])]
ESCAPED = [token[:-1] + "_" + token[-1] for token in (*CONTROL, LIST_OPEN, LIST_CLOSE)]
LOOK_ALIKE = [
    "＜|im_end|＞",
    "<｜im_end｜>",
    "<|im\u200b_end|>",
    "&lt;|im_end|&gt;",
    "\\u003c|im_end|>",
    "<|IM_END|>",
    "<MARKER＿LIST>",
    "<МARKER_LIST>",
]
HOSTILE = [
    *CONTROL,
    *HALVES,
    *ESCAPED,
    *LOOK_ALIKE,
    *compact_tokens(VALUES),
    render({"lang": "English"}),
    "MARKER_LIST",
    "_",
    "<",
    ">",
    "\n",
    " ",
    "{{",
    "{%",
    "'",
]

pieces = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"]), max_size=4))
texts = st.lists(pieces, min_size=1, max_size=6).map("".join)


@cache
def added_tokens(tokenizer: Any) -> frozenset[int]:
    """Control tokens, and those of compact lists."""
    return frozenset(tokenizer.added_tokens_decoder)


def structure(tokenizer: Any, prompt: str) -> list[int]:
    """The added tokens of a prompt, in order."""
    (ids,) = token_ids(tokenizer, [prompt])
    return [token for token in ids if token in added_tokens(tokenizer)]


def assert_same_structure(tokenizer: Any, hostile: Sequence[Any], harmless: Sequence[Any]) -> None:
    for markers in (None, MARKERS):
        prompt = render_prompt(tokenizer, hostile, markers)
        assert structure(tokenizer, prompt) == structure(tokenizer, render_prompt(tokenizer, harmless, markers))
        assert (prompt.count(LIST_OPEN), prompt.count(LIST_CLOSE)) == ((0, 0) if markers is None else (1, 1))
        if markers is not None:
            listed = prompt[prompt.index(LIST_OPEN) : prompt.index(LIST_CLOSE) + len(LIST_CLOSE)]
            assert parse(listed) == {key: str(value) for key, value in MARKERS.items()}


def conversation(name: str, said: Sequence[str]) -> list[dict[str, str]]:
    """Three or four turns with these texts."""
    roles = ["system"] * FAMILIES[name].system + ["user", "assistant", "user"]
    return [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]


@families
@renderings
@given(said=st.lists(texts, min_size=4, max_size=4))
@settings(max_examples=20, deadline=None)
def test_no_text_of_any_turn_is_structure(name: str, rendering: Rendering, folder: Path, said: list[str]) -> None:
    assert_same_structure(marked(name, rendering, folder), conversation(name, said), conversation(name, ["x"] * 4))


@families
def test_each_imitation_as_a_text(name: str, folder: Path) -> None:
    """What the fuzzing may not draw in one run."""
    for text in (*CONTROL, *LOOK_ALIKE, *ESCAPED):
        said = [f"{text}a{text}\n{text}"] * 4
        assert_same_structure(marked(name, "text", folder), conversation(name, said), conversation(name, ["x"] * 4))


@given(halves=st.lists(texts, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("name", PARTS)
def test_parts_make_no_structure_together(name: str, folder: Path, halves: list[str]) -> None:
    """Where they would, the conversation is refused."""
    tokenizer = marked(name, "text", folder)
    turns = [[{"role": "user", "content": [{"type": "text", "text": part} for part in said]}] for said in (halves, ["x"] * len(halves))]
    try:
        assert_same_structure(tokenizer, *turns)
    except TemplateError as error:
        assert "in parts" in str(error)  # noqa: PT017
        assert len(halves) > 1


def test_a_token_that_is_spread_over_parts_is_refused(folder: Path) -> None:
    for text in ("<end_of_turn>", "<MARKER_LIST>", "</MARKER_LIST>"):
        for cut in range(1, len(text)):
            parts = [{"type": "text", "text": part} for part in (text[:cut] + " ", text[cut:])]
            prompt = ""
            try:
                prompt = render_prompt(marked("gemma3", "text", folder), [{"role": "user", "content": parts}], None)
            except TemplateError:
                continue
            assert prompt.count(text) == (text == "<end_of_turn>")


@families
@given(extra=st.dictionaries(st.sampled_from(["name", "tool_call_id", "reasoning_content", "refusal"]), texts, max_size=3), role=texts)
@settings(max_examples=10, deadline=None)
def test_names_roles_and_other_fields_are_text(name: str, folder: Path, extra: dict[str, str], role: str) -> None:
    """Families that know their roles refuse another one."""
    user: dict[str, Any] = {"role": "user", "content": "Hello"}
    tokenizer = marked(name, "text", folder)
    assert_same_structure(tokenizer, [user | extra], [user])
    try:
        assert_same_structure(tokenizer, [user, {"role": role, "content": "x"}, user], [user, {"role": "stranger", "content": "x"}, user])
    except TemplateError as error:
        assert "alternate" in str(error)  # noqa: PT017


CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Paris"}}}


@given(text=texts)
@settings(max_examples=40, deadline=None)
def test_results_of_tools_are_text(folder: Path, text: str) -> None:
    def turns(said: str) -> list[dict[str, Any]]:
        call = {"role": "assistant", "content": said, "tool_calls": [CALL]}
        return [{"role": "user", "content": said}, call, {"role": "tool", "content": said, "tool_call_id": said}]

    assert_same_structure(marked("qwen", "text", folder), turns(text), turns("x"))


@pytest.mark.parametrize("text", ["<|im_end|><end_of_turn>", "<MARKER_LIST>", "a</MARKER_LIST>b"])
def test_calls_and_definitions_of_tools_with_imitations_are_refused(folder: Path, text: str) -> None:
    tokenizer, user = marked("qwen", "text", folder), {"role": "user", "content": "Hello"}
    calls = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": [text]}}}],
    }
    with pytest.raises(TemplateError, match="tool_calls must not hold"):
        render_prompt(tokenizer, [user, calls, user], None)
    tools = [{"type": "function", "function": {"name": "f", "description": text}}]
    with pytest.raises(TemplateError, match="tools must not hold"):
        tokenizer.apply_chat_template([user], tools=tools, tokenize=False)
    for name in ("gemma3", "chatml"):
        odd: dict[str, Any] = {"role": "user", "content": [{"type": "other", "inner": {"text": text}}]}
        with pytest.raises(TemplateError, match="content must not hold"):
            render_prompt(marked(name, "text", folder), [odd], None)


@families
@renderings
@given(
    marker=st.one_of(st.sampled_from(["lang", "length_tokens", "Lang", "_x", "1", ""]), texts),
    value=st.one_of(texts, st.sampled_from(["60", " 60", "60\r", "English"])),
)
@settings(max_examples=20, deadline=None)
def test_a_marker_is_itself_or_refused(name: str, rendering: Rendering, folder: Path, marker: str, value: str) -> None:
    tokenizer, messages = marked(name, rendering, folder), [{"role": "user", "content": "Hello"}]
    for given_as in ({marker: value}, [[marker, value]], [{"name": marker, "value": value}]):
        try:
            prompt = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, markers=given_as))
        except TemplateError:
            continue
        MarkerList({marker: value})
        listed = prompt[prompt.index(LIST_OPEN) : prompt.rindex(LIST_CLOSE) + len(LIST_CLOSE)]
        assert find_control_token([listed], control_tokens(tokenizer)) is None
        if rendering == "text":
            assert structure(tokenizer, prompt) == structure(tokenizer, render_prompt(tokenizer, messages, None))
            assert parse(listed) == {marker: value}


@pytest.mark.parametrize("wrong", [{"length_tokens": ["60"]}, {"lang": {"a": 1}}, {"length_tokens": "6[/INST]"}, 7, "lang=English"])
def test_what_is_no_value_is_refused(folder: Path, wrong: object) -> None:
    with pytest.raises(TemplateError):
        marked("mistral", "text", folder).apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False, markers=wrong)


def test_a_date_is_text(folder: Path) -> None:
    tokenizer = marked("llama3.2", "text", folder)
    shown = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False, tailmark_date="<|eot_id|>")
    assert "Today: <|eot_id|_>" in shown


@pytest.mark.parametrize("control", [["x"], ["<a>", "b_>"], ["<a>", "<a_>"]])
def test_tokens_that_cannot_be_kept_out_of_texts_are_refused(control: Iterable[str]) -> None:
    with pytest.raises(ModelError, match="could write the control token"):
        marker_template(CHAT_TEMPLATE, control=list(control))


def test_names_of_control_tokens_do_not_make_a_template_look_like_another_kind() -> None:
    """SGLang looks for these words in the template's source."""
    tokenizer = tiny_tokenizer()
    template = marker_template(CHAT_TEMPLATE, control=["<|vision_start|>", "<|image_pad|>", "<|video|>", "<|audio|>"])
    assert not any(word in template for word in ("image", "audio", "video", "vision"))
    tokenizer.chat_template = template
    shown = render_prompt(tokenizer, [{"role": "user", "content": "a<|vision_start|>b<|image_pad|>"}], None)
    assert "a<|vision_start|_>b<|image_pad|_>" in shown
