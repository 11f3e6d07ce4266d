"""Every reason for which a row can leave, each by a row that leaves for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tailmark.config import Source
from tailmark.ingest.adapters import read_source
from tailmark.ingest.candidate import Candidate, Reject
from tailmark.ingest.sources.reasons import REASONS

GOOD = {"q": "Why?", "a": "So.", "messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}
PAIRS = {"prompt": "q", "completion": "a"}
TEMPLATE = {"prompt": "Answer: {q}", "completion": "{a}"}
CHAT = {"shape": "messages"}
EVERY = {"shape": "messages", "turns": "every"}
VARIANTS = {"variants": [{**PAIRS, "where": {"q": "W*"}}]}


def chat(*roles: str, content: object = "text") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role in roles]}


ROWS: list[tuple[str, dict[str, Any], Any]] = [
    ("corrupt_encoding", PAIRS, b'{"q": "\xff", "a": "So."}'),
    ("corrupt_encoding", PAIRS, b'{"q": "\\udc00", "a": "So."}'),
    ("corrupt_encoding", TEMPLATE, b'{"q": "Why?", "a": "\\ud800"}'),
    ("corrupt_encoding", {**PAIRS, "markers": {"domain": "q"}}, b'{"q": "\\ud800", "a": "So."}'),
    ("corrupt_json", PAIRS, b'{"q": "Why?", "a": '),
    ("corrupt_json", PAIRS, b"[" * 100_000),
    ("not_an_object", PAIRS, b'"text"'),
    ("wrong_type", PAIRS, {"q": "Why?", "a": 3}),
    ("wrong_type", TEMPLATE, {"q": True, "a": "So."}),
    ("wrong_type", {**PAIRS, "markers": {"domain": "q"}}, {"q": {"a": 1}, "a": "So."}),
    ("missing_completion", PAIRS, {"q": "Why?"}),
    ("missing_completion", TEMPLATE, {"q": "Why?", "a": None}),
    ("missing_completion", CHAT, chat("user", "assistant", "user")),
    ("empty_completion", PAIRS, {"q": "Why?", "a": "\n\t "}),
    ("empty_completion", TEMPLATE, {"q": "Why?", "a": ""}),
    ("empty_completion", CHAT, {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": ""}]}),
    ("empty_prompt", PAIRS, {"q": None, "a": "So."}),
    ("empty_prompt", PAIRS, {"q": "  ", "a": "So."}),
    ("empty_prompt", TEMPLATE, {"q": "", "a": "So."}),
    ("empty_prompt", CHAT, chat("system", "assistant")),
    ("empty_prompt", CHAT, chat("user", "assistant", "assistant")),
    ("bad_messages", CHAT, {"messages": "Why?"}),
    ("bad_messages", CHAT, {"messages": []}),
    ("bad_messages", CHAT, {"messages": ["Why?"]}),
    ("bad_messages", CHAT, {"messages": [{"role": "user"}, {"role": "assistant", "content": "So."}]}),
    ("bad_messages", {"shape": "sharegpt", "messages": "messages"}, chat("human", "gpt")),
    ("unknown_role", CHAT, chat("user", "tool", "assistant")),
    ("unsupported_content", CHAT, chat("user", "assistant", content=[{"type": "image_url", "image_url": "x"}])),
    ("no_assistant_turn", CHAT, chat("system", "user")),
    ("no_assistant_turn", EVERY, chat("user")),
    ("unanswered_turn", EVERY, chat("user", "assistant", "user")),
    ("empty_turn", CHAT, {"messages": [*chat("user", content=" ")["messages"], *chat("assistant", "user", "assistant")["messages"]]}),
    ("filtered", {**PAIRS, "where": {"q": "Why*"}}, {"q": "How?", "a": "So."}),
    ("filtered", {**PAIRS, "unless": {"q": ["How?", "When?"]}}, {"q": "How?", "a": "So."}),
    ("no_variant", VARIANTS, {"q": "How?", "a": "So."}),
]
CSV = [
    ("corrupt_csv", '"Why?"x,So.\n'),
    ("corrupt_csv", '"never closed,So.\n'),
    ("wrong_columns", "Why?,So.,more\n"),
    ("wrong_columns", "Why?\n"),
    ("empty_completion", "Why?,\n"),
]


def reasons(rows: list[Candidate | Reject]) -> list[str]:
    return [row.reason for row in rows if isinstance(row, Reject)]


@pytest.mark.parametrize(("reason", "options", "bad"), ROWS)
def test_a_bad_row_leaves_with_its_reason_and_place_and_the_next_stays(
    tmp_path: Path, reason: str, options: dict[str, Any], bad: Any
) -> None:
    line = bad if isinstance(bad, bytes) else json.dumps(bad).encode()
    good = dict(GOOD)
    if options.get("shape") == "sharegpt":
        good["messages"] = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]
    (tmp_path / "data.jsonl").write_bytes(line + b"\n" + json.dumps(good).encode() + b"\n")
    rows = list(read_source(Source(kind="jsonl", name="mine", path="data.jsonl", **options), tmp_path))
    assert reasons(rows) == [reason]
    left = next(row for row in rows if isinstance(row, Reject))
    assert left.where == "data.jsonl:1"
    assert left.detail
    (left.row + left.detail).encode("utf-8")
    assert isinstance(rows[-1], Candidate)


@pytest.mark.parametrize(("reason", "bad"), CSV)
def test_a_bad_line_of_csv_leaves_and_those_before_stay(tmp_path: Path, reason: str, bad: str) -> None:
    (tmp_path / "data.csv").write_text("q,a\nHow?,So.\n" + bad, encoding="utf-8")
    rows = list(read_source(Source(kind="csv", name="mine", path="data.csv", **PAIRS), tmp_path))
    assert isinstance(rows[0], Candidate)
    assert [(row.reason, row.where) for row in rows if isinstance(row, Reject)] == [(reason, "data.csv:3")]


def test_each_reason_has_a_test() -> None:
    assert {reason for reason, *_ in [*ROWS, *CSV]} == set(REASONS)


def test_each_reason_is_in_the_manual() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "sources.md").read_text(encoding="utf-8")
    for reason, meaning in REASONS.items():
        assert f"| `{reason}` | {meaning} |" in manual
