"""Marker lists: what is written is read back, and text never turns into one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailmark.errors import TaxonomyError
from tailmark.taxonomy import (
    LIST_CLOSE,
    LIST_OPEN,
    ListForm,
    MarkerList,
    compact_tokens,
    escape,
    parse,
    render,
    split_completion,
    unescape,
)
from tailmark.taxonomy.markers import NAME, VALUE, value_place, value_text

names = st.sampled_from(["count", "length_tokens"]) | st.from_regex(NAME, fullmatch=True).filter(lambda name: len(name) < 30)
texts = st.from_regex(VALUE, fullmatch=True).filter(lambda text: "MARKER_LIST" not in text)
values = st.one_of(texts, st.integers(), st.floats(allow_nan=False, allow_infinity=False))
lists = st.dictionaries(names, values, max_size=8).map(MarkerList)
forms = st.builds(ListForm, st.sampled_from(("text", "compact")), st.dictionaries(names, st.integers(1, 9), max_size=3))
pieces = st.sampled_from(["MARKER_LIST", "_", "<", "</", ">", "\n", "MARKER_", "LIST", LIST_OPEN, LIST_CLOSE, "<domain>Code</domain>", " "])
tricky = st.lists(st.one_of(pieces, st.text(max_size=5)), max_size=12).map("".join)


def written(markers: MarkerList, form: ListForm) -> dict[str, str]:
    closed = form.rendering == "compact"  # there a string is a category, however it looks
    return {
        name: value if closed and isinstance(value, str) else value_text(value, form.digits.get(name, 0)) for name, value in markers.items()
    }


@given(lists, forms)
def test_parse_reads_what_render_writes(markers: MarkerList, form: ListForm) -> None:
    assert parse(render(markers, form)) == written(markers, form)


@given(lists, forms)
def test_a_value_is_where_it_is_said_to_be(markers: MarkerList, form: ListForm) -> None:
    text = render(markers, form)
    for name in markers:
        first, last = value_place(text, name)
        assert text[first : last - 1] == written(markers, form)[name]
        assert text[last - 1] in "<>"
    with pytest.raises(KeyError):
        value_place(text, "NONE")


@given(lists)
def test_a_compact_list_is_made_of_its_tokens_and_numbers(markers: MarkerList) -> None:
    closed = {name: [value] if isinstance(value, str) else [] for name, value in markers.items()}
    rest = render(markers, ListForm("compact"))
    for token in sorted(compact_tokens(closed), key=len, reverse=True):
        assert rest.count(token) == 1
        rest = rest.replace(token, "")
    assert rest == "".join(value_text(value) for value in markers.values() if not isinstance(value, str))


@given(lists, tricky)
def test_escaped_text_holds_no_token_of_a_compact_list(markers: MarkerList, text: str) -> None:
    closed = {name: [value] if isinstance(value, str) else [] for name, value in markers.items()}
    mixed = text + render(markers, ListForm("compact")) + text
    assert not any(token in escape(mixed) for token in compact_tokens(closed))
    assert unescape(escape(mixed)) == mixed


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_real_keeps_every_bit(value: float) -> None:
    assert float(parse(render({"quality": value}))["quality"]) == value
    assert render({"quality": np.float64(value)}) == render({"quality": value})


@given(lists)
def test_the_order_of_the_input_does_not_matter(markers: MarkerList) -> None:
    assert render(MarkerList(dict(reversed(list(markers.items()))))) == render(markers)


@given(tricky)
def test_escaped_text_reads_back_and_holds_no_wrapper(text: str) -> None:
    assert unescape(escape(text)) == text
    assert LIST_OPEN not in escape(text)
    assert LIST_CLOSE not in escape(text)


@given(tricky, tricky)
def test_different_texts_stay_different(first: str, second: str) -> None:
    assert (escape(first) == escape(second)) == (first == second)


@given(lists, tricky, forms)
def test_a_completion_comes_apart_into_what_it_was_made_of(markers: MarkerList, answer: str, form: ListForm) -> None:
    whole = split_completion(render(markers, form) + "\n" + escape(answer))
    assert whole.markers == written(markers, form)
    assert whole.answer == answer
    assert whole.closed


@given(tricky)
def test_an_answer_without_a_list_is_untouched(answer: str) -> None:
    whole = split_completion(escape(answer))
    assert (whole.markers, whole.answer, whole.closed) == ({}, answer, True)


@given(lists, st.integers(min_value=0), forms)
def test_a_list_that_is_cut_off_shows_nothing_of_itself(markers: MarkerList, cut: int, form: ListForm) -> None:
    text = render(markers, form)
    start = text[: len(LIST_OPEN) + cut % (len(text) - len(LIST_OPEN))]
    whole = split_completion(start)
    assert whole.answer == ""
    assert not whole.closed
    complete = written(markers, form)
    # Of a compact list's last number some digits may be missing: nothing closes it.
    for name, value in whole.markers.items():
        assert complete[name].startswith(value) if form.rendering == "compact" else complete[name] == value


def test_a_malformed_line_costs_only_itself() -> None:
    text = f"{LIST_OPEN}\n<domain>Code</domain>\n<lang>Greek</task>\n<task>CodeFix</task>\n{LIST_CLOSE}\nDone."
    whole = split_completion(text)
    assert whole.markers == {"domain": "Code", "task": "CodeFix"}
    assert whole.answer == "Done."


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no list",
        f"{LIST_OPEN}\n{LIST_CLOSE}",
        f"{LIST_OPEN}\n<a>1</a>\n<a>2</a>\n{LIST_CLOSE}",
        f"{LIST_OPEN}\n<b>1</b>\n<a>2</a>\n{LIST_CLOSE}",
        f"{LIST_OPEN}\n<a>1</b>\n{LIST_CLOSE}",
        f"{LIST_OPEN}\n<a>1</a>\n{LIST_CLOSE}\n",
    ],
)
def test_parse_refuses_all_that_render_does_not_write(text: str) -> None:
    with pytest.raises(TaxonomyError):
        parse(text)


@pytest.mark.parametrize("value", ["", " Code", "Code\n", "<b>", "a>b", "MARKER_LIST", True, "two\nlines"])
def test_a_value_that_could_not_be_read_back_is_refused(value: str) -> None:
    with pytest.raises(TaxonomyError, match="cannot be the value"):
        MarkerList({"domain": value})


@pytest.mark.parametrize("name", ["", "Domain", "1st", "a-b", "a b"])
def test_a_name_that_could_not_be_read_back_is_refused(name: str) -> None:
    with pytest.raises(TaxonomyError, match="not a marker name"):
        MarkerList({name: "x"})
