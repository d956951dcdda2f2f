"""Running tickets are moved to another workflow version: look first, order it, see it done, take it back.

An order and the state of each of its tickets stand in the database; workers carry it out in batches under the tickets'
locks, each ticket together with its own mark, so a worker may die at any instant and another goes on where it was. A
ticket that changed meanwhile is judged as it is then.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import structlog
from pydantic_core import to_json

from service.core import migrating
from service.core.access import require
from service.core.definitions import Workflow
from service.core.errors import Conflict, Invalid, NotFound
from service.core.migrating import Moved, Obstacle, Plan, planned
from service.core.model import SYSTEM, Actor, Role, Ticket
from service.db import audit, batches, saving
from service.db import clocks as timers
from service.db import definitions as published
from service.db import migrations as stored
from service.db.session import Tx, Unavailable
from service.usecases import views
from service.usecases.answers import Answer, Call, once
from service.usecases.calendars import NIL, SETTLE_SECONDS, Moves
from service.usecases.house import House

log = structlog.get_logger()
BATCH = 50
"""Tickets locked at a time: nobody who works on one of them waits noticeably."""
PAGE = 200
SHOWN = 50
WAITING = {"running": "pending", "undoing": "undoing"}
"""State of an order -> state of its tickets that are still to be looked at."""
ABSENT = "There is no such migration; GET /v1/workflows/migrations lists them."


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tickets are to go where. `to_version` None: the newest. `clocks`: a clock mapped to None ends."""

    from_key: str
    from_version: int
    to_key: str
    to_version: int | None
    stages: Mapping[str, str]
    clocks: Mapping[str, str | None]
    reason: str


async def _planned(house: House, tx: Tx, wanted: Wanted, migration_id: str) -> Plan:
    """Raises NotFound, Invalid (versions, mappings), Conflict (the target is out of use)."""
    source = await _version(house, tx, wanted.from_key, wanted.from_version, "/from_version")
    versions = await published.versions(tx, "workflow", wanted.to_key)
    if not versions:
        raise Invalid.field("/to_key", "there is no such workflow; GET /v1/workflows lists them")
    if versions[0]["retired_at"] is not None:
        raise Conflict(f"The workflow {wanted.to_key!r} is out of use; publish it anew first.")
    number = wanted.to_version if wanted.to_version is not None else versions[0]["version"]
    target = await _version(house, tx, wanted.to_key, number, "/to_version")
    if source is target:
        raise Invalid.field("/to_version", "expected another version than the tickets are on")
    plan = planned(migration_id, source, target, wanted.stages, wanted.clocks, wanted.reason)
    wrong = migrating.check(plan)
    if wrong:
        raise Invalid("The mapping does not fit the two versions.", wrong)
    return plan


async def _version(house: House, tx: Tx, key: str, version: int, pointer: str) -> Workflow:
    try:
        return await house.workflow(tx, key, version)
    except NotFound:
        if not await published.versions(tx, "workflow", key):
            raise NotFound("There is no such workflow; GET /v1/workflows lists them.") from None
        raise Invalid.field(pointer, f"there is no version {version} of {key}") from None


# --- looking ahead ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Preview:
    """What a migration would do if it were carried out now."""

    tickets: int = 0
    can_move: int = 0
    stages: Counter[tuple[str, str]] = field(default_factory=Counter)
    stuck_in: Counter[str] = field(default_factory=Counter)
    obstacles: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    told: dict[tuple[str, str], Obstacle] = field(default_factory=dict)
    moves: Moves = field(default_factory=Moves)
    breaches: Counter[str] = field(default_factory=Counter)
    breached: list[dict[str, Any]] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)

    def add(self, ticket: Ticket, result: Moved | tuple[Obstacle, ...], house: House) -> None:
        self.tickets += 1
        named = {"id": ticket.id, "number": ticket.number}
        if not isinstance(result, Moved):
            self.stuck_in[ticket.stage] += 1
            for obstacle in result:
                key = (obstacle.code, obstacle.name)
                self.told[key] = obstacle
                self.obstacles.setdefault(key, []).append(named)
            return
        self.can_move += 1
        self.stages[result.stage_before, result.stage_after] += 1
        shifted = {s.clock_id: s for s in result.shifts}
        now = result.decision.after.updated_at
        for clock in (c for c in result.decision.after.clocks if c.open):
            shift = shifted.get(clock.id)
            before, after = (shift.before, shift.after) if shift else (clock.due_at, clock.due_at)
            self.moves.add(named, clock.name, before, after, now, house.zone)
        self.breaches.update(result.breached)
        self.breached += [{"ticket": named, "clock": name} for name in result.breached]
        self.ended.update(result.ended)

    def as_dict(self, plan: Plan) -> dict[str, Any]:
        """JSON-able, with the titles of the stages."""
        return {
            "dry_run": True,
            "from": {"key": plan.source.key, "version": plan.source.version},
            "to": {"key": plan.target.key, "version": plan.target.version},
            "tickets": self.tickets,
            "can_move": self.can_move,
            "cannot_move": self.tickets - self.can_move,
            "stages": [
                {
                    "stage": before, "title": plan.source.stages[before][1],
                    "to": after, "to_title": plan.target.stages[after][1], "tickets": count,
                }
                for (before, after), count in sorted(self.stages.items())
            ],
            "stuck_in": dict(sorted(self.stuck_in.items())),
            "obstacles": [
                {
                    "code": code, "name": name, "zh": self.told[code, name].zh, "en": self.told[code, name].en,
                    "tickets": len(found), "first": found[:SHOWN],
                }
                for (code, name), found in sorted(self.obstacles.items())
            ],
            "due_times": self.moves.as_dict(),
            "breaches": {"clocks": self.breaches.total(), "by_clock": dict(self.breaches), "first": self.breached[:SHOWN]},
            "ended_clocks": dict(self.ended),
        }  # fmt: skip


async def preview(house: House, actor: Actor, wanted: Wanted) -> dict[str, Any]:
    """Every ticket moved in thought, nothing saved: how many from which stage, which cannot and why, what becomes due when."""
    require(actor, "workflows:write")
    told, after = Preview(), NIL
    while True:
        async with house.db.transaction(SYSTEM, readonly=True) as tx:
            plan = await _planned(house, tx, wanted, NIL)
            ids = await stored.tickets_on(tx, plan.source.key, plan.source.version, after, PAGE)
            if not ids:
                return told.as_dict(plan)
            for ticket in (await batches.load(tx, ids)).tickets:
                env = house.env(tx, await house.rules_of(tx, ticket), ticket.district)
                told.add(ticket, migrating.migrate(ticket, plan, replace(env, actor=actor)), house)
                await asyncio.sleep(0)  # whoever shares this loop goes first
        after = ids[-1]


# --- ordering ---------------------------------------------------------------------------------------------------------


async def start(house: House, actor: Actor, wanted: Wanted, call: Call) -> Answer:
    """202 with the order; workers carry it out. Raises what the plan is refused with, and Conflict while another runs."""
    require(actor, "workflows:write")

    async def work(tx: Tx) -> Answer:
        await published.lock(tx)
        migration_id = house.new_id()
        plan = await _planned(house, tx, wanted, migration_id)
        await _refuse_second(tx, plan.source.key, plan.source.version)
        row = {
            "id": migration_id, "from_key": plan.source.key, "from_version": plan.source.version,
            "to_key": plan.target.key, "to_version": plan.target.version, "stages": dict(wanted.stages),
            "clocks": dict(wanted.clocks), "reason": wanted.reason, "ordered_by": _said(actor), "started_at": tx.now,
        }  # fmt: skip
        await stored.begin(tx, row)
        await stored.enlist(tx, row, tx.now)
        what = {"migration": migration_id, "from": [plan.source.key, plan.source.version],
                "to": [plan.target.key, plan.target.version], "reason": wanted.reason}  # fmt: skip
        await audit.write(tx, house.new_id(), "workflow.migration_ordered", None, what)
        return await _answer(house, tx, migration_id, 202)

    return await once(house, actor, call, work)


async def _refuse_second(tx: Tx, key: str, version: int) -> None:
    other = await stored.unfinished_from(tx, key, version)
    if other is not None:
        raise Conflict(f"A migration from {key} version {version} is under way.", migration=other)


def _said(actor: Actor) -> dict[str, Any]:
    return {"subject": actor.subject, "role": str(actor.role), "departments": list(actor.departments)}


def _actor(said: Mapping[str, Any]) -> Actor:
    return Actor(said["subject"], Role(said["role"]), tuple(said["departments"]))


async def _take(tx: Tx, migration_id: str, why_not: str) -> None:
    """Lock an order that may still be changed; raises NotFound, or Conflict (undone, or another one is under way)."""
    await published.lock(tx)
    row = await stored.find(tx, migration_id, lock=True)
    if row is None:
        raise NotFound(ABSENT)
    if row["state"] not in {"running", "done"}:
        raise Conflict(f"This migration is {row['state']}{why_not}.", state=row["state"])
    if row["state"] == "done":
        await _refuse_second(tx, row["from_key"], row["from_version"])


async def retry(house: House, actor: Actor, migration_id: str, call: Call) -> Answer:
    """Tickets that could not be moved are judged again."""
    require(actor, "workflows:write")

    async def work(tx: Tx) -> Answer:
        await _take(tx, migration_id, ": its tickets are not moved any more")
        if await stored.turn(tx, migration_id, "failed", "pending"):
            await stored.set_state(tx, migration_id, state="running", finished_at=None)
        return await _answer(house, tx, migration_id, 202)

    return await once(house, actor, call, work)


async def undo(house: House, actor: Actor, migration_id: str, reason: str, call: Call) -> Answer:
    """202: tickets that nobody acted on since go back to where they were; the others stay and are listed."""
    require(actor, "workflows:write")

    async def work(tx: Tx) -> Answer:
        await _take(tx, migration_id, " already")
        await stored.turn(tx, migration_id, "pending", "skipped", "the migration was undone before its turn")
        await stored.turn(tx, migration_id, "moved", "undoing")
        await stored.set_state(tx, migration_id, state="undoing", undo_reason=reason, undone_by=_said(actor))
        what = {"migration": migration_id, "reason": reason}
        await audit.write(tx, house.new_id(), "workflow.migration_undone", None, what)
        return await _answer(house, tx, migration_id, 202)

    return await once(house, actor, call, work)


# --- how it stands ----------------------------------------------------------------------------------------------------


async def shown(house: House, actor: Actor, migration_id: str) -> dict[str, Any]:
    """One order: progress, and why tickets stayed."""
    require(actor, "migrations:read")
    async with house.db.transaction(SYSTEM, readonly=True) as tx:
        row = await stored.find(tx, migration_id)
        if row is None:
            raise NotFound(ABSENT)
        return await _shown(house, tx, row)


async def _answer(house: House, tx: Tx, migration_id: str, status: int) -> Answer:
    told = await _shown(house, tx, await stored.find(tx, migration_id))
    return Answer(status, to_json(told), {"Location": f"/v1/workflows/migrations/{migration_id}"})


async def _shown(house: House, tx: Tx, row: Any) -> dict[str, Any]:
    counts = (await stored.counts(tx, [row["id"]]))[row["id"]]
    why = [{"state": r["state"], "reason": r["reason"], "tickets": r["tickets"], "example": r["example"]}
           for r in await stored.reasons(tx, row["id"])]  # fmt: skip
    return {**_summary(house, row, counts), "why": why}


def _summary(house: House, row: Any, counts: Mapping[str, int]) -> dict[str, Any]:
    total = sum(counts.values())
    waiting = counts.get("pending", 0) + counts.get("undoing", 0)
    told = {
        "id": row["id"],
        "from": {"key": row["from_key"], "version": row["from_version"]},
        "to": {"key": row["to_key"], "version": row["to_version"]},
        "stage_mapping": row["stages"],
        "clock_mapping": row["clocks"],
        "reason": row["reason"],
        "ordered_by": row["ordered_by"]["subject"],
        "state": row["state"],
        "total": total,
        "done": total - waiting,
        "tickets": {state: counts.get(state, 0) for state in STATES},
        "started_at": row["started_at"],
        "finished_at": row["finished_at"],
        "undo": None,
    }
    if row["undone_by"] is not None:
        told["undo"] = {
            "by": row["undone_by"]["subject"],
            "reason": row["undo_reason"],
            "finished_at": row["undone_at"],
        }
    return dict(views.localised(told, house.zone))


STATES = ("pending", "moved", "failed", "skipped", "undoing", "undone", "kept")


async def listed(
    house: House, actor: Actor, key: str | None, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """Orders, the newest first, with the place to go on from."""
    require(actor, "migrations:read")
    async with house.db.transaction(SYSTEM, readonly=True) as tx:
        rows = await stored.listed(tx, key, after, limit + 1)
        counts = await stored.counts(tx, [row["id"] for row in rows[:limit]])
    items = [_summary(house, row, counts[row["id"]]) for row in rows[:limit]]
    return items, rows[limit - 1]["id"] if len(rows) > limit else None


async def tickets_of(
    house: House, actor: Actor, migration_id: str, state: str | None, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """The tickets of an order, each with its state and, where it stayed, the reason."""
    require(actor, "migrations:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        if await stored.find(tx, migration_id) is None:
            raise NotFound(ABSENT)
        rows = await stored.tickets_of(tx, migration_id, state, after, limit + 1)
    items = [
        {"ticket": {"id": r["ticket_id"], "number": r["number"]}, "state": r["state"], "reason": r["reason"] or None,
         "stage_before": r["stage_before"], "stage_after": r["stage_after"], "at": views.local(r["at"], house.zone)}
        for r in rows[:limit]
    ]  # fmt: skip
    return items, rows[limit - 1]["ticket_id"] if len(rows) > limit else None


# --- carrying it out --------------------------------------------------------------------------------------------------


async def move_some(house: House, *, limit: int = BATCH) -> int:
    """One batch of one order; how many tickets were looked at (0: nothing is left to do now)."""
    async with house.db.transaction(SYSTEM) as tx:
        orders = await stored.unfinished(tx)
        for row in orders:
            claimed = await stored.claim(tx, row["id"], WAITING[row["state"]], limit)
            if claimed:
                return await _move(house, tx, row, {r["ticket_id"]: r for r in claimed})
    for row in orders:
        await _finish(house, row["id"])
    return 0


async def _finish(house: House, migration_id: str) -> None:
    """Nothing waits any more: once more for what processes that had not heard of the new version bound to the old one."""
    async with house.db.transaction(SYSTEM) as tx:
        row = await stored.lock_to_finish(tx, migration_id)
        if row is None:
            return
        if row["state"] == "undoing":
            await stored.set_state(tx, migration_id, state="undone", undone_at=tx.now)
            return
        settled = row["started_at"] + timedelta(seconds=SETTLE_SECONDS)
        if not await stored.enlist(tx, row, settled) and tx.now > settled:
            await stored.set_state(tx, migration_id, state="done", finished_at=tx.now)


async def _move(house: House, tx: Tx, order: Any, claimed: Mapping[str, Any]) -> int:
    """Under the tickets' locks; those that somebody holds keep their turn, and if all are held the first is waited for."""
    ids = await timers.lock_free(tx, list(claimed)) or await timers.lock_free(tx, list(claimed)[:1], wait=True)
    tx = replace(tx, now=await tx.value(f"SELECT {house.db.now_sql}"))
    loaded = await batches.load(tx, ids)
    marks = [_failed(ticket_id, error) for ticket_id, error in loaded.broken.items()]
    judge = await _judge(house, tx, order, ids)
    moved: list[Moved] = []
    for ticket in loaded.tickets:
        try:
            result = await judge(ticket, claimed[ticket.id])
        except Unavailable:
            raise
        except Exception as error:  # its own fault: the others are moved
            log.error("a ticket cannot be migrated", ticket=ticket.id, error=repr(error))
            marks.append(_failed(ticket.id, error))
            continue
        if isinstance(result, Moved):
            moved.append(result)
        else:
            marks.append(result)
    marks += await _save(house, tx, moved, "moved" if order["state"] == "running" else "undone")
    await stored.mark(tx, order["id"], marks)
    return len(ids)


def _failed(ticket_id: str, error: Exception) -> dict[str, Any]:
    return {"ticket_id": ticket_id, "state": "failed", "reason": f"it cannot be judged: {error!r}"[:500]}


async def _judge(house: House, tx: Tx, order: Any, ids: Sequence[str]) -> Any:
    """What is asked of each ticket of an order: gives `Moved`, or the mark of one that stays."""
    there = await house.workflow(tx, order["from_key"], order["from_version"])
    here = await house.workflow(tx, order["to_key"], order["to_version"])
    undoing = order["state"] == "undoing"
    by = _actor(order["undone_by"] if undoing else order["ordered_by"])
    acted = await stored.acted_on(tx, order["id"], ids) if undoing else set()
    if undoing:
        plan = Plan(order["id"], here, there, {}, {}, order["undo_reason"])
    else:
        plan = planned(order["id"], there, here, order["stages"], order["clocks"], order["reason"])

    async def judge(ticket: Ticket, row: Any) -> Moved | dict[str, Any]:
        stays = {"ticket_id": ticket.id, "state": "kept" if undoing else "skipped"}
        if not ticket.open:
            return {**stays, "reason": "it was closed meanwhile 工单已办结"}
        if (ticket.workflow_key, ticket.workflow_version) != (plan.source.key, plan.source.version):
            where = f"{ticket.workflow_key} version {ticket.workflow_version}"
            return {**stays, "reason": f"it went to {where} meanwhile 已转入其他流程"}
        if ticket.id in acted:
            return {**stays, "reason": "somebody acted on it since 迁移后已有人办理"}
        env = replace(house.env(tx, await house.rules_of(tx, ticket), ticket.district), actor=by)
        if undoing:
            result = migrating.undo(ticket, plan, row["kept"], row["stage_after"], env)
        else:
            result = migrating.migrate(ticket, plan, env)
        if isinstance(result, Moved):
            return result
        if result[0].code != "closed" and not undoing:
            stays["state"] = "failed"
        return {**stays, "reason": "; ".join(o.text() for o in result)}

    return judge


async def _save(house: House, tx: Tx, moved: list[Moved], state: str) -> list[dict[str, Any]]:
    """All at once; if that cannot be written, one by one, so that one ticket's fault is its own. Gives their marks."""
    if not moved:
        return []
    try:
        async with tx.savepoint():
            saved = await saving.save(tx, [m.decision for m in moved], house.new_id)
        return [_moved(m, ticket, state) for m, ticket in zip(moved, saved, strict=True)]
    except Unavailable:
        raise
    except Exception as error:
        if len(moved) == 1:
            log.error("a migrated ticket cannot be saved", ticket=moved[0].decision.after.id, error=repr(error))
            return [_failed(moved[0].decision.after.id, error)]
    return [mark for one in moved for mark in await _save(house, tx, [one], state)]


def _moved(m: Moved, saved: Ticket, state: str) -> dict[str, Any]:
    mark: dict[str, Any] = {"ticket_id": saved.id, "state": state, "reason": ""}
    if state == "moved":
        mark |= {"stage_before": m.stage_before, "stage_after": m.stage_after, "seq": saved.last_seq, "kept": m.kept}
    return mark
