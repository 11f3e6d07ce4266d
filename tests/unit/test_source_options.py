"""Fields, templates, filters, value maps, variants and lookups."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tailmark.config import Source, parse_config
from tailmark.config.fields import parse_field, parse_template
from tailmark.errors import ConfigError, DataError
from tailmark.ingest.adapters import read_source
from tailmark.ingest.candidate import Candidate, Reject
from tailmark.ingest.sources.markers import ValueMap
from tailmark.ingest.sources.values import getter, pattern, text_of

ROW = {"a": {"b": [{"c": "deep"}, {"c": "er"}]}, "many": ["x", "y"], "flat.name": "flat", "n": 3, "empty": ""}


def read(root: Path, *rows: dict[str, Any], **options: Any) -> list[Candidate | Reject]:
    (root / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return list(read_source(Source(kind="jsonl", name="mine", path="data.jsonl", **{"prompt": "q", "completion": "a"} | options), root))


def candidates(rows: list[Candidate | Reject]) -> list[Candidate]:
    assert all(isinstance(row, Candidate) for row in rows), rows
    return [row for row in rows if isinstance(row, Candidate)]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("n", 3),
        ("many[0]", "x"),
        ("many[-1]", "y"),
        ("many[2]", None),
        ("many[*]", ["x", "y"]),
        ("a.b[1].c", "er"),
        ("a.b[*].c", ["deep", "er"]),
        ("a.x.y", None),
        ("n.x", None),
        ("flat.name", "flat"),
        ("nothing", None),
    ],
)
def test_a_path_leads_to_a_value_or_to_none(path: str, value: object) -> None:
    assert getter(parse_field(path))(ROW) == value


@pytest.mark.parametrize("path", ["", ".a", "a.", "a..b", "[0]", "a[x]", "a[0", "a]b", "{a}"])
def test_a_malformed_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="names no field"):
        parse_field(path)


@pytest.mark.parametrize(
    ("template", "text"),
    [("{many[0]}: {n}", "x: 3"), ("{{{n}}}", "{3}"), ("{n}\n\n{empty?}", "3"), ("{nothing?} {n}", "3"), ("{ n }", "3")],
)
def test_a_template_is_filled(template: str, text: str) -> None:
    assert text_of(template, "empty_prompt", "empty_prompt")(ROW) == text


@pytest.mark.parametrize("template", ["{", "}", "{a", "a}", "{a{b}}", "{{}}", "{}", "{a..b}"])
def test_a_malformed_template_is_refused_with_the_config(template: str) -> None:
    with pytest.raises(ValidationError):
        Source(kind="jsonl", name="mine", path="p", prompt=template, completion="a")


@given(st.text(alphabet="{}ab \n", max_size=20))
def test_text_in_doubled_braces_comes_out_as_it_was(text: str) -> None:
    escaped = text.replace("{", "{{").replace("}", "}}")
    assert parse_template(escaped + "{n}").literals[0] == text


@given(st.text(alphabet="ab*.[", max_size=8), st.text(alphabet="ab.[\n", max_size=8))
def test_a_pattern_without_star_matches_itself_alone(wanted: str, text: str) -> None:
    found = pattern(wanted).fullmatch(text) is not None
    if "*" not in wanted:
        assert found == (wanted == text)
    elif found:
        assert len(text) >= len(wanted.replace("*", ""))
        assert text.startswith(wanted.split("*")[0])
        assert text.endswith(wanted.split("*")[-1])


@pytest.mark.parametrize(
    ("values", "texts", "becomes"),
    [
        ({"law": "Legal"}, ["law"], "Legal"),
        ({"law": "Legal"}, ["tax"], "tax"),
        ({"law": "Legal", "*": None}, ["tax"], None),
        ({"law": "Legal", "*": "Unspecified"}, ["tax"], "Unspecified"),
        ({"law": "Legal", "*": "Unspecified"}, [], None),
        ({"law": None}, ["law"], None),
        ({"*law": "Legal", "tax law": "Finance"}, ["tax law"], "Finance"),
        ({"*law": "Legal"}, ["tax law"], "Legal"),
        ({"law": "Legal", "*": None}, ["news", "law"], "Legal"),
        ({"law": "Legal"}, ["news", "law"], "Legal"),
        ({"law": "Legal"}, ["news", "web"], "news"),
        ({}, [], None),
    ],
)
def test_a_value_map_takes_the_first_value_that_it_names(values: dict[str, str | None], texts: list[str], becomes: str | None) -> None:
    assert ValueMap(values).of(texts) == becomes


def test_markers_come_from_several_fields_and_lists(tmp_path: Path) -> None:
    rows = [{"q": "Why?", "a": "So.", "task": "t1", "tags": ["news", "law"]}, {"q": "How?", "a": "So.", "task": "odd", "tags": ["law"]}]
    first, second = candidates(
        read(tmp_path, *rows, markers={"domain": ["task", "tags[*]"]}, values={"domain": {"odd": None, "law": "Legal", "*": "Unspecified"}})
    )
    assert first.metadata == {"marker.domain": "Legal"}
    assert second.metadata == {}


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"where": {"n": 3}}, [3]),
        ({"where": {"n": [1, 3]}}, [1, 3]),
        ({"where": {"flag": True}}, [1]),
        ({"where": {"n": "*"}}, [1, 2, 3]),
        ({"where": {"tags[*]": "b"}}, [2]),
        ({"where": {"n": [1, 2], "flag": True}}, [1]),
        ({"unless": {"n": 1, "tags[*]": "b"}}, [3]),
        ({"unless": {"text": "*\n*"}}, [1, 3]),
        ({"where": {"none": "*"}}, []),
    ],
)
def test_filters_keep_what_they_say(tmp_path: Path, options: dict[str, Any], kept: list[int]) -> None:
    rows = [
        {"q": "1", "a": "A", "n": 1, "flag": True, "tags": ["a"], "none": "", "text": "x"},
        {"q": "2", "a": "A", "n": 2, "flag": False, "tags": ["a", "b"], "none": None, "text": "x\ny"},
        {"q": "3", "a": "A", "n": 3, "flag": False, "tags": [], "text": "x"},
    ]
    found = read(tmp_path, *rows, **options)
    assert [int(row.prompt[0][1]) for row in found if isinstance(row, Candidate)] == kept
    assert {row.reason for row in found if isinstance(row, Reject)} <= {"filtered"}
    assert len(found) == 3


def test_a_limit_stops_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = read(tmp_path, *({"q": str(number), "a": "A"} for number in range(9)), limit=4)
    assert [row.where for row in rows] == [f"data.jsonl:{number}" for number in range(1, 5)]
    assert "stopped after 4 rows" in capsys.readouterr().out


def test_a_limit_still_finds_a_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'topic'"):
        read(tmp_path, *({"q": str(number), "a": "A"} for number in range(9)), limit=4, markers={"domain": "topic"})


def test_a_wrong_column_is_found_after_a_thousand_rows_and_not_at_the_end(tmp_path: Path) -> None:
    rows = [{"q": str(number), "answer": "A"} for number in range(2_000)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = []
    with pytest.raises(DataError, match="no column 'a'"):
        found.extend(read_source(Source(kind="jsonl", name="mine", path="data.jsonl", prompt="q", completion="a"), tmp_path))
    reader = read_source(Source(kind="jsonl", name="mine", path="data.jsonl", prompt="q", completion="a"), tmp_path)
    assert sum(1 for _ in zip(range(999), reader, strict=False)) == 999


def test_a_column_that_few_rows_have_is_no_error(tmp_path: Path) -> None:
    rows = [{"q": str(number), "a": "A"} | ({"topic": "law"} if number == 1_500 else {}) for number in range(1_600)]
    assert sum("marker.domain" in row.metadata for row in candidates(read(tmp_path, *rows, markers={"domain": "topic"}))) == 1


WORDINGS = {"prompt": ["Fix: {q}", "Correct: {q}", "Mend: {q}"]}


def test_wordings_are_drawn_by_content_and_not_by_place(tmp_path: Path) -> None:
    rows = [{"q": f"code {number}", "a": "A"} for number in range(300)]
    found = {row.prompt[0][1] for row in candidates(read(tmp_path, *rows, **WORDINGS))}
    again = {row.prompt[0][1] for row in candidates(read(tmp_path, *reversed(rows), **WORDINGS))}
    assert found == again
    assert set(Counter(text.partition(":")[0] for text in found)) == {"Fix", "Correct", "Mend"}
    assert min(Counter(text.partition(":")[0] for text in found).values()) > 70


def test_variants_share_the_rows_that_they_fit_and_bring_their_markers(tmp_path: Path) -> None:
    variants = [
        {"share": 3, "prompt": "Explain {q}.", "completion": "a", "constants": {"task": "Explanation"}, "markers": {"format": "form"}},
        {"prompt": "Name: {a}", "completion": "q", "constants": {"task": "Summarization"}},
        {"where": {"lang": "fr"}, "prompt": "Translate {a}.", "completion": "q", "constants": {"task": "Translation", "lang": "French"}},
    ]
    rows = [{"q": f"q{number}", "a": f"a{number}", "lang": "fr" if number % 2 else "de", "form": "list"} for number in range(800)]
    options = {"prompt": None, "completion": None, "variants": variants, "markers": {"lang": "lang"}, "values": {"lang": {"de": "German"}}}
    found = candidates(read(tmp_path, *rows, **options))
    tasks = Counter((row.metadata["marker.task"], row.metadata["marker.lang"]) for row in found)
    assert {task for task, lang in tasks if lang == "German"} == {"Explanation", "Summarization"}
    assert 250 < tasks["Explanation", "German"] < 350
    assert tasks["Translation", "French"] > 50
    for row in found:
        assert ("marker.format" in row.metadata) == (row.metadata["marker.task"] == "Explanation")


def test_a_looked_up_row_is_a_field(tmp_path: Path) -> None:
    rows = [
        {"key": "k1", "lang": "fr", "q": "bonjour", "a": "A"},
        {"key": "k1", "lang": "en", "q": "hello", "a": "A"},
        {"key": "k1", "lang": "en", "q": "later", "a": "A"},
        {"key": "k2", "lang": "fr", "q": "salut", "a": "A"},
        {"key": None, "lang": "fr", "q": "adieu", "a": "A"},
    ]
    found = read(
        tmp_path,
        *rows,
        prompt="{english.q} ({key})",
        completion="q",
        where={"lang": "fr"},
        lookup={"english": {"on": "key", "where": {"lang": "en"}}},
    )
    assert [(row.prompt[0][1], row.completion) for row in found if isinstance(row, Candidate)] == [("hello (k1)", "bonjour")]
    left = [row for row in found if isinstance(row, Reject) and row.reason != "filtered"]
    assert [row.reason for row in left] == ["empty_prompt", "empty_prompt"]
    assert json.loads(left[0].row) == rows[3]


def test_a_group_is_a_text_of_the_row_that_may_be_missing(tmp_path: Path) -> None:
    rows = [{"q": "Why?", "a": "So.", "doc": 7}, {"q": "How?", "a": "So.", "doc": None}]
    first, second = candidates(read(tmp_path, *rows, group="document {doc}"))
    assert first.metadata == {"group": "document 7"}
    assert second.metadata == {}


def test_a_licence_may_be_a_list_in_the_row(tmp_path: Path) -> None:
    rows = [{"q": "Why?", "a": "So.", "terms": ["MIT", "BSD"]}, {"q": "How?", "a": "So.", "terms": []}]
    assert [row.license for row in candidates(read(tmp_path, *rows, license="column:terms[*]"))] == ["MIT; BSD", "unknown"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"messages": "m"}, "name either"),
        ({"completion": None}, "both `prompt` and `completion`"),
        ({"shape": "alpaca"}, "do not go with the shape alpaca"),
        ({"prompt": None, "completion": None}, "name either"),
        ({"shape": "pairs", "messages": "m"}, "does not go with the shape pairs"),
        ({"markers": {"domain": "a..b"}}, "names no field"),
        ({"where": {"[0]": "x"}}, "names no field"),
        ({"prompt": []}, "empty list"),
        ({"prompt": "{{x}}"}, "no field in it"),
        ({"lookup": {"en": {"on": ""}}}, "names no field"),
        ({"variants": [{"completion": "{"}]}, "single brace"),
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Source(kind="jsonl", name="mine", path="p", **{"prompt": "q", "completion": "a"} | options)


def test_two_sources_of_one_name_are_refused() -> None:
    source = {"kind": "jsonl", "name": "mine", "path": "p", "prompt": "q", "completion": "a"}
    with pytest.raises(ConfigError, match="two sources are called 'mine'"):
        parse_config({"ingest": {"sources": [source, source]}}, Path("params.yaml"))


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hush@bucket/x.jsonl",
        "https://me:hush@host/x.jsonl",
        "https://host/x.jsonl?token=hush",
        "https://h/x?X-Amz-Signature=hush",
        "https://hush@h/x",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_shown(url: str) -> None:
    source = {"kind": "jsonl", "name": "mine", "path": url, "prompt": "q", "completion": "a"}
    with pytest.raises(ConfigError, match="password, key or signature") as caught:
        parse_config({"ingest": {"sources": [source]}}, Path("params.yaml"))
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["abfs://box@account.dfs.core.windows.net/x.jsonl", "sftp://me@host/x.jsonl", "https://host/x.jsonl?design=1&keyword=a"]
)
def test_an_address_without_a_secret_is_taken(url: str) -> None:
    assert Source(kind="jsonl", name="mine", path=url, prompt="q", completion="a").path == url


def test_an_unknown_option_inside_a_variant_or_lookup_names_the_nearest() -> None:
    source = {"kind": "jsonl", "name": "mine", "path": "p", "variants": [{"promt": "q"}]}
    with pytest.raises(ConfigError, match="'prompt'"):
        parse_config({"ingest": {"sources": [source]}}, Path("params.yaml"))
    source = {"kind": "jsonl", "name": "mine", "path": "p", "lookup": {"english": {"onn": "q"}}}
    with pytest.raises(ConfigError, match="'on'"):
        parse_config({"ingest": {"sources": [source]}}, Path("params.yaml"))
