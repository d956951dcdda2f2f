"""Timers take effect: batches for the pump, and the moved clock of a sandbox.

A batch is one transaction: the tickets with the oldest due timers, locked where nobody holds them, everything read again
under the locks, decided in the core, written set-wise. A ticket that cannot be read or decided is left out of its batch
and set aside; if the batch as a whole cannot be written, its tickets are tried one by one. What failed before, or was in
hand when a worker died, is fired alone, after the others: it never stops them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from service import clock
from service.core import clocks, workflow
from service.core.access import require
from service.core.calendar import Budget, CalendarError, Measure
from service.core.draft import Env
from service.core.errors import Busy, Invalid
from service.core.model import SYSTEM, Actor, Decision, Firing
from service.db import audit, batches, saving
from service.db import clocks as timers
from service.db.session import Tx, Unavailable
from service.usecases import views
from service.usecases.house import House
from service.usecases.runs import Run

log = structlog.get_logger()
BATCH = 400
DEAD_AFTER = 10
WINDOW = timedelta(minutes=5)
"""Nothing fires before what is due five minutes earlier: a batch goes no further from its oldest timer."""
TURNS, TURN_SECONDS, LOOKS = 300, 0.05, 5
"""15 s: as long as a pump that is silent still counts as alive."""
ENOUGH_RUNGS = 1000
"""A batch stops taking further tickets when it has decided so many: one with hundreds due does not hold up the rest."""
_moving = asyncio.Lock()


@dataclass(frozen=True, slots=True)
class Fired:
    """What one batch did: tickets taken, rungs fired, and how late each took effect, in seconds."""

    tickets: int
    rungs: int
    lateness_seconds: tuple[float, ...] = ()


NOTHING = Fired(0, 0)


async def fire_due(house: House, *, limit: int = BATCH, run: Run | None = None) -> Fired:
    """Fire one batch of what is due now. Call again until it returns no tickets."""
    fired = await fire_batch(house, limit, run)
    return fired if fired.tickets else await fire_suspect(house, run)


async def fire_batch(house: House, limit: int, run: Run | None = None) -> Fired:
    """Fire the oldest of what is due, up to `limit` tickets; suspects excepted.

    What is due more than five minutes after the oldest that a living pump has in hand waits for it.
    """
    seen: list[str] = []
    for _ in range(TURNS):
        fired = await _fire_batch(house, limit, run, WINDOW)
        if isinstance(fired, Fired):
            return fired
        # a pump that has just taken a ticket has yet to write down that it did, so one look proves nothing
        seen = [*seen, fired.ticket_id] if not fired.in_hand else []
        if len(seen) >= LOOKS and len(set(seen[-LOOKS:])) == 1:
            break  # a person is at work on it: the others need not wait
        await asyncio.sleep(TURN_SECONDS)
    fired = await _fire_batch(house, limit, run, None)
    return fired if isinstance(fired, Fired) else NOTHING


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Somebody holds all that is due within the window; `ticket_id` has the oldest timer."""

    ticket_id: str
    in_hand: bool


async def _fire_batch(house: House, limit: int, run: Run | None, window: timedelta | None) -> Fired | _Waiting:
    ids: list[str] = []
    try:
        async with house.db.transaction(SYSTEM, timed=False) as tx:
            moment = await timers.moment(tx, house.db.now_sql)
            if run is not None and not run.may_fire(moment["database"]):
                return NOTHING
            claimed = await timers.claim(tx, moment["now"], limit, moment["database"], window)
            if not claimed:
                oldest = await timers.oldest_due(tx, moment["now"]) if window is not None else None
                return _Waiting(oldest["ticket"], oldest["in_hand"]) if oldest is not None else NOTHING
            # what fires now fires after whatever others fired until it was locked
            started, timed = clock.monotonic(), replace(tx, now=moment["now"] + claimed[-1]["later"])
            until = min(timed.now, claimed[0]["due_at" if window is None else "oldest"] + WINDOW)
            ids = [row["id"] for row in claimed if row["due_at"] <= until]
            async with run.holding(ids) if run is not None else nullcontext():
                firings, failed = await _fire(house, timed, ids, until=until)
    except Busy:
        return NOTHING
    except Unavailable:
        raise
    except Exception as error:  # whatever one ticket does, the others fire
        log.error("a batch of timers failed; trying its tickets one by one", tickets=len(ids), error=repr(error))
        return _sum([await _fire_alone(house, ticket_id, run) for ticket_id in ids])
    for ticket_id, why in failed.items():
        await _set_aside(house, ticket_id, why)
    return _fired(len(ids), firings, clock.monotonic() - started)


async def fire_suspect(house: House, run: Run | None = None) -> Fired:
    """Fire one ticket that failed before or was in hand when a worker died: alone, whatever it does."""
    async with house.db.transaction(SYSTEM, timed=False) as tx:
        moment = await timers.moment(tx, house.db.now_sql)
        held = run is not None and not run.may_fire(moment["database"])
        ticket_id = None if held else await timers.claim_suspect(tx, moment["now"])
    return NOTHING if ticket_id is None else await _fire_alone(house, ticket_id, run)


async def _fire_alone(house: House, ticket_id: str, run: Run | None) -> Fired:
    started = clock.monotonic()
    try:
        async with run.holding([ticket_id]) if run is not None else nullcontext(), house.db.transaction(SYSTEM) as tx:
            firings, failed = await _fire(house, tx, await timers.lock_free(tx, [ticket_id]))
    except Busy:
        return NOTHING
    except Unavailable:
        raise
    except Exception as error:
        firings, failed = [], {ticket_id: error}
    for why in failed.values():
        await _set_aside(house, ticket_id, why)
    return _fired(1, firings, clock.monotonic() - started)


async def _fire(
    house: House, tx: Tx, ids: list[str], *, until: datetime | None = None, punctual: bool = False
) -> tuple[list[Firing], dict[str, Exception]]:
    """Fire what is due on these locked tickets; what fired, and the tickets that could not be read or decided."""
    if not ids:
        return [], {}
    loaded = await batches.load(tx, ids)
    failed, decisions, rungs = dict(loaded.broken), list[Decision](), 0
    envs: dict[tuple[str, int, str | None], Env] = {}
    for ticket in loaded.tickets:
        try:
            flow = await house.rules_of(tx, ticket)
            alike = (flow.key, flow.version, ticket.district)
            env = envs.get(alike) or envs.setdefault(alike, house.env(tx, flow, ticket.district, punctual=punctual))
            decision = workflow.fire_due(ticket, env, until)
        except Unavailable:
            raise
        except Exception as error:  # its own fault, not the batch's
            failed[ticket.id] = error
            continue
        if decision.firings:
            decisions.append(decision)
            rungs += len(decision.firings)
        if rungs >= ENOUGH_RUNGS and not punctual:
            break
    await saving.save(tx, decisions, house.new_id)
    return [f for d in decisions for f in d.firings], failed


async def _set_aside(house: House, ticket_id: str, error: Exception) -> None:
    async with house.db.transaction(SYSTEM) as tx:
        if not await timers.lock_free(tx, [ticket_id]):
            return  # somebody is at work on it: what comes of that is seen at the next try
        attempts = await timers.set_aside(tx, ticket_id, tx.now, repr(error), DEAD_AFTER)
    log.error(
        "a timer cannot be fired", ticket=ticket_id, attempts=attempts, dead=attempts >= DEAD_AFTER, error=repr(error)
    )


def _fired(taken: int, firings: Iterable[Firing], took_seconds: float) -> Fired:
    """`took_seconds`: from the reading of the time to the commit, when the effect can be seen."""
    late = tuple((f.fired_at - f.due_at).total_seconds() + took_seconds for f in firings)
    return Fired(taken, len(late), late)


def _sum(parts: list[Fired]) -> Fired:
    late = tuple(seconds for part in parts for seconds in part.lateness_seconds)
    return Fired(sum(p.tickets for p in parts), len(late), late)


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
        firings, failed = await _fire(house, replace(tx, now=until), ids, punctual=True)
        for why in failed.values():
            raise why
        if until > tx.now:
            await timers.sandbox_offset(tx, (until - real) // timedelta(microseconds=1))
        return len(firings)


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
