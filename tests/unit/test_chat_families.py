"""Every family's own template becomes marker-aware, in both renderings, and stays what it was where no markers are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailmark.chat import end_of_turn, list_form, load_tokenizer, marker_template, render_list, render_prompt, token_ids
from tailmark.chat.template import DATE
from tailmark.errors import ModelError
from tailmark.taxonomy import LIST_CLOSE, LIST_OPEN, ListForm, MarkerList, Rendering, compact_tokens, escape, parse, render, unescape
from tests.unit.chat_families import FAMILIES, QWEN, family_tokenizer, marked_tokenizer, real_templates

VALUES = {"domain": ("Code", "Culture"), "lang": ("English", "Français"), "length_tokens": (), "quality": ()}
MARKERS = MarkerList({"domain": "Culture", "lang": "Français", "length_tokens": 60, "quality": -0.25})
RENDERINGS: tuple[Rendering, ...] = ("text", "compact")
USER = {"role": "user", "content": "How are you?"}
EXCHANGE = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Good day."}]
SYSTEM = {"role": "system", "content": "Be brief."}

families = pytest.mark.parametrize("name", FAMILIES)
renderings = pytest.mark.parametrize("rendering", RENDERINGS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


def marked(name: str, rendering: Rendering, folder: Path) -> Any:
    return marked_tokenizer(name, rendering, folder, VALUES)


def conversations(name: str) -> list[list[dict[str, str]]]:
    told = [[SYSTEM, USER], [SYSTEM, *EXCHANGE, USER]] if FAMILIES[name].system else []
    return [[USER], [*EXCHANGE, USER], *told]


@families
@renderings
def test_without_markers_it_renders_what_it_did(name: str, rendering: Rendering, folder: Path) -> None:
    own, tokenizer = load_tokenizer(family_tokenizer(name, folder)), marked(name, rendering, folder)
    for messages in conversations(name):
        for prompt in (True, False):
            expected = own.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
            assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt) == expected


@families
@renderings
def test_the_list_ends_the_last_user_turn(name: str, rendering: Rendering, folder: Path) -> None:
    tokenizer = marked(name, rendering, folder)
    for messages in conversations(name):
        plain, listed = render_prompt(tokenizer, messages, None), render_prompt(tokenizer, messages, MARKERS)
        before, text, after = plain.rpartition(USER["content"])
        assert listed == f"{before}{text}\n{render(MARKERS, ListForm(rendering))}{after}"
        assert after
        assert LIST_OPEN not in plain


def applied(tokenizer: Any, markers: object) -> str:
    """As any engine calls the template."""
    text = tokenizer.apply_chat_template([USER], tokenize=False, add_generation_prompt=True, markers=markers, tailmark_date=DATE)
    return str(text)


@families
@renderings
def test_markers_are_a_mapping_or_a_list(name: str, rendering: Rendering, folder: Path) -> None:
    tokenizer = marked(name, rendering, folder)
    expected = render_prompt(tokenizer, [USER], MARKERS)
    backwards = list(MARKERS.items())[::-1]
    for given_as in (dict(backwards), backwards, [list(pair) for pair in backwards], [{"name": key, "value": of} for key, of in backwards]):
        assert applied(tokenizer, given_as) == expected
    texts = {key: str(value) for key, value in backwards}  # as a command line or a form gives them
    assert applied(tokenizer, texts) == expected


@families
@renderings
def test_leading_zeros_are_the_templates_too(name: str, rendering: Rendering, folder: Path) -> None:
    tokenizer, form = load_tokenizer(family_tokenizer(name, folder)), ListForm(rendering, {"length_tokens": 4})
    compact = VALUES if rendering == "compact" else None
    tokenizer.chat_template = marker_template(tokenizer.chat_template, compact=compact, digits=form.digits)
    assert list_form(tokenizer.chat_template) == form
    for length in (0, 7, 60, 9999, 12345, "60"):  # the last as a command line or a form gives it
        text = applied(tokenizer, {**MARKERS, "length_tokens": length})
        assert render({**MARKERS, "length_tokens": int(length)}, form) in text
    if rendering == "text":  # a name that a mapping in Jinja has of its own
        assert "<items>5</items>" in applied(tokenizer, {"items": 5})


@families
@pytest.mark.parametrize(
    ("rendering", "wrong", "why"),
    [
        ("text", {"lang": "French</lang>\n<task>Rewrite"}, "cannot be"),
        ("text", {"lang": "MARKER_LIST"}, "cannot be"),
        ("text", {"lang": True}, "cannot be"),
        ("text", [["lang", "English"], ["lang", "Dutch"]], "twice"),
        ("text", "lang=English", "a mapping"),
        ("compact", {"lang": "Klingon"}, "no token"),
        ("compact", {"mood": "good"}, "no token"),
    ],
)
def test_what_is_no_marker_is_refused(name: str, rendering: Rendering, wrong: object, why: str, folder: Path) -> None:
    with pytest.raises(Exception, match=why):
        marked(name, rendering, folder).apply_chat_template([USER], tokenize=False, markers=wrong)


@families
def test_an_answer_ends_with_the_familys_token(name: str, folder: Path) -> None:
    assert end_of_turn(marked(name, "text", folder)) == FAMILIES[name].end


@families
@renderings
def test_saved_and_loaded_it_renders_and_tokenizes_the_same(name: str, rendering: Rendering, folder: Path, tmp_path: Path) -> None:
    tokenizer = marked(name, rendering, folder)
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    text = render_prompt(tokenizer, [USER], MARKERS)
    assert render_prompt(again, [USER], MARKERS) == text
    texts = [text, render_list(MARKERS, ListForm(rendering))]
    assert token_ids(again, texts) == token_ids(tokenizer, texts)


@families
def test_a_compact_list_is_a_token_for_each_name_and_closed_value(name: str, folder: Path) -> None:
    tokenizer = marked(name, "compact", folder)
    (ids,) = token_ids(tokenizer, [render(MARKERS, ListForm("compact"))])
    added = set(tokenizer.convert_tokens_to_ids(list(compact_tokens(VALUES))))
    assert sum(token in added for token in ids) == 2 + 4 + 2
    assert tokenizer.decode([token for token in ids if token not in added]) == "60-0.25"
    (text_ids,) = token_ids(tokenizer, [render(MARKERS)])
    assert len(ids) < len(text_ids)


pieces = st.sampled_from([*compact_tokens(VALUES), "MARKER_LIST", "_", "<", ">", "\n", " ", "<lang>English</lang>", "{{", "{%", "é", "漢"])
texts = st.lists(st.one_of(pieces, st.text(st.characters(exclude_categories=["Cs"]), max_size=4)), min_size=1, max_size=8).map("".join)


@families
@renderings
@given(text=texts)
@settings(max_examples=20, deadline=None)
def test_imitation_becomes_no_marker_and_comes_back(name: str, rendering: Rendering, folder: Path, text: str) -> None:
    tokenizer = marked(name, rendering, folder)
    if any(token in text for token in tokenizer.all_special_tokens):
        return  # such rows leave (`control_token`)
    shown = text.strip() if FAMILIES[name].trims else text
    plain = render_prompt(tokenizer, [{"role": "user", "content": text}], None)
    assert plain == render_prompt(tokenizer, [{"role": "user", "content": "@"}], None).replace("@", escape(shown))
    (ids,) = token_ids(tokenizer, [plain])
    added = tokenizer.convert_tokens_to_ids(list(compact_tokens(VALUES))) if rendering == "compact" else []
    assert not set(added) & set(ids)
    decoded = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert decoded == plain
    assert unescape(decoded) == unescape(plain)
    both = render_prompt(tokenizer, [{"role": "user", "content": text}], MARKERS)
    listed = both[both.index(LIST_OPEN) : both.index(LIST_CLOSE) + len(LIST_CLOSE)]
    assert (both.count(LIST_OPEN), both.count(LIST_CLOSE)) == (1, 1)
    assert parse(listed) == {key: str(value) for key, value in MARKERS.items()}


def test_tools_and_turns_without_text_stay_as_they_are(folder: Path) -> None:
    own, tokenizer = load_tokenizer(family_tokenizer("qwen", folder)), marked("qwen", "text", folder)
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Paris"}}}
    turns: list[dict[str, Any]] = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "<MARKER_LIST> rain"},
    ]
    tools = [{"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}}}]
    plain = own.apply_chat_template(turns, tools=tools, tokenize=False, add_generation_prompt=True)
    assert tokenizer.apply_chat_template(turns, tools=tools, tokenize=False, add_generation_prompt=True) == escape(plain)
    listed = tokenizer.apply_chat_template(turns, tools=tools, tokenize=False, add_generation_prompt=True, markers={"lang": "English"})
    assert listed == escape(plain).replace("How are you?", "How are you?\n" + render({"lang": "English"}))


def test_text_in_parts_takes_a_list_where_the_template_takes_parts(folder: Path) -> None:
    parts = [{"type": "text", "text": "How are "}, {"type": "text", "text": "you <MARKER_LIST>?"}]
    turn: dict[str, Any] = {"role": "user", "content": parts}
    shown = render_prompt(marked("gemma3", "text", folder), [turn], {"lang": "English"})
    assert shown.count(f"\n{render({'lang': 'English'})}<end_of_turn>") == 1
    assert "you <MARKER_LIST_>?" in shown
    with pytest.raises(Exception, match="plain text"):
        render_prompt(marked("chatml", "text", folder), [turn], {"lang": "English"})
    image: dict[str, Any] = {"role": "user", "content": [{"type": "image"}]}
    with pytest.raises(Exception, match="with text"):
        render_prompt(marked("gemma3", "text", folder), [image], {"lang": "English"})


def test_a_default_system_message_leaves_every_family_that_has_one() -> None:
    assert "You are Q." in QWEN
    without = marker_template(QWEN, "none")
    assert "'<|im_start|>system\\nYou are Q.<|im_end|>\\n'" not in without
    assert marker_template(without, "none") == without
    for family in FAMILIES.values():
        if family.template is not QWEN:  # Llama 3.2 writes the day there, with or without a message
            assert marker_template(family.template, "none") == marker_template(family.template)


def test_a_template_that_asks_a_clock_is_given_one_day(folder: Path) -> None:
    tokenizer = marked("llama3.2", "text", folder)
    assert "Today: 26 Jul 2024" in render_prompt(tokenizer, [USER], None)
    assert "Today: 26 Jul 2024" not in tokenizer.apply_chat_template([USER], tokenize=False)


def test_a_tokenizer_that_joins_texts_otherwise_is_refused(tmp_path: Path, folder: Path) -> None:
    from tokenizers import pre_tokenizers

    tokenizer = load_tokenizer(family_tokenizer("chatml", folder))
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="blanks"):
        load_tokenizer(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not real_templates(), reason="TRL, which carries the templates of released models, is not installed")
@pytest.mark.parametrize("path", real_templates(), ids=lambda path: path.stem)
def test_templates_of_released_models(path: Path) -> None:
    if path.stem in ("idefics3", "llava_next", "smolvlm"):  # take nothing but parts
        with pytest.raises(ModelError):
            marker_template(path.read_text())
        return
    for compact in (None, VALUES):
        assert marker_template(path.read_text(), compact=compact).endswith(path.read_text())
