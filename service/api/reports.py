"""Reports for supervisors: every figure opens into the tickets it counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.tickets import Limit, Responses, Text
from service.core.access import require
from service.usecases import reports, sheets

router = APIRouter(prefix="/v1/reports", tags=["reports"])
TABLE: Responses = {
    200: {"content": {"application/json": {}, "text/csv": {}, sheets.XLSX: {}}, "description": "The report."}
}
Format = Annotated[Literal["json", "csv", "xlsx"], Query(alias="format")]


@router.get("/sla", responses=TABLE)
async def get_sla(
    house: HouseDep,
    actor: ActorDep,
    from_: Annotated[str | None, Query(alias="from", max_length=40, description="a date or an instant")] = None,
    to: Annotated[str | None, Query(max_length=40, description="a date (included) or an instant (excluded)")] = None,
    as_of: Annotated[str | None, Query(max_length=40)] = None,
    group_by: Annotated[
        str | None,
        Query(
            max_length=60,
            description="department, domain, district, month, week, origin (new or carried over); with commas",
        ),
    ] = None,
    format_: Format = "json",
) -> Response:
    """Rates and times of a period, by department unless `group_by` says otherwise; the last 90 days without dates."""
    require(actor, "reports:read")
    report = await reports.sla(house, actor, start=from_, end=to, group_by=group_by, as_of=as_of)
    return deps.json(report) if format_ == "json" else sheet(format_, "sla", *reports.sla_table(report))


def sheet(format_: str, name: str, header: Sequence[str], rows: Sequence[Sequence[sheets.Cell]]) -> Response:
    """A table as a file to keep."""
    content, kind, file = sheets.sheet(format_, name, header, rows)
    return Response(content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{file}"'})


@router.get("/sla/tickets")
async def get_sla_tickets(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    figure: Annotated[str, Query(max_length=60, description="identifier of the figure")],
    from_: Annotated[str | None, Query(alias="from", max_length=40)] = None,
    to: Annotated[str | None, Query(max_length=40)] = None,
    as_of: Annotated[str | None, Query(max_length=40)] = None,
    part: Annotated[Literal["denominator", "numerator", "excluded"], Query()] = "denominator",
    department: Text = None,
    domain: Text = None,
    district: Text = None,
    month: Text = None,
    week: Text = None,
    origin: Annotated[Literal["carried_over", "new"] | None, Query()] = None,
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
) -> Response:
    """Exactly the tickets that a figure of the report counts."""
    require(actor, "reports:read")
    given = {
        "department": department,
        "domain": domain,
        "district": district,
        "month": month,
        "week": week,
        "origin": origin,
    }
    filters = {name: value for name, value in given.items() if value is not None}
    listed = await reports.sla_tickets(
        house,
        actor,
        figure=figure,
        start=from_,
        end=to,
        as_of=as_of,
        filters=filters,
        part=part,
        cursor=cursor,
        limit=limit,
    )
    answer = deps.json(listed)
    if listed["next_cursor"]:
        answer.headers["Link"] = f'<{request.url.include_query_params(cursor=listed["next_cursor"])}>; rel="next"'
    return answer
