"""Tickets: look, act, ask why."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.api import deps
from service.api.calendars import Form, Language, told
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import ManyTickets, Page, Problem, Reason, TicketOut
from service.core.access import require
from service.core.errors import Invalid
from service.core.workflow import JOINING
from service.usecases import joining, lists, repeats, tickets

router = APIRouter(prefix="/v1", tags=["tickets"])
Limit = Annotated[int, Query(ge=1, le=200)]
Text = Annotated[str | None, Query(max_length=200)]
Words = Annotated[
    str | None,
    Query(max_length=200, description="words of text, number, reference, enterprise or credit code; all of them count"),
]
Responses = dict[int | str, dict[str, Any]]
ABSENT: Responses = {404: {"model": Problem, "description": "Absent, or not yours to see."}}
ACTED: Responses = {
    200: {"model": TicketOut},
    **ABSENT,
    409: {"model": Problem, "description": "Not possible now; `stage` and `actions` say what is."},
    412: {"model": Problem, "description": "If-Match names an older version."},
    422: {"model": Problem, "description": "The form is not as expected."},
}
FORM = {"type": "object", "description": "The action's form: GET /v1/tickets/{id}/actions gives its JSON Schema."}


@router.get("/tickets", responses={200: {"model": Page}})
async def list_tickets(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    phase: Text = None,
    domain: Text = None,
    department: Text = None,
    outcome: Annotated[str | None, Query(max_length=200, description="how it ended, such as `withdrawn`")] = None,
    source_system: Text = None,
    source_reference: Text = None,
    q: Words = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Response:
    """Tickets the caller may see, newest first. With `q` a page may be short and still have a next one."""
    require(actor, "tickets:read")
    asked = {"phase": phase, "domain": domain, "lead": department, "outcome": outcome,
             "source_system": source_system, "source_reference": source_reference}  # fmt: skip
    filters = {column: deps.plain_text(value, f"/{column}") for column, value in asked.items()}
    items, last = await lists.tickets(house, actor, filters, deps.plain_text(q, "/q"), deps.id_of(cursor), limit)
    return deps.page(request, items, last)


@router.get("/tickets/{ticket}", responses={200: {"model": TicketOut}, **ABSENT})
async def get_ticket(ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """One ticket, by id or number."""
    require(actor, "tickets:read")
    return deps.respond(await tickets.get(house, actor, ticket))


@router.get("/tickets/{ticket}/events", responses={200: {"model": Page}, **ABSENT})
async def get_events(
    request: Request, ticket: str, house: HouseDep, actor: ActorDep, limit: Limit = 100, cursor: str | None = None
) -> Response:
    """The ticket's history, oldest first; numbered without gaps and hash-chained."""
    require(actor, "tickets:read")
    after = deps.decode_cursor(cursor)
    after = 0 if after is None else after
    if type(after) is not int or not 0 <= after < 2**31:
        raise Invalid.field("/cursor", "expected the next_cursor of an earlier answer")
    items, more = await tickets.history(house, actor, ticket, after, limit)
    return deps.page(request, items, items[-1]["seq"] if more else None)


@router.get("/tickets/{ticket}/similar", responses={200: {"model": Page}, **ABSENT})
async def get_similar(ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """What the same enterprise said much like this: how alike, why, and what is proposed, ready to be sent."""
    require(actor, "tickets:read")
    return deps.json({"items": await repeats.similar(house, actor, ticket), "next_cursor": None})


@router.get("/tickets/{ticket}/actions", responses={200: {"model": Page}, **ABSENT})
async def get_actions(ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """What this caller may do now, each with the JSON Schema of its form."""
    require(actor, "tickets:read")
    return deps.json(await tickets.possible_actions(house, actor, ticket))


@router.get("/tickets/{ticket}/clocks/{clock}/explanation", responses=ABSENT)
async def get_explanation(
    ticket: str, clock: str, house: HouseDep, actor: ActorDep, format: Form = "json", lang: Language = "zh"
) -> Response:
    """Why this clock is due when it is: each interval that counted, each day that did not, sums exact."""
    require(actor, "tickets:read")
    return told(await tickets.explanation(house, actor, ticket, clock), format, lang)


@router.post("/tickets/{ticket}/actions/{action}", responses=ACTED, openapi_extra=deps.documented(FORM))
async def post_action(request: Request, ticket: str, action: str, house: HouseDep, actor: ActorDep) -> Response:
    """Do one action of the ticket's workflow; answers the ticket."""
    require(actor, "tickets:act")
    form = await deps.read_form(request)
    call = deps.call_of(request, f"POST /v1/tickets/{ticket}/actions/{action}", form)
    if_match = request.headers.get("if-match")
    carry_out = joining.act if action in JOINING else tickets.act
    return deps.respond(await carry_out(house, actor, ticket, action, form, call, if_match))


HOTLINE_MESSAGES = {"urges": "urge", "amendments": "amend", "withdrawal": "withdraw", "callbacks": "record_callback"}
"""What the hotline posts about a ticket -> the action of the workflow that it is."""


@router.post("/tickets/{ticket}/urges", responses=ACTED, openapi_extra=deps.documented(FORM))
@router.post("/tickets/{ticket}/amendments", responses=ACTED, openapi_extra=deps.documented(FORM))
@router.post("/tickets/{ticket}/withdrawal", responses=ACTED, openapi_extra=deps.documented(FORM))
@router.post("/tickets/{ticket}/callbacks", responses=ACTED, openapi_extra=deps.documented(FORM))
async def post_hotline_message(request: Request, ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """A repeat call, an addition, a withdrawal or a callback's result: the same as the action of that meaning."""
    message = request.url.path.rpartition("/")[2]
    return await post_action(request, ticket, HOTLINE_MESSAGES[message], house, actor)


@router.post("/tickets/{ticket}/contact/reveal", responses=ABSENT, openapi_extra=deps.documented(Reason))
async def reveal_contact(request: Request, ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """The whole contact, for a reason; each reveal is an event of the ticket."""
    body = await deps.read(request, Reason)
    return deps.json(await tickets.reveal_contact(house, actor, ticket, body.reason))


@router.post("/queue/actions/{action}", openapi_extra=deps.documented(ManyTickets))
async def post_action_on_many(request: Request, action: str, house: HouseDep, actor: ActorDep) -> Response:
    """The same action on many tickets; a result for each, in order."""
    require(actor, "tickets:act")
    body = await deps.read(request, ManyTickets)
    call = deps.call_of(request, f"POST /v1/queue/actions/{action}", body.model_dump())
    return deps.json({"results": await tickets.act_on_many(house, actor, body.ids, action, body.form, call)})
