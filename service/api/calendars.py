"""Calendars as versioned data, the public calculator, and the clocks whose due time is provisional."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import PlainTextResponse, Response
from pydantic import AwareDatetime

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import NewCalendar, Page, Problem
from service.core.access import require
from service.core.telling import tell
from service.usecases import calendars, clocks

router = APIRouter(prefix="/v1", tags=["calendars and clocks"])
Key = Annotated[str, Path(max_length=40)]
Version = Annotated[int | None, Query(ge=1, le=2**31 - 1, description="default: the newest")]
Language = Annotated[Literal["zh", "en"], Query(description="language of the text form")]
Form = Annotated[Literal["json", "text"], Query(description="text: a readable account, one day a line")]
ABSENT: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such calendar or version."}}


def told(explanation: dict[str, Any], form: str, language: str, whole: dict[str, Any] | None = None) -> Response:
    """An explanation as JSON or as a text for people."""
    if form == "text":
        return PlainTextResponse(tell(explanation, language))
    return deps.json(whole or explanation)


@router.get("/calendars", responses={200: {"model": Page}})
async def get_calendars(house: HouseDep, actor: ActorDep) -> Response:
    """Every calendar in force; `alarm` when a year that due times reach into is not published."""
    require(actor, "definitions:read")
    return deps.json({"items": await calendars.listed(house), "next_cursor": None})


@router.post(
    "/calendars",
    status_code=201,
    openapi_extra=deps.documented(NewCalendar),
    responses={
        200: {"description": "`dry_run`: what the version would move; nothing was stored."},
        409: {"model": Problem, "description": "It moves due times: `preview` publishes what was shown."},
        422: {"model": Problem, "description": "The calendar is not well-formed; the pointer says where."},
    },
)
async def post_calendar(request: Request, house: HouseDep, actor: ActorDep) -> Response:
    """Publish a version (see workflows/calendars/README.md for the data); open clocks are re-projected in the background."""
    require(actor, "definitions:write")
    body = await deps.read(request, NewCalendar)
    deps.check_plain({"calendar": body.calendar})
    call = deps.call_of(request, "POST /v1/calendars", body.model_dump())
    wanted = calendars.Proposed(body.calendar, body.reason, body.preview, body.dry_run)
    return deps.respond(await calendars.publish(house, actor, wanted, call))


@router.get("/calendars/{key}", responses=ABSENT)
async def get_calendar(key: Key, house: HouseDep, actor: ActorDep, version: Version = None) -> Response:
    """The data of one version, the list of all versions, and how far the re-projection of open clocks is."""
    require(actor, "definitions:read")
    return deps.json(await calendars.shown(house, deps.name(key), version))


@router.get("/calendars/{key}/years/{year}", responses=ABSENT)
async def get_year(key: Key, year: int, house: HouseDep, actor: ActorDep, version: Version = None) -> Response:
    """Every day of a year: whether it works, its office hours, by which rule and whose notice."""
    require(actor, "definitions:read")
    return deps.json(await calendars.year(house, deps.name(key), year, version))


@router.delete(
    "/calendars/{key}",
    status_code=204,
    responses={**ABSENT, 409: {"model": Problem, "description": "In use: `workflows`, `calendars`, `open_clocks`."}},
)
async def delete_calendar(key: Key, house: HouseDep, actor: ActorDep) -> Response:
    """Take a calendar out of use; its versions stay for the clocks that were counted by them."""
    require(actor, "definitions:write")
    await calendars.retire(house, actor, deps.name(key))
    return Response(status_code=204)


@router.get("/clocks", responses={200: {"model": Page}})
async def get_provisional_clocks(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    provisional: Annotated[Literal["true"], Query(description="the clocks that a notice not yet published may move")],
    calendar: Annotated[str | None, Query(max_length=40)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> Response:
    """Open clocks with a provisional due time, nearest first."""
    require(actor, "tickets:read")
    key = deps.plain_text(calendar, "/calendar")
    items, last = await calendars.provisional(house, actor, key, deps.place_of(cursor), limit)
    return deps.page(request, items, last)


@router.get("/clocks/what-if")
async def what_if(
    house: HouseDep,
    anchor: Annotated[AwareDatetime, Query(description="an instant with its offset")],
    measure: Annotated[str, Query(max_length=40)],
    budget: Annotated[str, Query(max_length=40, description="PT4H for the hour measures, 15 for the day measures")],
    calendar: Annotated[str | None, Query(max_length=40)] = None,
    format: Form = "json",
    lang: Language = "zh",
) -> Response:
    """The public calculator: when would this be due, and why."""
    answer = clocks.what_if(house, anchor, measure, budget, calendar)
    return told(answer["explanation"], format, lang, answer)
