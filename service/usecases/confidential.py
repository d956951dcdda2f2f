"""Looking at confidential tickets, each look an event; revealing with a reason; recusal of persons and units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic_core import to_json

from service.core import confidence, workflow
from service.core.access import require
from service.core.errors import Invalid, NotFound
from service.core.model import SYSTEM, Actor, Event
from service.db import audit, saving, tickets
from service.db.session import Tx
from service.usecases.answers import Answer, Call, once
from service.usecases.house import House
from service.usecases.intake import etag

ABSENT = "There is no such ticket, or it is not yours to see."


async def viewed(house: House, actor: Actor, ticket_id: str, what: str, masked: Sequence[str]) -> None:
    """Who looked, at what, and what was kept from him or her. A look changes nothing: the version stays."""
    async with house.db.transaction(actor) as tx:
        locked = await tickets.lock(tx, ticket_id)
        if locked is None:
            raise NotFound(ABSENT)
        tx = replace(tx, now=await tx.value(f"SELECT {house.db.now_sql}"))
        ticket = (await tickets.load(tx, [ticket_id]))[ticket_id].ticket
        if any(c.next_fire_at is not None and c.next_fire_at <= tx.now for c in ticket.clocks):
            # what was due before stands before it in the history
            env = house.env(tx, await house.rules_of(tx, ticket), ticket.district)
            [ticket] = await saving.save(tx, [workflow.fire_due(ticket, env)], house.new_id)
        event = Event("ticket.viewed", tx.now, actor, {"what": what, "masked": list(masked)})
        await saving.append(tx, ticket, [event], house.new_id)


async def reveal(house: House, actor: Actor, ref: str, reason: str, call: Call) -> Answer:
    """The whole of a confidential ticket to a city-wide role that must know, for a reason; an event and in the audit."""
    require(actor, "tickets:reveal")

    async def work(tx: Tx) -> Answer:
        ticket_id = await tickets.lock(tx, ref)
        if ticket_id is None:
            raise NotFound(ABSENT)
        tx = replace(tx, now=await tx.value(f"SELECT {house.db.now_sql}"))
        stored = (await tickets.load(tx, [ticket_id]))[ticket_id]
        env = house.env(tx, await house.rules_of(tx, stored.ticket), stored.ticket.district)
        decision = workflow.note(stored.ticket, "ticket.revealed", {"reason": reason}, env)
        [after] = await saving.save(tx, [decision], house.new_id)
        await audit.write(tx, house.new_id(), "ticket.revealed", ticket_id, {"reason": reason})
        return Answer(200, to_json(house.show(after, stored.row, tx.now, SYSTEM)), {"ETag": etag(after)})

    return await once(house, actor, call, work)


async def recuse(house: House, actor: Actor, ref: str, form: Mapping[str, Any], call: Call) -> Answer:
    """Keep a person or a unit away from a ticket. 201 with who is recused now; without a name: the caller."""
    require(actor, "tickets:act")
    form = {**form, "subject": form.get("subject") or (None if form.get("department") else actor.subject)}
    if form["department"] and form["subject"]:
        raise Invalid.field("/subject", "expected either a department or a person")
    if form["department"] and form["department"] not in house.rules.department_codes:
        raise Invalid.field("/department", "expected the code of a department; GET /v1/departments lists them")

    async def work(tx: Tx) -> Answer:
        return await _change(house, actor, tx, ref, lambda t, env: confidence.recuse(
            t, confidence.name_of(form), form["reason"], env), 201)  # fmt: skip

    return await once(house, actor, call, work)


async def lift(house: House, actor: Actor, ref: str, who: str, reason: str, call: Call) -> Answer:
    require(actor, "tickets:act")

    async def work(tx: Tx) -> Answer:
        return await _change(house, actor, tx, ref, lambda t, env: confidence.lift(t, who, reason, env), 200)

    return await once(house, actor, call, work)


async def _change(house: House, actor: Actor, tx: Tx, ref: str, decide: Any, status: int) -> Answer:
    """Who recuses himself does not see what he has just written, so it is written for him once he was seen to see it."""
    ticket_id = await tickets.lock(tx, ref)
    if ticket_id is None:
        raise NotFound(ABSENT)
    await tx.execute("SELECT set_config('role', 'jieban_city', true)")
    tx = replace(tx, now=await tx.value(f"SELECT {house.db.now_sql}"))
    ticket = (await tickets.load(tx, [ticket_id]))[ticket_id].ticket
    env = house.env(tx, await house.rules_of(tx, ticket), ticket.district)
    [after] = await saving.save(tx, [decide(ticket, replace(env, actor=actor))], house.new_id)
    return Answer(status, to_json({"ticket": after.id, "number": after.number, "recused": list(after.recused)}))


async def recusals(house: House, actor: Actor, ref: str) -> dict[str, Any]:
    """Who is recused from a ticket, and how that came about; for the centre only: it names who complained of whom."""
    require(actor, "recusals:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        ticket_id = await tickets.resolve(tx, ref)
        if ticket_id is None:
            raise NotFound(ABSENT)
        t = (await tickets.load(tx, [ticket_id]))[ticket_id].ticket
    return {"ticket": t.id, "number": t.number, "recused": list(t.recused), "decisions": t.facts.get("recusals", [])}
