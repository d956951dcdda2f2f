"""Minutes of meetings, and the precedents that issued decisions make."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.minutes_forms import MINUTES_FORMS, ChangePrecedent, MinutesStep, PrecedentProposal
from service.api.schemas import Page, Problem, ProposalDecision, Reason
from service.api.tickets import ABSENT, Limit, Responses, Text
from service.core.errors import NotFound
from service.integrations import documents
from service.usecases import minutes, precedents

router = APIRouter(prefix="/v1", tags=["minutes"])
STEP: Responses = {
    **ABSENT,
    409: {
        "model": Problem,
        "description": "Not possible now: `actions` says what is, `findings` what stands against it.",
    },
}
TextOf = Annotated[
    Literal["internal", "extract"] | None,
    Query(description="internal: the whole; extract: what the enterprise of one review gets"),
]
OfReview = Annotated[str | None, Query(max_length=36, description="whose extract, where the meeting had several items")]
OfDocument = Annotated[str | None, Query(max_length=36, description="an earlier document; default: the newest")]


@router.post(
    "/meetings/{meeting}/minutes",
    status_code=201,
    openapi_extra=deps.documented(MinutesStep),
    responses={**STEP, 200: {"description": "The same document after a further step."}},
)
async def post_minutes(request: Request, meeting: str, house: HouseDep, actor: ActorDep) -> Response:
    """A step of the minutes: draft (also `{}`), check, sign, issue, correct. Each step is an immutable version."""
    asked = (await deps.read(request, MinutesStep)).model_dump(mode="json")
    return await _step(request, meeting, house, actor, asked)


@router.post(
    "/meetings/{meeting}/minutes/actions/{step}",
    responses={**STEP, 201: {"description": "Another document was begun."}},
    openapi_extra=deps.documented(
        {"oneOf": [{"$ref": f"#/components/schemas/{n}"} for n in sorted({m.__name__ for m in MINUTES_FORMS.values()})]}
    ),
)
async def post_minutes_step(request: Request, meeting: str, step: str, house: HouseDep, actor: ActorDep) -> Response:
    """draft, check, sign, issue or correct: the same as `step` in the body of POST …/minutes."""
    if step not in MINUTES_FORMS:
        raise NotFound(f"There is no such step; there are: {', '.join(MINUTES_FORMS)}.")
    form = (await deps.read(request, MINUTES_FORMS[step])).model_dump(mode="json")
    asked = {"title": None, "opening": None, "items": [], "reason": "", **form, "step": step}
    return await _step(request, meeting, house, actor, asked)


async def _step(request: Request, meeting: str, house: HouseDep, actor: ActorDep, asked: dict[str, Any]) -> Response:
    call = deps.call_of(request, f"POST /v1/meetings/{meeting}/minutes", asked)
    return deps.respond(await minutes.step(house, actor, deps.row_id(meeting), asked, call))


@router.get("/meetings/{meeting}/minutes", responses=ABSENT)
async def get_minutes(
    meeting: str,
    house: HouseDep,
    actor: ActorDep,
    text: TextOf = None,
    review: OfReview = None,
    document: OfDocument = None,
) -> Response:
    """The newest document with its versions and hashes; with `text` one of its two texts, block by block and plain."""
    ids = _ids(review, document)
    return deps.json(await minutes.get(house, actor, deps.row_id(meeting), text, *ids))


@router.get(
    "/meetings/{meeting}/minutes.docx",
    response_class=Response,
    responses={**ABSENT, 200: {"content": {documents.DOCX: {}}, "description": "GB/T 9704-2012, to be edited"}},
)
async def get_minutes_docx(
    meeting: str,
    house: HouseDep,
    actor: ActorDep,
    text: TextOf = None,
    review: OfReview = None,
    document: OfDocument = None,
) -> Response:
    """The internal text or an extract as a Word document; before the issue it is marked as a draft (稿)."""
    return _file(
        await minutes.file(house, actor, deps.row_id(meeting), "docx", text or "internal", *_ids(review, document))
    )


@router.get(
    "/meetings/{meeting}/minutes.pdf",
    response_class=Response,
    responses={**ABSENT, 200: {"content": {documents.PDF: {}}, "description": "PDF/A with its fonts embedded"}},
)
async def get_minutes_pdf(
    meeting: str,
    house: HouseDep,
    actor: ActorDep,
    text: TextOf = None,
    review: OfReview = None,
    document: OfDocument = None,
) -> Response:
    """The internal text or an extract as a PDF/A-2b; before the issue it is marked as a draft (稿)."""
    return _file(
        await minutes.file(house, actor, deps.row_id(meeting), "pdf", text or "internal", *_ids(review, document))
    )


def _ids(review: str | None, document: str | None) -> tuple[str | None, str | None]:
    return (deps.row_id(review) if review else None, deps.row_id(document) if document else None)


def _file(made: minutes.File) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{made.name}"', "X-Content-Type-Options": "nosniff"}
    return Response(made.body, media_type=made.media_type, headers=headers)


# --- precedents ------------------------------------------------------------------------------------------------------


@router.get("/precedents", responses={200: {"model": Page}})
async def get_precedents(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    q: Annotated[str | None, Query(max_length=2000, description="a text; the most alike come first")] = None,
    matter: Text = None,
    legal_ground: Annotated[str | None, Query(max_length=200, description="part of a cited article")] = None,
    decision: Annotated[Literal["approve", "approve_with_conditions", "refuse"] | None, Query()] = None,
    valid: Annotated[bool, Query(description="only what is valid today")] = False,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Response:
    """Decisions that were issued, by likeness to `q` or the newest first. None of them decides anything."""
    q, legal_ground = deps.plain_text(q, "/q"), deps.plain_text(legal_ground, "/legal_ground")
    items, following = await precedents.search(
        house,
        actor,
        text=q,
        matter=deps.plain_text(matter, "/matter"),
        ground=legal_ground,
        decision=decision,
        valid_only=valid,
        limit=limit,
        offset=deps.number_of(cursor),
    )
    return deps.page(request, items, following)


@router.get("/precedents/proposals", responses={200: {"model": Page}})
async def get_precedent_proposals(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    state: Annotated[Literal["open", "accepted", "refused"] | None, Query()] = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Response:
    """Changes of rules and of the catalogue that precedents suggest, newest first."""
    items, last = await precedents.proposals(house, actor, state, deps.id_of(cursor), limit)
    return deps.page(request, items, last)


@router.post(
    "/precedents/proposals/{proposal}/decision", responses=STEP, openapi_extra=deps.documented(ProposalDecision)
)
async def post_precedent_proposal_decision(
    request: Request, proposal: str, house: HouseDep, actor: ActorDep
) -> Response:
    """Accept or refuse, by somebody else than who proposed it. What was accepted is then published as any version is."""
    body = (await deps.read(request, ProposalDecision)).model_dump()
    call = deps.call_of(request, f"POST /v1/precedents/proposals/{proposal}/decision", body)
    return deps.respond(await precedents.decide(house, actor, deps.row_id(proposal), body, call))


@router.get("/precedents/{precedent}", responses=ABSENT)
async def get_precedent(precedent: str, house: HouseDep, actor: ActorDep) -> Response:
    return deps.json(await precedents.get(house, actor, deps.row_id(precedent)))


@router.post("/precedents/{precedent}/actions/limit", responses=STEP, openapi_extra=deps.documented(ChangePrecedent))
async def post_precedent_limit(request: Request, precedent: str, house: HouseDep, actor: ActorDep) -> Response:
    """Until when it is valid."""
    body = (await deps.read(request, ChangePrecedent)).model_dump()
    call = deps.call_of(request, f"POST /v1/precedents/{precedent}/actions/limit", body)
    return deps.respond(
        await precedents.change(house, actor, deps.row_id(precedent), {**body, "action": "limit"}, call)
    )


@router.post("/precedents/{precedent}/actions/withdraw", responses=STEP, openapi_extra=deps.documented(Reason))
async def post_precedent_withdrawal(request: Request, precedent: str, house: HouseDep, actor: ActorDep) -> Response:
    """It is no precedent any more; the decision itself stands."""
    body = (await deps.read(request, Reason)).model_dump()
    call = deps.call_of(request, f"POST /v1/precedents/{precedent}/actions/withdraw", body)
    asked = {**body, "action": "withdraw"}
    return deps.respond(await precedents.change(house, actor, deps.row_id(precedent), asked, call))


@router.post(
    "/precedents/{precedent}/proposals",
    status_code=201,
    responses=STEP,
    openapi_extra=deps.documented(PrecedentProposal),
)
async def post_precedent_proposal(request: Request, precedent: str, house: HouseDep, actor: ActorDep) -> Response:
    """Propose a change of a workflow's rule or of the dispatch catalogue; one case becomes a rule only so."""
    body = (await deps.read(request, PrecedentProposal)).model_dump()
    call = deps.call_of(request, f"POST /v1/precedents/{precedent}/proposals", body)
    return deps.respond(await precedents.propose(house, actor, deps.row_id(precedent), body, call))
