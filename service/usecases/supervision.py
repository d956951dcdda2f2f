"""What supervisors do to tickets: cards, the ladder of supervision, exemptions; and the weekly sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from pydantic_core import to_json

from service.core import exempting, supervision
from service.core.access import require
from service.core.draft import Env
from service.core.errors import ActionNotPossible, NotFound
from service.core.model import SYSTEM, Actor, Decision, Exemption, Ticket
from service.core.supervision import SWEEP, Supervision
from service.db import procedure, tickets
from service.db.session import Tx
from service.usecases import views
from service.usecases.answers import Answer, Call, once
from service.usecases.house import House
from service.usecases.tickets import ABSENT, change, decide_and_save

Row = Exemption | Supervision
Place = tuple[datetime, str] | None
Deciding = Callable[[Ticket, list[Any], Env], tuple[Decision, Row]]


async def give_card(house: House, actor: Actor, ref: str, level: str, reason: str, call: Call) -> Answer:
    """A yellow or red card by hand; answers the ticket."""
    require(actor, "supervision:act")

    async def work(tx: Tx) -> Answer:
        return await change(house, tx, ref, lambda t, env: supervision.give_card(t, level, reason, env), status=201)

    return await once(house, actor, call, work)


async def supervise(house: House, actor: Actor, ref: str, form: Mapping[str, Any], call: Call) -> Answer:
    require(actor, "supervision:act")
    return await _begin(
        house, actor, ref, Supervision, call, lambda t, known, env: supervision.supervise(t, form, len(known), env)
    )


async def answer_supervision(house: House, actor: Actor, act_id: str, text: str, call: Call) -> Answer:
    require(actor, "supervision:answer")
    return await _go_on(house, actor, Supervision, act_id, call, lambda t, s, env: supervision.answer(t, s, text, env))


async def lift_supervision(house: House, actor: Actor, act_id: str, reason: str, call: Call) -> Answer:
    require(actor, "supervision:act")
    return await _go_on(house, actor, Supervision, act_id, call, lambda t, s, env: supervision.lift(t, s, reason, env))


async def ask_exemption(house: House, actor: Actor, ref: str, form: Mapping[str, Any], call: Call) -> Answer:
    require(actor, "exemptions:ask")
    return await _begin(house, actor, ref, Exemption, call, lambda t, known, env: exempting.ask(t, form, known, env))


async def appeal_rating(house: House, actor: Actor, ref: str, form: Mapping[str, Any], call: Call) -> Answer:
    require(actor, "ratings:appeal")
    return await _begin(house, actor, ref, Exemption, call, lambda t, known, env: exempting.appeal(t, form, known, env))


async def decide_exemption(
    house: House, actor: Actor, exemption_id: str, approve: bool, reason: str, expires_at: datetime | None, call: Call
) -> Answer:
    require(actor, "exemptions:decide")
    return await _go_on(
        house, actor, Exemption, exemption_id, call,
        lambda t, e, env: exempting.decide(t, e, approve, reason, expires_at, env),
    )  # fmt: skip


async def revoke_exemption(house: House, actor: Actor, exemption_id: str, reason: str, call: Call) -> Answer:
    require(actor, "exemptions:decide")
    return await _go_on(
        house, actor, Exemption, exemption_id, call, lambda t, e, env: exempting.revoke(t, e, reason, env)
    )


async def listed(
    house: House, actor: Actor, kind: type[Any], filters: Mapping[str, str | None], after: Place, limit: int
) -> tuple[list[dict[str, Any]], Place]:
    """Acts of supervision or exemptions that the caller may see, newest first."""
    require(actor, "supervision:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await procedure.listed(tx, kind, filters, after, limit + 1)
        now = tx.now
    items = [_shown(house, row, number, now) for row, number in rows[:limit]]
    if len(rows) <= limit:
        return items, None
    last = rows[limit - 1][0]
    return items, (last.issued_at if kind is Supervision else last.requested_at, last.id)


async def of_ticket(house: House, actor: Actor, ref: str, kind: type[Any]) -> dict[str, Any]:
    require(actor, "supervision:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        row = await tickets.resolve(tx, ref)
        if row is None:
            raise NotFound(ABSENT)
        found = await procedure.of_ticket(tx, kind, row)
        number = await tx.value("SELECT number FROM tickets WHERE id = $1", row)
        return {"items": [_shown(house, one, number, tx.now) for one in found], "next_cursor": None}


async def sweep(house: House, slot: datetime) -> dict[str, Any]:
    """周清: every open ticket that was reworked twice or more is put under supervision for the week, once a week."""
    async with house.db.transaction(SYSTEM, readonly=True) as tx:
        ids = await procedure.swept(tx, slot)
        now = tx.now
    form = {"kind": SWEEP, "ground": "reworked_twice", "reason": "办理三轮以上，列入本周督办 / in its third round or later",
            "answer_by": max(slot, now) + timedelta(days=7)}  # fmt: skip
    done = 0
    for ticket_id in ids:
        async with house.db.transaction(SYSTEM) as tx:
            # looked at again under the lock: another worker may have been here, or the ticket may be closed
            if await tickets.lock(tx, ticket_id) is None or ticket_id not in await procedure.swept(tx, slot):
                continue
            try:
                await _decide(
                    house, tx, ticket_id, Supervision, lambda t, k, env: supervision.supervise(t, form, len(k), env)
                )
            except ActionNotPossible:
                continue
            done += 1
    return {"supervised": done}


# --- rows beside a ticket ----------------------------------------------------------------------------------------------


async def _begin(house: House, actor: Actor, ref: str, kind: type[Any], call: Call, decide: Deciding) -> Answer:
    async def work(tx: Tx) -> Answer:
        row, number = await _decide(house, tx, ref, kind, decide)
        return Answer(201, to_json(_shown(house, row, number, tx.now)))

    return await once(house, actor, call, work)


async def _decide(house: House, tx: Tx, ref: str, kind: type[Any], decide: Deciding) -> tuple[Row, str]:
    ticket_id = await tickets.lock(tx, ref)
    if ticket_id is None:
        raise NotFound(ABSENT)
    known = await procedure.of_ticket(tx, kind, ticket_id)
    made: list[Row] = []

    def both(ticket: Ticket, env: Env) -> Decision:
        decision, row = decide(ticket, known, env)
        made.append(row)
        return decision

    _, after = await decide_and_save(house, tx, ticket_id, both)
    await procedure.put(tx, made[0])
    return made[0], after.number


async def _go_on(
    house: House, actor: Actor, kind: type[Any], row_id: str, call: Call,
    decide: Callable[[Ticket, Any, Env], tuple[Decision, Row]],
) -> Answer:  # fmt: skip
    async def work(tx: Tx) -> Answer:
        seen = await procedure.get(tx, kind, row_id)
        if seen is None:
            raise NotFound("There is nothing with this id, or it is not yours to see.")
        await tickets.lock(tx, seen.ticket_id)

        def next_step(ticket: Ticket, known: list[Any], env: Env) -> tuple[Decision, Row]:
            return decide(ticket, next(row for row in known if row.id == row_id), env)

        row, number = await _decide(house, tx, seen.ticket_id, kind, next_step)
        return Answer(200, to_json(_shown(house, row, number, tx.now)))

    return await once(house, actor, call, work)


def _shown(house: House, row: Row, number: str, now: datetime) -> dict[str, Any]:
    told = {name: value for name, value in asdict(row).items() if name != "ticket_id"}
    told["ticket"] = {"id": row.ticket_id, "number": number}
    if isinstance(row, Supervision):
        late_at = row.answered_at or now
        told["overdue"] = row.answer_by is not None and row.state != "lifted" and late_at > row.answer_by
    else:
        told["in_force"] = row.state == "approved" and row.expires_at > now
    localised: dict[str, Any] = views.localised(told, house.zone)
    return localised
