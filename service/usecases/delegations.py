"""Deputies (代理审批): an approver who is absent has his or her requests decided by another for a time.

The deputy decides as the absent one would, with that role and for those units, and the history names both. What one of
the two may not decide the deputy does not decide either: four eyes look at both names.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic_core import to_json

from service.core.access import require
from service.core.errors import Conflict, Forbidden, Invalid, NotFound
from service.core.model import Actor, Role
from service.db import audit, procedure
from service.db.session import Tx
from service.usecases import views
from service.usecases.answers import Answer, Call, once
from service.usecases.house import House

LONGEST = timedelta(days=92)
EVERYBODYS = frozenset({Role.SUPERVISOR, Role.AUDITOR, Role.ADMIN})
DECIDING = frozenset({Role.HANDLER, Role.DISPATCHER, Role.SUPERVISOR})


async def make(house: House, actor: Actor, form: Mapping[str, Any], call: Call) -> Answer:
    """Name a deputy. Raises Invalid, Forbidden (for another person: administrators only)."""
    require(actor, "delegations:act")
    delegator, role, departments = _whose(house, actor, form)
    if form["deputy"] == delegator:
        raise Invalid.field("/deputy", "expected somebody else")

    async def work(tx: Tx) -> Answer:
        starts, ends = form["starts_at"], form["ends_at"]
        if ends <= max(starts, tx.now):
            raise Invalid.field("/ends_at", "expected a time after starts_at, and in the future")
        if ends - starts > LONGEST:
            raise Invalid.field("/ends_at", f"expected at most {LONGEST.days} days")
        row = {
            "id": house.new_id(), "delegator": delegator, "deputy": form["deputy"], "role": role,
            "departments": departments, "starts_at": starts, "ends_at": ends, "reason": form["reason"],
            "made_by": actor.subject, "made_at": tx.now,
        }  # fmt: skip
        await procedure.delegate(tx, row)
        told = {"delegation": row["id"], "delegator": delegator, "deputy": form["deputy"]}
        await audit.write(tx, house.new_id(), "delegation.made", None, told)
        return Answer(201, to_json(_shown(house, {**row, "revoked_by": None, "revoked_at": None}, tx)))

    return await once(house, actor, call, work)


def _whose(house: House, actor: Actor, form: Mapping[str, Any]) -> tuple[str, str, list[str]]:
    if form["delegator"] is None or form["delegator"] == actor.subject:
        if form["role"] or form["departments"]:
            raise Invalid.field("/role", "expected no role and departments: a delegator gives his or her own")
        if actor.role not in DECIDING:
            raise Forbidden(f"Requests are decided by: {', '.join(sorted(DECIDING))}.")
        return actor.subject, str(actor.role), list(actor.departments)
    if actor.role is not Role.ADMIN:
        raise Forbidden("A deputy of somebody else is named by an administrator.")
    departments = form["departments"] or []
    if form["role"] is None:
        raise Invalid.field("/role", "expected: the role that is delegated")
    for n, code in enumerate(departments):
        if code not in house.rules.department_codes:
            raise Invalid.field(
                f"/departments/{n}", "expected the code of a department; GET /v1/departments lists them"
            )
    if (form["role"] == Role.HANDLER) != bool(departments):
        raise Invalid.field("/departments", "expected the units of a handler, and none for the other roles")
    return form["delegator"], form["role"], departments


async def revoke(house: House, actor: Actor, delegation_id: str, call: Call) -> Answer:
    """The delegator, who made it or an administrator ends it before its time."""
    require(actor, "delegations:act")

    async def work(tx: Tx) -> Answer:
        found = await procedure.delegation(tx, delegation_id)
        if found is None:
            raise NotFound("There is no such delegation, or it is not yours to see.")
        if actor.role is not Role.ADMIN and actor.subject not in {found["delegator"], found["made_by"]}:
            raise Forbidden("The delegator ends it, or an administrator.")
        if found["revoked_at"] is not None or found["ends_at"] <= tx.now:
            raise Conflict("This delegation is over already.")
        await procedure.end_delegation(tx, delegation_id)
        await audit.write(tx, house.new_id(), "delegation.revoked", None, {"delegation": delegation_id})
        ended = {**dict(found), "revoked_by": actor.subject, "revoked_at": tx.now}
        return Answer(200, to_json(_shown(house, ended, tx)))

    return await once(house, actor, call, work)


async def listed(
    house: House, actor: Actor, active: bool | None, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """The caller's own, as delegator or deputy; supervisors, auditors and administrators see all. Newest first."""
    require(actor, "delegations:read")
    party = None if actor.role in EVERYBODYS else actor.subject
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await procedure.delegations(tx, party, active, after, limit + 1)
        items = [_shown(house, dict(row), tx) for row in rows[:limit]]
    return items, rows[limit - 1]["id"] if len(rows) > limit else None


async def acting(house: House, actor: Actor, on_behalf_of: str) -> Actor:
    """The caller with the role and the units of the absent approver. Raises Forbidden where no delegation is in force."""
    async with house.db.transaction(actor, readonly=True) as tx:
        found = await procedure.in_force(tx, on_behalf_of, actor.subject)
    if found is None:
        raise Forbidden("You are not this person's deputy now; GET /v1/delegations lists yours.")
    return Actor(actor.subject, Role(found["role"]), tuple(found["departments"]))


def _shown(house: House, row: Mapping[str, Any], tx: Tx) -> dict[str, Any]:
    told = {name: row[name] for name in procedure.DELEGATION}
    told["active"] = row["starts_at"] <= tx.now < row["ends_at"] and row["revoked_at"] is None
    localised: dict[str, Any] = views.localised(told, house.zone)
    return localised
