"""Workflows and tickets' ways through them as pictures."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import PlainTextResponse, Response

from service.api import deps
from service.api.calendars import Language
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import Problem
from service.api.tickets import ABSENT
from service.core.access import require
from service.usecases import diagrams

router = APIRouter(prefix="/v1", tags=["configuration and operation"])
Key = Annotated[str, Path(max_length=40)]
Version = Annotated[int | None, Query(ge=1, le=2**31 - 1, description="default: the newest")]
NO_FLOW: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such workflow or version."}}
SVG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/svg+xml": {}}, "description": "The picture."}}


@router.get("/workflows/{key}/diagram.svg", response_class=Response, responses={**SVG, **NO_FLOW})
async def get_workflow_svg(
    key: Key, house: HouseDep, actor: ActorDep, version: Version = None, lang: Language = "zh"
) -> Response:
    """The stages of a workflow with the clocks that begin in each, and what leads from one to the next."""
    require(actor, "definitions:read")
    return Response(await diagrams.svg(house, deps.name(key), version, lang), media_type="image/svg+xml")


@router.get("/workflows/{key}/diagram.mmd", response_class=PlainTextResponse, responses=NO_FLOW)
async def get_workflow_mermaid(
    key: Key, house: HouseDep, actor: ActorDep, version: Version = None, lang: Language = "zh"
) -> Response:
    """The same as Mermaid text."""
    require(actor, "definitions:read")
    return PlainTextResponse(await diagrams.mermaid_text(house, deps.name(key), version, lang))


@router.get("/tickets/{ticket}/diagram.svg", response_class=Response, responses={**SVG, **ABSENT})
async def get_ticket_svg(ticket: str, house: HouseDep, actor: ActorDep, lang: Language = "zh") -> Response:
    """A ticket's way through its workflow: the stages it was in, since when, and by what it came there."""
    require(actor, "tickets:read")
    return Response(await diagrams.ticket_svg(house, actor, ticket, lang), media_type="image/svg+xml")
