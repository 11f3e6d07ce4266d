"""The probe of where an answer may end: what it reads off a model, and what it makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.endings import ASKED, Place, places, summary
from tailmark.chat import end_of_turn, render_list, render_prompt
from tailmark.evaluate.sample import Row
from tailmark.generate.loading import load_model
from tailmark.taxonomy import MarkerList, MarkerValue
from tests.marked_model import marked_model

FIRST = "The harp has more strings than the lute and the lyre together."
MARKERS = MarkerList({"lang": "English", "length_tokens": 15})
ROW = Row("a", ({"role": "user", "content": "Harps?"},), f"{FIRST} No.", MARKERS, {"lang": "English"}, tail=False, group="text")


def test_after_each_sentence_the_model_is_asked_how_likely_the_end_is(tmp_path: Path) -> None:
    loaded = load_model(marked_model(tmp_path))
    found = list(places(loaded, [ROW]))
    assert [place.tokens for place in found] == [13, 15]
    given: dict[str, MarkerValue] = {"lang": "English", "length_tokens": 40}
    text = render_prompt(loaded.tokenizer, ROW.messages, given) + render_list(given, loaded.info.form) + FIRST
    ids = loaded.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    end = loaded.tokenizer(end_of_turn(loaded.tokenizer), add_special_tokens=False).input_ids[0]
    with torch.inference_mode():
        expected = loaded.model(ids).logits[0, -1].float().softmax(-1)[end]
    assert found[0].ends[40] == pytest.approx(float(expected), rel=1e-4)
    assert len(set(found[0].ends.values())) == len(ASKED), "each length has a list of its own"


def test_the_lift_is_how_much_likelier_an_end_is_where_the_length_is_reached() -> None:
    obeys = Place("a", 25, {10: 0.9, 20: 0.7, 40: 0.1, 80: 0.0, 160: 0.2})
    heedless = Place("b", 100, dict.fromkeys(ASKED, 0.5))
    assert obeys.lift == pytest.approx(0.7)
    assert heedless.lift == 0
    made = summary([obeys, heedless])
    assert made["mean"] == pytest.approx(0.35)
    assert made["asked"]["40"] == {"to 80 %": 0.1, "beyond": 0.5}  # type: ignore[index]
