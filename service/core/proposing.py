"""A matter is proposed for one matter, one discussion: on which grounds, with what history. Used by `effects`.

A proposal never convenes by itself. What a criterion says is proved from the ticket where it can be, whoever names it; what
else is found true of the ticket stands in the snapshot of its history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from service.core.calendar import Calendar, Measure
from service.core.docket import Criterion, Docket
from service.core.draft import Draft
from service.core.errors import Conflict, FieldError, Invalid
from service.core.model import SYSTEM, Clock, Review, Ticket

ASKED = "manual"
"""The ground of what a person asks for without naming a criterion."""


def proposal(draft: Draft, ground: str) -> Review:
    """The review that this draft's form (or timer) proposes; `ground` is the criterion of whoever names none."""
    form, docket, ticket = draft.form, draft.env.docket, draft.ticket
    grounds = tuple(dict.fromkeys(form.get("grounds") or (ground,)))
    if docket is not None:
        _check(draft, docket, ground, grounds)
    criteria = found(ticket, docket, draft.env.calendar, draft.now) if docket is not None else []
    return Review(
        id=draft.env.new_id(),
        ticket_id=ticket.id,
        number=f"YS{ticket.number[2:]}-{len(ticket.reviews) + 1}",
        kind=str(form.get("kind", "enterprise_problem")),
        state="proposed",
        grounds=grounds,
        summary="\n".join(str(form[k]) for k in ("reason", "asked", "tried") if form.get(k)),
        proposed_by=draft.actor.subject,
        proposed_at=draft.now,
        asked=str(form.get("asked") or ""),
        tried=str(form.get("tried") or ""),
        options=tuple(form.get("options") or ()),
        signed_by=str(form.get("signed_by") or ""),
        history={**snapshot(ticket), "criteria": criteria},
    )


def _check(draft: Draft, docket: Docket, ground: str, grounds: Sequence[str]) -> None:
    """Raises Invalid for grounds that are not true or not vouched for, Conflict for what is never discussed."""
    form, ticket = draft.form, draft.ticket
    excluded = excluded_by(ticket, docket)
    # where a ladder or a callback ends on the docket it does so all the same: it is screened again, and nothing stands still
    if excluded and ground == ASKED and draft.actor is not SYSTEM:
        raise Conflict(f"This matter was refused: it is one of {excluded}, which is never discussed.", track=excluded)
    track = str(form.get("track") or "none")
    if track in docket.exclusions:
        told = docket.exclusions[track]
        raise Invalid.field("/track", f"expected none: a matter of {told.en} ({told.zh}) is never discussed")
    errors = []
    for n, code in enumerate(grounds):
        criterion = docket.criteria.get(code)
        where = f"/grounds/{n}"
        if criterion is None:
            errors.append(FieldError(where, f"expected one of: {', '.join(docket.criteria)}"))
        elif criterion.check is not None and form.get("grounds"):
            # how many tickets make a cluster is counted by whoever proposes (`usecases.reviews`)
            counted = int(form.get("cluster_size") or 0) if criterion.check == "cluster" else None
            has = measured(criterion, ticket, draft.env.calendar, draft.now) if counted is None else counted
            if has < criterion.at_least:
                errors.append(
                    FieldError(where, f"not so: {criterion.check} is {has}, {code} needs {criterion.at_least}")
                )
        if criterion is not None and criterion.signed and not form.get("signed_by"):
            errors.append(FieldError("/signed_by", f"expected by whom: {code} is vouched for by name"))
    if errors:
        raise Invalid("The grounds of the proposal are not as expected.", errors)


def excluded_by(ticket: Ticket, docket: Docket) -> str | None:
    """The track for which the screening refused this ticket's matter once and for all, if it did."""
    kept = ticket.facts.get("excluded_track")
    return kept if isinstance(kept, str) and kept in docket.exclusions else None


def found(ticket: Ticket, docket: Docket, calendar: Calendar, now: datetime) -> list[str]:
    """The criteria that are true of the ticket by itself."""
    return [
        code
        for code, criterion in docket.criteria.items()
        if criterion.check not in {None, "cluster"} and measured(criterion, ticket, calendar, now) >= criterion.at_least
    ]


def measured(criterion: Criterion, ticket: Ticket, calendar: Calendar, now: datetime) -> int:
    """How much there is of what the criterion counts: assignments, rounds, or whole working days overdue."""
    if criterion.check == "assignments":
        return sum(a.role == "lead" for a in ticket.assignments)
    if criterion.check == "rounds":
        return ticket.round
    if criterion.check == "overdue_working_days":
        late = [c.due_at for c in ticket.clocks if _overdue(c, now)]
        return max((_working_days(calendar, due, now) for due in late), default=0)
    return 0


def _overdue(clock: Clock, now: datetime) -> bool:
    return clock.name == "resolve" and clock.open and clock.held_at is None and clock.due_at < now


def _working_days(calendar: Calendar, due: datetime, now: datetime) -> int:
    last = calendar.local_date(due - timedelta(microseconds=1))  # the end of a day belongs to that day
    return calendar.count_days(last, calendar.local_date(now), Measure.working_days)


def snapshot(ticket: Ticket) -> Mapping[str, Any]:
    """What had happened by then, for whoever screens: JSON-able."""
    legs = [a for a in ticket.assignments if a.role == "lead"]
    return {
        "rounds": ticket.round,
        "leads": [a.department for a in legs],
        "counters": {name: n for name, n in ticket.counters.items() if n},
        "breaches": [{"clock": c.name, "at": c.breached_at.isoformat()} for c in ticket.clocks if c.breached_at],
        "cards": len(ticket.facts.get("cards", ())),
        "contact": ticket.facts.get("contact", {}).get("at"),
        "plan": ticket.facts.get("plan", {}).get("plan"),
        "stage": ticket.stage,
        "received_at": ticket.received_at.isoformat(),
    }
