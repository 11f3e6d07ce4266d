"""Conversations: chat messages, ShareGPT, Alpaca; the last answer or every one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailmark.config import Source
from tailmark.ingest.adapters import read_source
from tailmark.ingest.candidate import Candidate, Reject
from tailmark.ingest.sources.reasons import Unusable
from tailmark.ingest.sources.shapes import every_answer

CHAT = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Why?"), ("assistant", "So.")]


def read(root: Path, row: dict[str, Any], **options: Any) -> list[Candidate | Reject]:
    (root / "data.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    return list(read_source(Source(kind="jsonl", name="mine", path="data.jsonl", **options), root))


def messages(*said: tuple[str, object]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in said]}


def sharegpt(*said: tuple[str, str]) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": content} for role, content in said]}


def test_the_last_answer_has_the_whole_conversation_before_it(tmp_path: Path) -> None:
    (row,) = read(tmp_path, messages(*CHAT), shape="messages")
    assert isinstance(row, Candidate)
    assert (row.where, row.prompt, row.completion) == ("data.jsonl:1", tuple(CHAT[:-1]), "So.")
    assert "group" not in row.metadata


def test_every_answer_is_an_example_with_its_history_and_one_group(tmp_path: Path) -> None:
    first, second = read(tmp_path, messages(*CHAT), shape="messages", turns="every")
    assert isinstance(first, Candidate)
    assert isinstance(second, Candidate)
    assert (first.where, first.prompt, first.completion) == ("data.jsonl:1#3", tuple(CHAT[:2]), "Hello")
    assert (second.where, second.prompt, second.completion) == ("data.jsonl:1#5", tuple(CHAT[:4]), "So.")
    assert first.metadata["group"] == second.metadata["group"]


def test_a_group_of_the_source_comes_before_that_of_the_conversation(tmp_path: Path) -> None:
    rows = read(tmp_path, messages(*CHAT) | {"thread": "t1"}, shape="messages", turns="every", group="thread {thread}")
    assert [row.metadata["group"] for row in rows if isinstance(row, Candidate)] == ["thread t1", "thread t1"]


def test_turns_without_use_leave_alone_and_with_a_reason(tmp_path: Path) -> None:
    said = [("assistant", "Welcome"), ("user", "Hi"), ("assistant", " "), ("user", "Why?"), ("assistant", "So."), ("user", "And?")]
    rows = read(tmp_path, messages(*said), shape="messages", turns="every")
    assert [row.reason for row in rows if isinstance(row, Reject)] == ["empty_prompt", "empty_completion", "empty_turn", "unanswered_turn"]


def test_sharegpt_speaks_of_human_and_gpt(tmp_path: Path) -> None:
    (row,) = read(tmp_path, sharegpt(("human", "Hi"), ("gpt", "Hello")) | {"told": "Be kind."}, shape="sharegpt", system="told")
    assert isinstance(row, Candidate)
    assert (row.prompt, row.completion) == ((("system", "Be kind."), ("user", "Hi")), "Hello")


def test_a_conversation_keeps_a_system_message_of_its_own(tmp_path: Path) -> None:
    (row,) = read(tmp_path, messages(*CHAT[:3]) | {"told": "Be rude."}, shape="messages", system="told")
    assert isinstance(row, Candidate)
    assert row.prompt == tuple(CHAT[:2])


def test_parts_of_text_are_one_text(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Hi "}, {"type": "text", "text": "there"}]
    (row,) = read(tmp_path, messages(("user", parts), ("assistant", "Hello")), shape="messages")
    assert isinstance(row, Candidate)
    assert row.prompt == (("user", "Hi there"),)


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"instruction": "Add.", "input": "1 and 2", "output": "3"}, "Add.\n\n1 and 2"),
        ({"instruction": "Greet.", "input": "", "output": "Hi"}, "Greet."),
        ({"instruction": "Greet.", "output": "Hi"}, "Greet."),
    ],
)
def test_alpaca_has_an_input_or_none(tmp_path: Path, row: dict[str, str], prompt: str) -> None:
    (found,) = read(tmp_path, row, shape="alpaca")
    assert isinstance(found, Candidate)
    assert (found.prompt, found.completion) == ((("user", prompt),), row["output"])


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.sampled_from(["", " ", "a", "b"])), min_size=1, max_size=8))
def test_no_turn_of_the_assistant_is_lost(said: list[tuple[str, str]]) -> None:
    found = list(every_answer(said))
    answers = sum(role == "assistant" for role, _ in said)
    assert len(found) == (answers + (said[-1][0] != "assistant") if answers else 1)
    for example in found:
        if not isinstance(example, Unusable):
            assert example.turn is not None
            assert [*example.prompt, ("assistant", example.completion)] == said[: example.turn]
