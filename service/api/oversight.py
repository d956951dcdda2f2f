"""Supervisors' boards: what is late, how old, how much, how it goes, and what must be looked at today and this week."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.reports import TABLE, Format, sheet
from service.api.schemas import Page
from service.api.tickets import Limit, Text
from service.core.access import require
from service.core.errors import Invalid
from service.usecases import oversight
from service.usecases.sheets import flat

router = APIRouter(prefix="/v1/reports", tags=["reports"])
Moment = Annotated[str | None, Query(max_length=40, description="a date or an instant")]
From = Annotated[
    str | None, Query(alias="from", max_length=40, description="a date or an instant; default: 90 days ago")
]
Cursor = Annotated[str | None, Query(max_length=400)]
ROWS_OF_A_FILE = 20_000
"""A file is not paged: so many rows at most, the newest."""
Days = Annotated[int | None, Query(ge=0, le=36500)]


def _answer(format_: str, name: str, told: Mapping[str, Any], rows: list[dict[str, Any]]) -> Response:
    return deps.json(told) if format_ == "json" else sheet(format_, name, *flat(rows))


@router.get("/breaches", responses=TABLE)
async def get_breaches(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    from_: From = None,
    to: Moment = None,
    as_of: Moment = None,
    department: Text = None,
    clock: Text = None,
    domain: Text = None,
    running: Annotated[bool | None, Query(description="only those that still run, or only those that ended")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    format_: Format = "json",
) -> Response:
    """Promises broken in a period, newest first: whose it was, how late, and counts by unit and clock."""
    require(actor, "reports:read")
    words = {name: deps.plain_text(value, f"/{name}") for name, value in
             (("department", department), ("clock", clock), ("domain", domain))}  # fmt: skip
    told, last = await oversight.breaches(
        house,
        actor,
        (from_, to, as_of),
        **words,
        running=running,
        after=deps.place_of(cursor),
        limit=limit if format_ == "json" else ROWS_OF_A_FILE,
    )
    if format_ != "json":
        return sheet(format_, "breaches", *flat(told["items"]))
    page = {**told, "next_cursor": None if last is None else deps.encode_cursor((last[0].isoformat(), last[1]))}
    answer = deps.json(page)
    if last is not None:
        answer.headers["Link"] = f'<{request.url.include_query_params(cursor=page["next_cursor"])}>; rel="next"'
    return answer


@router.get("/trend", responses=TABLE)
async def get_trend(
    house: HouseDep,
    actor: ActorDep,
    from_: From = None,
    to: Moment = None,
    as_of: Moment = None,
    figures: Annotated[str | None, Query(max_length=800, description="identifiers of figures, with commas")] = None,
    by: Annotated[Literal["month", "week"], Query()] = "month",
    department: Text = None,
    format_: Format = "json",
) -> Response:
    """Figures of the SLA report month by month or week by week."""
    require(actor, "reports:read")
    unit = deps.plain_text(department, "/department")
    told = await oversight.trend(house, actor, (from_, to, as_of), figures=figures, by=by, department=unit)
    return _answer(format_, "trend", told, told["series"])


@router.get("/scorecards", responses=TABLE)
async def get_scorecards(
    house: HouseDep,
    actor: ActorDep,
    from_: From = None,
    to: Moment = None,
    as_of: Moment = None,
    scorecard: Annotated[str, Query(max_length=40, description="key of a published scorecard")] = "city",
    format_: Format = "json",
) -> Response:
    """Points of each unit by the published scorecard, in classes; each deduction opens into its tickets."""
    require(actor, "reports:read")
    told = await oversight.scorecards(house, actor, deps.name(scorecard), start=from_, end=to, as_of=as_of)
    rows = [
        {"class": listed["class"], **{k: unit[k] for k in ("department", "title", "points", "of", "share")},
         **{m["figure"]: {"points": m["points"], "value": m["value"], "n": m["denominator"]} for m in unit["metrics"]}}
        for listed in told["classes"] for unit in listed["units"]
    ]  # fmt: skip
    return _answer(format_, "scorecards", told, rows)


@router.get("/aging", responses=TABLE)
async def get_aging(
    house: HouseDep,
    actor: ActorDep,
    group_by: Annotated[Literal["department", "domain", "phase", "district"], Query()] = "department",
    format_: Format = "json",
) -> Response:
    """Open tickets by age in days since they were received, with those overdue and those paused."""
    require(actor, "reports:read")
    told = await oversight.aging(house, actor, group_by)
    rows = [
        {**group["key"], "from_days": b["from_days"], "to_days": b["to_days"],
         **{k: b[k] for k in ("tickets", "overdue", "paused")}}
        for group in told["groups"] for b in group["buckets"]
    ]  # fmt: skip
    return _answer(format_, "aging", told, rows)


@router.get("/aging/tickets", responses={200: {"model": Page}})
async def get_aging_tickets(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    department: Text = None,
    domain: Text = None,
    phase: Text = None,
    district: Text = None,
    from_days: Days = None,
    to_days: Days = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Exactly the open tickets that a bucket counts, oldest first."""
    require(actor, "reports:read")
    given = {"department": department, "domain": domain, "phase": phase, "district": district}
    filters = {name: value for name, value in given.items() if value is not None}
    for name, value in filters.items():
        deps.plain_text(value, f"/{name}")
    items, last = await oversight.aged(house, actor, filters, (from_days, to_days), deps.place_of(cursor), limit)
    return deps.page(request, items, last)


@router.get("/workload", responses=TABLE)
async def get_workload(
    house: HouseDep, actor: ActorDep, from_: From = None, to: Moment = None, format_: Format = "json"
) -> Response:
    """What each unit has in hand, and who of it; what came and went in the period."""
    require(actor, "reports:read")
    told = await oversight.workload(house, actor, from_, to)
    return _answer(format_, "workload", told, told["groups"])


async def _lists(
    request: Request, house: HouseDep, actor: ActorDep, names: tuple[str, ...], name: str | None, cursor: str | None, limit: int
) -> Response:  # fmt: skip
    require(actor, "reports:read")
    if name is None:
        return deps.json(await oversight.lists(house, actor, names, request.url.path))
    if name not in names:
        raise Invalid.field("/list", f"expected one of: {', '.join(names)}")
    items, last = await oversight.listed(house, actor, name, deps.place_of(cursor), limit)
    return deps.page(request, items, last)


@router.get("/due")
async def get_due(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    list_: Annotated[str | None, Query(alias="list", max_length=40, description="show one of the lists")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """The daily lists: due today and next working day, red, unsigned, sent back twice, unreachable."""
    return await _lists(request, house, actor, oversight.DAILY, list_, cursor, limit)


@router.get("/sweep")
async def get_sweep(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    list_: Annotated[str | None, Query(alias="list", max_length=40, description="show one of the lists")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """The weekly lists (周清): reworked twice or more, returns denied, planned resolutions past their date."""
    return await _lists(request, house, actor, oversight.WEEKLY, list_, cursor, limit)
