"""What a client or a page can ask about this deployment, and the playground page."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse, Response

from tailmark.serve import responses
from tailmark.serve.answering import Answering
from tailmark.serve.asking import Asking
from tailmark.serve.models import Served

_PAGE_MAY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def about(answering: Answering, *, baseline_missing: str | None, guard: list[Any], refusals: dict[int | str, dict[str, Any]]) -> APIRouter:
    """Routes that say what is served.

    Args:
        baseline_missing: why no baseline is served beside the model (None: one is).
        guard: dependencies of routes that a key protects.
        refusals: what they can answer besides 200.
    """
    router = APIRouter(prefix="/v1", dependencies=guard, responses=refusals)
    models, asking = answering.models, answering.asking

    @router.get("/models")
    async def list_models() -> responses.ModelList:
        """What is served."""
        return responses.ModelList(object="list", data=[_card(served) for served in models.all])

    @router.get("/models/{name}")
    async def one_model(name: str) -> responses.ModelCard:
        """One of them."""
        return _card(models.named(name))

    @router.get("/taxonomy")
    async def taxonomy() -> responses.TaxonomyCard:
        """Markers, values, modes and limits: what a request can ask for."""
        served = models.named(asking.options.name)
        listed = [item.name for item in models.all]
        return _taxonomy(served, asking, "baseline" if "baseline" in listed else None, baseline_missing)

    return router


def add_playground(api: FastAPI) -> None:
    """Serve the page, where the package has it."""
    page = files("tailmark.serve").joinpath("playground.html")
    if not page.is_file():
        return

    @api.get("/", include_in_schema=False)
    async def playground() -> Response:
        headers = {"content-security-policy": _PAGE_MAY, "referrer-policy": "no-referrer", "cache-control": "no-cache"}
        return HTMLResponse(page.read_bytes(), headers=headers)


def _card(served: Served) -> responses.ModelCard:
    return responses.ModelCard(
        id=served.name, object="model", created=served.since, owned_by="tailmark", arm=served.info.arm, version=served.version
    )


def _taxonomy(served: Served, asking: Asking, baseline: str | None, baseline_missing: str | None) -> responses.TaxonomyCard:
    options, allowed, defaults = asking.options, asking.allowed(served), asking.defaults(served)
    markers = []
    for name in served.info.markers:
        spec = served.taxonomy.spec(name)
        markers.append(
            responses.MarkerCard(
                name=name,
                kind=spec.kind,
                definition=spec.definition,
                values=dict(spec.values),
                minimum=spec.minimum,
                maximum=spec.maximum,
                applies_to={other: list(values) for other, values in spec.applies_to.items()},
                allowed=name in allowed,
                default=defaults.get(name),
            )
        )
    return responses.TaxonomyCard(
        model=served.name,
        version=served.version,
        baseline=baseline,
        baseline_missing=baseline_missing,
        taxonomy=responses.TaxonomyName(name=served.taxonomy.name, version=served.taxonomy.version),
        markers=markers,
        modes=asking.modes(served),
        mode=options.mode,
        constrained=responses.Constraint(available="constrained" in served.engine.listings, default=asking.constrained(served)),
        max_new_tokens=responses.NewTokenLimits(default=asking.usual_tokens, most=options.max_new_tokens),
    )
