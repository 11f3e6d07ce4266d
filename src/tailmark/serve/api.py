"""The routes of the API, and its OpenAPI document."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from tailmark import __version__
from tailmark.errors import TailmarkError
from tailmark.serve import pages, responses, schema
from tailmark.serve.answering import Answering
from tailmark.serve.errors import APIError, refused
from tailmark.serve.gatekeeper import State

_REFUSALS = {
    400: "a field is missing, unknown or impossible",
    401: "an API key is needed",
    404: "there is no such model",
    408: "the body did not arrive in time",
    413: "the body is too large",
    415: "the body is not JSON",
    429: "too many requests are waiting",
    500: "decoding failed",
    503: "the server shuts down, or no place became free in time",
    504: "the answer took too long",
}


def create_api(answering: Answering, state: State, *, baseline_missing: str | None, keyed: bool) -> FastAPI:
    """The application, without what stands before it (`serve.gatekeeper`).

    Args:
        baseline_missing: why no baseline is served beside the model (None: one is).
        keyed: whether API keys are asked for.
    """
    api = FastAPI(
        title="tailmark", version=__version__, docs_url=None, redoc_url=None,
        description="Chat completions with markers, as OpenAI's API has them.",
    )  # fmt: skip
    api.include_router(_completions(answering, keyed))
    api.include_router(pages.about(answering, baseline_missing=baseline_missing, guard=_guard(keyed), refusals=_refusals(401, 404)))
    api.include_router(_operations(answering, state))
    pages.add_playground(api)
    _handle_errors(api)
    _document(api)
    return api


def _guard(keyed: bool) -> list[Any]:
    """The dependencies of routes that a key protects: they only say so in the OpenAPI document, the gatekeeper asks for it."""
    return [Security(HTTPBearer(auto_error=False))] if keyed else []


def _completions(answering: Answering, keyed: bool) -> APIRouter:
    router = APIRouter(prefix="/v1", dependencies=_guard(keyed), responses=_refusals(*_REFUSALS))
    stream = {"text/event-stream": {"schema": {"type": "string"}}}

    @router.post(
        "/chat/completions",
        response_model=responses.ChatCompletion,
        responses={200: {"description": "whole, or as events", "content": stream}},
    )
    async def chat(body: schema.ChatRequest, http: Request) -> Response:
        """Answer a conversation."""
        return await answering.chat(http, body)

    @router.post(
        "/completions", response_model=responses.TextCompletion, responses={200: {"description": "whole, or as events", "content": stream}}
    )
    async def complete(body: schema.TextRequest, http: Request) -> Response:
        """Continue a text as it stands."""
        return await answering.text(http, body)

    return router


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route can answer besides 200."""
    return {status: {"model": responses.ErrorBody, "description": _REFUSALS[status]} for status in statuses}


def _operations(answering: Answering, state: State) -> APIRouter:
    router = APIRouter()
    unready: dict[int | str, dict[str, Any]] = {503: {"model": responses.Health, "description": "no requests are taken"}}

    @router.get("/health", response_model=responses.Health, responses=unready)
    @router.get("/health/ready", response_model=responses.Health, responses=unready)
    async def ready() -> Response:
        """Whether requests are taken."""
        alive = all(served.engine.alive for served in answering.models.all)
        status = "draining" if state.draining else "ready" if alive else "failed"
        return JSONResponse({"status": status}, HTTPStatus.OK if status == "ready" else HTTPStatus.SERVICE_UNAVAILABLE)

    @router.get("/health/live", response_model=responses.Health, responses=unready)
    async def live() -> Response:
        """Whether the server works at all; one that does not should be started again."""
        alive = all(served.engine.alive for served in answering.models.all)
        return JSONResponse({"status": "alive" if alive else "failed"}, HTTPStatus.OK if alive else HTTPStatus.SERVICE_UNAVAILABLE)

    @router.get("/metrics", response_class=Response, responses={200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}}})
    async def metrics() -> Response:
        """The metrics, as Prometheus reads them."""
        state.metrics.look(answering.models)
        return Response(generate_latest(state.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _handle_errors(api: FastAPI) -> None:
    @api.exception_handler(APIError)
    async def api_error(http: Request, error: APIError) -> Response:
        return _response(http, error)

    @api.exception_handler(TailmarkError)
    async def user_error(http: Request, error: TailmarkError) -> Response:
        return _response(http, refused(error, None))

    @api.exception_handler(RequestValidationError)
    async def malformed(http: Request, error: RequestValidationError) -> Response:
        return _response(http, _malformed(error.errors()))

    @api.exception_handler(HTTPException)
    async def no_route(http: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
        return _response(http, APIError(error.status_code, str(error.detail), code, headers=error.headers or {}))

    @api.exception_handler(Exception)
    async def failure(http: Request, _: Exception) -> Response:
        name = http.state.record.name
        return _response(http, APIError(500, f"The request could not be handled; the server's log says why ({name}).", "failure"))


def _response(http: Request, error: APIError) -> Response:
    http.state.record.about["code"] = error.code
    return JSONResponse(error.body, error.status, dict(error.headers))


def _malformed(errors: Sequence[Mapping[str, Any]]) -> APIError:
    """Say what is wrong with a body; a misspelt field also is a missing one, and its name says more."""
    first = next((item for item in errors if item["type"] == "extra_forbidden"), errors[0])
    if first["type"] in ("json_invalid", "model_attributes_type", "dict_type") and len(first["loc"]) <= 2:
        return APIError(400, "The body is not a JSON object of the known form.", "invalid_json")
    path = [str(part) for part in first["loc"][1:]]
    place = ".".join(path)
    if first["type"] == "extra_forbidden":
        known = set(schema.ChatRequest.model_fields) | set(schema.TextRequest.model_fields)
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.7)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return APIError(400, f"'{place}' is not supported here.{hint}", "unsupported_field", place)
    if first["type"] == "missing":
        return APIError(400, f"'{place}' is missing.", "missing_field", place)
    return APIError(400, f"'{place}' cannot be that: {first['msg'][0].lower()}{first['msg'][1:]}.", "invalid_value", place)


def _document(api: FastAPI) -> None:
    """Take out of the OpenAPI document what FastAPI says of malformed bodies: here they are 400, in OpenAI's shape."""
    write = api.openapi

    def openapi() -> dict[str, Any]:
        document = write()
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        return document

    api.openapi = openapi  # type: ignore[method-assign]
