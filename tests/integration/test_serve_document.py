"""The server does what its OpenAPI document says: requests made from the document, right and wrong ones, are answered as it says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tailmark.serve.command import Server
from tests.marked_model import marked_model
from tests.serving import serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(marked_model(tmp_path_factory.mktemp("model")), default_new_tokens=2, max_new_tokens=4, constrained=False) as made:
        yield made


# A document cannot say all that must hold: the model's name, whose turn is last, which markers there are, the deployment's limits.
TOO_STRICT = [positive_data_acceptance]
FUZZED = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_request_is_answered_as_the_document_says(server: Server, mode: schemathesis.GenerationMode) -> None:
    """Also requests that the document forbids: they are refused, and the server goes on."""
    document = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    asked = set()
    for found in document.get_all_operations():
        operation = found.ok()
        try:
            cases = operation.as_strategy(generation_mode=mode)

            @FUZZED
            @given(case=cases)
            def answered(case: schemathesis.Case) -> None:
                case.call_and_validate(timeout=60, excluded_checks=TOO_STRICT)

            answered()
            asked.add(operation.label)
        except Unsatisfiable:  # nothing that the document forbids can be said there
            assert mode is schemathesis.GenerationMode.NEGATIVE
    assert "POST /v1/chat/completions" in asked
