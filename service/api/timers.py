"""What the engine has to tell: notices, and timers that need somebody."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import Page, Problem, Reason
from service.api.tickets import ABSENT, Limit
from service.usecases import notices, timers

router = APIRouter(prefix="/v1", tags=["timers and notices"])


@router.get("/notices", responses={200: {"model": Page}})
async def get_notices(
    request: Request, house: HouseDep, actor: ActorDep, limit: Limit = 50, cursor: str | None = None
) -> Response:
    """What the caller was told: by role, a handler by department; newest first."""
    items, last = await notices.mine(house, actor, deps.id_of(cursor), limit)
    return deps.page(request, items, last)


@router.get("/timers", responses={200: {"model": Page}})
async def get_timers(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    state: Annotated[
        Literal["due", "aside", "dead"],
        Query(description="due and not fired yet; aside: failed and tried again later; dead: given up"),
    ] = "dead",
    limit: Limit = 50,
    cursor: str | None = None,
) -> Response:
    """Timers in one state, the longest in it first."""
    items, last = await timers.listed(house, actor, state, deps.place_of(cursor), limit)
    return deps.page(request, items, last)


@router.post(
    "/timers/{clock}/requeue",
    responses={**ABSENT, 409: {"model": Problem, "description": "Nothing stands against it, or it still cannot fire."}},
)
async def post_requeue(request: Request, clock: str, house: HouseDep, actor: ActorDep) -> Response:
    """Project a timer that was set aside or given up anew, and let it fire again. Kept in the audit."""
    call = deps.call_of(request, f"POST /v1/timers/{clock}/requeue", {})
    return deps.respond(await timers.requeue(house, actor, deps.row_id(clock), call))


@router.post("/timers/gate/release", openapi_extra=deps.documented(Reason))
async def post_release(request: Request, house: HouseDep, actor: ActorDep) -> Response:
    """The database's clock is right as it is: timers that the clock gate holds fire again. Kept in the audit."""
    body = await deps.read(request, Reason)
    call = deps.call_of(request, "POST /v1/timers/gate/release", body.model_dump())
    return deps.respond(await timers.release(house, actor, body.reason, call))
