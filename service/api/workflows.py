"""Workflows as immutable versions, and the moving of running tickets from one version to another."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from service.api import deps
from service.api.deps import ActorDep, HouseDep
from service.api.schemas import NewMigration, NewWorkflow, Page, Problem, Retirement, Undo
from service.core.access import require
from service.core.errors import Invalid
from service.usecases import migrations, workflows
from service.usecases.migrations import Wanted
from service.usecases.workflows import Proposed

router = APIRouter(prefix="/v1/workflows", tags=["workflows"])
Key = Annotated[str, Path(max_length=40)]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
Version = Annotated[int | None, Query(ge=1, le=2**31 - 1)]
Limit = Annotated[int, Query(ge=1, le=200)]
State = Literal["pending", "moved", "failed", "skipped", "undoing", "undone", "kept"]
ABSENT: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such workflow or version."}}
CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "`detail` says what stands against it."}
}


@router.get("", responses={200: {"model": Page}})
async def get_workflows(house: HouseDep, actor: ActorDep) -> Response:
    """Every workflow by its newest version: what it takes, its stages, clocks and actions; its versions with author,
    reason and date, and how many tickets run on each."""
    require(actor, "definitions:read")
    return deps.json({"items": await workflows.listed(house, actor), "next_cursor": None})


@router.post(
    "",
    status_code=201,
    openapi_extra=deps.documented(NewWorkflow),
    responses={
        200: {"description": "The newest version says exactly this, or `dry_run`: nothing was stored."},
        409: {"model": Problem, "description": "New tickets of a domain would have no workflow: `uncovered`."},
        412: {"model": Problem, "description": "Somebody published since; `current` is the newest version."},
        422: {"model": Problem, "description": "The workflow is not well-formed; the pointer says where."},
    },
)
async def post_workflow(request: Request, house: HouseDep, actor: ActorDep) -> Response:
    """Publish a version. Tickets that run stay on theirs; new ones are bound to it within seconds, in all processes."""
    require(actor, "workflows:write")
    body = await deps.read(request, NewWorkflow)
    deps.check_plain({"workflow": body.workflow})
    expected = body.expected_version if body.expected_version is not None else _if_match(request)
    call = deps.call_of(request, "POST /v1/workflows", [body.model_dump(), expected])
    wanted = Proposed(body.workflow, body.reason, expected, body.dry_run)
    return deps.respond(await workflows.publish(house, actor, wanted, call))


def _if_match(request: Request) -> int | None:
    """The version that If-Match names; none and `*` mean any."""
    given = request.headers.get("if-match", "*").strip()
    if given == "*":
        return None
    found = re.fullmatch(r'"?([0-9]{1,9})"?', given, re.ASCII)
    if found is None:
        raise Invalid.field("/If-Match", 'expected the ETag of a version, such as "3"')
    return int(found[1])


# --- migrations: their addresses come before those of a workflow -------------------------------------------------------


@router.get("/migrations", responses={200: {"model": Page}})
async def get_migrations(
    request: Request,
    house: HouseDep,
    actor: ActorDep,
    key: Annotated[str | None, Query(max_length=40)] = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Response:
    """Migrations of running tickets, the newest first."""
    after = deps.id_of(cursor)
    items, last = await migrations.listed(house, actor, deps.plain_text(key, "/key"), after, limit)
    return deps.page(request, items, last)


@router.get("/migrations/{migration}", responses=ABSENT)
async def get_migration(migration: str, house: HouseDep, actor: ActorDep) -> Response:
    """How far it is, and why tickets stayed where they were."""
    return deps.json(await migrations.shown(house, actor, deps.row_id(migration)))


@router.get("/migrations/{migration}/tickets", responses={200: {"model": Page}, **ABSENT})
async def get_migration_tickets(
    request: Request,
    migration: str,
    house: HouseDep,
    actor: ActorDep,
    state: State | None = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Response:
    """Its tickets, each with its state and, where it stayed, the reason."""
    after = deps.id_of(cursor)
    items, last = await migrations.tickets_of(house, actor, deps.row_id(migration), state, after, limit)
    return deps.page(request, items, last)


@router.post("/migrations/{migration}/retry", status_code=202, responses={**ABSENT, **CONFLICT})
async def post_retry(request: Request, migration: str, house: HouseDep, actor: ActorDep) -> Response:
    """Judge again the tickets that could not be moved."""
    require(actor, "workflows:write")
    call = deps.call_of(request, f"POST /v1/workflows/migrations/{migration}/retry", {})
    return deps.respond(await migrations.retry(house, actor, deps.row_id(migration), call))


@router.post(
    "/migrations/{migration}/undo",
    status_code=202,
    openapi_extra=deps.documented(Undo),
    responses={**ABSENT, **CONFLICT},
)
async def post_undo(request: Request, migration: str, house: HouseDep, actor: ActorDep) -> Response:
    """Move back the tickets that nobody acted on since; the others stay and are listed as `kept`."""
    require(actor, "workflows:write")
    body = await deps.read(request, Undo)
    call = deps.call_of(request, f"POST /v1/workflows/migrations/{migration}/undo", body.model_dump())
    return deps.respond(await migrations.undo(house, actor, deps.row_id(migration), body.reason, call))


# --- one workflow ------------------------------------------------------------------------------------------------------


@router.get("/{key}", responses=ABSENT)
async def get_workflow(key: Key, house: HouseDep, actor: ActorDep) -> Response:
    """The newest version as plain data, and all versions."""
    require(actor, "definitions:read")
    return deps.respond(await workflows.shown(house, actor, deps.name(key), None))


@router.get("/{key}/versions/{number}", responses=ABSENT)
async def get_version(key: Key, number: Number, house: HouseDep, actor: ActorDep) -> Response:
    """One version as plain data."""
    require(actor, "definitions:read")
    return deps.respond(await workflows.shown(house, actor, deps.name(key), number))


@router.get("/{key}/diff", responses=ABSENT)
async def get_diff(
    key: Key,
    house: HouseDep,
    actor: ActorDep,
    from_: Annotated[Version, Query(alias="from", description="default: the version before `to`")] = None,
    to: Annotated[Version, Query(description="default: the newest")] = None,
) -> Response:
    """What one version says differently from another: path, before, after, and a line for people."""
    require(actor, "definitions:read")
    return deps.json(await workflows.compared(house, deps.name(key), from_, to))


@router.post(
    "/{key}/retire",
    openapi_extra=deps.documented(Retirement),
    responses={**ABSENT, 409: {"model": Problem, "description": "Nothing else takes what it takes: `uncovered`."}},
)
async def post_retire(request: Request, key: Key, house: HouseDep, actor: ActorDep) -> Response:
    """No new ticket is bound to it; those that run go on, and its versions stay."""
    require(actor, "workflows:write")
    body = await deps.read(request, Retirement)
    call = deps.call_of(request, f"POST /v1/workflows/{key}/retire", body.model_dump())
    return deps.respond(await workflows.retire(house, actor, deps.name(key), body.reason, call))


@router.post(
    "/{key}/migrations",
    status_code=202,
    openapi_extra=deps.documented(NewMigration),
    responses={
        200: {"description": "`dry_run`: what it would do; nothing was stored."},
        **ABSENT,
        **CONFLICT,
        422: {"model": Problem, "description": "The versions or the mapping do not fit; the pointer says where."},
    },
)
async def post_migration(request: Request, key: Key, house: HouseDep, actor: ActorDep) -> Response:
    """Move running tickets to another version, in the background; the answer's Location tells how far it is."""
    require(actor, "workflows:write")
    body = await deps.read(request, NewMigration)
    wanted = Wanted(
        deps.name(key), body.from_version, body.to_key or key, body.to_version, body.stage_mapping,
        body.clock_mapping, body.reason,
    )  # fmt: skip
    if body.dry_run:
        return deps.json(await migrations.preview(house, actor, wanted))
    call = deps.call_of(request, f"POST /v1/workflows/{key}/migrations", body.model_dump())
    return deps.respond(await migrations.start(house, actor, wanted, call))
