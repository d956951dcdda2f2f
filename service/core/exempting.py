"""Exemptions (免考、剔除) and appeals against ratings (评星复议): what the assessment leaves out, by whose decision, until when.

Neither changes what happened: clocks, breaches and ratings stay as they are; only the figures leave the ticket, or one
rating of it, out of both sides of a rate, and show it beside. Asked by one, decided by another who handles no ticket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from service.core.draft import Draft, Env
from service.core.errors import Conflict, Forbidden, Invalid
from service.core.model import Decision, Exemption, Notice, Role, Ticket
from service.core.workflow import catch_up

CODES = (
    "unreasonable", "outside_duty_confirmed", "policy_only", "malicious", "force_majeure", "hotline_error",
    "tolerance_rule",
)  # fmt: skip
"""Why a ticket is left out; a free text never is a reason by itself."""


def ask(ticket: Ticket, form: Mapping[str, Any], known: list[Exemption], env: Env) -> tuple[Decision, Exemption]:
    """Ask that a ticket be left out. `form`: code, reason, evidence, expires_at. Raises Conflict, Forbidden, Invalid."""
    return _ask(_draft(ticket, env), "ticket", None, form, known)


def appeal(ticket: Ticket, form: Mapping[str, Any], known: list[Exemption], env: Env) -> tuple[Decision, Exemption]:
    """A unit appeals against the rating of a round after it has spoken with the enterprise again.

    `form`: round (default: the last rated one), contacted_at, contact_note, and what `ask` takes.
    """
    draft = _draft(ticket, env)
    rated = [r for r in draft.ticket.rounds if r.solved is not None or r.satisfaction is not None]
    number = form.get("round") or (rated[-1].number if rated else None)
    found = next((r for r in rated if r.number == number), None)
    if found is None:
        raise Conflict("No callback has rated this round; an appeal is against a rating.")
    if env.actor.role is Role.HANDLER and found.department not in env.actor.departments:
        raise Forbidden("The unit whose work was rated appeals.")
    since = found.ended_at or found.submitted_at or found.started_at
    if not since <= form["contacted_at"] <= draft.now:
        raise Invalid.field("/contacted_at", "expected a time after the rating, and not in the future")
    evidence = f"{form['contacted_at'].isoformat()} {form['contact_note']}"
    return _ask(draft, "rating", number, {**form, "evidence": evidence}, known)


def decide(
    ticket: Ticket, exemption: Exemption, approve: bool, reason: str, expires_at: datetime | None, env: Env
) -> tuple[Decision, Exemption]:
    """Somebody else decides: neither who asked nor anybody of a unit that handles tickets."""
    draft, actor = _draft(ticket, env), env.actor
    if exemption.state != "pending":
        raise Conflict(f"This request is {exemption.state} already.", state=exemption.state)
    if exemption.requested_by == actor.subject:
        raise Forbidden("Nobody decides his or her own request.")
    if actor.departments:
        raise Forbidden("An assessor belongs to no unit that handles tickets.")
    expires_at = expires_at or exemption.expires_at
    if approve and expires_at <= draft.now:
        raise Invalid.field("/expires_at", "expected a time in the future")
    state = "approved" if approve else "denied"
    exemption = replace(
        exemption,
        state=state,
        decided_by=actor.subject,
        decided_at=draft.now,
        decision_reason=reason,
        expires_at=expires_at,
    )
    told = {"exemption": exemption.id, "scope": exemption.scope, "round": exemption.round, "code": exemption.code}
    draft.event(f"exemption.{state}", **told, reason=reason, expires_at=expires_at.isoformat())
    _tell(draft, exemption, f"exemption_{state}")
    return draft.finish(), exemption


def revoke(ticket: Ticket, exemption: Exemption, reason: str, env: Env) -> tuple[Decision, Exemption]:
    """An approved exemption is taken back: from now on the figures count it again."""
    draft = _draft(ticket, env)
    if exemption.state != "approved":
        raise Conflict(
            f"This exemption is {exemption.state}; only an approved one is taken back.", state=exemption.state
        )
    exemption = replace(exemption, state="revoked", revoked_by=env.actor.subject, revoked_at=draft.now)
    draft.event(
        "exemption.revoked", exemption=exemption.id, scope=exemption.scope, round=exemption.round, reason=reason
    )
    _tell(draft, exemption, "exemption_revoked")
    return draft.finish(), exemption


def _ask(
    draft: Draft, scope: str, number: int | None, form: Mapping[str, Any], known: list[Exemption]
) -> tuple[Decision, Exemption]:
    actor, ticket = draft.env.actor, draft.ticket
    if any(e.state == "pending" and (e.scope, e.round) == (scope, number) for e in known):
        raise Conflict("Such a request is waiting for its decision already.")
    if any(e.state == "approved" and e.expires_at > draft.now and (e.scope, e.round) == (scope, number) for e in known):
        raise Conflict("This is left out of the assessment already.")
    if form["expires_at"] <= draft.now:
        raise Invalid.field("/expires_at", "expected a time in the future")
    handled = [a.department for a in ticket.assignments if a.department in actor.departments]
    if actor.role is Role.HANDLER and not handled:
        raise Forbidden("A unit asks for tickets that it handles or handled.")
    exemption = Exemption(
        id=draft.env.new_id(),
        ticket_id=ticket.id,
        scope=scope,
        round=number,
        code=str(form["code"]),
        reason=str(form["reason"]),
        evidence=str(form.get("evidence") or ""),
        department=handled[-1] if handled else ticket.lead,
        state="pending",
        requested_by=actor.subject,
        requested_at=draft.now,
        expires_at=form["expires_at"],
    )
    told = {"exemption": exemption.id, "scope": scope, "round": number, "code": exemption.code}
    draft.event("exemption.requested", **told, reason=exemption.reason)
    draft.notices.append(Notice(Role.SUPERVISOR.value, "exemption_requested"))
    return draft.finish(), exemption


def _draft(ticket: Ticket, env: Env) -> Draft:
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    return draft


def _tell(draft: Draft, exemption: Exemption, kind: str) -> None:
    if exemption.department:
        draft.notices.append(Notice(f"department:{exemption.department}", kind))
