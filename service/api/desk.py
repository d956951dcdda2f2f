"""Saved views of the queue, and texts to begin with."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import NewTemplate, NewView, Page, Problem
from service.api.tickets import ABSENT, Responses, Text
from service.core.access import require
from service.core.queue import Filter
from service.usecases import desk

router = APIRouter(prefix="/v1", tags=["desk"])
FULL: Responses = {409: {"model": Problem, "description": "As many are kept as there may be."}}


@router.get("/views", responses={200: {"model": Page}})
async def get_views(house: HouseDep, actor: ActorDep) -> Response:
    """The caller's own views and those of his or her units. `GET /v1/queue?view=ID` looks through one."""
    require(actor, "tickets:read")
    return deps.json({"items": await desk.saved_views(house, actor), "next_cursor": None})


@router.post("/views", status_code=201, openapi_extra=deps.documented(NewView), responses=FULL)
async def post_view(request: Request, house: HouseDep, actor: ActorDep) -> Response:
    """Keep filters of the queue under a name; the same name again replaces them."""
    require(actor, "tickets:read")
    body = await deps.read(request, NewView)
    call = deps.call_of(request, "POST /v1/views", body.model_dump(mode="json"))
    given = body.filters.model_dump()
    filters = Filter(**{**{k: v for k, v in given.items() if k != "cards"}, "card": given["cards"]})
    return deps.respond(await desk.save_view(house, actor, body.name, body.department, filters, call))


@router.delete("/views/{view}", status_code=204, responses=ABSENT)
async def delete_view(view: str, house: HouseDep, actor: ActorDep) -> Response:
    """Only one's own."""
    require(actor, "tickets:read")
    await desk.delete_view(house, actor, deps.row_id(view))
    return Response(status_code=204)


@router.get("/templates", responses={200: {"model": Page}, **ABSENT})
async def get_templates(
    house: HouseDep,
    actor: ActorDep,
    action: Text = None,
    ticket: Annotated[str | None, Query(max_length=64, description="put in what is known of this ticket")] = None,
) -> Response:
    """Texts to begin with: the city's, then those of the caller's units."""
    require(actor, "templates:read")
    items = await desk.templates(house, actor, deps.plain_text(action, "/action"), ticket)
    return deps.json({"items": items, "next_cursor": None})


@router.post("/templates", status_code=201, openapi_extra=deps.documented(NewTemplate), responses=FULL)
async def post_template(request: Request, house: HouseDep, actor: ActorDep) -> Response:
    """A text of a unit's own."""
    require(actor, "templates:write")
    body = await deps.read(request, NewTemplate)
    call = deps.call_of(request, "POST /v1/templates", body.model_dump())
    return deps.respond(await desk.add_template(house, actor, body.model_dump(), call))


@router.put("/templates/{template}", openapi_extra=deps.documented(NewTemplate), responses=ABSENT)
async def put_template(request: Request, template: str, house: HouseDep, actor: ActorDep) -> Response:
    """Write a unit's text anew."""
    require(actor, "templates:write")
    body = await deps.read(request, NewTemplate)
    return deps.respond(await desk.change_template(house, actor, deps.row_id(template), body.model_dump()))


@router.delete("/templates/{template}", status_code=204, responses=ABSENT)
async def delete_template(template: str, house: HouseDep, actor: ActorDep) -> Response:
    """Take a unit's text away."""
    require(actor, "templates:write")
    await desk.delete_template(house, actor, deps.row_id(template))
    return Response(status_code=204)
