"""The hotline's door."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import NewTicket, Problem, TicketOut
from service.core.access import require
from service.usecases import intake

router = APIRouter(tags=["hotline"])
ROUTE = "POST /v1/tickets"


@router.post(
    "/v1/tickets",
    status_code=201,
    openapi_extra=deps.documented(NewTicket),
    responses={
        200: {"model": TicketOut, "description": "This source reference is known with the same content."},
        201: {"model": TicketOut, "description": "A new ticket; Location names it."},
        409: {"model": Problem, "description": "The reference is known with other content, or is being worked on."},
        422: {"model": Problem, "description": "A field is wrong, or the Idempotency-Key came with another body."},
    },
)
async def post_ticket(request: Request, house: HouseDep, actor: ActorDep) -> Response:
    """Take one request. Safe to repeat: by Idempotency-Key, and by (source.system, source.reference) for ever."""
    require(actor, "tickets:write")
    body = (await deps.read(request, NewTicket)).as_posted()
    call = deps.call_of(request, ROUTE, body)
    return deps.respond(await intake.accept(house, actor, body, call))
