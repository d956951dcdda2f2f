"""What the hotline asks besides posting a ticket: many at once, every later change, a day's account, corrections."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.api import batch, deps
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import Correction, NewReceiver, Page, Problem, Replay
from service.api.tickets import ABSENT, Limit
from service.core.access import require
from service.core.errors import Invalid
from service.usecases import feed, receivers, sources
from service.usecases.feed import START, Place

router = APIRouter(prefix="/v1", tags=["hotline"])
_TYPE = re.compile(r"[a-z_]+(\.[a-z_]+)*(\.\*)?")
MOST_TYPES = 50
LATEST = "latest"
NDJSON = {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}


@router.post(
    "/tickets/batch",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/x-ndjson": {
                    "schema": {"type": "string", "description": "one NewTicket a line"},
                    "example": '{"source": {"system": "jn12345", "reference": "1"}, "title": "…", "description": "…", '
                    '"enterprise": {"name": "…"}}\n',
                }
            },
        }
    },
    responses={200: {**NDJSON, "description": "A line for each: line, status, id and number, or problem."}},
)
async def post_batch(request: Request, house: HouseDep, actor: ActorDep) -> Response:
    """Many requests, one a line, of any length; answered line by line while they are read. Each line is taken or refused
    by itself. Safe to repeat as a whole: by (source.system, source.reference), and by Idempotency-Key with the line."""
    require(actor, "tickets:write")
    batch.check_kind(request)
    return batch.Batch(house, actor, request, deps.call_of(request, batch.ROUTE, None).key)


@router.get("/events", responses={200: {"model": Page}})
async def get_events(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    after: Annotated[str | None, Query(max_length=200, description="a next_cursor, or `latest`")] = None,
    types: Annotated[str | None, Query(max_length=2000, description="ticket.opened,approval.*; default: all")] = None,
    limit: Limit = 100,
) -> Response:
    """Events of the tickets the caller may see, as CloudEvents 1.0: in order per ticket, none left out. `next_cursor` is
    always there: ask again with it, at once while `more` is true."""
    require(actor, "events:read")
    wanted = [t.strip() for t in types.split(",") if t.strip()] if types else []
    if len(wanted) > MOST_TYPES or not all(_TYPE.fullmatch(t) for t in wanted):
        raise Invalid.field("/types", "expected types such as ticket.opened or ticket.*, parted by commas")
    start = None if after == LATEST else _place(after, "/after") or START
    items, place, more = await feed.events(house, actor, start, wanted, limit)
    return deps.json({"items": items, "next_cursor": deps.encode_cursor(place), "more": more})


def _place(cursor: str | None, pointer: str) -> Place | None:
    """A place of the feed from its cursor."""
    wrong = Invalid.field(pointer, "expected the next_cursor of an earlier answer of GET /v1/events")
    try:
        place = deps.decode_cursor(cursor)
    except Invalid:
        raise wrong from None
    if place is None:
        return None
    if not (isinstance(place, list) and len(place) == 2 and all(type(n) is int and 0 <= n < 2**53 for n in place)):
        raise wrong
    return place[0], min(place[1], feed.WHOLE)


@router.post(
    "/webhooks",
    status_code=201,
    openapi_extra=deps.documented(NewReceiver),
    responses={
        201: {"description": "The receiver with its `secret`, which is not shown again."},
        409: {"model": Problem, "description": "This client has as many receivers as it may."},
        422: {"model": Problem, "description": "A field is wrong, or the operator does not allow the address."},
    },
)
async def post_receiver(request: Request, house: HouseDep, actor: ActorDep) -> Response:
    """Register a receiver of events, within the operator's list (JIEBAN_WEBHOOK_RECEIVERS). Messages are signed as
    Standard Webhooks, sent at least once, in order per ticket; one that is not taken is tried again for three days."""
    require(actor, "webhooks:write")
    asked = (await deps.read(request, NewReceiver)).model_dump()
    call = deps.call_of(request, "POST /v1/webhooks", asked)
    return deps.respond(
        await receivers.register(house, actor, {**asked, "after": _place(asked["after"], "/after")}, call)
    )


@router.get("/webhooks", responses={200: {"model": Page}})
async def get_receivers(
    request: Request, house: HouseDep, actor: ActorDep, limit: Limit = 50, cursor: str | None = None
) -> Response:
    """The caller's receivers: how far behind each is, and what was wrong last. Secrets are not shown."""
    items, last = await receivers.listed(house, actor, deps.id_of(cursor), limit)
    return deps.page(request, items, last)


@router.get("/webhooks/{receiver}", responses=ABSENT)
async def get_receiver(receiver: str, house: HouseDep, actor: ActorDep) -> Response:
    require(actor, "webhooks:write")
    return deps.json(await receivers.get(house, actor, deps.row_id(receiver)))


@router.delete("/webhooks/{receiver}", status_code=204, responses=ABSENT)
async def delete_receiver(receiver: str, house: HouseDep, actor: ActorDep) -> Response:
    """Nothing more is sent there, and its secret is forgotten."""
    require(actor, "webhooks:write")
    await receivers.remove(house, actor, deps.row_id(receiver))
    return Response(status_code=204)


@router.post("/webhooks/{receiver}/replay", openapi_extra=deps.documented(Replay), responses=ABSENT)
async def post_replay(request: Request, receiver: str, house: HouseDep, actor: ActorDep) -> Response:
    """Go on where a stopped receiver stood, or send again from a cursor of GET /v1/events."""
    require(actor, "webhooks:write")
    asked = await deps.read(request, Replay)
    call = deps.call_of(request, f"POST /v1/webhooks/{receiver}/replay", asked.model_dump())
    place = _place(asked.after, "/after")
    return deps.respond(await receivers.replay(house, actor, deps.row_id(receiver), place, call))


@router.get("/reconciliation", responses={200: {"model": Page}})
async def get_reconciliation(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    system: Annotated[str, Query(min_length=1, max_length=64)],
    date: Annotated[date, Query(description="the day by the source's time of receipt, in the city's zone")],
    limit: Annotated[int, Query(ge=1, le=sources.MOST_REFERENCES)] = sources.MOST_REFERENCES,
    cursor: str | None = None,
) -> Response:
    """A day of one source: count, digest (SHA-256 of the references in the order of their bytes, a newline after each),
    and each reference with its number, stage and last event."""
    require(actor, "reconciliation:read")
    after = deps.decode_cursor(cursor)
    if after is not None and (not isinstance(after, str) or "\x00" in after):
        raise Invalid.field("/cursor", "expected the next_cursor of an earlier answer")
    if not 1970 <= date.year <= 2100:
        raise Invalid.field("/date", "expected a day between 1970 and 2100")
    body, last = await sources.reconciliation(
        house, actor, deps.plain_text(system, "/system") or "", date, after, limit
    )
    return deps.page(request, body.pop("items"), last, **body)


@router.post(
    "/tickets/{ticket}/corrections",
    openapi_extra=deps.documented(Correction),
    responses={**ABSENT, 409: {"model": Problem, "description": "This sequence number came with other content."}},
)
async def post_correction(request: Request, ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """The request as it should read, with a sequence number. One overtaken by a later one is kept and not applied."""
    require(actor, "tickets:write")
    body = (await deps.read(request, Correction)).as_posted()
    call = deps.call_of(request, f"POST /v1/tickets/{ticket}/corrections", body)
    return deps.respond(await sources.correct(house, actor, ticket, body, call))


@router.get("/tickets/{ticket}/corrections", responses={200: {"model": Page}, **ABSENT})
async def get_corrections(ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """The corrections that came, by sequence number."""
    require(actor, "tickets:write")
    return deps.json({"items": await sources.versions(house, actor, ticket), "next_cursor": None})
