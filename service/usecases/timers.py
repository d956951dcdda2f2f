"""Timers that need somebody: listed, armed anew, and released when the clock gate holds them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic_core import to_json

from service.core import workflow
from service.core.access import require
from service.core.errors import Conflict, JiebanError, NotFound
from service.core.model import Actor
from service.db import audit, runs, tickets
from service.db import clocks as timers
from service.db.session import Tx
from service.usecases import views
from service.usecases.answers import Answer, Call, once
from service.usecases.house import House

SHOWN = (
    "id", "name", "cycle", "department", "state", "due_at", "next_fire_at", "attempts", "crashes", "last_error", "dead_at",
)  # fmt: skip


async def listed(
    house: House, actor: Actor, state: str, after: tuple[datetime, str] | None, limit: int
) -> tuple[list[dict[str, Any]], tuple[datetime, str] | None]:
    """Timers that are due, set aside after a failure, or dead; the longest so first."""
    require(actor, "timers:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await timers.listed(tx, state, tx.now, after, limit + 1)
    items = [_shown(row, house) for row in rows[:limit]]
    last = (rows[limit - 1]["place"], rows[limit - 1]["id"]) if len(rows) > limit else None
    return items, last


def _shown(row: Any, house: House) -> dict[str, Any]:
    told = {name: row[name] for name in SHOWN}
    told["ticket"] = {"id": row["ticket_id"], "number": row["number"]}
    localised: dict[str, Any] = views.localised(told, house.zone)
    return localised


async def requeue(house: House, actor: Actor, clock_id: str, call: Call) -> Answer:
    """Project the timer anew and let it fire again: what stood against it is forgotten, who said so is not."""
    require(actor, "timers:act")

    async def work(tx: Tx) -> Answer:
        found = await timers.of_timer(tx, clock_id)
        if found is None or await tickets.lock(tx, found["ticket_id"]) is None:
            raise NotFound("There is no such timer.")
        found = await timers.of_timer(tx, clock_id)  # as it is now, under the lock
        if found["dead_at"] is None and not found["attempts"] and not found["crashes"]:
            raise Conflict("Nothing stands against this timer: it fires when it is due.")
        next_fire_at = await _projected(house, tx, found["ticket_id"], clock_id)
        await timers.rearm(tx, clock_id, next_fire_at)
        was = {name: found[name] for name in ("attempts", "crashes", "last_error")}
        told = {"clock": clock_id, "was": was, "next_fire_at": str(next_fire_at) if next_fire_at else None}
        await audit.write(tx, house.new_id(), "timer.requeued", found["ticket_id"], told)
        return Answer(200, to_json({"id": clock_id, "next_fire_at": views.local(next_fire_at, house.zone)}))

    return await once(house, actor, call, work)


async def _projected(house: House, tx: Tx, ticket_id: str, clock_id: str) -> datetime | None:
    """Raises Conflict with the reason while the ticket still cannot be read or reckoned with."""
    try:
        ticket = (await tickets.load(tx, [ticket_id]))[ticket_id].ticket
        flow = await house.rules_of(tx, ticket)
        return workflow.rearmed(ticket, clock_id, house.env(tx, flow, ticket.district)).next_fire_at
    except JiebanError as error:
        raise Conflict(f"The timer still cannot fire: {error.detail}") from error
    except Exception as error:  # what made it fail before may be anything, and may be there still
        raise Conflict(f"The timer still cannot fire: its ticket makes no sense ({type(error).__name__}).") from error


async def release(house: House, actor: Actor, reason: str, call: Call) -> Answer:
    """The database's clock is right as it is: pumps that are held fire again from their next look on."""
    require(actor, "timers:release")

    async def work(tx: Tx) -> Answer:
        released = [{"worker": row["worker"], "held": row["held"]} for row in await runs.release(tx)]
        await audit.write(tx, house.new_id(), "timers.released", None, {"reason": reason, "released": released})
        return Answer(200, to_json({"released": released}))

    return await once(house, actor, call, work)
