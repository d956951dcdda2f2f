"""Meetings: plan, look, and everything that is done with one but deciding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic_core import to_json

from service.core import convening
from service.core.access import require
from service.core.convening import Sitting
from service.core.errors import NotFound, Stale
from service.core.meetings import AgendaItem, Attendee, Meeting, reconciled
from service.core.model import Actor, Role
from service.db import meetings as stored
from service.db.session import Tx
from service.usecases import views
from service.usecases.answers import Answer, Call, once
from service.usecases.house import House

ABSENT = "There is no such meeting, or it is not yours to see."
Place = tuple[datetime, str]
Forms = Mapping[str, Mapping[str, Any]]


async def listed(
    house: House,
    actor: Actor,
    state: str | None,
    tier: int | None,
    since: datetime | None,
    after: Place | None,
    limit: int,
) -> tuple[list[dict[str, Any]], Place | None]:
    require(actor, "reviews:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await stored.listed(tx, state, tier, since, after, limit + 1)
        found = await stored.load(tx, [r["id"] for r in rows[:limit]])
        items = [await shown(house, tx, found[r["id"]], {}) for r in rows[:limit]]
    last = (rows[limit - 1]["held_at"], rows[limit - 1]["id"]) if len(rows) > limit else None
    return items, last


async def get(house: House, actor: Actor, meeting_id: str, forms: Forms) -> Answer:
    require(actor, "reviews:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        meeting = (await stored.load(tx, [meeting_id])).get(meeting_id)
        if meeting is None:
            raise NotFound(ABSENT)
        return Answer(200, to_json(await shown(house, tx, meeting, forms)), {"ETag": etag(meeting)})


async def plan(house: House, actor: Actor, form: Mapping[str, Any], call: Call, forms: Forms) -> Answer:
    """A new meeting with an empty agenda."""
    require(actor, "meetings:write")

    async def work(tx: Tx) -> Answer:
        made = await planned(house, tx, form)
        headers = {"Location": f"/v1/meetings/{made.id}", "ETag": etag(made)}
        return Answer(201, to_json(await shown(house, tx, made, forms)), headers)

    return await once(house, actor, call, work)


async def planned(house: House, tx: Tx, form: Mapping[str, Any]) -> Meeting:
    """A new meeting, stored."""
    at = sitting(house, tx)
    number = f"HY{tx.now.astimezone(house.zone).year}{await stored.next_number(tx):05d}"
    made = convening.planned(form, number, at)
    await stored.save(tx, None, made)
    return made


async def act(
    house: House,
    actor: Actor,
    meeting_id: str,
    action: str,
    form: Mapping[str, Any],
    call: Call,
    if_match: str | None,
    forms: Forms,
) -> Answer:
    require(actor, "reviews:act")
    convening.check_role(action, actor)

    async def work(tx: Tx) -> Answer:
        before = (
            await taken(house, tx, meeting_id, if_match) if action != "acknowledge" else await _seen(tx, meeting_id)
        )
        after = convening.act(before, action, form, sitting(house, tx))
        if action == "acknowledge":  # a unit may write that it signed, and nothing else of a meeting
            changed = [a for a in after.attendees if a not in before.attendees]
            for attendee in changed:
                await stored.acknowledge(tx, attendee.id, actor.subject)
        else:
            await stored.save(tx, before, after)
        if action in {"notify", "adjourn", "cancel"}:
            told = [f"department:{code}" for code in after.departments]
            await stored.tell(tx, meeting_id, told, house.new_id)
        return Answer(200, to_json(await shown(house, tx, after, forms)), {"ETag": etag(after)})

    return await once(house, actor, call, work)


async def taken(house: House, tx: Tx, meeting_id: str, if_match: str | None = None) -> Meeting:
    """The meeting, locked, without matters that left the docket by themselves. Raises NotFound, Stale."""
    if not await stored.lock(tx, meeting_id):
        raise NotFound(ABSENT)
    meeting = await _seen(tx, meeting_id)
    if if_match is not None and if_match not in {"*", etag(meeting)}:
        told = f"If-Match names another version, the meeting is at {etag(meeting)}; read it again."
        raise Stale(told, current=etag(meeting))
    # refusals name its times, and people read them by the city's clock
    times = {name: getattr(meeting, name).astimezone(house.zone) for name in ("held_at", "agenda_closes_at")}
    meeting = replace(meeting, **times)
    matters = await stored.matters_of(tx, [i.review_id for i in meeting.agenda])
    return reconciled(meeting, {key: (m["state"], m["meeting_id"]) for key, m in matters.items()})


async def _seen(tx: Tx, meeting_id: str) -> Meeting:
    found = (await stored.load(tx, [meeting_id])).get(meeting_id)
    if found is None:
        raise NotFound(ABSENT)
    return found


def sitting(house: House, tx: Tx) -> Sitting:
    calendar = house.rules.newest_calendars[house.docket.calendar]
    return Sitting(tx.actor, tx.now, house.new_id, house.docket, calendar, house.rules.department_codes)


def etag(meeting: Meeting) -> str:
    return f'"{meeting.version}"'


async def shown(house: House, tx: Tx, meeting: Meeting, forms: Forms) -> dict[str, Any]:
    """The meeting as it looks outside; of its agenda the matters that the actor may see."""
    matters = await stored.matters_of(tx, [i.review_id for i in meeting.agenda])
    tier = house.docket.tiers[meeting.tier]
    told = {
        "id": meeting.id,
        "number": meeting.number,
        "tier": meeting.tier,
        "tier_title": tier.title.zh,
        "tier_title_en": tier.title.en,
        "title": meeting.title,
        "place": meeting.place,
        "state": meeting.state,
        "held_at": meeting.held_at,
        "ended_at": meeting.ended_at,
        "agenda_closes_at": meeting.agenda_closes_at,
        "extra_reason": meeting.extra_reason,
        "departments": list(meeting.departments),
        "attendees": [_attendee(house, tx, meeting, a) for a in meeting.attendees],
        "agenda": [_item(i, matters[i.review_id], tx.actor) for i in meeting.agenda if i.review_id in matters],
        "adjournments": list(meeting.adjournments),
        "created_by": meeting.created_by,
        "created_at": meeting.created_at,
        "updated_at": meeting.updated_at,
        "version": meeting.version,
        "actions": views.actions(convening.possible(meeting, tx.actor), _TITLES, forms),
    }
    localised: dict[str, Any] = views.localised(told, house.zone)
    return localised


_TITLES = {name: (zh, en) for name, (_, zh, en) in convening.ACTIONS.items()}


def _attendee(house: House, tx: Tx, meeting: Meeting, a: Attendee) -> dict[str, Any]:
    late = convening.notice_is_late(meeting, a, house.docket, sitting(house, tx).calendar)
    return {
        "id": a.id,
        "role": a.role,
        "department": a.department,
        "name": a.name,
        "title": a.title,
        "state": a.state,
        "substitute": a.substitute,
        "reason": a.reason,
        "notified_at": a.notified_at,
        "notice_late": late,
        "acknowledged_at": a.acknowledged_at,
        "acknowledged_by": a.acknowledged_by,
        "attended_at": a.attended_at,
        "recused": list(a.recused),
    }


def _item(i: AgendaItem, matter: Mapping[str, Any], actor: Actor) -> dict[str, Any]:
    """Secret papers are the convenor's: units are shown those that are not."""
    papers = [p for p in i.papers if actor.role is not Role.HANDLER or not p["secret"]]
    return {
        "id": i.id,
        "position": i.position,
        "state": i.state,
        "review": {"id": i.review_id, "number": matter["number"], "kind": matter["kind"], "state": matter["state"]},
        "ticket": {"id": i.ticket_id, "number": matter["ticket_number"], "title": matter["title"]},
        "added_at": i.added_at,
        "added_by": i.added_by,
        "late_ground": i.late_ground,
        "papers": papers,
        "heard": i.heard or None,
        "decision": i.decision,
        "text": i.text,
        "conditions": i.conditions,
        "votes": i.votes,
        "dissents": list(i.dissents),
        "recused": list(i.recused),
        "postponed_to": i.postponed_to,
        "referred_to": i.referred_to,
        "measures": list(i.measures),
        "decided_by": i.decided_by,
        "decided_at": i.decided_at,
    }
