"""Packs come back as they were written; a file that is not what it should be is named with the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailmark.errors import DataError
from tailmark.packs import ANSWER, MARKERS, UNSUPERVISED, Pack, PackReader, write_packs


def pack(step: int, lengths: list[int], seed: int = 0) -> Pack:
    generator = np.random.default_rng([seed, step])
    return Pack(
        step=step,
        input_ids=generator.integers(0, 50_000, sum(lengths), dtype=np.int32),
        kinds=generator.integers(0, 3, sum(lengths), dtype=np.int8),
        lengths=np.array(lengths, np.int32),
        row_ids=tuple(f"{step}-{number}" for number in range(len(lengths))),
        tail=generator.integers(0, 2, len(lengths)).astype(np.bool_),
    )


def assert_same(found: Pack, expected: Pack) -> None:
    assert (found.step, found.row_ids) == (expected.step, expected.row_ids)
    for name in ("input_ids", "kinds", "lengths", "tail"):
        left, right = getattr(found, name), getattr(expected, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


@given(st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(1, 9), min_size=1, max_size=4)), min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, shape: list[tuple[int, list[int]]]) -> None:
    steps = np.cumsum([increment for increment, _ in shape]).tolist()
    packs = [pack(step, lengths, seed) for seed, (step, (_, lengths)) in enumerate(zip(steps, shape, strict=True))]
    path = tmp_path_factory.mktemp("packs") / "epoch-000.arrow"
    write_packs(path, packs, {"arm": "marked", "steps": steps[-1] + 1})
    reader = PackReader(path)
    assert len(reader) == len(packs)
    assert reader.metadata == {"arm": "marked", "steps": reader.steps}
    for index, expected in enumerate(packs):
        assert_same(reader[index], expected)
    for step in range(reader.steps + 1):
        assert list(reader.of_step(step)) == [index for index, item in enumerate(packs) if item.step == step]


def test_more_packs_than_a_batch(tmp_path: Path) -> None:
    packs = [pack(step, [1, 2]) for step in range(600)]
    write_packs(tmp_path / "a.arrow", packs, {})
    reader = PackReader(tmp_path / "a.arrow")
    for index in (0, 255, 256, 599):
        assert_same(reader[index], packs[index])
    with pytest.raises(IndexError):
        reader[600]


def test_same_packs_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_packs(tmp_path / name, (pack(step, [3, 4]) for step in range(5)), {"b": 1, "a": 2} if name == "a" else {"a": 2, "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tokens_are_mapped_not_copied(tmp_path: Path) -> None:
    write_packs(tmp_path / "a.arrow", [pack(0, [1_000_000])], {})
    before = pa.total_allocated_bytes()
    found = PackReader(tmp_path / "a.arrow")[0]
    assert not found.input_ids.flags.owndata
    assert not found.input_ids.flags.writeable
    assert pa.total_allocated_bytes() - before < 10_000


def test_supervised_counts_both_kinds() -> None:
    made = pack(0, [4])
    made.kinds[:] = [UNSUPERVISED, MARKERS, ANSWER, ANSWER]
    assert made.supervised == 3


def test_nothing_is_left_of_a_write_that_fails(tmp_path: Path) -> None:
    def packs() -> Any:
        yield pack(0, [3])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_packs(tmp_path / "a.arrow", packs(), {})
    assert list(tmp_path.iterdir()) == []


def truncated(path: Path) -> None:
    write_packs(path, [pack(0, [50])], {})
    path.write_bytes(path.read_bytes()[:-40])


def foreign(path: Path) -> None:
    table = pa.table({"x": [1]})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def unlabelled(path: Path) -> None:
    from tailmark.packs import PACKS

    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, PACKS):
        pass


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda _path: None, "missing"),
        (truncated, "corrupt"),
        (lambda path: path.write_bytes(b"not arrow"), "corrupt"),
        (lambda path: path.write_bytes(b""), "corrupt"),
        (foreign, "expected columns"),
        (unlabelled, "no packs of tailmark"),
        (lambda path: write_packs(path, [pack(1, [1]), pack(0, [1])], {}), "order of their steps"),
    ],
)
def test_a_bad_file_is_named_with_the_way_out(tmp_path: Path, make: Any, what: str) -> None:
    path = tmp_path / "epoch-000.arrow"
    make(path)
    with pytest.raises(DataError, match=what) as caught:
        PackReader(path)
    assert caught.value.where == str(path)
    assert "dvc" in (caught.value.fix or "")
