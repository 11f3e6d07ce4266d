"""The page that validation makes: its figures, and what must and must not stand in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tailmark.config import Config
from tailmark.files import sha256_bytes, write_json
from tailmark.layout import Layout
from tailmark.records import QUARANTINE, Quarantine, annotated_schema, write_shards
from tailmark.taxonomy import load_taxonomy
from tailmark.validate import derived
from tailmark.validate.expectations import Outcome
from tailmark.validate.failing import broken
from tailmark.validate.findings import Findings
from tailmark.validate.page import tables
from tailmark.validate.page.page import data_page
from tailmark.validate.page.quarantine import left
from tailmark.validate.profile import distances, make_profile
from tailmark.validate.rows import load
from tailmark.validate.suite import suite

PAPER = Path(__file__).resolve().parents[2] / "src" / "tailmark" / "taxonomy" / "paper.yaml"
TAXONOMY = load_taxonomy(PAPER)
CONFIG = Config()


def row(number: int) -> dict[str, Any]:
    domain = "Legal" if number % 70 == 0 else "Code" if number % 2 else "Math"
    markers = dict.fromkeys(TAXONOMY.markers) | {
        "domain": domain,
        "lang": "French" if number % 5 == 0 else "English",
        "length_tokens": number + 1,
    }
    markers |= {"task": "Explanation" if number % 3 else "Summarization"}
    origin = "classifier" if number % 4 == 0 else "dataset"
    return {
        "id": f"{number:04d}",
        "prompt": [{"role": "user", "content": f"Question {number} with <script>alert(1)</script>"}],
        "completion": f"Answer {number}.",
        "source_name": "made",
        "license": "MIT",
        "split": "heldout" if number % 9 == 0 else "train",
        "metadata": [],
        "markers": markers,
        "origin": {name: None if value is None else origin for name, value in markers.items()},
        "confidence": {name: None if value is None else 0.75 for name, value in markers.items()},
    }


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(tmp_path_factory.mktemp("page"))
    write_shards(layout.annotated / "rows", [row(number) for number in range(200)], annotated_schema(TAXONOMY))
    identity = {"rows_in": 260, "kept": 200, "duplicates": 7, "contaminated": 3, "quarantined": 50, "not_sampled": 0, "near_duplicates": 0}
    write_json(layout.ingested / "report.json", {"identity": identity, "sources": {"made": identity}})
    quarantine = Quarantine("ingest")
    for number in range(50):
        quarantine.add(
            id="",
            source_name="made",
            where=f"made.jsonl:{number + 1}",
            reason="empty_completion",
            detail="the completion is empty",
            row="{}",
        )
    quarantine.write(layout.ingested / "quarantine.parquet")
    value = {"rows": 20, "answered": 16, "right": 12, "given": 18}
    measured = {"rows": 20, "coverage": 0.8, "accuracy_answered": 0.75, "values": {"Code": value}}
    entry = {"threshold": 0.6, "too_few_rows": {"Legal": 2}, "heldout": measured, "new_prompts": {"rows": 0}}
    write_json(layout.annotated / "report.json", {"classifier": {"domain": entry}})
    return layout


@pytest.fixture(scope="module")
def findings(layout: Layout) -> Findings:
    rows = load(layout.annotated / "rows", TAXONOMY)
    derived.add_tail(rows.frame, "domain", CONFIG.longtail.threshold)
    profile = make_profile(rows.frame, TAXONOMY)
    before = json.loads(json.dumps(profile))
    before["markers"]["domain"]["values"]["Code"]["train"] *= 9
    drift = distances(profile, before)
    items = {item.name: item for item in suite(TAXONOMY, CONFIG, drift)}
    none = np.array([], dtype=np.int64)
    bad = broken(items["tail.domain.train"], rows.frame)
    outcomes = [
        Outcome(items["values.lang"], "stop", True, 200, 0, none),
        Outcome(items["tail.domain.train"], "warn", False, 200, len(bad), bad),
        Outcome(items["drift.domain"], "warn", False, None, 0, none, "0.300"),
    ]
    return Findings(rows, outcomes, profile, before, drift, TAXONOMY)


@pytest.fixture(scope="module")
def page(findings: Findings, layout: Layout) -> str:
    return data_page(findings, CONFIG, layout)


@pytest.mark.parametrize(
    "expected",
    [
        "200 rows hold 1 of 3 expectations",
        "every tail value of domain has at least 4 training rows",
        "found 0.300",
        "The long tail",
        "5&nbsp;% of the training rows are 9",
        "lang by domain",
        "task by domain",
        "classifier 0.75",
        "domain, by the classifier",
        "Legal (2)",
        "contaminated",
        "empty completion",
        "made.jsonl:3",
        "Since the last accepted version",
        "Code ",
        "Examples from the tail",
        "Question 0 with &lt;script&gt;",
        "On no row:",
        TAXONOMY.digest,
    ],
)
def test_the_page_says_it(page: str, expected: str) -> None:
    assert expected in page


def test_the_page_fetches_nothing(page: str) -> None:
    assert not re.search(r"""(?:src|href)\s*=|url\(|@import|https?:|<script|<link|<img|<iframe""", page)


def test_the_same_rows_give_the_same_page(findings: Findings, layout: Layout, page: str) -> None:
    assert sha256_bytes(data_page(findings, CONFIG, layout).encode()) == sha256_bytes(page.encode())
    assert str(layout.root) not in page


def test_a_page_without_reports_and_accepted_version(findings: Findings, tmp_path: Path) -> None:
    alone = Findings(findings.rows, findings.outcomes[:1], findings.profile, None, {}, TAXONOMY)
    page = data_page(alone, CONFIG, Layout(tmp_path))
    assert "200 rows hold all 1 expectations" in page
    assert "No version was accepted yet" in page
    assert "Where the rows come from" not in page


def test_the_tail_is_sorted_and_cut(findings: Findings) -> None:
    first = tables.tails(findings.profile, TAXONOMY, 0.05, "domain")[0]
    assert first["marker"] == "domain"
    assert [(bar["value"], bar["tail"]) for bar in first["bars"]] == [("Code", False), ("Math", False), ("Legal", True)]
    assert first["bars"][0]["width"] == 100
    assert 0 < first["bars"][2]["width"] < first["cut"]["at"] < first["bars"][1]["width"]
    assert "Finance" in first["unused"]


def test_co_occurrence_counts_every_pair(findings: Findings) -> None:
    found = tables.together(findings.rows.frame, "task", "domain")
    counted = {
        (line["value"], name): cell["rows"] for line in found["lines"] for name, cell in zip(found["columns"], line["cells"], strict=True)
    }
    expected: dict[tuple[str, str], int] = {}
    for number in range(200):
        markers = row(number)["markers"]
        expected[markers["task"], markers["domain"]] = expected.get((markers["task"], markers["domain"]), 0) + 1
    assert {pair: rows for pair, rows in counted.items() if rows} == expected


def test_a_histogram_counts_every_row() -> None:
    frame = pd.DataFrame(
        {f"markers.{name}": pd.array([None] * 100, dtype="Int64") for name, spec in TAXONOMY.markers.items() if spec.kind != "categorical"}
    )
    frame["markers.length_tokens"] = pd.array([1] * 50 + list(range(1, 51)), dtype="Int64")
    found = tables.spreads(frame, TAXONOMY)
    assert [item["marker"] for item in found] == ["length_tokens"]
    assert sum(one["rows"] for one in found[0]["columns"]) == 100
    assert found[0]["quantiles"]["highest"] == "50"


def test_quarantine_shows_the_first_rows_of_every_reason(tmp_path: Path) -> None:
    quarantine = Quarantine("ingest")
    for number in range(9_000):
        reason = "rare" if number in (5_000, 8_999) else "common"
        content = json.dumps({"prompt": [{"role": "user", "content": f"p{number}"}], "completion": "c" * 500})
        quarantine.add(id=str(number), source_name="s", where=f"f:{number}", reason=reason, detail="d", row=content)
    quarantine.write(tmp_path / "quarantine.parquet")
    found = left("ingest", tmp_path)
    assert (found["rows"], [(item["reason"], item["rows"]) for item in found["reasons"]]) == (9_000, [("common", 8_998), ("rare", 2)])
    assert [item["where"] for item in found["reasons"][1]["examples"]] == ["f:5000", "f:8999"]
    assert found["reasons"][0]["examples"][0]["row"].startswith("p0 → ccc")
    assert len(found["reasons"][0]["examples"][0]["row"]) < 250
    assert set(QUARANTINE.names) <= set(found["reasons"][0]["examples"][0])
