"""The test clock of a sandbox. These routes do not exist unless JIEBAN_SANDBOX=1 at start."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import Advance
from service.core.errors import Invalid
from service.usecases import clocks

router = APIRouter(prefix="/v1/sandbox", tags=["sandbox"])


@router.get("/clock")
async def get_clock(house: HouseDep, actor: ActorDep) -> Response:
    return deps.json(await clocks.sandbox_now(house, actor))


@router.post("/clock", openapi_extra=deps.documented(Advance))
async def post_clock(request: Request, house: HouseDep, actor: ActorDep) -> Response:
    """Move the clock forward; every timer due on the way has had its effect when this answers."""
    body = await deps.read(request, Advance)
    if (body.advance_to is None) == (body.advance_by is None):
        raise Invalid.field("", "expected exactly one of advance_to and advance_by")
    if body.advance_by is not None and body.advance_by.total_seconds() < 0:
        raise Invalid.field("/advance_by", "expected a positive duration such as PT4H")
    answer = await clocks.advance(house, actor, body.advance_to, body.advance_by)
    house.ring()
    return deps.json(answer)
