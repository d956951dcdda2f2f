"""The enterprise's own view of its request, by a link."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import NewProgressLink, ProgressOut
from service.api.tickets import ABSENT
from service.core.access import require
from service.usecases import progress

router = APIRouter(prefix="/v1", tags=["progress"])
PRIVATE = {"Cache-Control": "private, no-store", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex"}


@router.post(
    "/tickets/{ticket}/progress-link", status_code=201, openapi_extra=deps.documented(NewProgressLink), responses=ABSENT
)
async def post_link(request: Request, ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """A link that shows the enterprise how its request stands; it ends after some days."""
    require(actor, "progress:link")
    body = await deps.read(request, NewProgressLink)
    call = deps.call_of(request, f"POST /v1/tickets/{ticket}/progress-link", body.model_dump())
    return deps.respond(await progress.link(house, actor, ticket, body.days, call))


@router.delete("/tickets/{ticket}/progress-link", responses=ABSENT)
async def delete_links(ticket: str, house: HouseDep, actor: ActorDep) -> Response:
    """Take back every link of a ticket; answers how many still held."""
    require(actor, "progress:link")
    return deps.json({"revoked": await progress.revoke(house, actor, ticket)})


@router.get("/progress/{token}", responses={200: {"model": ProgressOut}, **ABSENT}, openapi_extra={"security": []})
async def get_progress(token: str, house: HouseDep) -> Response:
    """How the request stands: a public word for its stage, whom to ask, the next date, the reply. Needs no token of a user."""
    answer = deps.json(await progress.show(house, token))
    answer.headers.update(PRIVATE)
    return answer
