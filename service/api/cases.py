"""Intake's special cases at the centre's desk: codes that say nothing, firms, sudden clusters, what is confidential, recusal."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import CodeMeaning, Page, Problem, Reason, Recusal, TicketOut
from service.api.tickets import ABSENT, Limit
from service.core.access import require
from service.usecases import confidential, enterprises, incidents, quarantine

router = APIRouter(prefix="/v1", tags=["special cases"])


@router.get("/quarantine", responses={200: {"model": Page}})
async def get_quarantine(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    state: Annotated[Literal["open", "fixed"], Query()] = "open",
    limit: Limit = 50,
    cursor: str | None = None,
) -> Response:
    """Tickets with a code that is not ours (the hotline's catalogue is of another version): their clocks run."""
    require(actor, "quarantine:read")
    items, last = await quarantine.listed(house, actor, state, deps.id_of(cursor), limit)
    return deps.page(request, items, last)


@router.post(
    "/quarantine/{ticket}/fix",
    openapi_extra=deps.documented(CodeMeaning),
    responses={**ABSENT, 409: {"model": Problem, "description": "Nothing of this ticket waits for its meaning."}},
)
async def post_fix(request: Request, ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """Say what the code means; the ticket goes where the rules send it now. `for_all`: also the others that wait for the
    same code, and those to come."""
    require(actor, "quarantine:fix")
    asked = (await deps.read(request, CodeMeaning)).model_dump()
    call = deps.call_of(request, f"POST /v1/quarantine/{ticket}/fix", asked)
    return deps.respond(await quarantine.fix(house, actor, ticket, asked, call))


@router.get("/enterprises", responses={200: {"model": Page}})
async def get_enterprises(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    name: Annotated[str | None, Query(max_length=200, description="a part of a name it has or had")] = None,
    uscc: Annotated[str | None, Query(max_length=18)] = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Response:
    """The register of firms as known from their requests."""
    require(actor, "enterprises:read")
    named, code = deps.plain_text(name, "/name"), deps.plain_text(uscc, "/uscc")
    items, last = await enterprises.listed(house, actor, named, code, deps.id_of(cursor), limit)
    return deps.page(request, items, last)


@router.get("/enterprises/{enterprise}", responses=ABSENT)
async def get_enterprise(enterprise: str, house: HouseDep, actor: ActorDep) -> Response:
    """One firm: its names over time, its parent and branches, what it asked."""
    require(actor, "enterprises:read")
    return deps.json(await enterprises.get(house, actor, deps.row_id(enterprise)))


@router.get("/incidents", responses={200: {"model": Page}})
async def get_incidents(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    state: Annotated[Literal["open", "ended"] | None, Query()] = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Response:
    """Sudden clusters: the same matter from many firms within hours, newest first."""
    require(actor, "incidents:read")
    items, last = await incidents.listed(house, actor, state, deps.id_of(cursor), limit)
    return deps.page(request, items, last)


@router.get("/incidents/{incident}", responses=ABSENT)
async def get_incident(incident: str, house: HouseDep, actor: ActorDep) -> Response:
    """One of them with its tickets."""
    require(actor, "incidents:read")
    return deps.json(await incidents.get(house, actor, deps.row_id(incident)))


@router.post(
    "/tickets/{ticket}/reveal",
    openapi_extra=deps.documented(Reason),
    responses={200: {"model": TicketOut}, **ABSENT},
)
async def post_reveal(request: Request, ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """The whole of a confidential ticket, for a reason; an event of the ticket and an entry of the audit."""
    require(actor, "tickets:reveal")
    body = await deps.read(request, Reason)
    call = deps.call_of(request, f"POST /v1/tickets/{ticket}/reveal", body.model_dump())
    return deps.respond(await confidential.reveal(house, actor, ticket, body.reason, call))


@router.get("/tickets/{ticket}/recusals", responses=ABSENT)
async def get_recusals(ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """Who is kept away from a ticket: units it complains of, persons with a stake."""
    require(actor, "recusals:read")
    return deps.json(await confidential.recusals(house, actor, ticket))


@router.post(
    "/tickets/{ticket}/recusals",
    status_code=201,
    openapi_extra=deps.documented(Recusal),
    responses={**ABSENT, 409: {"model": Problem, "description": "The unit leads: send it to another first."}},
)
async def post_recusal(request: Request, ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """Recuse oneself, or (dispatcher, supervisor) another person or a unit: for them the ticket is not there any more."""
    require(actor, "tickets:act")
    asked = (await deps.read(request, Recusal)).model_dump()
    call = deps.call_of(request, f"POST /v1/tickets/{ticket}/recusals", asked)
    return deps.respond(await confidential.recuse(house, actor, ticket, asked, call))


@router.post("/tickets/{ticket}/recusals/{who}/lift", openapi_extra=deps.documented(Reason), responses=ABSENT)
async def post_lift(request: Request, ticket: str, who: str, house: HouseDep, actor: ActorDep) -> Response:
    """End a recusal: `who` as it is listed, `unit:CODE` or `person:SUBJECT`."""
    require(actor, "tickets:act")
    body = await deps.read(request, Reason)
    call = deps.call_of(request, f"POST /v1/tickets/{ticket}/recusals/{who}/lift", body.model_dump())
    return deps.respond(await confidential.lift(house, actor, ticket, deps.name(who), body.reason, call))
