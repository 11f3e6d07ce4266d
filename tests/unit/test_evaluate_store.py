"""`examples.parquet`: what is written is read, and nothing else is taken for it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailmark.errors import DataError
from tailmark.evaluate.sample import Row
from tailmark.evaluate.scores import Measure, Score
from tailmark.evaluate.store import EXAMPLES, Facts, read_scores, write_scores
from tailmark.taxonomy import MarkerList

FACTS = Facts(
    profile="demo",
    trained={"domain": {"Code": 3, "Legal": 1}},
    tail=("Legal",),
    train_rows=4,
    heldout=2,
    heldout_tail=1,
    measures=(Measure("code", "pass@1", "Programs", "share", higher_is_better=True),),
    benchmarks={"code": [{"items": 3, "not_run": {"rust": "no compiler"}}]},
    provenance=(("taxonomy", "0f3a"), ("models", "a, b")),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def score(number: int, value: float, text: str) -> Score:
    row = Row(
        f"{number:032x}",
        ({"role": "user", "content": text},),
        f"{text}!",
        MarkerList({"domain": "Legal", "length_tokens": number}),
        {"domain": "Legal"},
        number % 2 == 0,
        f"text {number // 2}",
    )
    return Score(row, "likelihood", "fixed", "nll", value, f"{text}?", text if number else None, {"domain": "Legal"}, {"lang": text})


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), texts), max_size=6))
@settings(max_examples=25, deadline=None)
def test_scores_come_back(tmp_path_factory: pytest.TempPathFactory, values: list[tuple[float, str]]) -> None:
    path = tmp_path_factory.mktemp("scores") / "examples.parquet"
    written = [score(number, value, text) for number, (value, text) in enumerate(values)]
    write_scores(path, list(reversed(written)), FACTS)
    found, facts = read_scores(path)
    assert facts == FACTS
    assert [item.value for item in found] == [pytest.approx(item.value, abs=1e-6) for item in written]
    for one, other in zip(found, written, strict=True):
        assert (one.mode, one.answer, one.given, one.written, one.prompt or one.row.question) == (
            *(other.mode, other.answer, other.given, other.written),
            other.prompt,
        )
        assert (one.row.id, one.row.labels, one.row.markers, one.row.tail) == (
            *(other.row.id, other.row.labels, other.row.markers),
            other.row.tail,
        )
    groups = {(one.row.group, other.row.group) for one, other in zip(found, written, strict=True)}
    assert len(groups) == len({other for _, other in groups}) == len({one for one, _ in groups})


def test_the_same_scores_give_the_same_bytes(tmp_path: Path) -> None:
    scores = [score(number, number / 3, "x") for number in range(5)]
    for name, items in (("a", scores), ("b", list(reversed(scores)))):
        write_scores(tmp_path / name, items, FACTS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no scores"):
        read_scores(tmp_path / "examples.parquet")
    pq.write_table(pa.table({"row_id": ["a"]}), tmp_path / "older.parquet")
    with pytest.raises(DataError, match="another version"):
        read_scores(tmp_path / "older.parquet")
    pq.write_table(EXAMPLES.empty_table(), tmp_path / "bare.parquet")
    with pytest.raises(DataError, match="another version"):
        read_scores(tmp_path / "bare.parquet")
