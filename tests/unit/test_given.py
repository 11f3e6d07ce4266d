"""Which markers stand in the prompt and at the head of the completion when their worth is measured."""

from __future__ import annotations

from benchmarks.given import _item, lists
from tailmark.evaluate.sample import Row
from tailmark.taxonomy import MarkerList


def test_a_list_holds_no_marker_one_or_all() -> None:
    found = {what: sorted(names) for what, names in lists(("lang", "task")).items()}
    assert found == {"none": [], "lang alone": ["lang"], "task alone": ["task"], "all": ["lang", "task"]}


def test_a_model_that_writes_has_written_all_whatever_the_prompt_says() -> None:
    markers = MarkerList({"lang": "French", "task": "Rewrite"})
    row = Row("a", ({"role": "user", "content": "Hi."},), "Salut.", markers, {}, tail=False, group="a")
    one = _item(row, frozenset({"lang"}), "both")
    assert (one.given, one.written) == ({"lang": "French"}, markers)
    none = _item(row, frozenset(), "prompt")
    assert (none.given, none.written) == (None, None), "no marker is no list, not an empty one"
    never_asked = _item(row, frozenset({"lang"}), "completion")
    assert (never_asked.given, never_asked.written) == (None, {"lang": "French"})
