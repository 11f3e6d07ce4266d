"""What is shown of a completion while it is written: always the beginning of what it turns out to be, never a list."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tailmark.base.tiny import tiny_tokenizer
from tailmark.generate.row import text_of
from tailmark.generate.splitting import read_answer
from tailmark.serve.streaming import AnswerText, TokenText

LIST = "<MARKER_LIST>\n<lang>French</lang>\n</MARKER_LIST>\n"
PARTS = ["<MARKER_LIST>", "</MARKER_LIST>", "<MARKER_LIST", "MARKER_LIST", *"_</>a \né", ":x", "stop", "st", "op"]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=12).map("".join)
STOPS = st.sampled_from([(), ("stop",), ("stop", "st\n"), ("<",), ("MARKER_LIST",)])


def shown(pieces: Sequence[str], stop: Sequence[str]) -> tuple[list[str], str]:
    """What was shown with each piece, and the whole answer."""
    answer = read_answer("".join(pieces), tokens=1, finished=True, stop=stop).text
    text = AnswerText(stop)
    return [*(text.add(piece) for piece in pieces), text.end(answer)], answer


@given(st.sampled_from(["", LIST, LIST[:-1], " " + LIST]), TEXTS, STOPS, st.data())
@example("", "</MARKER_LIST hello\nx", (), None)
@example(LIST, "a<MARKER_LIST>b</MARKER_LIST>\nc", (), None)
def test_what_is_shown_is_the_answer_however_it_is_cut(head: str, body: str, stop: tuple[str, ...], data: Any) -> None:
    raw = head + body
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw))))) if data else range(len(raw))
    places = [0, *cuts, len(raw)]
    parts, answer = shown([raw[one:two] for one, two in pairwise(places)], stop)
    assert "".join(parts) == answer


def test_text_is_shown_as_soon_as_it_is_certain() -> None:
    parts, _ = shown([*LIST[:-1], "Bon", "jour <", "b> s", "t", "ay", " stop", " more"], ("stop",))
    assert "".join(parts[: len(LIST) - 1]) == ""
    assert parts[len(LIST) - 1 :] == ["Bon", "jour ", "<b> ", "", "stay", " ", "", ""]


def test_a_list_that_never_closes_is_not_shown() -> None:
    parts, answer = shown(["<MARKER_LIST>\n", "<lang>Fre", "nch</lang>\n"], ())
    assert parts == ["", "", "", ""]
    assert answer == ""


@given(st.lists(st.integers(3, 767), max_size=40), st.integers(1, 5))
def test_text_of_tokens_as_they_come(tokens: list[int], size: int) -> None:
    tokenizer = tiny_tokenizer()
    text = TokenText(tokenizer)
    pieces = [text.add(tokens[start : start + size]) for start in range(0, len(tokens), size)]
    assert text_of(tokenizer, tokens).startswith("".join(pieces))


def test_characters_come_whole() -> None:
    tokenizer = tiny_tokenizer()
    tokens = tokenizer("naïve 🙂!", add_special_tokens=False)["input_ids"]
    text = TokenText(tokenizer)
    pieces = [text.add([token]) for token in tokens]
    assert "".join(pieces) == "naïve 🙂!"
    assert "" in pieces
