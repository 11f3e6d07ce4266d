"""The LLM annotator against a small real HTTP server that answers well, badly, late or not at all."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tailmark.annotate.annotators import Finding
from tailmark.annotate.llm import LLMAnnotator
from tailmark.annotate.llm.examples import Examples
from tailmark.config import LLM
from tailmark.errors import BudgetExceeded, DataError, EndpointError, TailmarkError, TaxonomyError
from tailmark.taxonomy import Taxonomy, load_taxonomy
from tests.chat_server import Reaction, Server, completion, problem, serving

PAPER = Path(__file__).resolve().parents[2] / "src" / "tailmark" / "taxonomy" / "paper.yaml"
TAXONOMY = load_taxonomy(PAPER)
SECRET = "sk-planted-4f1d9a77c0"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


def row(text: str, answer: str = "Yes.") -> dict[str, Any]:
    return {"id": text, "prompt": [{"role": "user", "content": text}], "completion": answer, "metadata": {}}


def rows(count: int) -> list[dict[str, Any]]:
    return [row(f"Question number {number}?") for number in range(count)]


def annotator(server: Server, folder: Path, taxonomy: Taxonomy = TAXONOMY, *, bare: bool = False, **options: Any) -> LLMAnnotator:
    given = {"base_url": server.url, "model": "m", "markers": ["domain"], "retries": 2} | options
    return LLMAnnotator.open(LLM.model_validate(given), taxonomy, folder, bare=bare)


def values(found: list[dict[str, Finding]]) -> list[dict[str, Any]]:
    return [{name: finding.value for name, finding in item.items()} for item in found]


def unknown(count: int) -> list[dict[str, Finding]]:
    return [{} for _ in range(count)]


def test_only_what_is_missing_is_asked_with_the_papers_protocol(server: Server, tmp_path: Path) -> None:
    server.react = lambda body, _number: completion("Culture" if "Question: domain" in body["messages"][0]["content"] else "Rewrite")
    llm = annotator(server, tmp_path, markers=["domain", "task"])
    found = llm.annotate(rows(2), [{"task": Finding("Reasoning")}, {}])
    assert values(found) == [{"domain": "Culture"}, {"domain": "Culture", "task": "Rewrite"}]
    assert found[0]["domain"].confidence is None
    assert len(server.asked) == 3
    messages = server.asked[0]["messages"]
    assert all(f"- {value}:" in messages[0]["content"] for value in TAXONOMY.markers["domain"].values)
    assert [message["content"] for message in messages if message["role"] == "assistant"] == [
        example.value for example in TAXONOMY.markers["domain"].examples
    ]
    assert "Question number" in messages[-1]["content"]


def test_examples_are_in_the_language_of_the_prompt(server: Server, tmp_path: Path) -> None:
    annotator(server, tmp_path).annotate([row("Pourquoi les feuilles des arbres tombent-elles en automne ?")], unknown(1))
    shown = "\n".join(message["content"] for message in server.asked[0]["messages"])
    assert "Pourquoi le ciel est-il rouge le soir ?" in shown
    assert "Why is the sky red" not in shown


def test_a_marker_that_depends_on_another_is_asked_after_it_and_only_where_it_applies(server: Server, tmp_path: Path) -> None:
    def react(body: dict[str, Any], number: int) -> Reaction:
        if "Question: code_type" in body["messages"][0]["content"]:
            return completion("python")
        return completion("Code" if "number 0" in body["messages"][-1]["content"] else "Math")

    server.react = react
    found = annotator(server, tmp_path, markers=["code_type", "domain"], concurrency=1).annotate(rows(2), unknown(2))
    assert values(found) == [{"domain": "Code", "code_type": "python"}, {"domain": "Math"}]
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("Culture", "Culture"),
        (' "culture".\n', "Culture"),
        ("Label: Medical", "Medical"),
        ("Unspecified", "Unspecified"),
        ("**Legal**", "Legal"),
    ],
)
def test_a_label_may_be_dressed_up(server: Server, tmp_path: Path, said: str, value: str) -> None:
    server.react = lambda _body, _number: completion(said)
    assert values(annotator(server, tmp_path).annotate(rows(1), unknown(1))) == [{"domain": value}]


def test_unspecified_leaves_a_marker_open_that_has_no_such_value(server: Server, tmp_path: Path) -> None:
    server.react = lambda _body, _number: completion("Unspecified")
    llm = annotator(server, tmp_path, markers=["task"])
    assert values(llm.annotate(rows(1), unknown(1))) == [{}]
    assert llm.counts["task"] == {"asked": 1, "unspecified": 1}
    assert values(annotator(server, tmp_path, markers=["task"]).annotate(rows(1), unknown(1))) == [{}]
    assert len(server.asked) == 1, "`Unspecified` is a valid answer, so it is paid for once"


@pytest.mark.parametrize("said", ["Astrology", "", "I think it is Culture, or maybe Math.", "Culture or Math\nor both", "null"])
def test_a_value_outside_the_taxonomy_is_counted_and_neither_kept_nor_cached(server: Server, tmp_path: Path, said: str) -> None:
    server.react = lambda _body, _number: completion(said)
    for _ in range(2):
        llm = annotator(server, tmp_path)
        assert values(llm.annotate(rows(1), unknown(1))) == [{}]
        assert llm.report()["markers"]["domain"] == {"asked": 1, "value": 0, "unspecified": 0, "invalid": 1, "unanswered": 0}
        assert llm.report()["invalid"] == [{"marker": "domain", "said": " ".join(said.split()), "rows": 1}]
    assert len(server.asked) == 2


def test_equal_requests_are_paid_once_even_side_by_side(server: Server, tmp_path: Path) -> None:
    def react(body: dict[str, Any], number: int) -> Reaction:
        time.sleep(0.1)
        return completion("Culture")

    server.react = react
    assert (
        values(annotator(server, tmp_path, concurrency=4).annotate([row("Same?", str(n)) for n in range(4)], unknown(4)))
        == [{"domain": "Culture"}] * 4
    )
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("changed", "asks_again"),
    [
        ({}, False),
        ({"concurrency": 3, "timeout_s": 9, "max_requests": 50}, False),
        ({"model": "other"}, True),
        ({"temperature": 0.5}, True),
        ({"max_chars": 5}, True),
    ],
)
def test_the_cache_is_keyed_by_what_an_answer_depends_on(server: Server, tmp_path: Path, changed: dict[str, Any], asks_again: bool) -> None:
    annotator(server, tmp_path).annotate(rows(2), unknown(2))
    annotator(server, tmp_path, **changed).annotate(rows(2), unknown(2))
    assert len(server.asked) == (4 if asks_again else 2)


def test_another_definition_is_another_question_but_only_for_its_marker(server: Server, tmp_path: Path) -> None:
    text = PAPER.read_text(encoding="utf-8").replace("Diagnosis, treatment and prevention of illness.", "Illness.")
    (tmp_path / "t.yaml").write_text(text, encoding="utf-8")
    server.react = lambda _body, _number: completion("Unspecified")
    annotator(server, tmp_path, markers=["domain", "task"]).annotate(rows(1), unknown(1))
    annotator(server, tmp_path, load_taxonomy(tmp_path / "t.yaml"), markers=["domain", "task"]).annotate(rows(1), unknown(1))
    assert len(server.asked) == 3


def test_one_call_for_all_markers_has_a_schema_of_enums(server: Server, tmp_path: Path) -> None:
    server.react = lambda _body, _number: completion('{"domain": "Math", "task": "Reasoning", "more": 1}')
    llm = annotator(server, tmp_path, markers=["domain", "task"], protocol="all")
    assert values(llm.annotate(rows(1), unknown(1))) == [{"domain": "Math", "task": "Reasoning"}]
    assert len(server.asked) == 1
    schema = server.asked[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["domain"]["enum"] == list(TAXONOMY.markers["domain"].values)
    assert schema["properties"]["task"]["enum"] == [*TAXONOMY.markers["task"].values, "Unspecified"]
    assert (schema["required"], schema["additionalProperties"]) == (["domain", "task"], False)


def test_an_object_valid_in_part_gives_that_part_and_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.react = lambda _body, _number: completion('Here: ```json\n{"domain": "Math", "task": "Guessing"}\n```')
    for _ in range(2):
        llm = annotator(server, tmp_path, markers=["domain", "format", "task"], protocol="all")
        assert values(llm.annotate(rows(1), unknown(1))) == [{"domain": "Math"}]
        assert {name: counts["invalid"] for name, counts in llm.counts.items()} == {"domain": 0, "format": 1, "task": 1}
    assert len(server.asked) == 2


def test_malformed_json_from_the_model_is_counted_and_not_kept(server: Server, tmp_path: Path) -> None:
    server.react = lambda _body, _number: completion('{"domain": "Math", ')
    llm = annotator(server, tmp_path, protocol="all")
    assert values(llm.annotate(rows(1), unknown(1))) == [{}]
    assert llm.counts["domain"]["invalid"] == 1


@pytest.mark.parametrize("status", [400, 422])
def test_an_endpoint_without_schemas_is_asked_in_words(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    def react(body: dict[str, Any], number: int) -> Reaction:
        if "response_format" in body:
            return problem(status, "Unexpected fields: response_format")
        return completion('{"domain": "Math"}')

    server.react = react
    found = annotator(server, tmp_path, protocol="all", concurrency=1, max_requests=4).annotate(rows(3), unknown(3))
    assert values(found) == [{"domain": "Math"}] * 3
    assert ["response_format" in body for body in server.asked] == [True, False, False, False]
    assert capsys.readouterr().out.count("does not take `response_format`: asking for JSON in words") == 1


def test_requests_side_by_side_find_out_together_what_the_endpoint_does_not_take(server: Server, tmp_path: Path) -> None:
    def react(body: dict[str, Any], _number: int) -> Reaction:
        time.sleep(0.1)
        return problem(400, "no response_format here") if "response_format" in body else completion('{"domain": "Math"}')

    server.react = react
    assert values(annotator(server, tmp_path, protocol="all", concurrency=8).annotate(rows(9), unknown(9))) == [{"domain": "Math"}] * 9


def test_a_newer_endpoint_gets_the_limit_under_its_newer_name(server: Server, tmp_path: Path) -> None:
    def react(body: dict[str, Any], number: int) -> Reaction:
        return problem(400, "Unsupported parameter: 'max_tokens'") if "max_tokens" in body else completion("Math")

    server.react = react
    assert values(annotator(server, tmp_path).annotate(rows(1), unknown(1))) == [{"domain": "Math"}]
    assert server.asked[1]["max_completion_tokens"] == server.asked[0]["max_tokens"]


def test_confidence_is_the_probability_of_the_label(server: Server, tmp_path: Path) -> None:
    server.react = lambda _body, _number: completion("Math\n", [("Ma", -0.1), ("th", -0.2), ("\n", -3.0)])
    found = annotator(server, tmp_path, logprobs=True).annotate(rows(1), unknown(1))
    assert found[0]["domain"] == Finding("Math", 0.7408)
    again = annotator(server, tmp_path, logprobs=True).annotate(rows(1), unknown(1))
    assert again == found
    assert len(server.asked) == 1


def test_confidence_of_a_value_in_an_object(server: Server, tmp_path: Path) -> None:
    tokens = [('{"', -9.0), ("domain", -9.0), ('": "', -0.1), ("Math", -0.3), ('"}', -0.1)]
    server.react = lambda _body, _number: completion('{"domain": "Math"}', tokens)
    found = annotator(server, tmp_path, logprobs=True, protocol="all").annotate(rows(1), unknown(1))
    assert found[0]["domain"] == Finding("Math", 0.6065)


def test_an_endpoint_without_probabilities_gives_values_without_confidence(server: Server, tmp_path: Path) -> None:
    server.react = lambda body, _number: problem(400, "logprobs is not supported") if "logprobs" in body else completion("Math")
    found = annotator(server, tmp_path, logprobs=True).annotate(rows(1), unknown(1))
    assert found[0]["domain"] == Finding("Math", None)


def test_retry_after_is_honoured(server: Server, tmp_path: Path) -> None:
    server.react = lambda _body, number: completion("Math") if number else problem(429, "slow down", **{"retry-after": "0.7"})
    assert values(annotator(server, tmp_path).annotate(rows(1), unknown(1))) == [{"domain": "Math"}]
    assert 0.69 < server.times[1] - server.times[0] < 3


@pytest.mark.parametrize(("asked", "said"), [("7200", "wait for 2 h"), ("inf", "wait for"), ("Fri, 01 Jan 2100 00:00:00 GMT", "wait for")])
def test_a_wait_of_hours_is_not_sat_out(server: Server, tmp_path: Path, asked: str, said: str) -> None:
    server.react = lambda _body, _number: problem(429, "quota of the day", **{"retry-after": asked})
    with pytest.raises(EndpointError, match=said):
        annotator(server, tmp_path).annotate(rows(1), unknown(1))


def broken_body(body: dict[str, Any], number: int) -> Reaction:
    return 200, {}, b'{"id": "c", "choices": [{'


def no_choices(body: dict[str, Any], number: int) -> Reaction:
    return 200, {}, b'{"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": []}'


def web_page(body: dict[str, Any], number: int) -> Reaction:
    return 200, {"content-type": "text/html"}, b"<html>Welcome</html>"


def late(body: dict[str, Any], number: int) -> Reaction:
    time.sleep(1.5)
    return completion("Math")


def failing(body: dict[str, Any], number: int) -> Reaction:
    return problem(500, "internal")


FAULTS = [failing, late, broken_body, no_choices, web_page]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_is_tried_again(server: Server, tmp_path: Path, fault: Callable[[dict[str, Any], int], Reaction]) -> None:
    server.react = lambda body, number: completion("Math") if number else fault(body, number)
    llm = annotator(server, tmp_path, timeout_s=0.8)
    assert values(llm.annotate(rows(1), unknown(1))) == [{"domain": "Math"}]
    assert len(server.asked) == llm.spent.requests == 2


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_ends_the_run_with_a_way_out(
    server: Server, tmp_path: Path, fault: Callable[[dict[str, Any], int], Reaction]
) -> None:
    server.react = fault
    with pytest.raises(EndpointError) as caught:
        annotator(server, tmp_path, timeout_s=0.8, retries=0).annotate(rows(3), unknown(3))
    assert caught.value.fix
    assert server.url in str(caught.value)


def test_one_row_the_server_cannot_answer_does_not_stop_the_others(server: Server, tmp_path: Path) -> None:
    server.react = lambda body, number: failing(body, number) if "number 2?" in body["messages"][-1]["content"] else completion("Math")
    llm = annotator(server, tmp_path, retries=0, concurrency=1)
    assert values(llm.annotate(rows(5), unknown(5))) == [{"domain": "Math"}] * 2 + [{}] + [{"domain": "Math"}] * 2
    assert llm.counts["domain"] == {"asked": 5, "value": 4, "unanswered": 1}


def test_refusals_of_every_row_end_the_run(server: Server, tmp_path: Path) -> None:
    server.react = lambda _body, _number: problem(400, "the model has no chat template")
    with pytest.raises(EndpointError, match="no chat template"):
        annotator(server, tmp_path, concurrency=1).annotate(rows(50), unknown(50))
    assert len(server.asked) == 5


def test_nobody_listens(tmp_path: Path) -> None:
    nobody = Server(url="http://127.0.0.1:9/v1")
    with pytest.raises(EndpointError, match="does not answer") as caught:
        annotator(nobody, tmp_path, retries=1).annotate(rows(2), unknown(2))
    assert "127.0.0.1:9" in str(caught.value)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_that_no_retry_mends_stops_at_once(server: Server, tmp_path: Path, status: int) -> None:
    server.react = lambda _body, _number: problem(status, "not you")
    with pytest.raises(EndpointError, match=f"status {status}"):
        annotator(server, tmp_path, concurrency=1).annotate(rows(9), unknown(9))
    assert len(server.asked) == 1


def test_an_account_that_is_used_up_stops_at_once(server: Server, tmp_path: Path) -> None:
    body = json.dumps({"error": {"message": "pay first", "code": "insufficient_quota"}}).encode()
    server.react = lambda _, _number: (429, {}, body)
    with pytest.raises(EndpointError, match="pay first"):
        annotator(server, tmp_path, concurrency=1).annotate(rows(9), unknown(9))
    assert len(server.asked) == 1


def test_the_key_comes_from_the_environment_and_is_shown_nowhere(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENDPOINT_KEY", SECRET)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-endpoint")
    server.react = lambda _body, number: completion("Math") if number < 2 else problem(401, f"wrong key: Bearer {SECRET}")
    llm = annotator(server, tmp_path, key_variable="ENDPOINT_KEY", concurrency=1)
    with pytest.raises(EndpointError) as caught:
        llm.annotate(rows(3), unknown(3))
    assert server.headers[0]["authorization" if "authorization" in server.headers[0] else "Authorization"] == f"Bearer {SECRET}"
    shown = "".join(capsys.readouterr()) + str(caught.value) + json.dumps(llm.report()) + repr(llm) + "\n".join(llm.table())
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET not in shown
    assert SECRET.encode() not in stored
    assert caught.value.__cause__ is None
    assert "ENDPOINT_KEY" in str(caught.value)


def test_a_key_in_the_environment_goes_only_where_it_is_named(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    annotator(server, tmp_path).annotate(rows(1), unknown(1))
    assert SECRET not in json.dumps(server.headers)


def test_a_missing_key_is_an_error_before_anything_is_sent(server: Server, tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match="NO_SUCH_KEY"):
        annotator(server, tmp_path, key_variable="NO_SUCH_KEY").annotate(rows(1), unknown(1))
    assert server.asked == []


@pytest.mark.parametrize("limit", ["max_requests", "max_tokens", "max_cost"])
def test_a_budget_stops_cleanly_and_what_was_paid_for_is_kept(server: Server, tmp_path: Path, limit: str) -> None:
    prices = {"input_price": 1.0, "output_price": 2.0}
    most = annotator(server, tmp_path).questions(rows(1)[0], {})[0].most
    # A reply takes 100 tokens in and 3 out: so there is room for three, the last of them at the most it may take.
    room = {
        "max_requests": 3,
        "max_tokens": most.tokens + 250,
        "max_cost": most.cost(LLM(base_url=server.url, model="m", **prices)) + 250e-6,
    }
    for _ in range(2):
        with pytest.raises(BudgetExceeded) as caught:
            annotator(server, tmp_path, concurrency=1, **prices, **{limit: room[limit]}).annotate(rows(6), unknown(6))
        assert f"annotate.llm.{limit}" in str(caught.value)
        assert "run the same command again" in str(caught.value)
        assert len(server.asked) == 3, "the budget counts over all runs"
    annotator(server, tmp_path).annotate(rows(6), unknown(6))
    assert len(server.asked) == 6, "nothing is paid twice"


def test_a_budget_holds_under_concurrency(server: Server, tmp_path: Path) -> None:
    with pytest.raises(BudgetExceeded):
        annotator(server, tmp_path, concurrency=8, max_requests=10).annotate(rows(60), unknown(60))
    assert len(server.asked) == 10
    annotator(server, tmp_path, concurrency=8).annotate(rows(60), unknown(60))
    assert len(server.asked) == 60


def test_no_more_requests_at_a_time_than_asked_for(server: Server, tmp_path: Path) -> None:
    busy, most, lock = Counter[str](), [0], threading.Lock()

    def react(body: dict[str, Any], number: int) -> Reaction:
        with lock:
            busy["now"] += 1
            most[0] = max(most[0], busy["now"])
        time.sleep(0.02)
        with lock:
            busy["now"] -= 1
        return completion("Math")

    server.react = react
    annotator(server, tmp_path, concurrency=3).annotate(rows(20), unknown(20))
    assert most[0] == 3


def test_a_corrupt_cache_is_an_error_with_a_way_out(server: Server, tmp_path: Path) -> None:
    (tmp_path / "llm-cache").mkdir()
    (tmp_path / "llm-cache" / "answers.sqlite").write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(DataError, match="cache of LLM answers"):
        annotator(server, tmp_path)


def test_an_unknown_marker_is_an_error(server: Server, tmp_path: Path) -> None:
    with pytest.raises(TaxonomyError, match="dommain"):
        annotator(server, tmp_path, markers=["dommain"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("French: [1]", "mapping"), ("Klingon: {}", "Klingon"), ("French: {domain: {Astrology: Hm}}", "Astrology"),
        ("French: {dommain: {Legal: Hm}}", "dommain"), ("French: {domain: {Legal: 7}}", "not text"), ("a: b: c", "cannot be read"),
    ],
)  # fmt: skip
def test_a_malformed_file_of_examples_is_an_error(server: Server, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "examples.yaml"
    path.write_text(text)
    with pytest.raises(TailmarkError, match=said) as caught:
        annotator(server, tmp_path, examples=path)
    assert str(path) in str(caught.value)
    assert caught.value.fix


def test_a_missing_file_of_examples_is_an_error(server: Server, tmp_path: Path) -> None:
    with pytest.raises(TaxonomyError, match="no such file of examples"):
        annotator(server, tmp_path, examples=tmp_path / "none.yaml")


def test_own_examples_take_the_place_of_ours(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "examples.yaml"
    path.write_text("French: {domain: {Legal: Mon voisin a-t-il le droit de couper mon arbre}}")
    annotator(server, tmp_path, examples=path).annotate([row("Pourquoi les feuilles des arbres tombent-elles en automne ?")], unknown(1))
    shown = [message["content"] for message in server.asked[0]["messages"]]
    assert len(shown) == 4
    assert "Mon voisin" in shown[1]


def test_the_middle_of_a_long_text_is_left_out(server: Server, tmp_path: Path) -> None:
    annotator(server, tmp_path, max_chars=90).annotate([row("start " + "x" * 5000 + " end?")], unknown(1))
    text = server.texts[0]
    assert len(text) < 130
    assert "start" in text
    assert "end?" in text


def test_a_number_is_asked_for_and_kept_in_its_range(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("name: t\nmarkers:\n  urgency: {kind: integer, definition: How urgent., minimum: 1, maximum: 5}\n")
    said = iter(["4", "9"])
    server.react = lambda _body, _number: completion(next(said))
    llm = annotator(server, tmp_path, load_taxonomy(path), markers=None, concurrency=1)
    assert values(llm.annotate(rows(2), unknown(2))) == [{"urgency": 4}, {}]
    assert "a whole number from 1 to 5" in server.asked[0]["messages"][0]["content"]
    assert llm.counts["urgency"]["invalid"] == 1


def test_there_are_examples_in_every_language_of_the_paper_and_they_are_in_it() -> None:
    examples = Examples(TAXONOMY, None)
    for lang in TAXONOMY.markers["lang"].values:
        for marker in ("task", "domain"):
            shown = examples.of(marker, lang)
            assert [example.value for example in shown] == list(TAXONOMY.markers[marker].values)
        text = " ".join(example.text for example in examples.of("domain", lang))
        assert examples.language(text) == (lang if lang != "English" else None)
