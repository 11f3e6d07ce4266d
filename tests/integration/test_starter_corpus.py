"""The starter corpus as a whole, built from the installed packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from tailmark.config import Config
from tailmark.files import read_json, sha256_tree
from tailmark.ingest.stage import run
from tailmark.layout import Layout
from tailmark.records import RECORD, Record, read_rows
from tailmark.taxonomy import load_taxonomy

TAXONOMY = Path(__file__).parents[2] / "src" / "tailmark" / "taxonomy" / "paper.yaml"
TAIL = {"SocialSciences", "Sciences", "Finance", "Medical", "Legal"}
PERMISSIVE = {"MIT", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "Unicode-3.0", "CC0-1.0"}
SETTINGS: dict[str, Any] = {"taxonomy": {"file": str(TAXONOMY)}}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(tmp_path_factory.mktemp("starter"))
    run(Config.model_validate(SETTINGS), layout)
    return layout


@pytest.fixture(scope="module")
def rows(built: Layout) -> list[Record]:
    return list(read_rows(built.ingested / "rows", RECORD))


def counted(rows: list[Record], marker: str) -> Counter[str]:
    return Counter(row["metadata"][f"marker.{marker}"] for row in rows if f"marker.{marker}" in row["metadata"])


def prompt(row: Record) -> str:
    return "\n".join(message["content"] for message in row["prompt"])


def test_size_languages_tasks_and_code_languages(rows: list[Record]) -> None:
    assert len(rows) >= 6_000
    assert sum(number >= 50 for number in counted(rows, "lang").values()) >= 20
    tasks = counted(rows, "task")
    assert sum(number >= 100 for number in tasks.values()) >= 8
    assert all(tasks[task] >= 500 for task in ("CodeFix", "CodeGeneration", "CodeExplanation", "Translation"))
    assert sum(number >= 30 for number in counted(rows, "code_type").values()) >= 6


def test_every_domain_is_there_with_the_long_tail_of_the_paper(rows: list[Record]) -> None:
    domains = counted(rows, "domain")
    taxonomy = load_taxonomy(TAXONOMY)
    assert set(domains) == set(taxonomy.markers["domain"].values)
    assert all(100 <= domains[domain] < 0.05 * len(rows) for domain in TAIL)
    assert all(domains[domain] > 0.05 * len(rows) for domain in set(domains) - TAIL)
    assert domains.most_common(1)[0][0] == "Code"
    assert 0.25 < domains["Code"] / len(rows) < 0.30


def test_every_marker_value_is_in_the_taxonomy(rows: list[Record]) -> None:
    taxonomy = load_taxonomy(TAXONOMY)
    for row in rows:
        for key, value in row["metadata"].items():
            if key.startswith("marker."):
                assert value in taxonomy.markers[key.removeprefix("marker.")].values, (key, value)


def test_each_row_says_where_it_comes_from(rows: list[Record]) -> None:
    for row in rows:
        assert {"package", "version", "kind", "group", "marker.domain", "marker.task", "marker.source", "marker.lang"} <= set(
            row["metadata"]
        )
        assert set(row["license"].split(" AND ")) <= PERMISSIVE


def test_text_is_clean_and_no_answer_is_boilerplate(rows: list[Record]) -> None:
    for row in rows:
        assert row["completion"].strip()
        assert prompt(row).strip()
        assert "\ufffd" not in row["completion"]
        if row["metadata"]["marker.task"] == "Translation":
            assert not re.search(r"%\(\w+\)s|%s|\{\w+\}|</?\w+>", row["completion"])
    assert max(Counter(row["completion"] for row in rows).values()) <= 2
    assert max(Counter(prompt(row) for row in rows).values()) <= 25


def test_the_same_prompt_has_answers_in_several_languages_and_of_several_lengths(rows: list[Record]) -> None:
    languages, lengths = defaultdict(set), defaultdict(list)
    for row in rows:
        languages[prompt(row)].add(row["metadata"]["marker.lang"])
        lengths[prompt(row)].append(len(row["completion"]))
    assert sum(len(found) > 1 for found in languages.values()) >= 300
    assert sum(max(found) > 2 * min(found) for found in lengths.values()) >= 500


def test_no_group_straddles_the_split_and_each_tail_domain_is_held_out(rows: list[Record]) -> None:
    sides = defaultdict(set)
    for row in rows:
        sides[row["metadata"]["group"]].add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
    held = counted([row for row in rows if row["split"] == "heldout"], "domain")
    assert all(held[domain] >= 10 for domain in TAIL)
    assert 0.09 < sum(held.values()) / len(rows) < 0.12


def test_the_report_names_packages_licences_and_counts(built: Layout, rows: list[Record]) -> None:
    report = read_json(built.ingested / "report.json")
    identity = report["identity"]
    assert identity["rows_in"] == identity["kept"] + identity["near_duplicates"]
    assert identity["kept"] == len(rows)
    assert 0 < identity["near_duplicates"] < 50
    assert {row["metadata"]["package"] for row in rows} <= set(report["packages"])
    assert all(entry["version"] and entry["license"] for entry in report["packages"].values())
    assert sum(sum(cell.values()) for cell in report["markers"]["lang"].values()) == len(rows)


def test_a_second_build_in_another_process_gives_the_same_bytes(built: Layout, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tailmark.config import Config; from tailmark.layout import Layout;"
        "from tailmark.ingest.stage import run;"
        "run(Config.model_validate({'taxonomy': {'file': sys.argv[2]}}), Layout(Path(sys.argv[1])))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(TAXONOMY)], check=True, env=environment, capture_output=True, timeout=300
    )
    assert sha256_tree(Layout(tmp_path).ingested) == sha256_tree(built.ingested)


def test_the_subset_of_a_small_profile_keeps_every_domain_in_both_splits(tmp_path: Path) -> None:
    run(Config.model_validate({**SETTINGS, "ingest": {"rows": 200}}), Layout(tmp_path))
    chosen = list(read_rows(Layout(tmp_path).ingested / "rows", RECORD))
    assert len(chosen) == 200
    domains = set(load_taxonomy(TAXONOMY).markers["domain"].values)
    for split in ("train", "heldout"):
        assert set(counted([row for row in chosen if row["split"] == split], "domain")) == domains
