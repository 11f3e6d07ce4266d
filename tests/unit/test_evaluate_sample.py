"""Which rows are drawn, and what wrong markers are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tailmark.config import Config
from tailmark.evaluate.sample import Row, draw, read_heldout, shuffled_markers
from tailmark.ingest.facts import group_of
from tailmark.layout import Layout
from tailmark.records import Record, annotated_schema, read_rows, write_shards
from tailmark.taxonomy import MarkerList, load_taxonomy

TAXONOMY = Path(__file__).parents[2] / "src/tailmark/taxonomy/paper.yaml"


def row(number: int, *, tail: bool = False, **markers: str | int) -> Row:
    return Row(f"{number:032x}", ({"role": "user", "content": "?"},), "!", MarkerList(markers), {}, tail, f"text {number}")


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 60), st.integers(0, 3))
def test_draw_balances_head_and_tail_where_it_can(head: int, tail: int, count: int, seed: int) -> None:
    rows = [row(number, tail=number < tail) for number in range(head + tail)]
    drawn = draw(rows, count, seed=seed, purpose="x")
    assert len(drawn) == len({item.id for item in drawn}) == min(count, head + tail)
    assert drawn == sorted(drawn, key=lambda item: item.id)
    from_tail = sum(item.tail for item in drawn)
    if tail >= count // 2 and head >= count - count // 2:
        assert from_tail == count // 2
    assert draw(list(reversed(rows)), count, seed=seed, purpose="x") == drawn


def test_draw_depends_on_seed_and_purpose() -> None:
    rows = [row(number) for number in range(200)]
    assert draw(rows, 20, seed=1, purpose="x") != draw(rows, 20, seed=2, purpose="x")
    assert draw(rows, 20, seed=1, purpose="x") != draw(rows, 20, seed=1, purpose="y")


def test_a_new_row_displaces_at_most_one() -> None:
    rows = [row(number) for number in range(100)]
    before = {item.id for item in draw(rows, 30, seed=1, purpose="x")}
    after = {item.id for item in draw([*rows, row(100)], 30, seed=1, purpose="x")}
    assert len(before - after) <= 1


@given(st.lists(st.sampled_from("ABCDE"), min_size=1, max_size=40), st.integers(0, 3))
def test_wrong_values_are_a_derangement_as_far_as_can_be(values: list[str], seed: int) -> None:
    rows = [row(number, domain=value) for number, value in enumerate(values)]
    shuffled = [str(markers["domain"]) for markers in shuffled_markers(rows, seed)]
    assert Counter(shuffled) == Counter(values)
    equal = sum(one == other for one, other in zip(values, shuffled, strict=True))
    largest = max(Counter(values).values())
    assert equal == max(0, 2 * largest - len(values))


def test_wrong_markers_stay_with_the_rows_that_have_them() -> None:
    rows = [row(number, lang="French", **({"code_type": "go"} if number % 3 == 0 else {})) for number in range(9)]
    assert [set(markers) for markers in shuffled_markers(rows, 0)] == [set(item.markers) for item in rows]


def test_wrong_lengths_are_far_from_right() -> None:
    rows = [row(number, length_tokens=number + 1) for number in range(40)]
    for item, markers in zip(rows, shuffled_markers(rows, 0), strict=True):
        assert abs(int(item.markers["length_tokens"]) - int(markers["length_tokens"])) == 20


def test_rows_are_grouped_as_the_split_groups_them(tmp_path: Path) -> None:
    layout, taxonomy = Layout(tmp_path), load_taxonomy(TAXONOMY)
    schema = annotated_schema(taxonomy)
    empty = {part: dict.fromkeys(taxonomy.markers) for part in ("markers", "origin", "confidence")}
    metadata: list[dict[str, str]] = [{"group": "scene"}, {"group": "scene"}, {"group": ""}, {}]
    rows: list[Record] = [
        {
            "id": f"{number:032x}",
            "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Scene {number}?"}],
            "completion": "A harbour.",
            "source_name": "harbour",
            "license": "CC0-1.0",
            "split": "heldout",
            "metadata": list(pairs.items()),
            **empty,
        }
        for number, pairs in enumerate(metadata)
    ]
    folder = layout.annotated / "rows"
    write_shards(folder, rows, schema)
    groups = [row.group for row in read_heldout(Config(), layout, taxonomy, ()).rows]
    assert groups == [group_of(row) for row in read_rows(folder, schema)]
    assert groups == ["scene", "scene", "Be brief.\nScene 2?", "Be brief.\nScene 3?"]
