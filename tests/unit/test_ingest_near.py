from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailmark.config import Engine, NearDuplicates
from tailmark.engine import mapper
from tailmark.ingest.facts import collect
from tailmark.ingest.minhash import Sets, banding, bands_of, common_runs, near_text, signature_bands
from tailmark.ingest.near import Compared, Signed, candidate_clusters, connect, find_near, jaccard
from tailmark.ingest.store import to_stream
from tailmark.ingest.words import Hashes, HashSet, Places, hashed, ngrams, shingles, whole, without, words
from tailmark.records import Record

OPTIONS = NearDuplicates(shingle=2, threshold=0.6)


def row(number: int, text: str, group: str = "") -> Record:
    return {
        "id": f"{number:032x}",
        "prompt": [
            {"role": "system", "content": "Be kind and answer every question as well as you can."},
            {"role": "user", "content": "?"},
        ],
        "completion": text,
        "source_name": "mine",
        "license": "MIT",
        "metadata": {"group": group} if group else {},
    }


NOTHING = np.zeros(0, np.uint64)


def find(
    rows: Sequence[Record], options: NearDuplicates = OPTIONS, rank: Sequence[int] | None = None, common: Hashes = NOTHING
) -> Compared:
    def get_rows(numbers: Places) -> list[Record]:
        assert numbers.tolist() == sorted(numbers.tolist())
        return [rows[number] for number in numbers.tolist()]

    signed = Signed(bands_of(Sets.of(rows, options, HashSet(common)).text, options), common)
    with mapper(Engine(workers=1)) as run:
        return find_near(signed, collect(rows, [], 17, []), np.array(rank or [0] * len(rows)), get_rows, options, run)


def similarity(some: Record, other: Record, size: int = 2) -> float:
    sets = []
    for record in (some, other):
        found = words(near_text(record))
        sets.append({tuple(found[start : start + size]) for start in range(max(len(found) - size + 1, 1))})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


WORDS = st.lists(st.sampled_from(["to", "be", "or", "not", "日本", "été", "x1"]), min_size=0, max_size=12)


@given(st.lists(WORDS, min_size=1, max_size=6), st.integers(1, 4))
@settings(deadline=None)
def test_runs_of_words_are_equal_where_the_words_are(texts: list[list[str]], size: int) -> None:
    said = [" ".join(text) for text in texts]
    runs = ngrams(hashed(said), size)
    expected = [
        (number, start, tuple(found[start : start + size]))
        for number, found in enumerate(map(words, said))
        for start in range(len(found) - size + 1)
    ]
    assert list(zip(runs.text.tolist(), runs.place.tolist(), strict=True)) == [item[:2] for item in expected]
    by_hash = dict(zip(runs.hashes.tolist(), [item[2] for item in expected], strict=True))
    assert [by_hash[value] for value in runs.hashes.tolist()] == [item[2] for item in expected]
    assert len(set(runs.hashes.tolist())) == len({item[2] for item in expected})


@given(st.lists(WORDS, min_size=1, max_size=6), st.integers(1, 4))
@settings(deadline=None)
def test_a_short_text_is_one_run_of_all_its_words(texts: list[list[str]], size: int) -> None:
    said = [" ".join(text) for text in texts]
    found = shingles(hashed(said), size)
    lengths = [max(len(words(text)) - size + 1, 1) for text in said]
    assert found.lengths().tolist() == lengths
    short = [number for number, text in enumerate(said) if len(words(text)) < size]
    assert whole(hashed(said), size).text.tolist() == short


@given(st.lists(WORDS, min_size=1, max_size=6), st.sets(st.sampled_from(["to be", "be or", "not to"])))
@settings(deadline=None)
def test_common_runs_do_not_count_where_a_text_has_others(texts: list[list[str]], common: set[str]) -> None:
    runs = shingles(hashed([" ".join(text) for text in texts]), 2)
    left = without(runs, HashSet(shingles(hashed(sorted(common)), 2).words if common else NOTHING))
    for number in range(len(texts)):
        before, after = (part.words[part.starts[number] : part.starts[number + 1]].tolist() for part in (runs, left))
        rare = [run for run in before if run not in set(shingles(hashed(sorted(common)), 2).words.tolist())] if common else before
        assert after == (rare or before)


@given(st.sets(st.integers(0, 2**64 - 1)), st.lists(st.integers(0, 2**64 - 1)))
@settings(deadline=None)
def test_a_set_of_hashes_has_its_members(members: set[int], others: list[int]) -> None:
    found = HashSet(np.array(sorted(members), np.uint64)).has(np.array([*members, *others], np.uint64))
    assert found.tolist() == [True] * len(members) + [other in members for other in others]


def test_words_know_scripts_without_spaces_and_pass_over_punctuation() -> None:
    assert words("Don't STOP, x_1!") == ["don", "t", "stop", "x_1"]
    assert words("日本語 ok") == ["日", "本", "語", "ok"]
    assert words("Ｆｕｌｌ Straße") == ["full", "straße"]
    assert words(" ?! ") == ["?!"]


@given(st.integers(16, 256), st.floats(0.3, 0.95))
@settings(deadline=None)
def test_bands_find_most_pairs_at_the_threshold(permutations: int, threshold: float) -> None:
    bands, rows = banding(threshold, permutations)
    assert bands * rows <= permutations
    assert rows == 1 or 1 - (1 - threshold**rows) ** bands >= 0.95


VOCABULARY = [f"word{number}" for number in range(400)]


def varied(seed: int, base: int, copies: int) -> list[Record]:
    """Texts of 40 words, and copies of them in which a few words are others."""
    draw = random.Random(seed)
    texts = []
    for _ in range(base):
        text = draw.choices(VOCABULARY, k=40)
        texts.append(text)
        for _ in range(copies):
            copy = list(text)
            for place in draw.sample(range(40), draw.randint(0, 12)):
                copy[place] = draw.choice(VOCABULARY)
            texts.append(copy)
    draw.shuffle(texts)
    return [row(number, " ".join(text)) for number, text in enumerate(texts)]


@pytest.mark.parametrize("seed", range(4))
def test_every_row_found_is_as_similar_as_it_says_to_a_row_that_stays(seed: int) -> None:
    rows = varied(seed, 40, 4)
    found = find(rows)
    removed = {edge.row for edge in found.edges}
    assert len(removed) == len(found.edges) > 40
    for edge in found.edges:
        assert edge.other not in removed
        assert edge.similarity == pytest.approx(similarity(rows[edge.row], rows[edge.other]))
        assert edge.similarity >= OPTIONS.threshold


@pytest.mark.parametrize("seed", range(4))
def test_few_rows_are_missed(seed: int) -> None:
    rows = varied(seed, 40, 4)
    found = find(rows)
    staying = sorted(set(range(len(rows))) - {edge.row for edge in found.edges})
    missed = [(a, b) for a in staying for b in staying if a < b and similarity(rows[a], rows[b]) >= OPTIONS.threshold]
    assert len(missed) <= 0.1 * len(found.edges)


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_the_components_of_all_near_duplicates(seed: int) -> None:
    rows = varied(seed, 20, 4)
    options = OPTIONS.model_copy(update={"action": "group", "permutations": 512})
    found = find(rows, options)
    start = np.arange(len(rows), dtype=np.int32)
    labels = connect(start, np.array([edge.row for edge in found.edges]), np.array([edge.other for edge in found.edges]))
    near = [(a, b) for a in range(len(rows)) for b in range(a) if similarity(rows[a], rows[b]) >= OPTIONS.threshold]
    expected = connect(start, np.array([a for a, _ in near]), np.array([b for _, b in near]))
    together = [(a, b) for a in range(len(rows)) for b in range(a) if (labels[a] == labels[b]) != (expected[a] == expected[b])]
    assert len(together) <= 0.02 * len(near)


def test_rows_that_differ_are_left_alone() -> None:
    draw = random.Random(3)
    rows = [row(number, " ".join(draw.choices(VOCABULARY, k=40))) for number in range(300)]
    assert find(rows).edges == []


def test_the_row_of_the_source_named_first_stays() -> None:
    texts = ["one two three four five six seven eight", "one two three four five six seven nine"]
    rows = [row(number, text) for number, text in enumerate(texts)]
    assert [(edge.row, edge.other) for edge in find(rows).edges] == [(1, 0)]
    assert [(edge.row, edge.other) for edge in find(rows, rank=[1, 0]).edges] == [(0, 1)]


def test_rows_that_the_source_made_of_one_text_are_not_compared() -> None:
    texts = ["one two three four five six seven eight", "one two three four five six seven nine"]
    assert find([row(number, text, "a") for number, text in enumerate(texts)]).edges == []
    assert len(find([row(number, text, f"{number}") for number, text in enumerate(texts)]).edges) == 1


def test_rows_with_another_answer_are_no_near_duplicates() -> None:
    asked = "which of these many countries became independent in the year that is named at the end of this long question"
    rows = [row(number, answer) for number, answer in enumerate(["Palau of course", "Suriname I think", "Palau of course"])]
    for number, record in enumerate(rows):
        record["prompt"][1]["content"] = f"{asked} {number}"
    assert [(edge.row, edge.other) for edge in find(rows).edges] == [(2, 0)]


def test_a_template_that_many_rows_share_does_not_make_them_near_duplicates() -> None:
    draw = random.Random(5)
    template = " ".join(draw.choices(VOCABULARY, k=60))
    rows = [row(number, f"yes {draw.choice('ab')}") for number in range(80)]
    for record in rows:
        record["prompt"][1]["content"] = template + " " + " ".join(draw.choices(VOCABULARY, k=6))
    assert len(find(rows).edges) > 70
    options = OPTIONS.model_copy(update={"common": 20})
    with mapper(Engine(workers=1)) as run:
        streams = [to_stream([({**record, "split": "train"}, "") for record in rows[start : start + 30]]) for start in (0, 30, 60)]
        common = common_runs(streams, len(rows), options, run)
        signed = list(signature_bands(streams, options, common, run))
    assert find(rows, options, common=common).edges == []
    assert (np.concatenate(signed) == bands_of(Sets.of(rows, options, HashSet(common)).text, options)).all()


def test_in_few_rows_nothing_is_common() -> None:
    with mapper(Engine(workers=1)) as run:
        assert len(common_runs([], 10, OPTIONS, run)) == 0


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=20))
@settings(deadline=None)
def test_candidates_are_connected_by_equal_bands(bands: list[list[int]]) -> None:
    labels = candidate_clusters(np.array(bands, np.uint32)).tolist()
    expected = list(range(len(bands)))
    for _ in bands:
        for some, left in enumerate(bands):
            for other, right in enumerate(bands):
                if any(a == b for a, b in zip(left, right, strict=True)):
                    expected[some] = expected[other] = min(expected[some], expected[other])
    assert [[a == b for b in labels] for a in labels] == [[a == b for b in expected] for a in expected]


@given(st.sets(st.integers(0, 30), min_size=1), st.sets(st.integers(0, 30), min_size=1))
@settings(deadline=None)
def test_jaccard(some: set[int], other: set[int]) -> None:
    arrays = [np.array(sorted(items), np.uint64) for items in (some, other)]
    assert jaccard(*arrays) == len(some & other) / len(some | other)
