"""Whose time a ticket's time was: leg by leg, with sums that equal the whole exactly."""

from __future__ import annotations

from typing import Any

from service.core import legs
from service.core.access import require
from service.core.errors import NotFound
from service.core.model import Actor
from service.db import tickets
from service.usecases import views
from service.usecases.house import House
from service.usecases.tickets import ABSENT


async def time_split(house: House, actor: Actor, ref: str) -> dict[str, Any]:
    """Spans in order, sums by whom they are charged to, and each leg with its lateness. Times in microseconds."""
    require(actor, "tickets:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        ticket_id = await tickets.resolve(tx, ref)
        loaded = await tickets.load(tx, [ticket_id]) if ticket_id else {}
        if ticket_id is None or ticket_id not in loaded:
            raise NotFound(ABSENT)
        ticket, now = loaded[ticket_id].ticket, tx.now
        flow = await house.rules_of(tx, ticket)
    calendar = house.rules.policies.calendar_for(flow, ticket.district)
    spans = legs.split(ticket, now)

    def sums(of: list[legs.Span]) -> dict[str, int]:
        found = legs.amount(of, calendar)
        return {"gross_us": found.gross_us, "working_us": found.working_us}

    charged = list(dict.fromkeys(s.charged_to for s in spans))
    whole = [legs.Span(spans[0].start, spans[-1].end, "", "")] if spans else []
    told = {
        "ticket": {"id": ticket.id, "number": ticket.number},
        "from": spans[0].start if spans else ticket.received_at,
        "to": spans[-1].end if spans else now,
        "open": ticket.open,
        "calendar": {"key": calendar.key, "version": calendar.version},
        "whole": sums(whole),
        "charged": [{"to": name, **sums([s for s in spans if s.charged_to == name])} for name in charged],
        "spans": [
            {"from": s.start, "to": s.end, "charged_to": s.charged_to, "because": s.because, "leg": s.leg, **sums([s])}
            for s in spans
        ],
        "legs": [
            {
                "id": leg.id, "department": leg.department, "role": leg.role, "state": leg.state, "round": leg.round,
                "dispatched_at": leg.dispatched_at, "accepted_at": leg.accepted_at, "auto_accepted": leg.auto_accepted,
                "submitted_at": leg.submitted_at, "ended_at": leg.ended_at, "end_reason": leg.end_reason or None,
                **sums([s for s in spans if s.leg == leg.id and s.because != "mis_dispatch"]),
                "late": legs.late_by(ticket, leg),
            }
            for leg in ticket.assignments
        ],
    }  # fmt: skip
    localised: dict[str, Any] = views.localised(told, house.zone)
    return localised
