"""One matter, one discussion (一事一议): docket, steps, measures."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.docket_forms import MEASURE_FORMS, MEASURE_SCHEMAS, REVIEW_FORMS, REVIEW_SCHEMAS, NewReview
from service.api.schemas import Body, Page, Problem
from service.api.tickets import ABSENT, Limit, Responses, Text
from service.core.errors import NotFound
from service.usecases import reviews

router = APIRouter(prefix="/v1", tags=["reviews"])
STEP: Responses = {
    **ABSENT,
    409: {"model": Problem, "description": "Not possible now; `actions` says what is, `missing` what it waits for."},
    412: {"model": Problem, "description": "If-Match names an older version."},
}


def forms_of(forms: dict[str, type]) -> dict[str, object]:
    return {"oneOf": [{"$ref": f"#/components/schemas/{m.__name__}"} for m in forms.values()]}


async def _form(request: Request, model: type[Body]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The body as plain JSON, and as the rules take it: with instants as instants, for meetings are planned with them."""
    body = await deps.read(request, model)
    plain = body.model_dump(mode="json", by_alias=True)
    return plain, plain | {name: value for name, value in body if isinstance(value, datetime)}


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
    return deps.respond(await reviews.propose(house, actor, body.ticket, form, call, REVIEW_SCHEMAS))


@router.get("/reviews/{review}", responses=ABSENT)
async def get_review(review: str, house: HouseDep, actor: ActorDep) -> Response:
    """One matter with its opinions, gates, measures, and what the caller may do with it: each action with its form."""
    return deps.respond(await reviews.get(house, actor, deps.row_id(review), REVIEW_SCHEMAS))


@router.post(
    "/reviews/{review}/actions/{action}", responses=STEP, openapi_extra=deps.documented(forms_of(REVIEW_FORMS))
)
async def post_review_action(request: Request, review: str, action: str, house: HouseDep, actor: ActorDep) -> Response:
    """screen, supplement, request_opinions, give_opinion, pass_gate, schedule, decide, reply or withdraw."""
    if action not in REVIEW_FORMS:
        raise NotFound(f"There is no such action; there are: {', '.join(REVIEW_FORMS)}.")
    plain, form = await _form(request, REVIEW_FORMS[action])
    call = deps.call_of(request, f"POST /v1/reviews/{review}/actions/{action}", plain)
    if_match = request.headers.get("if-match")
    return deps.respond(
        await reviews.act(house, actor, deps.row_id(review), action, form, call, REVIEW_SCHEMAS, if_match)
    )


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


@router.get("/measures/{measure}", responses=ABSENT)
async def get_measure(measure: str, house: HouseDep, actor: ActorDep) -> Response:
    """One measure, and what the caller may do with it: each action with its form."""
    return deps.json(await reviews.measure(house, actor, deps.row_id(measure), MEASURE_SCHEMAS))


@router.post(
    "/measures/{measure}/actions/{action}", responses=STEP, openapi_extra=deps.documented(forms_of(MEASURE_FORMS))
)
async def post_measure_action(
    request: Request, measure: str, action: str, house: HouseDep, actor: ActorDep
) -> Response:
    """report, submit_evidence, strike_off or reschedule."""
    if action not in MEASURE_FORMS:
        raise NotFound(f"There is no such action; there are: {', '.join(MEASURE_FORMS)}.")
    plain, form = await _form(request, MEASURE_FORMS[action])
    call = deps.call_of(request, f"POST /v1/measures/{measure}/actions/{action}", plain)
    if_match = request.headers.get("if-match")
    return deps.respond(
        await reviews.act_on_measure(house, actor, deps.row_id(measure), action, form, call, MEASURE_SCHEMAS, if_match)
    )
