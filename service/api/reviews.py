"""One matter, one discussion (一事一议): docket, steps, measures."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import MEASURE_FORMS, REVIEW_FORMS, NewReview, Page, Problem
from service.api.tickets import ABSENT, Limit, Responses, Text
from service.core.errors import NotFound
from service.usecases import reviews

router = APIRouter(prefix="/v1", tags=["reviews"])
STEP: Responses = {
    **ABSENT,
    409: {"model": Problem, "description": "Not possible in this state; `actions` says what is."},
}


def _forms(forms: dict[str, type]) -> dict[str, object]:
    return {"oneOf": [{"$ref": f"#/components/schemas/{m.__name__}"} for m in forms.values()]}


@router.get("/reviews", responses={200: {"model": Page}})
async def get_docket(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    state: Annotated[
        Literal["proposed", "preparing", "decided", "completed", "refused", "withdrawn"] | None, Query()
    ] = None,
    kind: Annotated[Literal["enterprise_problem", "investment_project"] | None, Query()] = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Response:
    """The docket, oldest proposal first."""
    items, last = await reviews.docket(house, actor, state, kind, deps.place_of(cursor), limit)
    return deps.page(request, items, last)


@router.post(
    "/reviews",
    status_code=201,
    openapi_extra=deps.documented(NewReview),
    responses={**ABSENT, 409: {"model": Problem, "description": "On the docket already, or not being handled."}},
)
async def propose_review(request: Request, house: HouseDep, actor: ActorDep) -> Response:
    """Put a ticket on the docket by hand."""
    body = await deps.read(request, NewReview)
    form = body.model_dump(exclude={"ticket"})
    call = deps.call_of(request, "POST /v1/reviews", body.model_dump())
    return deps.respond(await reviews.propose(house, actor, body.ticket, form, call))


@router.get("/reviews/{review}", responses=ABSENT)
async def get_review(review: str, house: HouseDep, actor: ActorDep) -> Response:
    return deps.json(await reviews.get(house, actor, deps.row_id(review)))


@router.post("/reviews/{review}/actions/{action}", responses=STEP, openapi_extra=deps.documented(_forms(REVIEW_FORMS)))
async def post_review_action(request: Request, review: str, action: str, house: HouseDep, actor: ActorDep) -> Response:
    """screen, request_opinions, give_opinion, decide or withdraw."""
    if action not in REVIEW_FORMS:
        raise NotFound(f"There is no such action; there are: {', '.join(REVIEW_FORMS)}.")
    form = (await deps.read(request, REVIEW_FORMS[action])).model_dump(mode="json")
    call = deps.call_of(request, f"POST /v1/reviews/{review}/actions/{action}", form)
    return deps.respond(await reviews.act(house, actor, deps.row_id(review), action, form, call))


@router.get("/measures", responses={200: {"model": Page}})
async def get_measures(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    department: Text = None,
    state: Annotated[Literal["open", "reported", "evidence", "struck_off", "waived"] | None, Query()] = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Response:
    """Measures that resolutions created, in the order of their making."""
    department = deps.plain_text(department, "/department")
    items, last = await reviews.measures(house, actor, department, state, deps.id_of(cursor), limit)
    return deps.page(request, items, last)


@router.post(
    "/measures/{measure}/actions/{action}", responses=STEP, openapi_extra=deps.documented(_forms(MEASURE_FORMS))
)
async def post_measure_action(
    request: Request, measure: str, action: str, house: HouseDep, actor: ActorDep
) -> Response:
    """report, submit_evidence, strike_off or reschedule."""
    if action not in MEASURE_FORMS:
        raise NotFound(f"There is no such action; there are: {', '.join(MEASURE_FORMS)}.")
    form = (await deps.read(request, MEASURE_FORMS[action])).model_dump(mode="json")
    call = deps.call_of(request, f"POST /v1/measures/{measure}/actions/{action}", form)
    return deps.respond(await reviews.act_on_measure(house, actor, deps.row_id(measure), action, form, call))
