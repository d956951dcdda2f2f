"""Who sees what of a confidential ticket, and who is kept away from a ticket altogether.

Need to know: the hotline took the request and the dispatcher sends it on, so both see it whole; of the unit that handles it
the person it was assigned to does. Until somebody has it, the unit's handlers read what is asked, but not by whom. All
others see that there is a ticket, where it stands and when it is due; a supervisor or auditor who must know more reveals
it with a reason. In lists and by search nobody sees more than that.

Recused are persons with a stake and units that are complained of: for them the ticket is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from service.core.draft import Draft, Env
from service.core.errors import Conflict, Forbidden, NotFound
from service.core.model import Actor, Decision, Notice, Role, Ticket
from service.core.workflow import catch_up

SEES_ALL = frozenset({Role.HOTLINE, Role.DISPATCHER, Role.SYSTEM})
HIDDEN = "（保密）"
WHOLE, TEXT, NOTHING = "whole", "text", "nothing"
WHO_FIELDS = ("contact", "project", "location", "agent", "group", "handed_over")
"""What tells who asks."""
SAFE = frozenset({"from", "to", "clock", "clock_id", "rung", "outcome", "due_at", "fired_at", "clocks", "round"})
"""What the history says to those who only see that there is a ticket."""
RECUSES = frozenset({Role.DISPATCHER, Role.SUPERVISOR})
"""Who may recuse others; anybody may recuse himself or herself."""


def sees(actor: Actor | None, ticket: Ticket) -> str:
    """How much of this confidential ticket: WHOLE, TEXT (not by whom) or NOTHING. Nobody in particular sees nothing."""
    if actor is None:
        return NOTHING
    if actor.role in SEES_ALL:
        return WHOLE
    if actor.role is not Role.HANDLER:
        return NOTHING
    legs = [a for a in ticket.assignments if a.department in actor.departments and (a.open or not ticket.open)]
    if any(a.assignee == actor.subject for a in legs):
        return WHOLE
    return TEXT if any(a.assignee is None for a in legs) else NOTHING


def masked(shown: dict[str, Any], level: str) -> dict[str, Any]:
    """A confidential ticket as it looks outside, for somebody who sees this much of it; `masked` names what is not there."""
    if level == WHOLE:
        return {**shown, "masked": []}
    hidden: dict[str, Any] = {"enterprise": {"name": HIDDEN}, "extra": {}, **dict.fromkeys(WHO_FIELDS)}
    if level == NOTHING:
        hidden |= {"title": HIDDEN, "description": HIDDEN, "public_reply": None, "parts": [], "rejection": None}
        hidden |= {"related": [], "warnings": []}
    return {**shown, **{k: v for k, v in hidden.items() if k in shown}, "masked": sorted(hidden.keys() & shown.keys())}


def told(event: Mapping[str, Any], level: str) -> dict[str, Any]:
    """An event of a confidential ticket: of its data only what tells where the ticket stands, unless one may read it."""
    if level != NOTHING:
        return dict(event)
    return {**event, "data": {k: v for k, v in event["data"].items() if k in SAFE}}


# --- recusal -----------------------------------------------------------------------------------------------------------


def name_of(form: Mapping[str, Any]) -> str:
    """`unit:CODE` or `person:SUBJECT`."""
    return f"unit:{form['department']}" if form.get("department") else f"person:{form['subject']}"


def recuse(ticket: Ticket, who: str, reason: str, env: Env) -> Decision:
    """From now on the ticket is not there for this person or unit. Raises Forbidden, and Conflict for a unit that leads."""
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    kind, _, name = who.partition(":")
    if env.actor.role not in RECUSES and who != f"person:{env.actor.subject}":
        raise Forbidden("One recuses oneself; others are recused by a dispatcher or a supervisor.")
    if who in draft.ticket.recused:
        raise Conflict(f"{name} is recused from this ticket already.")
    for leg in draft.ticket.assignments:
        if not leg.open or (leg.department != name if kind == "unit" else leg.assignee != name):
            continue
        if kind == "unit":
            raise Conflict(f"{name} handles this ticket; send it to another unit first.", department=name)
        draft.put("assignments", replace(leg, assignee=None))
        draft.notices.append(Notice(f"department:{leg.department}", "recused"))
    entry = {"who": who, "reason": reason, "by": env.actor.subject, "at": draft.now.isoformat()}
    draft.set(recused=(*draft.ticket.recused, who))
    draft.fact("recusals", [*draft.ticket.facts.get("recusals", []), entry])
    draft.event("ticket.recused", who=who, reason=reason)
    return draft.finish()


def lift(ticket: Ticket, who: str, reason: str, env: Env) -> Decision:
    """It was a mistake, or is over. Never by the person itself."""
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    if env.actor.role not in RECUSES or who == f"person:{env.actor.subject}":
        raise Forbidden("A recusal is lifted by a dispatcher or a supervisor, never by the person recused.")
    if who not in draft.ticket.recused:
        raise NotFound("Nobody of this name is recused from this ticket.")
    draft.set(recused=tuple(r for r in draft.ticket.recused if r != who))
    draft.event("ticket.recusal_lifted", who=who, reason=reason)
    return draft.finish()
