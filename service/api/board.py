"""The docket as a board, and its figures of a year."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.tickets import Text
from service.usecases import board

router = APIRouter(prefix="/v1", tags=["reviews"])
Kind = Literal["enterprise_problem", "investment_project"]
Year = Annotated[int | None, Query(ge=2000, le=9998, description="default: this year")]


@router.get("/reviews/board")
async def get_board(
    house: HouseDep,
    actor: ActorDep,
    tier: Annotated[int | None, Query(ge=1, le=3)] = None,
    kind: Annotated[Kind | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="how many of each stage")] = 20,
) -> Response:
    """Open matters by stage with their ages and next dates, those due first in front; and counts by tier and kind."""
    return deps.json(await board.board(house, actor, tier, kind, limit))


@router.get("/reports/reviews")
async def get_year(house: HouseDep, actor: ActorDep, year: Year = None) -> Response:
    """Proposed, accepted, decided, executed, on time, by criterion; the two kinds of matters apart."""
    return deps.json(await board.year(house, actor, year))


@router.get("/reports/reviews/matters")
async def get_matters(
    house: HouseDep,
    actor: ActorDep,
    figure: Annotated[Literal["proposed", "accepted", "refused", "withdrawn", "decided", "executed"], Query()],
    kind: Annotated[Kind, Query()],
    year: Annotated[int, Query(ge=2000, le=9998)],
    criterion: Text = None,
) -> Response:
    """Exactly the matters that a figure of the year counts."""
    criterion = deps.plain_text(criterion, "/criterion")
    return deps.json({"items": await board.matters(house, actor, year, kind, figure, criterion)})
