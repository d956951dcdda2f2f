"""Workflows as immutable versions: look, compare, publish, retire. Who is on a version stays on it (P7).

Running tickets are moved to another version only by an order of its own (`migrations`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic_core import to_json

from service.core.access import require
from service.core.checking import check
from service.core.definitions import Workflow, compile_workflow
from service.core.differing import differences
from service.core.errors import Conflict, DefinitionError, FieldError, Invalid, NotFound, Stale
from service.core.model import SYSTEM, Actor
from service.core.policies import Policies
from service.core.sources import laid_over
from service.core.tightening import loosened
from service.db import audit
from service.db import definitions as published
from service.db import migrations as moving
from service.db.session import Tx
from service.usecases import views
from service.usecases.answers import Answer, Call, once
from service.usecases.house import House

ABSENT = "There is no such workflow or version; GET /v1/workflows lists them."
TAKEN = frozenset({"check", "migrations"})
"""Keys that would hide behind addresses of the API."""


# --- looking ---------------------------------------------------------------------------------------------------------


async def listed(house: House, actor: Actor) -> list[dict[str, Any]]:
    """Every workflow by its newest version, those out of use too: who published what and why, and how many of the tickets
    that the actor may see run on each."""
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await published.listed(tx, "workflow")
        running = await moving.running_tickets(tx)
        versions: dict[str, list[Any]] = {}
        for row in rows:
            versions.setdefault(row["key"], []).append(row)
        flows = [await house.workflow(tx, key, of[0]["version"]) for key, of in versions.items()]
    return [{**_workflow(flow), **_published(house, versions[flow.key], running)} for flow in flows]


def _published(house: House, rows: list[Any], running: Mapping[tuple[str, int], int]) -> dict[str, Any]:
    versions = [_version(house, row, running.get((row["key"], row["version"]), 0)) for row in rows]
    newest = versions[0]
    told = {name: newest[name] for name in ("status", "author", "reason", "published_at")}
    return {**told, "running_tickets": sum(v["running_tickets"] for v in versions), "versions": versions}


def _version(house: House, row: Any, running: int) -> dict[str, Any]:
    return {
        "version": row["version"],
        "status": "in_force" if row["retired_at"] is None else "retired",
        "author": row["published_by"],
        "reason": row["reason"],
        "published_at": views.local(row["published_at"], house.zone),
        "retired_at": views.local(row["retired_at"], house.zone),
        "sha256": row["sha256"],
        "running_tickets": running,
    }


def _workflow(flow: Workflow) -> dict[str, Any]:
    return {
        "key": flow.key,
        "version": flow.version,
        "title": flow.title,
        "calendar": flow.calendar,
        "domains": sorted(flow.domains),
        "urgency": sorted(flow.urgency),
        "departments": sorted(flow.departments),
        "stages": [{"name": n, "phase": phase, "title": title} for n, (phase, title) in flow.stages.items()],
        "clocks": [
            {
                "name": c.name,
                "title": c.title,
                "family": c.family,
                "anchor": c.anchor,
                "measure": c.budget.measure,
                "budget": c.budget.text(),
                "rungs": list(c.rungs),
            }
            for c in flow.clocks.values()
        ],
        "actions": [
            {"name": a.name, "title": a.title, "stages": sorted(a.stages), "roles": sorted(a.roles), "form": a.form}
            for a in flow.actions.values()
        ],
    }


async def shown(house: House, actor: Actor, key: str, version: int | None) -> Answer:
    """The plain data of one version (default: the newest) and all versions; the ETag is what a publication may name."""
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = [row for row in await published.listed(tx, "workflow") if row["key"] == key]
        wanted = version if version is not None else (rows[0]["version"] if rows else 0)
        body = await published.get(tx, "workflow", key, wanted)
        if body is None:
            raise NotFound(ABSENT)
        running = await moving.running_tickets(tx)
    told = _published(house, rows, running)
    own = next(v for v in told["versions"] if v["version"] == wanted)
    answer = {"key": key, **own, "workflow": body, "versions": told["versions"]}
    return Answer(200, to_json(answer), {"ETag": etag(wanted)})


def etag(version: int) -> str:
    return f'"{version}"'


async def compared(house: House, key: str, before: int | None, after: int | None) -> dict[str, Any]:
    """What version `after` (default: the newest) says differently from `before` (default: the one before it)."""
    async with house.db.transaction(SYSTEM, readonly=True) as tx:
        newest = await published.next_version(tx, "workflow", key) - 1
        to = after if after is not None else newest
        frm = before if before is not None else max(1, to - 1)
        old, new = await published.get(tx, "workflow", key, frm), await published.get(tx, "workflow", key, to)
    if old is None or new is None:
        raise NotFound(ABSENT)
    return {"key": key, "from": frm, "to": to, "differences": [d.as_dict() for d in differences(old, new)]}


# --- publishing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proposed:
    """A version that somebody wants. `expected`: the version it was made from, 0 for a new workflow; None: any."""

    workflow: Mapping[str, Any]
    reason: str
    expected: int | None = None
    dry_run: bool = False


async def publish(house: House, actor: Actor, wanted: Proposed, call: Call) -> Answer:
    """201 with the new version and what it says differently; 200 for `dry_run` and for what the newest says already.

    Raises Invalid (the data), Stale (`expected` is not the newest), Conflict (new tickets of a domain would have none).
    """
    require(actor, "workflows:write")
    proved = await _proved(house, wanted.workflow)

    async def work(tx: Tx) -> Answer:
        # a repeat of what was carried out has been answered as then, whatever was published since
        if isinstance(proved, Invalid):
            raise proved
        plain, flow, base = proved
        await published.lock(tx)
        if base is not None and (await published.in_force(tx, "workflow")).get(base.key) != base.version:
            raise Conflict(f"{base.key!r}, which this extends, was published anew or retired meanwhile; send it again.")
        await _refuse_unknown(house, tx, flow, plain)
        next_version = await published.next_version(tx, "workflow", flow.key)
        told = {"key": flow.key, "version": next_version - 1, "changed": False, "differences": []}
        if await published.is_newest(tx, "workflow", flow.key, plain):
            return Answer(200, to_json(told), {"ETag": etag(next_version - 1)})
        if wanted.expected is not None and wanted.expected != next_version - 1:
            raise _stale(flow.key, wanted.expected, next_version - 1)
        in_force = await _in_force(house, tx)
        _refuse_uncovered(in_force, {**in_force.flows, flow.key: flow})
        before = await published.get(tx, "workflow", flow.key, next_version - 1) or {}
        changes = [d.as_dict() for d in differences(before, plain)] if before else []
        told |= {"version": next_version, "changed": True, "differences": changes}
        if wanted.dry_run:
            return Answer(200, to_json({**told, "dry_run": True}))
        await published.publish(tx, "workflow", flow.key, plain, actor.subject, wanted.reason)
        what = {"key": flow.key, "version": next_version, "reason": wanted.reason}
        await audit.write(tx, house.new_id(), "workflow.published", None, what)
        return Answer(201, to_json(told), {"ETag": etag(next_version)})

    answer = await once(house, actor, call, work)
    await house.refresh()
    return answer


def _stale(key: str, expected: int, newest: int) -> Stale:
    if not newest:
        return Stale(f"There is no workflow {key!r} yet; expect version 0.", current=etag(0))
    hint = f"somebody published since; look at GET /v1/workflows/{key}/diff?from={expected}&to={newest}"
    return Stale(f"This was made from version {expected}, {key} is at {newest}: {hint}", current=etag(newest))


Proved = tuple[dict[str, Any], Workflow, Workflow | None]
"""A whole workflow, as data and compiled, and what it extends."""


async def _proved(house: House, given: Mapping[str, Any]) -> Proved | Invalid:
    """Proved before anything is locked, which takes some tenths of a second; or what is wrong with it."""
    try:
        return await _proof(house, given)
    except Invalid as error:
        return error


async def _proof(house: House, given: Mapping[str, Any]) -> Proved:
    if given.get("abstract"):
        raise Invalid.field("/workflow/abstract", "expected a workflow for tickets; files alone have abstract ones")
    if given.get("extends") is not None:
        await house.refresh()
    rules = house.rules
    try:
        plain = laid_over(given, rules.newest_bodies)
        flow = compile_workflow(plain)
    except DefinitionError as error:
        where = "".join(f"/{p}" for p in error.path)
        raise Invalid.field(f"/workflow{where}", error.detail) from None
    if flow.key in TAKEN:
        raise Invalid.field("/workflow/key", f"expected another key than {', '.join(sorted(TAKEN))}")
    faults = (await asyncio.to_thread(check, flow)).faults
    base = rules.newest[given["extends"]] if given.get("extends") is not None else None
    if base is not None:
        faults = (*faults, *loosened(base, flow))
    if faults:
        raise Invalid(
            "The workflow is not proved; POST /v1/workflows/check tells the shortest way to each fault.",
            [
                FieldError("/workflow" + "".join(f"/{p}" for p in f.path), f"{f.en}; expected: {f.expected}")
                for f in faults
            ],
        )
    return plain, flow, base


async def _refuse_unknown(house: House, tx: Tx, flow: Workflow, plain: Mapping[str, Any]) -> None:
    """Raises Invalid naming a calendar or department that is not published."""
    calendars = await published.in_force(tx, "calendar")
    if flow.calendar not in calendars:
        raise Invalid.field("/workflow/calendar", f"there is no such calendar; there are: {', '.join(calendars)}")
    codes = list(plain.get("departments", ()))
    unknown = [(n, code) for n, code in enumerate(codes) if code not in house.rules.department_codes]
    if unknown:
        told = "expected the code of a department; GET /v1/departments lists them"
        raise Invalid(
            "A department is not known.", [FieldError(f"/workflow/departments/{n}", told) for n, _ in unknown]
        )


async def _in_force(house: House, tx: Tx) -> Policies:
    """The workflows in force as this transaction sees them: under the publishers' lock nobody changes them."""
    newest = await published.in_force(tx, "workflow")
    flows = {key: await house.workflow(tx, key, version) for key, version in newest.items()}
    return replace(house.rules.policies, flows=flows)


def _refuse_uncovered(in_force: Policies, flows: Mapping[str, Workflow]) -> None:
    missing = in_force.uncovered(replace(in_force, flows=flows))
    if missing:
        raise Conflict(
            f"New tickets would have no workflow: {', '.join(missing)}. Publish another that takes them first.",
            uncovered=missing,
        )


async def retire(house: House, actor: Actor, key: str, reason: str, call: Call) -> Answer:
    """No new ticket is bound to it; those that run go on. Raises Conflict if nothing else would take what it takes."""
    require(actor, "workflows:write")

    async def work(tx: Tx) -> Answer:
        await published.lock(tx)
        in_force = await _in_force(house, tx)
        rows = [row for row in await published.listed(tx, "workflow") if row["key"] == key]
        if not rows:
            raise NotFound(ABSENT)
        if key in in_force.flows:
            _refuse_uncovered(in_force, {k: flow for k, flow in in_force.flows.items() if k != key})
            await published.retire(tx, "workflow", key)
            await audit.write(tx, house.new_id(), "workflow.retired", None, {"key": key, "reason": reason})
            rows = [row for row in await published.listed(tx, "workflow") if row["key"] == key]
        running = await moving.running_tickets(tx)
        told = _published(house, rows, running)
        return Answer(200, to_json({"key": key, "version": rows[0]["version"], **told}))

    answer = await once(house, actor, call, work)
    await house.refresh()
    return answer
