"""What supervisors do: cards, the ladder of supervision, exemptions and appeals against ratings."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import (
    Card,
    ExemptionDecision,
    NewExemption,
    NewSupervision,
    Page,
    Problem,
    RatingAppeal,
    Reason,
    SupervisionAnswer,
    TicketOut,
)
from service.api.tickets import ABSENT, Limit, Responses, Text
from service.core.access import require
from service.core.model import Exemption
from service.core.supervision import Supervision
from service.usecases import supervision

router = APIRouter(prefix="/v1", tags=["supervision"])
WRONG_MOMENT: Responses = {**ABSENT, 409: {"model": Problem, "description": "Not possible in this state."}}
Cursor = Annotated[str | None, Query(max_length=400)]


@router.post(
    "/tickets/{ticket}/cards",
    status_code=201,
    openapi_extra=deps.documented(Card),
    responses={201: {"model": TicketOut}, **WRONG_MOMENT},
)
async def post_card(request: Request, ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """A yellow or red card by hand; answers the ticket. After a red card no extension is granted."""
    require(actor, "supervision:act")
    body = await deps.read(request, Card)
    call = deps.call_of(request, f"POST /v1/tickets/{ticket}/cards", body.model_dump())
    return deps.respond(await supervision.give_card(house, actor, ticket, body.level, body.reason, call))


@router.post(
    "/tickets/{ticket}/supervisions",
    status_code=201,
    openapi_extra=deps.documented(NewSupervision),
    responses=WRONG_MOMENT,
)
async def post_supervision(request: Request, ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """Urge, slip (督办单), listed supervision (挂牌督办), summons (约谈) or report upward; the unit answers for it."""
    require(actor, "supervision:act")
    body = await deps.read(request, NewSupervision)
    call = deps.call_of(request, f"POST /v1/tickets/{ticket}/supervisions", body.model_dump(mode="json"))
    return deps.respond(await supervision.supervise(house, actor, ticket, body.model_dump(), call))


@router.get("/tickets/{ticket}/supervisions", responses={200: {"model": Page}, **ABSENT})
async def get_supervisions_of(ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """A ticket's supervision, oldest first."""
    return deps.json(await supervision.of_ticket(house, actor, ticket, Supervision))


@router.get("/supervisions", responses={200: {"model": Page}})
async def get_supervisions(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    state: Annotated[Literal["open", "answered", "lifted"] | None, Query()] = None,
    kind: Annotated[Literal["urge", "slip", "listed", "summons", "report_upward", "sweep"] | None, Query()] = None,
    department: Text = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Supervision in the caller's sight, newest first; `overdue` says that the answer is late."""
    filters = {"state": state, "kind": kind, "department": deps.plain_text(department, "/department")}
    items, last = await supervision.listed(house, actor, Supervision, filters, deps.place_of(cursor), limit)
    return deps.page(request, items, last)


@router.post("/supervisions/{act}/answer", openapi_extra=deps.documented(SupervisionAnswer), responses=WRONG_MOMENT)
async def post_answer(request: Request, act: str, house: HouseDep, actor: ActorDep) -> Response:
    """The unit that was put under supervision answers for it."""
    require(actor, "supervision:answer")
    body = await deps.read(request, SupervisionAnswer)
    call = deps.call_of(request, f"POST /v1/supervisions/{act}/answer", body.model_dump())
    return deps.respond(await supervision.answer_supervision(house, actor, deps.row_id(act), body.text, call))


@router.post("/supervisions/{act}/lift", openapi_extra=deps.documented(Reason), responses=WRONG_MOMENT)
async def post_lift(request: Request, act: str, house: HouseDep, actor: ActorDep) -> Response:
    """End it, answered or not, with a reason."""
    require(actor, "supervision:act")
    body = await deps.read(request, Reason)
    call = deps.call_of(request, f"POST /v1/supervisions/{act}/lift", body.model_dump())
    return deps.respond(await supervision.lift_supervision(house, actor, deps.row_id(act), body.reason, call))


# --- exemptions --------------------------------------------------------------------------------------------------------


@router.post(
    "/tickets/{ticket}/exemptions",
    status_code=201,
    openapi_extra=deps.documented(NewExemption),
    responses=WRONG_MOMENT,
)
async def post_exemption(request: Request, ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """Ask that the assessment leaves a ticket out (免考): a code, a reason, until when. Somebody else decides."""
    require(actor, "exemptions:ask")
    body = await deps.read(request, NewExemption)
    call = deps.call_of(request, f"POST /v1/tickets/{ticket}/exemptions", body.model_dump(mode="json"))
    return deps.respond(await supervision.ask_exemption(house, actor, ticket, body.model_dump(), call))


@router.post(
    "/tickets/{ticket}/rating_appeals",
    status_code=201,
    openapi_extra=deps.documented(RatingAppeal),
    responses=WRONG_MOMENT,
)
async def post_appeal(request: Request, ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """A unit appeals against a rating (评星复议). Upheld: the figures leave the rating out; it stays as it was given."""
    require(actor, "ratings:appeal")
    body = await deps.read(request, RatingAppeal)
    call = deps.call_of(request, f"POST /v1/tickets/{ticket}/rating_appeals", body.model_dump(mode="json"))
    return deps.respond(await supervision.appeal_rating(house, actor, ticket, body.model_dump(), call))


@router.get("/tickets/{ticket}/exemptions", responses={200: {"model": Page}, **ABSENT})
async def get_exemptions_of(ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """A ticket's exemptions and appeals, oldest first."""
    return deps.json(await supervision.of_ticket(house, actor, ticket, Exemption))


@router.get("/exemptions", responses={200: {"model": Page}})
async def get_exemptions(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    state: Annotated[Literal["pending", "approved", "denied", "revoked"] | None, Query()] = None,
    scope: Annotated[Literal["ticket", "rating"] | None, Query()] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Exemptions (scope ticket) and appeals against ratings (scope rating), newest first."""
    filters: dict[str, str | None] = {"state": state, "scope": scope}
    items, last = await supervision.listed(house, actor, Exemption, filters, deps.place_of(cursor), limit)
    return deps.page(request, items, last)


@router.post(
    "/exemptions/{exemption}/decision", openapi_extra=deps.documented(ExemptionDecision), responses=WRONG_MOMENT
)
async def post_exemption_decision(request: Request, exemption: str, house: HouseDep, actor: ActorDep) -> Response:
    """Approve or deny: a supervisor of no handling unit, never who asked."""
    require(actor, "exemptions:decide")
    body = await deps.read(request, ExemptionDecision)
    call = deps.call_of(request, f"POST /v1/exemptions/{exemption}/decision", body.model_dump(mode="json"))
    return deps.respond(
        await supervision.decide_exemption(
            house, actor, deps.row_id(exemption), body.decision == "approve", body.reason, body.expires_at, call
        )
    )


@router.post("/exemptions/{exemption}/revocation", openapi_extra=deps.documented(Reason), responses=WRONG_MOMENT)
async def post_revocation(request: Request, exemption: str, house: HouseDep, actor: ActorDep) -> Response:
    """Take an approved exemption back; figures told as of an earlier time stay what they were."""
    require(actor, "exemptions:decide")
    body = await deps.read(request, Reason)
    call = deps.call_of(request, f"POST /v1/exemptions/{exemption}/revocation", body.model_dump())
    return deps.respond(await supervision.revoke_exemption(house, actor, deps.row_id(exemption), body.reason, call))
