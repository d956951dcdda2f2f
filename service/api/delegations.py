"""Deputies of approvers who are absent."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import NewDelegation, Page, Problem
from service.api.tickets import ABSENT, Limit
from service.core.access import require
from service.usecases import delegations

router = APIRouter(prefix="/v1", tags=["delegations"])


@router.post("/delegations", status_code=201, openapi_extra=deps.documented(NewDelegation))
async def post_delegation(request: Request, house: HouseDep, actor: ActorDep) -> Response:
    """Name a deputy for a time. The deputy then decides requests with `on_behalf_of`, also late ones."""
    require(actor, "delegations:act")
    body = await deps.read(request, NewDelegation)
    call = deps.call_of(request, "POST /v1/delegations", body.model_dump(mode="json"))
    return deps.respond(await delegations.make(house, actor, body.model_dump(), call))


@router.get("/delegations", responses={200: {"model": Page}})
async def get_delegations(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    active: Annotated[bool | None, Query(description="only those in force now, or only the others")] = None,
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
) -> Response:
    """Delegations that the caller gave or was given; supervisors, auditors and administrators see all."""
    items, last = await delegations.listed(house, actor, active, deps.id_of(cursor), limit)
    return deps.page(request, items, last)


@router.post(
    "/delegations/{delegation}/revocation",
    responses={**ABSENT, 409: {"model": Problem, "description": "It is over already."}},
)
async def post_end(request: Request, delegation: str, house: HouseDep, actor: ActorDep) -> Response:
    """End a delegation before its time."""
    call = deps.call_of(request, f"POST /v1/delegations/{delegation}/revocation", {})
    return deps.respond(await delegations.revoke(house, actor, deps.row_id(delegation), call))
