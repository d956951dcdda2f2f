"""Meetings of one matter, one discussion, and thematic studies."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.docket_forms import MEETING_FORMS, MEETING_SCHEMAS, CloseStudy, NewMeeting, NewStudy
from service.api.reviews import STEP, forms_of
from service.api.schemas import Page, Problem
from service.api.tickets import ABSENT, Limit
from service.core.access import require
from service.core.errors import Invalid, NotFound
from service.usecases import meetings, studies

router = APIRouter(prefix="/v1", tags=["reviews"])


@router.get("/meetings", responses={200: {"model": Page}})
async def get_meetings(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    state: Annotated[Literal["planned", "held", "cancelled"] | None, Query()] = None,
    tier: Annotated[int | None, Query(ge=1, le=3)] = None,
    since: Annotated[datetime | None, Query(description="held at or after this instant")] = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Response:
    """Meetings by the time they are held; a unit's own people see those it is invited to."""
    if since is not None and since.tzinfo is None:
        raise Invalid.field("/since", "expected a time with its offset, such as 2026-11-27T14:30:00+08:00")
    place = deps.place_of(cursor)
    items, last = await meetings.listed(house, actor, state, tier, since, place, limit)
    return deps.page(request, items, last)


@router.post(
    "/meetings",
    status_code=201,
    openapi_extra=deps.documented(NewMeeting),
    responses={409: {"model": Problem, "description": "A second chair."}},
)
async def plan_meeting(request: Request, house: HouseDep, actor: ActorDep) -> Response:
    """Plan a meeting; its agenda closes as workflows/docket.yaml says (Friday noon before), its chair is the tier's."""
    require(actor, "meetings:write")
    body = await deps.read(request, NewMeeting)
    form = {**body.model_dump(mode="json"), "held_at": body.held_at}
    call = deps.call_of(request, "POST /v1/meetings", body.model_dump(mode="json"))
    return deps.respond(await meetings.plan(house, actor, form, call, MEETING_SCHEMAS))


@router.get("/meetings/{meeting}", responses=ABSENT)
async def get_meeting(meeting: str, house: HouseDep, actor: ActorDep) -> Response:
    """One meeting with attendees and agenda, and what the caller may do with it: each action with its form."""
    return deps.respond(await meetings.get(house, actor, deps.row_id(meeting), MEETING_SCHEMAS))


@router.post(
    "/meetings/{meeting}/actions/{action}", responses=STEP, openapi_extra=deps.documented(forms_of(MEETING_FORMS))
)
async def post_meeting_action(
    request: Request, meeting: str, action: str, house: HouseDep, actor: ActorDep
) -> Response:
    """invite, notify, acknowledge, add_paper, attend, recuse, hear, adjourn, close or cancel."""
    if action not in MEETING_FORMS:
        raise NotFound(f"There is no such action; there are: {', '.join(MEETING_FORMS)}.")
    body = await deps.read(request, MEETING_FORMS[action])
    plain: dict[str, Any] = body.model_dump(mode="json")
    form = plain | {name: value for name, value in body if isinstance(value, datetime)}
    call = deps.call_of(request, f"POST /v1/meetings/{meeting}/actions/{action}", plain)
    if_match = request.headers.get("if-match")
    return deps.respond(
        await meetings.act(house, actor, deps.row_id(meeting), action, form, call, if_match, MEETING_SCHEMAS)
    )


@router.get("/studies", responses={200: {"model": Page}})
async def get_studies(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    state: Annotated[Literal["open", "closed"] | None, Query()] = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Response:
    """Thematic studies (专题研究) with the matters that joined them."""
    items, last = await studies.listed(house, actor, state, deps.id_of(cursor), limit)
    return deps.page(request, items, last)


@router.get("/studies/clusters")
async def get_clusters(house: HouseDep, actor: ActorDep) -> Response:
    """Matters that several enterprises ask about, most first: what a study might be opened on."""
    return deps.json({"items": await studies.clusters(house, actor)})


@router.post("/studies", status_code=201, openapi_extra=deps.documented(NewStudy))
async def open_study(request: Request, house: HouseDep, actor: ActorDep) -> Response:
    """Open a study; matters join it when they are screened."""
    require(actor, "studies:write")
    form = (await deps.read(request, NewStudy)).model_dump()
    call = deps.call_of(request, "POST /v1/studies", form)
    return deps.respond(await studies.open_study(house, actor, form, call))


@router.get("/studies/{study}", responses=ABSENT)
async def get_study(study: str, house: HouseDep, actor: ActorDep) -> Response:
    return deps.json(await studies.get(house, actor, deps.row_id(study)))


@router.post("/studies/{study}/close", responses=STEP, openapi_extra=deps.documented(CloseStudy))
async def close_study(request: Request, study: str, house: HouseDep, actor: ActorDep) -> Response:
    """With what came of it, once none of its matters is undecided."""
    require(actor, "studies:write")
    body = await deps.read(request, CloseStudy)
    call = deps.call_of(request, f"POST /v1/studies/{study}/close", body.model_dump())
    return deps.respond(await studies.close(house, actor, deps.row_id(study), body.closing, call))
