"""params/bench.yaml: its maps lead to values of the taxonomy, fit the data, and its prompts say neither length nor language."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from argparse import Namespace
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tailmark.config import Source, load_config
from tailmark.config.fields import parse_field
from tailmark.config.sources import as_tuple
from tailmark.ingest.adapters import read_source
from tailmark.ingest.candidate import Candidate, Reject
from tailmark.ingest.sources.columns import ways
from tailmark.ingest.sources.values import getter, pattern
from tailmark.records import MARKER_METADATA
from tailmark.taxonomy import load_taxonomy

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "train"
CONFIG = load_config(ROOT / "params" / "bench.yaml")
SOURCES = {str(source.name): source for source in CONFIG.ingest.sources}
TAXONOMY = load_taxonomy(ROOT / "src" / "tailmark" / "taxonomy" / "paper.yaml")
EVERY = 23
"""One group of rows in so many is looked at: all 210,000 rows take a minute."""

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data (../shared/data) is not here")


@pytest.mark.parametrize("name", SOURCES)
def test_maps_and_constants_lead_to_values_of_the_taxonomy(name: str) -> None:
    for way in ways(SOURCES[name]):
        assert way.markers.keys() | way.constants.keys() <= TAXONOMY.markers.keys()
        assert way.values.keys() <= TAXONOMY.markers.keys()
        stated = [(marker, value) for marker, values in way.values.items() for value in values.values() if value is not None]
        for marker, value in [*stated, *way.constants.items()]:
            TAXONOMY.typed(marker, str(value))


@cache
def raw_rows(name: str) -> list[dict[str, object]]:
    with gzip.open(ROOT / str(SOURCES[name].path), "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def chosen_rows(name: str) -> list[dict[str, object]]:
    group = parse_field(str(SOURCES[name].group)).column
    return [row for row in raw_rows(name) if zlib.crc32(str(row[group]).encode()) % EVERY == 0]


@cache
def sampled(name: str, folder: Path) -> list[Candidate | Reject]:
    chosen = chosen_rows(name)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    return list(read_source(SOURCES[name].model_copy(update={"path": f"{name}.jsonl"}), folder))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


def unused_keys(source: Source, rows: list[dict[str, object]]) -> set[str]:
    unused = set()
    for way in ways(source):
        for marker, fields in way.markers.items():
            seen = {str(part) for field in as_tuple(fields) for row in rows for part in _parts(getter(parse_field(field))(row))}
            keys = way.values.get(marker, {}).keys() - {"*"}
            unused |= {f"{marker}: {key}" for key in keys if not any(pattern(key).fullmatch(value) for value in seen)}
    return unused


def _parts(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


@needs_data
@pytest.mark.parametrize("name", SOURCES)
def test_every_key_of_a_map_is_in_the_data(name: str) -> None:
    # One map of languages serves two sources.
    spare = {f"lang: {code}" for code in ("ar", "fa", "he", "hi", "pt", "pt_PT", "vi", "zh_CN")}
    assert unused_keys(SOURCES[name], raw_rows(name)) <= spare


@needs_data
@pytest.mark.parametrize("name", SOURCES)
def test_rows_become_candidates_and_few_leave(name: str, folder: Path) -> None:
    rows = sampled(name, folder)
    reasons = Counter(row.reason for row in rows if isinstance(row, Reject))
    assert set(reasons) <= {"filtered"}
    assert reasons["filtered"] < (0.15 if name == "natural-instructions" else 0.001) * len(rows)
    assert len(rows) == len(chosen_rows(name))
    assert all("group" in row.metadata for row in rows if isinstance(row, Candidate))


ASKS = re.compile(
    r"\b(fewer|less|under|at most|no more) than \w+ words|\bin (one|two|a single|just one) (word|sentence)|words long"
    r"|in simple English|as short as possible|\bconcise answer|must be short",
    re.IGNORECASE,
)


@needs_data
@pytest.mark.parametrize("name", ["natural-instructions", "debian"])
def test_no_instruction_asks_for_a_length_or_a_language(name: str, folder: Path) -> None:
    told = {str(row.get("definition", "")) for row in raw_rows(name)}
    asked = {definition for definition in told if ASKS.search(definition)}
    kept = {row.prompt[0][1] for row in sampled(name, folder) if isinstance(row, Candidate)}
    assert not {definition[:200] for definition in asked if any(prompt.startswith(definition) for prompt in kept)}
    if name == "natural-instructions":
        assert len(asked) > 10


@needs_data
def test_the_tail_that_the_data_has_is_there(folder: Path) -> None:
    found: dict[str, Counter[str]] = {marker: Counter() for marker in ("domain", "task", "lang", "code_type")}
    for name in SOURCES:
        for row in sampled(name, folder):
            for marker in found if isinstance(row, Candidate) else ():
                if value := row.metadata.get(MARKER_METADATA + marker):  # type: ignore[union-attr]
                    found[marker][value] += 1
    assert set(TAXONOMY.spec("domain").values) - found["domain"].keys() == {"Finance", "Unspecified"}
    assert not set(TAXONOMY.spec("task").values) - found["task"].keys()
    assert set(TAXONOMY.spec("lang").values) - found["lang"].keys() <= {"Hebrew", "Vietnamese"}
    assert set(found["code_type"]) == {"shell", "python", "java"}
    domains = found["domain"]
    assert {value for value, count in domains.items() if count >= 0.05 * domains.total()} == {"Code", "Technology"}


def test_the_suite_asks_a_share_of_every_benchmark() -> None:
    from benchmarks.suite import suite_config

    profile, demo = load_config(ROOT / "params" / "bench.yaml").evaluate, load_config(ROOT / "params" / "demo.yaml")
    given = Namespace(share=8, max_new_tokens=96, data="elsewhere", modes=None)
    asked = suite_config(demo, given).evaluate
    assert [item.kind for item in asked.benchmarks] == [item.kind for item in profile.benchmarks]
    assert [item.limit for item in asked.benchmarks] == [max((item.limit or 0) // 8, 1) for item in profile.benchmarks]
    assert asked.modes == profile.modes
    assert asked.likelihood_rows == demo.evaluate.likelihood_rows
    assert all("elsewhere/" in item.path for item in asked.benchmarks if getattr(item, "path", None))
