"""The source corrects what it said: the ticket's promises are made anew where what they were made by has changed.

A correction never shortens in silence: whoever handles the ticket is told, and each promise that moves says so itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.core.draft import Draft, Env
from service.core.model import Decision, Notice, Ticket
from service.core.rebinding import rebind
from service.core.workflow import catch_up

CLASSIFIED = ("domain", "matter", "urgency")
"""What decides which policy a ticket is under; a change of these is a reclassification."""


def correct(ticket: Ticket, given: Mapping[str, Any], told: Mapping[str, Any], env: Env) -> Decision:
    """`given`: domain, matter, urgency and no_reply as they should be. `told`: what the event says besides.

    A closed ticket only gets the event: what was promised is kept, or was not, by what was known then.
    """
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    applied = bool(told["applied"]) and draft.ticket.open
    after = {n: given[n] for n in CLASSIFIED if applied and given[n] != getattr(draft.ticket, n)}
    if after:
        before = {n: getattr(draft.ticket, n) for n in after}
        draft.set(**after)
        draft.event("ticket.reclassified", before=before, after=after)
        rebind(draft, f"correction {told['sequence']} of the source", must=False)
    if applied and bool(draft.ticket.facts.get("no_reply")) != given["no_reply"]:
        draft.fact("no_reply", given["no_reply"])
    draft.event("source.corrected", **{**told, "applied": applied, "reclassified": bool(after)})
    if applied:
        legs = sorted({a.department for a in draft.ticket.assignments if a.open})
        draft.notices += [Notice(to, "corrected") for to in ("dispatcher", *(f"department:{code}" for code in legs))]
    return draft.finish()


def open_now(ticket: Ticket, env: Env) -> bool:
    """Whether the ticket is open once everything due has fired."""
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    return draft.ticket.open
