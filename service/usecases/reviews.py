"""One matter, one discussion: the docket, its steps, and the measures it creates.

Where a matter stands on a meeting's agenda the meeting's row is locked first, then the ticket's: two conveners who decide
at once come one after the other, and the second finds that it is decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from pydantic_core import to_json

from service.core import measures as tasks
from service.core import meetings as agenda
from service.core import review as rules
from service.core.access import require
from service.core.draft import Env
from service.core.errors import ActionNotPossible, Busy, Conflict, Invalid, NotFound
from service.core.meetings import Meeting
from service.core.model import Actor, Decision, Ticket
from service.core.procedure import competent_units
from service.db import meetings as stored
from service.db import queries, studies, tickets
from service.db.session import Tx
from service.usecases import docket_views as views
from service.usecases import meetings as sittings
from service.usecases.answers import Answer, Call, once
from service.usecases.docket_views import Forms
from service.usecases.house import House
from service.usecases.intake import etag
from service.usecases.studies import study_of
from service.usecases.tickets import decide_and_save

ABSENT = "There is no such review, or it is not yours to see."
Place = tuple[datetime, str]


# --- looking ---------------------------------------------------------------------------------------------------------


async def docket(
    house: House, actor: Actor, state: str | None, kind: str | None, after: Place | None, limit: int
) -> tuple[list[dict[str, Any]], Place | None]:
    require(actor, "reviews:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await queries.docket(tx, state, kind, after, limit + 1)
        loaded = await tickets.load(tx, [r["ticket_id"] for r in rows[:limit]])
        items = [await _shown(house, tx, loaded[r["ticket_id"]].ticket, r["id"], {}) for r in rows[:limit]]
    last = (rows[limit - 1]["proposed_at"], rows[limit - 1]["id"]) if len(rows) > limit else None
    return items, last


async def get(house: House, actor: Actor, review_id: str, forms: Forms) -> Answer:
    require(actor, "reviews:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        ticket_id = await queries.ticket_of(tx, "reviews", review_id)
        loaded = await tickets.load(tx, [ticket_id]) if ticket_id else {}
        if ticket_id is None or ticket_id not in loaded:
            raise NotFound(ABSENT)
        ticket = loaded[ticket_id].ticket
        return Answer(200, to_json(await _shown(house, tx, ticket, review_id, forms)), {"ETag": etag(ticket)})


async def measures(
    house: House, actor: Actor, department: str | None, state: str | None, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    require(actor, "reviews:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await queries.measures(tx, department, state, after, limit + 1)
        loaded = await tickets.load(tx, list({r["ticket_id"] for r in rows[:limit]}))
        items = [await _measure(house, tx, loaded[r["ticket_id"]].ticket, r["id"], {}) for r in rows[:limit]]
    return items, rows[limit - 1]["id"] if len(rows) > limit else None


async def measure(house: House, actor: Actor, measure_id: str, forms: Forms) -> dict[str, Any]:
    require(actor, "reviews:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        ticket_id = await queries.ticket_of(tx, "measures", measure_id)
        loaded = await tickets.load(tx, [ticket_id]) if ticket_id else {}
        if ticket_id is None or ticket_id not in loaded:
            raise NotFound("There is no such measure, or it is not yours to see.")
        return await _measure(house, tx, loaded[ticket_id].ticket, measure_id, forms)


# --- acting ----------------------------------------------------------------------------------------------------------


async def propose(house: House, actor: Actor, ref: str, form: Mapping[str, Any], call: Call, forms: Forms) -> Answer:
    """Put a ticket on the docket by hand. Whether its matter is a cluster is counted, not believed."""
    require(actor, "reviews:act")

    async def work(tx: Tx) -> Answer:
        counted = {**form, "cluster_size": await _cluster_size(house, tx, ref, form)}
        _, after = await decide_and_save(house, tx, ref, lambda t, env: rules.propose(t, counted, env))
        made = after.reviews[-1]
        headers = {"Location": f"/v1/reviews/{made.id}", "ETag": etag(after)}
        return Answer(201, to_json(await _shown(house, tx, after, made.id, forms)), headers)

    return await once(house, actor, call, work)


async def _cluster_size(house: House, tx: Tx, ref: str, form: Mapping[str, Any]) -> int:
    criterion = next((c for c in house.docket.criteria.values() if c.check == "cluster"), None)
    if criterion is None or not form.get("grounds"):
        return 0
    return await studies.cluster_size(tx, ref, criterion.days)


async def act(
    house: House,
    actor: Actor,
    review_id: str,
    action: str,
    form: Mapping[str, Any],
    call: Call,
    forms: Forms | None = None,
    if_match: str | None = None,
) -> Answer:
    require(actor, "reviews:act")

    async def work(tx: Tx) -> Answer:
        known = await stored.of_review(tx, review_id)
        if known is None:
            raise NotFound(ABSENT)
        rules.check_role(action, actor)
        steps = {"schedule": _schedule, "decide": _decide, "withdraw": _withdraw}
        if action in steps:
            after = await steps[action](house, tx, review_id, known, form, if_match)
        else:
            given = await study_of(house, tx, form) if action == "screen" else form
            deciding = partial(_act, review_id, action, given, None)
            _, after = await decide_and_save(house, tx, known["ticket_id"], deciding, if_match=if_match)
        return Answer(200, to_json(await _shown(house, tx, after, review_id, forms or {})), {"ETag": etag(after)})

    return await once(house, actor, call, work)


def _act(
    review_id: str, action: str, form: Mapping[str, Any], meeting: Meeting | None, ticket: Ticket, env: Env
) -> Decision:
    """The step, with the meeting that was locked for it: if the matter has gone to another meanwhile, try again."""
    review = next((r for r in ticket.reviews if r.id == review_id), None)
    at = meeting.id if meeting is not None else None
    if (
        action in {"decide", "withdraw"}
        and review is not None
        and review.meeting_id != at
        and review.state == "preparing"
    ):
        raise Busy("The matter was put on another agenda at this moment; try again.")
    return rules.act(ticket, review_id, action, form, env, meeting)


async def _schedule(
    house: House, tx: Tx, review_id: str, known: Any, form: Mapping[str, Any], if_match: str | None
) -> Ticket:
    """On the agenda named; without one on a new meeting of that date, or on the next of the tier whose agenda is open."""
    tier = known["tier"] or 1
    target = form.get("meeting")
    if target is None and form.get("held_at"):
        target = (await sittings.planned(house, tx, {**form, "tier": tier})).id
    if target is None:
        target = await stored.next_open(tx, tier)
    if target is None:
        raise ActionNotPossible(
            f"No meeting of tier {tier} is planned whose agenda is still open: name held_at, or POST /v1/meetings first.",
            stage="preparing", actions=["schedule"], missing=[{"what": "meeting", "tier": tier, "settle": "held_at"}],
        )  # fmt: skip
    locked = {key: await sittings.taken(house, tx, key) for key in sorted({target, known["meeting_id"]} - {None})}
    meeting = locked[target]
    changes: list[tuple[Meeting, Meeting]] = []

    def deciding(ticket: Ticket, env: Env) -> Decision:
        told = {"meeting": meeting.id, "number": meeting.number, "held_at": meeting.held_at}
        decision = rules.act(ticket, review_id, "schedule", told, env)
        review = next(r for r in decision.after.reviews if r.id == review_id)
        units = competent_units(ticket.lead, ticket.opinions, review)
        ground = str(form.get("late_ground") or "")
        after = agenda.listed(meeting, review, units, house.new_id(), house.new_id, tx.actor, tx.now, ground)
        changes.append((meeting, after))
        return decision

    _, after = await decide_and_save(house, tx, known["ticket_id"], deciding, if_match=if_match)
    before = locked.get(known["meeting_id"] or "")
    if before is not None and before.state == "planned":
        changes.append((before, agenda.taken_off(before, review_id)))
    for old, new in changes:
        await _save(tx, old, new)
    return after


async def _decide(
    house: House, tx: Tx, review_id: str, known: Any, form: Mapping[str, Any], if_match: str | None
) -> Ticket:
    meeting = await sittings.taken(house, tx, known["meeting_id"]) if known["meeting_id"] else None
    if meeting is None and form.get("present"):
        raise Invalid.field("/present", "expected nothing: this matter is on no meeting's agenda")
    sitting = agenda.attended(meeting, form["present"], tx.now) if meeting and form.get("present") else meeting
    if sitting is not None and sitting.state == "held":
        raise Conflict("The meeting has ended: schedule the matter for another.", meeting=sitting.id)
    deciding = partial(_act, review_id, "decide", form, sitting)
    stored_ticket, after = await decide_and_save(house, tx, known["ticket_id"], deciding, if_match=if_match)
    if meeting is not None and sitting is not None:
        review = next(r for r in after.reviews if r.id == review_id)
        before = {m.id for m in stored_ticket.ticket.measures}
        made = [m.id for m in after.measures if m.id not in before]
        await _save(tx, meeting, agenda.decided(sitting, review, str(form["decision"]), made))
    return after


async def _withdraw(
    house: House, tx: Tx, review_id: str, known: Any, form: Mapping[str, Any], if_match: str | None
) -> Ticket:
    meeting = await sittings.taken(house, tx, known["meeting_id"]) if known["meeting_id"] else None
    deciding = partial(_act, review_id, "withdraw", form, meeting)
    _, after = await decide_and_save(house, tx, known["ticket_id"], deciding, if_match=if_match)
    if meeting is not None and meeting.state == "planned":
        await _save(tx, meeting, agenda.taken_off(meeting, review_id))
    return after


async def _save(tx: Tx, before: Meeting, after: Meeting) -> None:
    await stored.save(tx, before, replace(after, updated_at=tx.now, version=before.version + 1))


async def act_on_measure(
    house: House,
    actor: Actor,
    measure_id: str,
    action: str,
    form: Mapping[str, Any],
    call: Call,
    forms: Forms | None = None,
    if_match: str | None = None,
) -> Answer:
    require(actor, "reviews:act")

    async def work(tx: Tx) -> Answer:
        ticket_id = await queries.ticket_of(tx, "measures", measure_id)
        if ticket_id is None:
            raise NotFound("There is no such measure, or it is not yours to see.")
        _, after = await decide_and_save(
            house, tx, ticket_id, lambda t, env: tasks.act(t, measure_id, action, form, env), if_match=if_match
        )
        return Answer(200, to_json(await _measure(house, tx, after, measure_id, forms or {})), {"ETag": etag(after)})

    return await once(house, actor, call, work)


async def minutes_issued(
    house: House, tx: Tx, meeting_id: str, number: str, sealed: Mapping[str, str] | None = None
) -> list[Ticket]:
    """Called by whoever issues a meeting's minutes, in the transaction that does, with the meeting's row locked.

    Each matter that the meeting decided gets its date of issue, and its reply to the enterprise becomes due (clock
    `review_reply`). Matters postponed, referred up or withdrawn are passed over. `sealed`: id and hash of the document,
    for the tickets' histories. Gives the tickets as they are then.
    """
    out = []
    for ticket_id, review_id in await stored.tickets_of(tx, meeting_id):
        await tickets.lock(tx, ticket_id)
        ticket = (await tickets.load(tx, [ticket_id]))[ticket_id].ticket
        review = next(r for r in ticket.reviews if r.id == review_id)
        if review.meeting_id != meeting_id or review.state not in {"decided", "completed"}:
            continue
        _, after = await decide_and_save(house, tx, ticket_id, partial(_issued, review_id, number, sealed))
        out.append(after)
    return out


def _issued(review_id: str, number: str, sealed: Mapping[str, str] | None, ticket: Ticket, env: Env) -> Decision:
    return rules.issued(ticket, review_id, number, env, sealed)


# --- showing ---------------------------------------------------------------------------------------------------------


async def _shown(house: House, tx: Tx, ticket: Ticket, review_id: str, forms: Forms) -> dict[str, Any]:
    review = next(r for r in ticket.reviews if r.id == review_id)
    env = house.env(tx, await house.rules_of(tx, ticket), ticket.district)
    return views.review(review, ticket, env, house.docket, house.zone, forms)


async def _measure(house: House, tx: Tx, ticket: Ticket, measure_id: str, forms: Forms) -> dict[str, Any]:
    task = next(m for m in ticket.measures if m.id == measure_id)
    env = house.env(tx, await house.rules_of(tx, ticket), ticket.district)
    return views.measure(task, ticket, env, house.docket, house.zone, forms)
