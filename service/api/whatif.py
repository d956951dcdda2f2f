"""What a change of the rules would have done."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from service.api import deps
from service.api.calendars import Language
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import Problem, Simulation
from service.core.access import require
from service.core.charts import picture
from service.core.errors import Busy
from service.usecases import simulation
from service.usecases.diagrams import clock_titles

router = APIRouter(prefix="/v1", tags=["configuration and operation"])
MOST_TICKETS = 20_000
_turn = asyncio.Lock()


@router.post(
    "/workflows/{key}/simulate",
    openapi_extra=deps.documented(Simulation),
    responses={
        200: {"content": {"application/json": {}, "image/svg+xml": {}}, "description": "The comparison."},
        404: {"model": Problem, "description": "No such workflow or version."},
        409: {"model": Problem, "description": "Another simulation is running in this process."},
        422: {
            "model": Problem,
            "description": "A draft is wrong (`detail` begins with the path), or too many tickets.",
        },
        503: {"model": Problem, "description": "A replaying process was ended from outside; try it again."},
    },
)
async def post_simulation(
    request: Request,
    key: Annotated[str, Path(max_length=40)],
    house: HouseDep,
    actor: ActorDep,
    format: Annotated[Literal["json", "svg"], Query(description="svg: the comparison as a picture")] = "json",
    lang: Language = "zh",
) -> Response:
    """Replay recorded tickets under a draft workflow, calendar or routing; who would breach, cards, reviews, load.

    Nothing is written. At most 20,000 tickets; `python3 -m service workflows simulate` takes any number. For supervisors.
    """
    require(actor, "definitions:simulate")
    body = await deps.read(request, Simulation)
    wanted = simulation.Wanted(
        key=deps.name(key), workflow=body.workflow, version=body.version, calendar=body.calendar, routing=body.routing,
        start=body.from_, end=body.to, department=body.department, check_all=body.check == "all",
    )  # fmt: skip
    if _turn.locked():
        raise Busy("Another simulation is running; try again when it has ended.")
    async with _turn:
        found = await simulation.simulate(house, actor, wanted, most=MOST_TICKETS, workers=1)
    if format == "svg":
        return Response(picture(found, clock_titles(house, lang), lang).svg(), media_type="image/svg+xml")
    return deps.json(found)
