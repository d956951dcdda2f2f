"""Timers take effect: batches for the pump, and the moved clock of a sandbox.

A batch is one transaction: due ids without locks, the tickets' row locks (skipping those held), everything loaded again
under them, decided in the core, written set-wise. If a batch fails, its tickets are tried one by one and the one that
cannot be fired is set aside, so that it never stops the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from service.core import clocks, workflow
from service.core.access import require
from service.core.calendar import Budget, CalendarError, Measure
from service.core.errors import Busy, Invalid
from service.core.model import SYSTEM, Actor
from service.db import audit, tickets
from service.db import clocks as timers
from service.db.session import Tx, Unavailable
from service.usecases import views
from service.usecases.house import House

log = structlog.get_logger()
BATCH = 200
DEAD_AFTER = 10
_moving = asyncio.Lock()


@dataclass(frozen=True, slots=True)
class Fired:
    """What one batch did: tickets touched, rungs fired, the largest lateness in seconds."""

    tickets: int
    rungs: int
    lateness_seconds: float


NOTHING = Fired(0, 0, 0.0)


async def fire_due(house: House, *, limit: int = BATCH) -> Fired:
    """Fire one batch of what is due now. Call again until it returns no tickets."""
    ids: list[str] = []
    try:
        async with house.db.transaction(SYSTEM) as tx:
            ids, _ = await timers.due_tickets(tx, tx.now, limit)
            ids = await timers.lock_free(tx, ids)
            return await _fire(house, tx, ids)
    except Busy:
        return NOTHING
    except Unavailable:
        raise
    except Exception as error:  # whatever one ticket does, the others fire
        log.error("a batch of timers failed; trying its tickets one by one", tickets=len(ids), error=repr(error))
    done = [await _fire_alone(house, ticket_id) for ticket_id in ids]
    return Fired(
        sum(f.tickets for f in done), sum(f.rungs for f in done), max((f.lateness_seconds for f in done), default=0.0)
    )


async def _fire_alone(house: House, ticket_id: str) -> Fired:
    try:
        async with house.db.transaction(SYSTEM) as tx:
            return await _fire(house, tx, await timers.lock_free(tx, [ticket_id]))
    except Busy:
        return NOTHING
    except Unavailable:
        raise
    except Exception as error:
        async with house.db.transaction(SYSTEM) as tx:
            attempts = await timers.set_aside(tx, ticket_id, tx.now, repr(error), DEAD_AFTER)
        log.error("a timer cannot be fired", ticket=ticket_id, attempts=attempts, dead=attempts >= DEAD_AFTER)
        return Fired(1, 0, 0.0)


async def _fire(house: House, tx: Tx, ids: list[str], *, punctual: bool = False) -> Fired:
    if not ids:
        return NOTHING
    decisions = []
    for stored in (await tickets.load(tx, ids)).values():
        flow = await house.rules_of(tx, stored.ticket)
        env = house.env(tx, flow, stored.ticket.district, punctual=punctual)
        decision = workflow.fire_due(stored.ticket, env)
        if decision.firings:
            decisions.append(decision)
    await tickets.save(tx, decisions, house.new_id)
    firings = [f for d in decisions for f in d.firings]
    late = max(((f.fired_at - f.due_at).total_seconds() for f in firings), default=0.0)
    return Fired(len(ids), len(firings), late)


async def seconds_to_next(house: House) -> float | None:
    """How long until the next timer is due; None when there is none."""
    async with house.db.transaction(SYSTEM, readonly=True) as tx:
        at = await timers.next_fire_at(tx)
        return None if at is None else (at - tx.now).total_seconds()


# --- the sandbox's clock -------------------------------------------------------------------------------------------------


async def sandbox_now(house: House, actor: Actor) -> dict[str, Any]:
    require(actor, "sandbox")
    async with house.db.transaction(SYSTEM, readonly=True) as tx:
        return {"now": views.local(tx.now, house.zone)}


async def advance(house: House, actor: Actor, to: datetime | None, by: timedelta | None) -> dict[str, Any]:
    """Move the test clock forward; everything due on the way takes effect, in order, at its own instant."""
    require(actor, "sandbox")
    async with _moving:
        async with house.db.transaction(SYSTEM) as tx:
            try:
                now, target = tx.now, to if to is not None else tx.now + (by or timedelta())
            except OverflowError:
                raise Invalid.field("/advance_by", "expected at most ten years") from None
            if target < now:
                raise Invalid.field("/advance_to", f"expected an instant from {views.local(now, house.zone)} on")
            if target - now > timedelta(days=3660):
                raise Invalid.field("/advance_to", "expected at most ten years")
            await audit.write(tx, house.new_id(), "sandbox.advanced", None, {"by": actor.subject, "to": str(target)})
        rungs = 0
        while (step := await _step(house, target)) is not None:
            rungs += step
    return {"now": views.local(target, house.zone), "fired": rungs}


async def _step(house: House, target: datetime) -> int | None:
    """Fire the earliest timers up to `target` and set the clock to where they end; None when nothing is left."""
    async with house.db.transaction(SYSTEM) as tx:
        offset = await timers.lock_sandbox(tx)
        tx = replace(tx, now=await tx.value(f"SELECT {house.db.now_sql}"))  # after the lock, not before
        real = tx.now - timedelta(microseconds=offset)
        # once the clock has passed the target, what falls due while we work is the pump's
        until = max(target, tx.now)
        ids, more = await timers.due_tickets(tx, until, BATCH)
        if not ids:
            if tx.now < target:
                await timers.sandbox_offset(tx, (target - real) // timedelta(microseconds=1))
            return None
        if more:
            until = await timers.latest_of(tx, ids, until)
        ids = await timers.lock_free(tx, ids, wait=True)
        fired = await _fire(house, replace(tx, now=until), ids, punctual=True)
        if until > tx.now:
            await timers.sandbox_offset(tx, (until - real) // timedelta(microseconds=1))
        return fired.rungs


# --- the public calculator -----------------------------------------------------------------------------------------------


def what_if(house: House, anchor: datetime, measure: str, budget: str, calendar_key: str | None) -> dict[str, Any]:
    """Due time of a budget from an anchor, with its explanation; nothing is stored."""
    if measure not in set(Measure):
        raise Invalid.field("/measure", f"expected one of: {', '.join(Measure)}")
    key = calendar_key or "cn-jinan"
    if key not in house.rules.newest_calendars:
        raise Invalid.field("/calendar", f"expected one of: {', '.join(house.rules.newest_calendars)}")
    calendar = house.rules.newest_calendars[key]
    try:
        parsed = Budget.parse(Measure(measure), budget)
    except CalendarError as error:
        raise Invalid.field("/budget", str(error)) from None
    try:
        told = calendar.explain(anchor, parsed)
        due_at = calendar.add(anchor, parsed)
    except CalendarError as error:
        raise Invalid.field("/anchor", str(error)) from None
    told["counting_rule"] = clocks.COUNTING_RULES[parsed.measure]
    answer: Mapping[str, Any] = {
        "due_at": due_at,
        "provisional": calendar.is_provisional(due_at, parsed.measure),
        "explanation": told,
    }
    return dict(views.localised(answer, house.zone))
