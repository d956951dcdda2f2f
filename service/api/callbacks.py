"""Callbacks: whom to call, what one call about several tickets brought, and whose time a ticket's time was."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import ConsolidatedCallback, Page, Problem
from service.api.tickets import ABSENT, Limit
from service.core.access import require
from service.usecases import callbacks, legs

router = APIRouter(prefix="/v1", tags=["callbacks"])


@router.get("/callbacks", responses={200: {"model": Page}})
async def get_callbacks(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    today: Annotated[bool, Query(description="without tickets whose enterprise was tried in vain today")] = False,
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
) -> Response:
    """Enterprises to be called, nearest limit first, each with all its tickets: one call for all of them."""
    items, last = await callbacks.queue(house, actor, today=today, after=deps.place_of(cursor), limit=limit)
    return deps.page(request, items, last)


@router.post(
    "/callbacks",
    openapi_extra=deps.documented(ConsolidatedCallback),
    responses={409: {"model": Problem, "description": "Not of one enterprise, or one of them is not to be called."}},
)
async def post_callbacks(request: Request, house: HouseDep, actor: ActorDep) -> Response:
    """One call to one enterprise about several tickets: a result for each, all kept or none."""
    require(actor, "callbacks:act")
    body = await deps.read(request, ConsolidatedCallback)
    call = deps.call_of(request, "POST /v1/callbacks", body.model_dump())
    return deps.respond(await callbacks.record(house, actor, body.model_dump(), call))


@router.get("/tickets/{ticket}/legs", responses=ABSENT)
async def get_legs(ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """Whose time it was: spans without gap or overlap, charged to one each, that add up to the whole exactly."""
    require(actor, "tickets:read")
    return deps.json(await legs.time_split(house, actor, ticket))
