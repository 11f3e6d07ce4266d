"""The chat template renders what Python renders, and nothing in a text can become a marker list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailmark.base.tiny import CHAT_TEMPLATE, tiny_tokenizer
from tailmark.chat import (
    control_tokens,
    end_of_turn,
    find_control_token,
    marker_template,
    render_completion,
    render_list,
    render_prompt,
    require_marker_template,
    token_ids,
)
from tailmark.errors import ModelError
from tailmark.taxonomy import LIST_CLOSE, LIST_OPEN, MarkerList, escape, parse, render, split_completion

SMOLLM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI"
    " assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' +"
    " message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SMOLLM_SYSTEM = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
plain_values = st.from_regex(r"[^\s<>]([^<>\n\r]{0,6}[^\s<>])?", fullmatch=True).filter(lambda text: "MARKER_LIST" not in text)
values = st.one_of(plain_values, st.integers(), st.floats(allow_nan=False, allow_infinity=False))
marker_lists = st.dictionaries(names, values, max_size=5).map(MarkerList)
pieces = st.sampled_from(
    ["MARKER_LIST", "_", "<", ">", "/", "\n", " ", "<MARKER_LIST>", "</MARKER_LIST>", "<lang>French</lang>", "{{", "{%", "'"]
)
texts = st.lists(st.one_of(pieces, st.text(st.characters(exclude_categories=["Cs"]), max_size=5)), max_size=10).map("".join)


def with_template(template: str) -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


TOKENIZERS = {name: with_template(marker_template(template)) for name, template in {"generic": CHAT_TEMPLATE, "smollm": SMOLLM}.items()}


def chatml(messages: list[dict[str, str]], markers: MarkerList | None, system: str) -> str:
    """The same rendering, in Python."""
    last = max(index for index, message in enumerate(messages) if message["role"] == "user")
    head = "" if messages[0]["role"] == "system" else system
    tails = ["" if markers is None or index != last else "\n" + render(markers) for index in range(len(messages))]
    turns = [f"<|im_start|>{item['role']}\n{escape(item['content'])}{tail}<|im_end|>\n" for item, tail in zip(messages, tails, strict=True)]
    return head + "".join(turns) + "<|im_start|>assistant\n"


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, str]]:
    roles = draw(st.sampled_from([["user"], ["system", "user"], ["user", "assistant", "user"], ["system", "user", "assistant", "user"]]))
    return [{"role": role, "content": draw(texts)} for role in roles]


@pytest.mark.parametrize(("name", "system"), [("generic", ""), ("smollm", SMOLLM_SYSTEM)])
@given(messages=conversations(), markers=st.none() | marker_lists)
@settings(max_examples=150, deadline=None)
def test_template_renders_what_python_renders(name: str, system: str, messages: list[dict[str, str]], markers: MarkerList | None) -> None:
    assert render_prompt(TOKENIZERS[name], messages, markers) == chatml(messages, markers, system)


@given(text=texts, markers=marker_lists)
@settings(max_examples=150, deadline=None)
def test_imitation_in_a_prompt_never_becomes_a_list(text: str, markers: MarkerList) -> None:
    without = render_prompt(TOKENIZERS["generic"], [{"role": "user", "content": text}], None)
    assert LIST_OPEN not in without
    assert LIST_CLOSE not in without
    marked = render_prompt(TOKENIZERS["generic"], [{"role": "user", "content": text}], markers)
    assert (marked.count(LIST_OPEN), marked.count(LIST_CLOSE)) == (1, 1)
    assert parse(marked[marked.index(LIST_OPEN) : marked.index(LIST_CLOSE) + len(LIST_CLOSE)]).keys() == markers.keys()


@given(text=texts, markers=marker_lists)
@settings(max_examples=150, deadline=None)
def test_a_completion_is_taken_apart_again(text: str, markers: MarkerList) -> None:
    found = split_completion(render_completion(markers, text))
    assert found.answer == text
    assert found.markers == parse(render(markers))
    assert render_completion(None, text) == escape(text)


def test_markers_undefined_none_and_empty() -> None:
    tokenizer = TOKENIZERS["generic"]
    messages = [{"role": "user", "content": "Hello"}]
    undefined = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert undefined == render_prompt(tokenizer, messages, None) == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert render_prompt(tokenizer, messages, {}) == f"<|im_start|>user\nHello\n{LIST_OPEN}{LIST_CLOSE}<|im_end|>\n<|im_start|>assistant\n"
    assert (render_list(None), render_list({})) == ("", f"{LIST_OPEN}{LIST_CLOSE}\n")


def test_a_list_without_a_user_turn_is_refused() -> None:
    with pytest.raises(Exception, match="user message"):
        render_prompt(TOKENIZERS["generic"], [{"role": "system", "content": "x"}], {"lang": "French"})


def test_the_default_system_message_can_be_dropped() -> None:
    tokenizer = with_template(marker_template(SMOLLM, "none"))
    user = {"role": "user", "content": "Hello"}
    assert render_prompt(tokenizer, [user], None) == chatml([user], None, "")
    told = [{"role": "system", "content": "Be brief."}, user]
    assert render_prompt(tokenizer, told, {"lang": "French"}) == chatml(told, MarkerList({"lang": "French"}), "")
    assert marker_template(CHAT_TEMPLATE, "none") == marker_template(CHAT_TEMPLATE)


def test_derivation_is_idempotent() -> None:
    derived = marker_template(SMOLLM)
    assert marker_template(derived) == derived
    assert marker_template(derived, "none") == marker_template(SMOLLM, "none")


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("", "no single chat template"),
        ("{% for message in messages %}{{ message['content'] ", "does not render"),
        ("{% for message in messages %}{{ message['content']|truncate(4) }}<end>{% endfor %}", "does not write message texts as they are"),
        ("{% for message in messages|sort %}{{ message['content'] }}<end>{% endfor %}", "does not render"),
        ("{{ messages[-1]['content'] }}{{ 'x' if messages[-1]['content']|length > 40 }}", "otherwise|as they are"),
        ("{% for message in messages %}{{ message['content']|upper }}<end>{% endfor %}", "does not write message texts as they are"),
        ("{{ messages[0]['content'] }}", "does not write message texts as they are"),
        ("{{ raise_exception('no system role') }}", "no system role"),
    ],
)
def test_a_template_that_cannot_carry_markers_is_refused(template: str, why: str) -> None:
    with pytest.raises(ModelError, match=why):
        marker_template(template)


def test_a_computed_system_message_cannot_be_dropped() -> None:
    computed = "{{ '<|im_start|>system\\n' ~ 'Be ' ~ 'kind' ~ '<|im_end|>\\n' if messages[0]['role'] != 'system' else '' }}" + CHAT_TEMPLATE
    assert marker_template(computed)
    with pytest.raises(ModelError, match="cannot be taken out"):
        marker_template(computed, "none")


def test_a_folder_without_the_template_is_refused() -> None:
    require_marker_template(TOKENIZERS["smollm"], Path("models/marked"))
    with pytest.raises(ModelError, match="does not take markers"):
        require_marker_template(with_template(SMOLLM), Path("models/other"))


def test_end_of_turn_is_what_the_template_writes_after_an_answer() -> None:
    assert end_of_turn(TOKENIZERS["smollm"]) == "<|im_end|>"
    other = with_template(CHAT_TEMPLATE)
    other.eos_token = "<|endoftext|>"
    assert end_of_turn(other) == "<|im_end|>"
    open_ended = with_template("{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}")
    with pytest.raises(ModelError, match="special token"):
        end_of_turn(open_ended)


def test_control_tokens_are_found() -> None:
    tokens = control_tokens(TOKENIZERS["generic"])
    assert tokens == ("<|endoftext|>", "<|im_end|>", "<|im_start|>")
    assert find_control_token(["plain", "a<|im_end|>b"], tokens) == "<|im_end|>"
    assert find_control_token(["<|im_", "end|>", ""], tokens) is None


def test_the_template_survives_saving(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    TOKENIZERS["smollm"].save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": "user", "content": "Hello <MARKER_LIST>"}]
    given = {"lang": "French", "length_tokens": 60, "quality": 0.25}
    assert render_prompt(loaded, messages, given) == render_prompt(TOKENIZERS["smollm"], messages, given)
    require_marker_template(loaded, tmp_path)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
@settings(max_examples=300, deadline=None)
def test_the_tiny_tokenizer_gives_every_text_back(text: str) -> None:
    tokenizer = TOKENIZERS["generic"]
    (ids,) = token_ids(tokenizer, [text])
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text or find_control_token([text], control_tokens(tokenizer))
