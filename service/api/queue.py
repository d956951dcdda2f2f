"""What is to be done: the queue, and requests to be decided."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import ApprovalDecision, Instant, Page, Problem
from service.api.tickets import ABSENT, Limit, Text, Words
from service.core.access import require
from service.core.catalogue import Domain
from service.core.model import Phase
from service.core.queue import Filter
from service.usecases import approvals, desk, lists

router = APIRouter(prefix="/v1", tags=["queue"])


def filters(
    department: Text = None,
    phase: Annotated[Phase | None, Query()] = None,
    assignee: Annotated[str | None, Query(max_length=200, description="a person, or `me`")] = None,
    due_before: Annotated[Instant | None, Query()] = None,
    q: Words = None,
    matter: Text = None,
    urgency: Annotated[Literal["normal", "urgent", "emergency"] | None, Query()] = None,
    domain: Annotated[Domain | None, Query()] = None,
    cards: Annotated[Literal["yellow", "red", "slip"] | None, Query(description="tickets that carry one")] = None,
) -> Filter:
    """What of the queue is asked for."""
    return Filter(
        department=deps.plain_text(department, "/department"),
        phase=phase,
        assignee=deps.plain_text(assignee, "/assignee"),
        due_before=due_before,
        q=deps.plain_text(q, "/q"),
        matter=deps.plain_text(matter, "/matter"),
        urgency=urgency,
        domain=domain,
        card=cards,
    )


FilterDep = Annotated[Filter, Depends(filters)]
View = Annotated[str | None, Query(max_length=64, description="id of a saved view; what is said beside it goes first")]


@router.get("/queue", responses={200: {"model": Page}, **ABSENT})
async def get_queue(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    given: FilterDep,
    view: View = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Response:
    """Open tickets of the caller's departments, nearest due first."""
    require(actor, "tickets:read")
    asked = await desk.through(house, actor, deps.row_id(view) if view else None, given)
    items, last = await lists.queue(house, actor, asked, deps.place_of(cursor), limit)
    return deps.page(request, items, last)


@router.get("/queue/counts", responses=ABSENT)
async def get_counts(house: HouseDep, actor: ActorDep, given: FilterDep, view: View = None) -> Response:
    """The same queue in numbers: in all and by phase, overdue, due today and on the next working day, mine, nobody's."""
    require(actor, "tickets:read")
    asked = await desk.through(house, actor, deps.row_id(view) if view else None, given)
    return deps.json(await lists.counts(house, actor, asked))


@router.get("/approvals", responses={200: {"model": Page}})
async def get_approvals(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    state: Annotated[Literal["pending", "approved", "denied", "withdrawn"] | None, Query()] = None,
    kind: Annotated[
        str | None, Query(max_length=40, description="return, extension, pause, planned, … as the workflow names them")
    ] = None,
    on_behalf_of: Annotated[str | None, Query(max_length=200, description="whose deputy the caller is")] = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Response:
    """Requests that somebody else decides, oldest first."""
    items, last = await approvals.pending(
        house,
        actor,
        state,
        deps.plain_text(kind, "/kind"),
        deps.place_of(cursor),
        limit,
        deps.plain_text(on_behalf_of, "/on_behalf_of"),
    )
    return deps.page(request, items, last)


@router.post(
    "/approvals/{approval}/decision",
    openapi_extra=deps.documented(ApprovalDecision),
    responses={**ABSENT, 409: {"model": Problem, "description": "Decided already."}},
)
async def post_decision(request: Request, approval: str, house: HouseDep, actor: ActorDep) -> Response:
    """Approve or deny; nobody decides his or her own request."""
    body = await deps.read(request, ApprovalDecision)
    call = deps.call_of(request, f"POST /v1/approvals/{approval}/decision", body.model_dump())
    approve = body.decision == "approve"
    return deps.respond(
        await approvals.decide(house, actor, deps.row_id(approval), approve, body.reason, call, body.on_behalf_of)
    )
