from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailmark.config import Decontaminate
from tailmark.errors import DataError
from tailmark.ingest.decontaminate import Hit, Index, find_hits, read_index
from tailmark.ingest.words import words


def index(root: Path, *sets: list[str], ngram: int = 5) -> Index:
    told = []
    for number, texts in enumerate(sets):
        path = root / f"eval{number}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        told.append({"name": f"set{number}", "path": path.name, "fields": ["text"]})
    found = read_index(Decontaminate.model_validate({"sets": told, "ngram": ngram}), root)
    assert found is not None
    return found


def hits(found: Index, *texts: str) -> list[Hit]:
    return find_hits(found, texts, np.arange(len(texts)))


def test_a_shared_run_is_found_whatever_its_case_and_punctuation(tmp_path: Path) -> None:
    found = index(tmp_path, ["The quick brown fox jumps over the lazy dog."])
    assert hits(found, "I saw it: QUICK, brown fox jumps (over) a fence", "The quick brown fox is here over the lazy dog") == [
        Hit(0, "set0", "quick brown fox jumps over")
    ]


def test_a_row_is_counted_once_for_each_set_it_hits(tmp_path: Path) -> None:
    found = index(tmp_path, ["a b c d e f g"], ["x c d e f g y"], ["nothing of the kind at all here"])
    assert hits(found, "a b c d e f g h") == [Hit(0, "set0", "a b c d e"), Hit(0, "set1", "c d e f g")]


def test_runs_do_not_reach_over_the_end_of_a_text(tmp_path: Path) -> None:
    assert hits(index(tmp_path, ["a b c d e f"]), "a b c", "d e f") == []


def test_a_short_text_is_hit_only_by_its_equal(tmp_path: Path) -> None:
    found = index(tmp_path, ["What is the capital of France?", "Hi there"], ngram=13)
    assert hits(found, "what is the capital of FRANCE", "So what is the capital of France?", "Hi there") == [
        Hit(0, "set0", "what is the capital of france")
    ]
    assert (found.texts, found.too_short) == ((2,), (1,))


def test_a_run_of_a_script_without_spaces_has_twice_as_many_characters(tmp_path: Path) -> None:
    found = index(tmp_path, ["東京の天気はどうですか教えてください"], ngram=5)
    assert hits(found, "ここで天気はどうですか", "私は東京の天気はどうですか教えてと言った") == [
        Hit(1, "set0", "東 京 の 天 気 は ど う で す")
    ]
    found = index(tmp_path, ["天気はどうですか"], ngram=5)
    assert hits(found, "天気はどうですか。", "今の天気はどうですか") == [Hit(0, "set0", "天 気 は ど う で す か")]


TEXT = st.lists(st.sampled_from("abc"), min_size=1, max_size=14).map(" ".join)


@given(st.lists(TEXT, min_size=1, max_size=4), st.lists(TEXT, min_size=1, max_size=4))
@settings(deadline=None)
def test_hits_are_those_of_a_search_by_hand(tmp_path_factory: pytest.TempPathFactory, known: list[str], rows: list[str]) -> None:
    found = index(tmp_path_factory.mktemp("eval"), known, ngram=6)
    runs = {tuple(words(text)[start : start + 6]) for text in known for start in range(max(len(words(text)) - 5, 0))}
    whole = {tuple(words(text)) for text in known if len(words(text)) == 5}
    expected = set()
    for number, text in enumerate(rows):
        said = words(text)
        if tuple(said) in whole or any(tuple(said[start : start + 6]) in runs for start in range(len(said) - 5)):
            expected.add(number)
    assert {hit.row for hit in hits(found, *rows)} == expected


def test_fields_of_every_kind_of_source_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "eval.csv").write_text("id,prompt,answer\n1,a b c d e,f g h i j\n2,,k l m n o\n", encoding="utf-8")
    told: dict[str, Any] = {"name": "mine", "kind": "csv", "path": "eval.csv", "fields": ["prompt", "answer"]}
    found = read_index(Decontaminate.model_validate({"sets": [told], "ngram": 5}), tmp_path)
    assert found is not None
    assert found.texts == (3,)
    assert [hit.ngram for hit in hits(found, "f g h i j", "k l m n o", "b c d e f")] == ["f g h i j", "k l m n o"]


def test_a_set_without_text_or_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no text"):
        index(tmp_path, [""])
    with pytest.raises(DataError, match="does not exist"):
        read_index(Decontaminate.model_validate({"sets": [{"name": "x", "path": "gone.jsonl", "fields": ["text"]}]}), tmp_path)


def test_without_sets_there_is_no_index(tmp_path: Path) -> None:
    assert read_index(Decontaminate(), tmp_path) is None
