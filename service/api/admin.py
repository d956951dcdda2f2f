"""Definitions to read, calculators, tokens for machines, health and metrics."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic_core import to_json

from service.api import deps, errors, gauges
from service.api.deps import ActorDep, HouseDep
from service.api.errors import PROBLEMS
from service.api.schemas import RoutingTry, WorkflowToCheck
from service.core.access import require
from service.core.errors import NotFound
from service.core.routing import Request as RoutingRequest
from service.db.session import Unavailable
from service.usecases import folders, identity, operation, publishing

router = APIRouter(tags=["configuration and operation"])


@router.post("/v1/workflows/check", openapi_extra=deps.documented(WorkflowToCheck))
async def check_workflow(request: Request, house: HouseDep, actor: ActorDep) -> Response:
    """Prove a workflow, or tell every fault with its line, path and the shortest way to it. Nothing is published."""
    require(actor, "definitions:check")
    body = await deps.read(request, WorkflowToCheck)
    checked = await asyncio.to_thread(publishing.check_plain, house, body.workflow)
    if checked.errors:
        first = checked.errors[0]
        first.extra["errors"] = [errors.told(error) for error in checked.errors[:50]]
        raise first
    return deps.json(folders.told(checked))


@router.get("/v1/departments")
async def get_departments(house: HouseDep, actor: ActorDep) -> Response:
    require(actor, "definitions:read")
    return deps.json({"items": list(house.rules.departments.values()), "next_cursor": None})


@router.get("/v1/matters")
async def get_matters(house: HouseDep, actor: ActorDep) -> Response:
    require(actor, "definitions:read")
    return deps.json({"items": list(house.rules.matters.values()), "next_cursor": None})


@router.post("/v1/routing/try", openapi_extra=deps.documented(RoutingTry))
async def try_routing(request: Request, house: HouseDep, actor: ActorDep) -> Response:
    """Where a request would go, and what each rule said of it. Nothing is stored."""
    require(actor, "definitions:read")
    body = await deps.read(request, RoutingTry)
    enterprise, location = body.enterprise, body.location
    asked = RoutingRequest(
        title=body.title,
        description=body.description,
        domain=body.domain,
        matter=body.matter if body.matter in house.rules.matters else None,
        district=(location.district if location else None) or (enterprise.district if enterprise else None),
        industry=enterprise.industry if enterprise else None,
        tier=enterprise.tier if enterprise else None,
        urgency=body.urgency,
    )
    return deps.json(operation.try_routing(house, asked))


@router.post("/v1/oauth/token")
async def post_token(request: Request, house: HouseDep) -> Response:
    """Client credentials (RFC 6749, section 4.4), as a form or as HTTP Basic."""
    form = await deps.token_form(request)
    issuer = request.app.state.issuer
    if issuer is None:
        raise NotFound("Tokens come from the city's identity provider; the built-in issuer is switched off.")
    answer = await identity.client_token(house, issuer, **form)
    return Response(to_json(answer), 200, {"Cache-Control": "no-store"}, media_type="application/json")


@router.get("/v1/oauth/jwks")
async def get_keys(request: Request) -> Response:
    """Public keys of the built-in issuer."""
    issuer = request.app.state.issuer
    return deps.json(issuer.keys() if issuer is not None else {"keys": []})


@router.get("/problems/{slug}", include_in_schema=False)
async def get_problem(slug: str) -> Response:
    """What a problem type means, and what to do about it."""
    if slug not in PROBLEMS:
        raise NotFound("There is no such problem type.")
    status, zh, what = PROBLEMS[slug]
    return HTMLResponse(f"<!doctype html><title>{slug}</title><h1>{slug} ({status})</h1><p>{zh}</p><p>{what}</p>")


@router.get("/livez", include_in_schema=False)
@router.get("/healthz", response_class=PlainTextResponse)
async def healthz() -> Response:
    """The process answers; asks nothing of the database."""
    return PlainTextResponse("ok\n")


@router.get("/readyz")
async def readyz(request: Request, house: HouseDep) -> Response:
    """Ready to take requests: the database answers and timers are not far behind. Redis may be gone (degraded)."""
    state: dict[str, Any] = await operation.readiness(house)
    state["redis"] = "ok" if request.app.state.bell.reachable else "degraded: wake-ups are lost, timers still fire"
    if not state["ready"]:
        raise Unavailable("Not ready: " + "; ".join(f"{k}: {v}" for k, v in state.items()))
    return deps.json(state)


@router.get("/metrics", include_in_schema=False)
async def metrics(house: HouseDep) -> Response:
    """What this process counted, and what stands in the database: timers, outbox, pumps."""
    try:
        stored = gauges.exposed(await operation.measured(house))
    except Unavailable:
        stored = b""  # the counters of this process are worth having all the more
    return Response(generate_latest() + stored, media_type=CONTENT_TYPE_LATEST)
