"""One matter, one discussion: the docket, its steps, and the measures it creates."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from pydantic_core import to_json

from service.core import review as rules
from service.core.access import require
from service.core.draft import Env
from service.core.errors import NotFound
from service.core.model import Actor, Decision, Role, Ticket
from service.db import meetings, queries, tickets
from service.db.session import Tx
from service.usecases import views
from service.usecases.answers import Answer, Call, once
from service.usecases.house import House
from service.usecases.tickets import decide_and_save

ABSENT = "There is no such review, or it is not yours to see."
Place = tuple[datetime, str]


async def docket(
    house: House, actor: Actor, state: str | None, kind: str | None, after: Place | None, limit: int
) -> tuple[list[dict[str, Any]], Place | None]:
    require(actor, "reviews:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await queries.docket(tx, state, kind, after, limit + 1)
        loaded = await tickets.load(tx, [r["ticket_id"] for r in rows[:limit]])
    items = [_shown(house, actor, loaded[r["ticket_id"]].ticket, r["id"]) for r in rows[:limit]]
    last = (rows[limit - 1]["proposed_at"], rows[limit - 1]["id"]) if len(rows) > limit else None
    return items, last


async def get(house: House, actor: Actor, review_id: str) -> dict[str, Any]:
    require(actor, "reviews:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        ticket_id = await queries.ticket_of(tx, "reviews", review_id)
        loaded = await tickets.load(tx, [ticket_id]) if ticket_id else {}
    if ticket_id is None or ticket_id not in loaded:
        raise NotFound(ABSENT)
    return _shown(house, actor, loaded[ticket_id].ticket, review_id)


async def propose(house: House, actor: Actor, ref: str, form: Mapping[str, Any], call: Call) -> Answer:
    """Put a ticket on the docket by hand."""
    require(actor, "reviews:act")

    async def work(tx: Tx) -> Answer:
        _, after = await decide_and_save(house, tx, ref, lambda t, env: rules.propose(t, form, env))
        made = after.reviews[-1]
        return Answer(201, to_json(_shown(house, actor, after, made.id)), {"Location": f"/v1/reviews/{made.id}"})

    return await once(house, actor, call, work)


async def act(house: House, actor: Actor, review_id: str, action: str, form: Mapping[str, Any], call: Call) -> Answer:
    require(actor, "reviews:act")

    async def work(tx: Tx) -> Answer:
        ticket_id = await queries.ticket_of(tx, "reviews", review_id)
        if ticket_id is None:
            raise NotFound(ABSENT)
        _, after = await decide_and_save(
            house, tx, ticket_id, lambda t, env: rules.act(t, review_id, action, form, env)
        )
        return Answer(200, to_json(_shown(house, actor, after, review_id)))

    return await once(house, actor, call, work)


async def measures(
    house: House, actor: Actor, department: str | None, state: str | None, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    require(actor, "reviews:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await queries.measures(tx, department, state, after, limit + 1)
        loaded = await tickets.load(tx, list({r["ticket_id"] for r in rows[:limit]}))
    items = [_measure(house, loaded[r["ticket_id"]].ticket, r["id"]) for r in rows[:limit]]
    return items, rows[limit - 1]["id"] if len(rows) > limit else None


async def act_on_measure(
    house: House, actor: Actor, measure_id: str, action: str, form: Mapping[str, Any], call: Call
) -> Answer:
    require(actor, "reviews:act")

    async def work(tx: Tx) -> Answer:
        ticket_id = await queries.ticket_of(tx, "measures", measure_id)
        if ticket_id is None:
            raise NotFound("There is no such measure, or it is not yours to see.")
        _, after = await decide_and_save(
            house, tx, ticket_id, lambda t, env: rules.act_on_measure(t, measure_id, action, form, env)
        )
        return Answer(200, to_json(_measure(house, after, measure_id)))

    return await once(house, actor, call, work)


async def minutes_issued(house: House, tx: Tx, meeting_id: str, number: str) -> list[Ticket]:
    """Called by whoever issues a meeting's minutes, in the transaction that does, with the meeting's row locked.

    Each matter that the meeting decided gets its date of issue, and its reply to the enterprise becomes due (clock
    `review_reply`). Matters postponed, referred up or withdrawn are passed over. Gives the tickets as they are then.
    """
    out = []
    for ticket_id, review_id in await meetings.tickets_of(tx, meeting_id):
        await tickets.lock(tx, ticket_id)
        ticket = (await tickets.load(tx, [ticket_id]))[ticket_id].ticket
        review = next(r for r in ticket.reviews if r.id == review_id)
        if review.meeting_id != meeting_id or review.state not in {"decided", "completed"}:
            continue
        _, after = await decide_and_save(house, tx, ticket_id, partial(_issued, review_id, number))
        out.append(after)
    return out


def _issued(review_id: str, number: str, ticket: Ticket, env: Env) -> Decision:
    return rules.issued(ticket, review_id, number, env)


def _shown(house: House, actor: Actor, ticket: Ticket, review_id: str) -> dict[str, Any]:
    review = next(r for r in ticket.reviews if r.id == review_id)
    shown = views.review(review, ticket, house.zone)
    if actor.role is Role.HANDLER:
        # a unit sees its own opinion; the others' stay with the convenor until the matter is decided
        own = [o for o in shown["opinions"] if o["department"] in actor.departments]
        shown["opinions"] = shown["opinions"] if review.state in {"decided", "completed"} else own
    return shown


def _measure(house: House, ticket: Ticket, measure_id: str) -> dict[str, Any]:
    return views.measure(next(m for m in ticket.measures if m.id == measure_id), ticket, house.zone)
