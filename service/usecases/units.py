"""Units are renamed, abolished and merged; people go; somebody is on duty at night.

A change of a unit is a row that every process reads over the published list: routing no longer leads to a unit that is no
more, and nobody can send a ticket there. Its open tickets move in the background, each in a transaction of its own, with
what was done on it; closed ones, and figures of the past, keep the name they had.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog
from pydantic_core import to_json

from service.core import succession
from service.core.access import require
from service.core.errors import Conflict, Invalid, JiebanError, NotFound
from service.core.model import Actor, Role
from service.core.organisation import TOO_SHORT
from service.core.parties import tells_apart
from service.db import audit, saving, tickets, units
from service.db.session import Tx, Unavailable
from service.usecases import views
from service.usecases.answers import Answer, Call, once
from service.usecases.house import House

log = structlog.get_logger()
PAGE = 50
MOST_LEAVING = 5000
LONGEST_DUTY = timedelta(days=31)
CITY = "city"


# --- changes of units ----------------------------------------------------------------------------------------------------


async def change(house: House, actor: Actor, code: str, asked: Mapping[str, Any], call: Call) -> Answer:
    """202 with the change, whose tickets are on their way. Raises NotFound, Invalid, Conflict."""
    require(actor, "units:change")
    await house.refresh()
    if code not in house.rules.department_codes:
        raise NotFound("There is no such department; GET /v1/departments lists them.")
    kind, successor, title = asked["kind"], asked["successor"], asked["title"]
    if (kind == "rename") != (title is not None) or (kind == "rename") == (successor is not None):
        wanted = "a title and no successor" if kind == "rename" else "a successor and no title"
        raise Invalid.field("/title" if kind == "rename" else "/successor", f"expected {wanted} for {kind}")
    if title is not None and not tells_apart(title["zh"]):
        raise Invalid.field("/title/zh", TOO_SHORT)
    if successor is not None and (successor not in house.rules.active_codes or successor == code):
        raise Invalid.field("/successor", "expected the code of another unit that tickets can be sent to")

    async def work(tx: Tx) -> Answer:
        await units.lock(tx)
        gone = {c["code"] for c in await units.changes(tx) if c["successor"] is not None}
        if code in gone:
            raise Conflict(f"{code} is no more already.")
        if successor in gone:
            raise Invalid.field("/successor", "expected the code of another unit that tickets can be sent to")
        total = await units.count_open(tx, code) if successor is not None else 0
        row = {
            "id": house.new_id(),
            "code": code,
            "kind": kind,
            "successor": successor,
            "title": title,
            "reason": asked["reason"],
            "by": {"subject": actor.subject, "role": str(actor.role)},
            "at": tx.now,
            "state": "running" if total else "done",
            "total": total,
            "finished_at": None if total else tx.now,
        }
        await units.add_change(tx, row)
        await units.retire(tx, code, successor is None, title)
        told = {"unit": code, "kind": kind, "successor": successor, "reason": asked["reason"]}
        await audit.write(tx, house.new_id(), "unit.changed", None, told)
        return Answer(202, to_json(_shown({**row, "done": 0, "failed": {}}, house)))

    answer = await once(house, actor, call, work)
    await house.refresh()
    return answer


async def changes(house: House, actor: Actor, code: str) -> list[dict[str, Any]]:
    """The changes of one unit with their progress, newest first."""
    require(actor, "units:change")
    if code not in house.rules.department_codes:
        raise NotFound("There is no such department; GET /v1/departments lists them.")
    async with house.db.transaction(actor, readonly=True) as tx:
        return [_shown(row, house) for row in await units.changes_of(tx, code)]


def _shown(row: Mapping[str, Any], house: House) -> dict[str, Any]:
    names = (
        "id",
        "code",
        "kind",
        "successor",
        "title",
        "reason",
        "by",
        "at",
        "state",
        "total",
        "done",
        "failed",
        "finished_at",
    )
    told: dict[str, Any] = views.localised({n: row[n] for n in names}, house.zone)
    return told


async def move_some(house: House) -> int:
    """Carry on the oldest change whose tickets are on their way; how many were looked at. For the worker, again and again."""
    async with house.db.transaction(_mover({}), readonly=True) as tx:
        row = await units.running(tx)
        ids = await units.open_of(tx, row["code"], list(row["failed"]), PAGE) if row is not None else []
    if row is None:
        return 0
    mover = _mover(row["by"])
    if row["successor"] not in house.rules.active_codes:
        await house.refresh()
    successor = house.rules.overlay.successors.get(row["code"], row["successor"])
    told = {"kind": row["kind"], "reason": row["reason"], "change": row["id"]}
    done, failed = 0, dict[str, str]()
    for ticket_id in ids:
        try:
            done += await _move(house, mover, ticket_id, row["code"], successor, told)
        except Unavailable:
            raise
        except JiebanError as error:
            # it stays where it is, and the change says which and why: somebody decides
            failed[ticket_id] = f"{error.slug}: {error.detail}"
    async with house.db.transaction(mover) as tx:
        if ids:
            await units.progress(tx, row["id"], done, failed)
        else:
            await units.finish(tx, row["id"])
    return len(ids)


def _mover(by: Mapping[str, Any]) -> Actor:
    """The tickets move by order of who changed the unit."""
    return Actor(by.get("subject", "system"), Role(by.get("role", "system")))


async def _move(house: House, mover: Actor, ticket_id: str, old: str, new: str, told: dict[str, Any]) -> int:
    async with house.db.transaction(mover) as tx:
        if await tickets.lock(tx, ticket_id) is None:
            raise Conflict("It cannot be moved by the person who ordered the change.")
        ticket = (await tickets.load(tx, [ticket_id]))[ticket_id].ticket
        env = house.env(tx, await house.rules_of(tx, ticket), ticket.district)
        decision = succession.succeed(ticket, old, new, told, env)
        if decision is None:
            raise Conflict("Nothing of it could be moved.")
        await saving.save(tx, [decision], house.new_id)
    house.ring()
    return 1


# --- people who go -------------------------------------------------------------------------------------------------------


async def leave(house: House, actor: Actor, subject: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What one person has in hand goes to another, or back to the units' queues. Repeating it carries on where it broke off."""
    require(actor, "users:leave")
    to, moved, failed = asked["to"], list[str](), dict[str, str]()
    if to == subject:
        raise Invalid.field("/to", "expected somebody else")
    async with house.db.transaction(actor, readonly=True) as tx:
        ids = await units.in_hand(tx, subject, asked["department"], MOST_LEAVING)
    for ticket_id in ids:
        try:
            async with house.db.transaction(actor) as tx:
                if await tickets.lock(tx, ticket_id) is None:
                    continue
                ticket = (await tickets.load(tx, [ticket_id]))[ticket_id].ticket
                env = house.env(tx, await house.rules_of(tx, ticket), ticket.district)
                decision = succession.hand_on(ticket, subject, to, asked["reason"], env)
                if decision is not None:
                    await saving.save(tx, [decision], house.new_id)
                    moved.append(ticket.number)
        except Unavailable:
            raise
        except JiebanError as error:
            failed[ticket_id] = f"{error.slug}: {error.detail}"
    async with house.db.transaction(actor) as tx:
        told = {"subject": subject, "to": to, "reason": asked["reason"], "tickets": len(moved)}
        await audit.write(tx, house.new_id(), "user.left", None, told)
    house.ring()
    return {"subject": subject, "to": to, "moved": len(moved), "tickets": moved[:200], "failed": failed}


# --- duty rosters --------------------------------------------------------------------------------------------------------


async def add_duty(house: House, actor: Actor, asked: Mapping[str, Any], call: Call) -> Answer:
    """Put a person on the roster of a unit, or of the city for units that have nobody."""
    require(actor, "rosters:write")
    if asked["department"] != CITY and asked["department"] not in house.rules.active_codes:
        raise Invalid.field(
            "/department", "expected `city` or the code of a department; GET /v1/departments lists them"
        )
    if not asked["since"] < asked["until"] <= asked["since"] + LONGEST_DUTY:
        raise Invalid.field("/until", f"expected a time after `since`, at most {LONGEST_DUTY.days} days later")

    async def work(tx: Tx) -> Answer:
        duty_id, phone = house.new_id(), asked["phone"]
        row = {
            **{n: asked[n] for n in ("department", "kind", "subject", "name", "since", "until")},
            "id": duty_id,
            "phone": house.vault.seal(phone, f"duty/{duty_id}") if phone else None,
            "by": actor.subject,
            "created_at": tx.now,
        }
        await units.add_duty(tx, row)
        return Answer(201, to_json(_duty(row, house)), {"Location": f"/v1/rosters/{duty_id}"})

    return await once(house, actor, call, work)


async def duties(
    house: House,
    actor: Actor,
    department: str | None,
    at: datetime | None,
    start: datetime | None,
    end: datetime | None,
    after: str | None,
    limit: int,
) -> tuple[list[dict[str, Any]], str | None]:
    """The roster; `at`: who is on duty then."""
    require(actor, "units:read")
    start, end = (at, at + timedelta(microseconds=1)) if at is not None else (start, end)
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await units.duties(tx, department, start, end, after, limit + 1)
    return [_duty(row, house) for row in rows[:limit]], rows[limit - 1]["id"] if len(rows) > limit else None


async def remove_duty(house: House, actor: Actor, duty_id: str) -> None:
    require(actor, "rosters:write")
    async with house.db.transaction(actor) as tx:
        row = await units.duty(tx, duty_id)
        if row is None or not await units.remove_duty(tx, duty_id):
            raise NotFound("There is no such duty.")
        told = {"duty": duty_id, "department": row["department"], "subject": row["subject"]}
        await audit.write(tx, house.new_id(), "duty.removed", None, told)


def _duty(row: Mapping[str, Any], house: House) -> dict[str, Any]:
    """The number of who is on duty is for calling: it is shown to whoever sees the roster."""
    sealed = row["phone"]
    names = ("id", "department", "kind", "subject", "name", "since", "until")
    phone = house.vault.open(bytes(sealed), f"duty/{row['id']}") if sealed is not None else None
    told: dict[str, Any] = views.localised({**{n: row[n] for n in names}, "phone": phone}, house.zone)
    return told
