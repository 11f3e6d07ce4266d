"""How often markers are written right, prompts without a list counted."""

from __future__ import annotations

from benchmarks.inferred import rates
from tailmark.evaluate.sample import Row
from tailmark.generate.request import Answer
from tailmark.taxonomy import MarkerList


def answer(**markers: str) -> Answer:
    return Answer("", markers, "", 0, bool(markers), True, True)


def test_a_prompt_without_a_list_is_wrong_for_every_marker_that_its_row_has() -> None:
    labels = [{"lang": "French", "length_tokens": 9}, {"lang": "French", "task": "Rewrite"}, {"lang": "Dutch"}]
    rows = [Row(str(at), (), "", MarkerList(item), {}, tail=False, group=str(at)) for at, item in enumerate(labels)]
    found = list(rates(rows, [answer(lang="French"), answer(), answer(lang="French")]))
    assert [(line["marker"], line["n"], line["prompts_without_list"]) for line in found] == [("lang", 3, 1), ("task", 1, 1)]
    assert [line["right_percent"]["mean"] for line in found] == [33.3, 0.0]  # type: ignore[index]
