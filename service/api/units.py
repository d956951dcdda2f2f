"""Units that change, people who go, who is on duty."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import Instant, Leaving, NewDuty, Page, Problem, UnitChange
from service.api.tickets import ABSENT, Limit, Text
from service.core.access import require
from service.usecases import units

router = APIRouter(prefix="/v1", tags=["units and people"])
Code = Annotated[str, Path(max_length=64)]
Moment = Annotated[Instant | None, Query()]


@router.post(
    "/departments/{code}/changes",
    status_code=202,
    openapi_extra=deps.documented(UnitChange),
    responses={**ABSENT, 409: {"model": Problem, "description": "The unit is no more already."}},
)
async def post_change(request: Request, code: Code, house: HouseDep, actor: ActorDep) -> Response:
    """A unit is renamed, abolished or merged into another. Nothing is sent there any more at once; its open tickets move
    to the successor in the background, with their history. Reports of the past keep the old name."""
    require(actor, "units:change")
    asked = (await deps.read(request, UnitChange)).model_dump()
    call = deps.call_of(request, f"POST /v1/departments/{code}/changes", asked)
    return deps.respond(await units.change(house, actor, deps.name(code), asked, call))


@router.get("/departments/{code}/changes", responses={200: {"model": Page}, **ABSENT})
async def get_changes(code: Code, house: HouseDep, actor: ActorDep) -> Response:
    """What became of a unit, and how far its tickets are: done of total, and those that could not be moved with why."""
    require(actor, "units:change")
    return deps.json({"items": await units.changes(house, actor, deps.name(code)), "next_cursor": None})


@router.post("/users/{subject}/leave", openapi_extra=deps.documented(Leaving))
async def post_leave(
    request: Request, subject: Annotated[str, Path(max_length=200)], house: HouseDep, actor: ActorDep
) -> Response:
    """Somebody is gone: what he or she has in hand goes to another, or back to the units' queues. Safe to repeat."""
    require(actor, "users:leave")
    asked = (await deps.read(request, Leaving)).model_dump()
    return deps.json(await units.leave(house, actor, deps.name(subject), asked))


@router.get("/rosters", responses={200: {"model": Page}})
async def get_rosters(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    department: Text = None,
    at: Annotated[Instant | None, Query(description="who is on duty at this instant")] = None,
    from_: Annotated[Instant | None, Query(alias="from")] = None,
    to: Moment = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Response:
    """Who is on duty for which unit, when: nights, holidays. `city`: for units that have nobody."""
    require(actor, "units:read")
    unit = deps.plain_text(department, "/department")
    items, last = await units.duties(house, actor, unit, at, from_, to, deps.id_of(cursor), limit)
    return deps.page(request, items, last)


@router.post("/rosters", status_code=201, openapi_extra=deps.documented(NewDuty))
async def post_duty(request: Request, house: HouseDep, actor: ActorDep) -> Response:
    """Put somebody on the roster. Who is on duty gets a notice of each emergency sent to the unit meanwhile."""
    require(actor, "rosters:write")
    asked = (await deps.read(request, NewDuty)).model_dump()
    return deps.respond(await units.add_duty(house, actor, asked, deps.call_of(request, "POST /v1/rosters", asked)))


@router.delete("/rosters/{duty}", status_code=204, responses=ABSENT)
async def delete_duty(duty: str, house: HouseDep, actor: ActorDep) -> Response:
    require(actor, "rosters:write")
    await units.remove_duty(house, actor, deps.row_id(duty))
    return Response(status_code=204)
