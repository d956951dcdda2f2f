"""Codes of the hotline that are not ours: the list of tickets that wait for what they mean, and saying it, once for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic_core import to_json

from service.core import workflow
from service.core.access import require
from service.core.errors import ActionNotPossible, Conflict, Forbidden, Invalid, NotFound
from service.core.model import Actor, Ticket
from service.core.routing import Request
from service.db import quarantine, saving, sources, tickets
from service.db.session import Tx
from service.db.tickets import Stored
from service.usecases import views
from service.usecases.answers import Answer, Call, once
from service.usecases.house import House

ABSENT = "There is no such ticket, or it is not yours to see."


async def listed(
    house: House, actor: Actor, state: str, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    require(actor, "quarantine:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await quarantine.listed(tx, state, after, limit + 1)
    items = [views.localised(dict(row), house.zone) for row in rows[:limit]]
    return items, rows[limit - 1]["ticket_id"] if len(rows) > limit else None


async def fix(house: House, actor: Actor, ref: str, asked: Mapping[str, Any], call: Call) -> Answer:
    """Say what the code of one ticket means; with `for_all` also of every other that waits for it, and of those to come.

    A ticket that nobody leads goes where the rules send it now. Raises Invalid, NotFound, Conflict.
    """
    require(actor, "quarantine:fix")
    known = house.rules.matter_codes if asked["field"] == "matter" else frozenset(house.rules.district_units)
    if asked["means"] not in known:
        what = "matter; GET /v1/matters lists them" if asked["field"] == "matter" else "district of this city"
        raise Invalid.field("/means", f"expected the code of a {what}")
    others: list[str] = []

    async def work(tx: Tx) -> Answer:
        others.clear()
        ticket_id = await tickets.lock(tx, ref)
        if ticket_id is None:
            raise NotFound(ABSENT)
        waiting = next((w for w in await quarantine.of(tx, ticket_id) if w["field"] == asked["field"]), None)
        if waiting is None:
            raise Conflict(f"No {asked['field']} of this ticket waits for its meaning.")
        told = await _fix(house, tx, ticket_id, asked)
        if asked["for_all"]:
            key = (waiting["source_system"], asked["field"], waiting["code"])
            await quarantine.remember(tx, *key, asked["means"])
            others.extend(await quarantine.alike(tx, *key))
        return Answer(200, to_json({"fixed": told, "code": waiting["code"], "also": len(others)}))

    answer = await once(house, actor, call, work)
    for ticket_id in others:
        # each in a transaction of its own; one that cannot be fixed now stays on the list
        try:
            async with house.db.transaction(actor) as tx:
                if await tickets.lock(tx, ticket_id) is not None:
                    await _fix(house, tx, ticket_id, asked)
        except (Conflict, NotFound):
            continue
    if asked["for_all"]:
        await house.refresh()
    return answer


async def _fix(house: House, tx: Tx, ticket_id: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    tx = replace(tx, now=await tx.value(f"SELECT {house.db.now_sql}"))
    stored = (await tickets.load(tx, [ticket_id]))[ticket_id]
    ticket, district = stored.ticket, stored.ticket.district
    if asked["field"] == "matter":
        form = {"matter": asked["means"], "reason": asked["reason"]}
        ticket = await _acted(house, tx, ticket, "reclassify", form)
    else:
        district = asked["means"]
        env = house.env(tx, await house.rules_of(tx, ticket), district)
        data = {"before": ticket.district, "after": district, "reason": asked["reason"]}
        [ticket] = await saving.save(tx, [workflow.note(ticket, "ticket.located", data, env)], house.new_id)
    kept = [w for w in stored.row["warnings"] if w["code"] not in {f"unknown_{asked['field']}", "not_routed"}]
    await sources.rewrite(tx, ticket_id, {"warnings": kept, "district": district})
    await quarantine.fixed(tx, ticket_id, asked["field"], asked["means"])
    if ticket.lead is None and ticket.open:
        ticket = await _sent(house, tx, stored, ticket, district)
    return {"ticket": ticket.id, "number": ticket.number, "stage": ticket.stage, "lead": ticket.lead}


async def _acted(house: House, tx: Tx, ticket: Ticket, action: str, form: Mapping[str, Any]) -> Ticket:
    env = house.env(tx, await house.rules_of(tx, ticket), ticket.district)
    [after] = await saving.save(tx, [workflow.act(ticket, action, form, env)], house.new_id)
    return after


async def _sent(house: House, tx: Tx, stored: Stored, ticket: Ticket, district: str | None) -> Ticket:
    """Where the rules send it, now that its codes say something; else it stays with the dispatcher."""
    row, firm = stored.row, stored.row["content"].get("enterprise") or {}
    route = house.rules.router.route(
        Request(
            title=row["title"],
            description=row["description"],
            domain=ticket.domain,
            matter=ticket.matter,
            district=district,
            industry=firm.get("industry"),
            tier=firm.get("tier"),
            urgency=ticket.urgency,
        )
    )
    if route.lead is None:
        return ticket
    try:
        form = {"department": route.lead, "co_handlers": list(route.co_handlers)}
        return await _acted(house, tx, ticket, "dispatch", form)
    except (ActionNotPossible, Forbidden, Conflict):
        return ticket
