"""Dispatch: how first dispatches turned out, and rulings written back into the catalogue."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import NewProposal, Page, Problem, ProposalDecision
from service.api.tickets import ABSENT, Limit
from service.core.access import require
from service.usecases import routing

router = APIRouter(prefix="/v1", tags=["routing"])


@router.get("/reports/routing")
async def get_accuracy(
    house: HouseDep,
    actor: ActorDep,
    from_: Annotated[str | None, Query(alias="from", max_length=40, description="a date or an instant")] = None,
    to: Annotated[str | None, Query(max_length=40, description="a date (included) or an instant (excluded)")] = None,
    as_of: Annotated[str | None, Query(max_length=40)] = None,
) -> Response:
    """First-dispatch accuracy by rule, unit and week: a dispatch was wrong if a ruling sent the ticket elsewhere."""
    return deps.json(await routing.accuracy(house, actor, start=from_, end=to, as_of=as_of))


@router.post(
    "/routing/proposals",
    status_code=201,
    openapi_extra=deps.documented(NewProposal),
    responses={**ABSENT, 409: {"model": Problem, "description": "No ruling, or a proposal from this ticket is open."}},
)
async def post_proposal(request: Request, house: HouseDep, actor: ActorDep) -> Response:
    """Propose words that tell the right unit, from a ruling; `routes` says what it would change for this ticket."""
    require(actor, "routing:propose")
    body = await deps.read(request, NewProposal)
    call = deps.call_of(request, "POST /v1/routing/proposals", body.model_dump())
    return deps.respond(await routing.propose(house, actor, body.model_dump(), call))


@router.get("/routing/proposals", responses={200: {"model": Page}})
async def get_proposals(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    state: Annotated[Literal["open", "accepted", "refused"] | None, Query()] = None,
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
) -> Response:
    """Proposals, newest first; `rule` is what acceptance adds to the catalogue."""
    items, last = await routing.proposals(house, actor, state, deps.id_of(cursor), limit)
    return deps.page(request, items, last)


@router.post(
    "/routing/proposals/{proposal}/decision",
    openapi_extra=deps.documented(ProposalDecision),
    responses={**ABSENT, 409: {"model": Problem, "description": "It is decided already, or the catalogue refuses it."}},
)
async def post_decision(request: Request, proposal: str, house: HouseDep, actor: ActorDep) -> Response:
    """Accept: a new version of the catalogue has the rule. Refuse: with a reason. Not by who proposed it."""
    require(actor, "definitions:write")
    body = await deps.read(request, ProposalDecision)
    call = deps.call_of(request, f"POST /v1/routing/proposals/{proposal}/decision", body.model_dump())
    return deps.respond(await routing.decide(house, actor, deps.row_id(proposal), body.model_dump(), call))
