"""A unit is no more, or a person is gone: what they had goes on with another, with its history.

The successor takes over the leg as it stood: what was signed stays signed, what was asked stays asked. The enterprise's
clocks run on; a clock of the leg itself begins anew, for whoever has it now gets its own time. The old leg stays in the
ticket's history under the old unit, and so in the reports.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from service.core.draft import Draft, Env
from service.core.effects import HANDLERS, end_clocks
from service.core.errors import Conflict
from service.core.model import Assignment, Decision, Notice, Ticket, evolve
from service.core.workflow import catch_up


def succeed(ticket: Ticket, old: str, new: str, told: dict[str, Any], env: Env) -> Decision | None:
    """Everything open of unit `old` is unit `new`'s from now on; None if there was nothing. Raises Conflict."""
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    if not draft.ticket.open:
        return None
    draft.check_not_recused(new)
    moved = [_leg(draft, leg, new) for leg in draft.ticket.assignments if leg.open and leg.department == old]
    opinions = _opinions(draft, old, new)
    measures = [m for m in draft.ticket.measures if m.open and m.department == old]
    for task in measures:
        draft.put("measures", replace(task, department=new))
    for clock in draft.ticket.clocks:
        if clock.open and clock.department == old:
            draft.put_clock(evolve(clock, department=new))
    if draft.ticket.lead == old:
        draft.set(lead=new)
    elif not (moved or opinions or measures):
        return None
    draft.notices.append(Notice(f"department:{new}", "succeeded"))
    draft.event("ticket.succeeded", unit=old, successor=new, **told)
    return draft.finish()


def _leg(draft: Draft, leg: Assignment, new: str) -> Assignment:
    """The successor's leg; where it has one already the old one only ends, and of the two the lead's stays."""
    own = next((a for a in draft.ticket.assignments if a.open and a.department == new), None)
    running = {c.name for c in draft.ticket.clocks if c.open and c.assignment_id == leg.id}
    draft.put("assignments", replace(leg, state="ended", ended_at=draft.now, end_reason="succeeded"))
    end_clocks(
        draft, [c for c in draft.ticket.clocks if c.open and c.assignment_id == leg.id], "succeeded", cancelled=True
    )
    if own is not None and own.role == "lead":
        return own
    if own is not None and leg.role == "lead":
        draft.put("assignments", replace(own, state="ended", ended_at=draft.now, end_reason="succeeded"))
        spent = [c for c in draft.ticket.clocks if c.open and c.assignment_id == own.id]
        end_clocks(draft, spent, "succeeded", cancelled=True)
    elif own is not None:
        return own
    made = replace(leg, id=draft.env.new_id(), department=new, dispatched_at=draft.now, assignee=None)
    draft.put("assignments", made)
    for approval in draft.ticket.approvals:
        if approval.state == "pending" and approval.assignment_id == leg.id:
            draft.put("approvals", replace(approval, assignment_id=made.id, department=new))
    for name in sorted(running):
        HANDLERS["start"](draft, name)
    return made


def _opinions(draft: Draft, old: str, new: str) -> int:
    """Opinions that were asked for and not given; the successor is not asked twice."""
    moved = 0
    for opinion in draft.ticket.opinions:
        if opinion.department != old or opinion.given_at is not None:
            continue
        if any(o.department == new and o.review_id == opinion.review_id for o in draft.ticket.opinions):
            continue
        draft.put("opinions", replace(opinion, department=new))
        moved += 1
    return moved


def hand_on(ticket: Ticket, subject: str, to: str | None, reason: str, env: Env) -> Decision | None:
    """What one person had goes to another, or back to the unit; None if there was nothing. Raises Conflict."""
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    if to is not None and f"person:{to}" in draft.ticket.recused:
        raise Conflict("The other person is recused from this ticket.")
    legs = [a for a in draft.ticket.assignments if a.open and a.assignee == subject]
    for leg in legs:
        draft.put("assignments", replace(leg, assignee=to))
        draft.notices.append(Notice(f"department:{leg.department}", "handed_on"))
    if not legs:
        return None
    draft.event("ticket.handed_on", subject=subject, successor=to, reason=reason)
    return draft.finish()
