"""What each effect of a workflow file does to a draft. `HANDLERS` names them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

from service.core import clocks
from service.core.calendar import Budget, Measure
from service.core.definitions import Branch, Rung
from service.core.draft import Draft
from service.core.errors import Conflict, Invalid
from service.core.model import (
    SYSTEM,
    Approval,
    Assignment,
    Clock,
    ClockState,
    Event,
    Exemption,
    Firing,
    Notice,
    Phase,
    Review,
    Round,
    Ticket,
    evolve,
    new_clock,
)
from service.core.proposing import proposal
from service.core.rebinding import rebind

CAPS = frozenset({"pause_cap", "planned_until"})
"""Clocks at whose due time a pause ends by itself: the ticket's own, not the request's that granted it."""

NOTHING_NEWER = (
    "The ticket is bound to the newest version of the workflow that fits it already. / 该工单已适用现行最新规则。"
)


def run(draft: Draft, branch: Branch | Rung) -> None:
    """Carry out the effects in their order, then move to the stage named, if any."""
    for verb, arg in branch.effects:
        HANDLERS[verb](draft, arg)
    if branch.to is not None:
        draft.set(stage=branch.to, phase=draft.env.workflow.phase(branch.to))
        if draft.ticket.phase is Phase.CLOSED:
            _close(draft, None)


def _start(draft: Draft, name: str) -> None:
    definition = draft.env.workflow.clocks[name]
    ticket = draft.ticket
    if definition.contacts and ticket.reply == "none":
        return
    if definition.family == "assignment":
        role = "co_handler" if name.startswith("co_") else "lead"
        for leg in ticket.assignments:
            have = any(c.name == name and c.assignment_id == leg.id for c in ticket.clocks)
            if leg.open and leg.role == role and not have:
                start_clock(draft, name, anchor=_anchor(draft, definition.anchor, leg), assignment=leg)
        return
    if definition.family == "enterprise" and any(c.name == name and c.cycle == ticket.round for c in ticket.clocks):
        return
    subject = draft.approval.id if draft.approval and name not in CAPS else None
    start_clock(draft, name, anchor=_anchor(draft, definition.anchor), subject_id=subject)


def _anchor(draft: Draft, name: str, leg: Assignment | None = None) -> datetime:
    """T5: the instant that a clock counts from. What has not happened (yet) is now; a later round never reaches back."""
    ticket, now = draft.ticket, draft.now
    if leg is not None and name == "dispatched_at":
        return leg.dispatched_at
    if name == "received_at":
        return ticket.received_at if ticket.round == 1 else now
    if name == "accepted_at":
        leg = leg or ticket.lead_leg()
        return (leg.accepted_at if leg else None) or now
    if name == "ruling_at":
        return max((a.decided_at for a in ticket.approvals if a.decided_at), default=now)
    if name == "submitted_at":
        current = ticket.current_round()
        return (current.submitted_at if current else None) or now
    return now


def start_clock(
    draft: Draft,
    name: str,
    *,
    anchor: datetime,
    assignment: Assignment | None = None,
    subject_id: str | None = None,
    department: str | None = None,
    budget: Budget | None = None,
) -> Clock:
    """Begin one clock of the workflow. The enterprise's clocks have the round as their cycle (T3)."""
    definition, ticket = draft.env.workflow.clocks[name], draft.ticket
    # T3: the rule of the cycle says whether a further round has the whole budget again or the one of rework
    restart = definition.family != "enterprise" or ticket.round == 1 or getattr(definition, draft.cycle) == "restart"
    budget = budget or (definition.budget if restart else definition.rework)
    if name == "pause_cap" and draft.form.get("days"):
        budget = Budget(definition.budget.measure, min(definition.budget.amount, int(draft.form["days"])))
    if name == "planned_until":
        # decided late, a plan may have little of its time left: its day is the next one at the least
        days = (date.fromisoformat(draft.form["planned_on"]) - draft.env.calendar.local_date(anchor)).days
        budget = Budget(Measure.natural_days, max(1, min(definition.budget.amount, days)))
    before = [c for c in ticket.clocks if c.name == name]
    enterprise = definition.family == "enterprise"
    latest = max((c.cycle for c in before), default=0)  # a migration may have taken some away
    clock = new_clock(
        id=draft.env.new_id(),
        ticket_id=ticket.id,
        assignment_id=assignment.id if assignment else None,
        name=name,
        cycle=ticket.round if enterprise else 1 + latest,
        family=definition.family,
        measure=budget.measure,
        budget=budget.amount,
        anchor_name=definition.anchor,
        anchor=anchor,
        calendar_key=draft.env.calendar.key,
        calendar_version=draft.env.calendar.version,
        workflow_key=draft.env.workflow.key,
        workflow_version=draft.env.workflow.version,
        due_at=draft.due_of(name, anchor, budget),
        department=department or (assignment.department if assignment else None),
        subject_id=subject_id,
    )
    last = [c for c in before if not c.open] if enterprise else ()
    if last and getattr(definition, draft.cycle) == "continue":
        clock = clocks.continued(clock, last[-1], draft.now)
    draft.put_clock(clock)
    draft.changed("started", name)
    return clock


def end_clocks(draft: Draft, ending: list[Clock], reason: str, cancelled: bool = False) -> None:
    for clock in ending:
        if not cancelled and clock.breached_at is None and draft.now > clock.due_at and not draft.deciding(clock):
            clock = _breached_at_birth(draft, clock)
        draft.put_clock(clocks.end(clock, draft.now, reason, cancelled))
        draft.changed("cancelled" if cancelled else "met", clock.name)


def _breached_at_birth(draft: Draft, clock: Clock) -> Clock:
    """Late before any timer could look, because it ends in the very act that made it: the breach is recorded all the same."""
    now = draft.env.now
    draft.firings.append(Firing(clock.id, "breach", clock.due_at, now, "superseded"))
    told = {"clock": clock.name, "clock_id": clock.id, "rung": "breach", "outcome": "superseded"}
    instants = {"due_at": clock.due_at.isoformat(), "fired_at": now.isoformat()}
    draft.events.append(Event("clock.breached", clock.due_at, SYSTEM, {**told, **instants}))
    return clocks.breach(evolve(clock, fired=(*clock.fired, "breach")))


def _meet(draft: Draft, name: str) -> None:
    ending = draft.open_clocks(name)
    if draft.env.workflow.clocks[name].family == "assignment" and draft.leg is not None:
        ending = [c for c in ending if c.assignment_id == draft.leg.id]
    end_clocks(draft, ending, draft.met_because)


def _cancel(draft: Draft, name: str) -> None:
    end_clocks(draft, draft.open_clocks(name), "cancelled", cancelled=True)


def _hold(draft: Draft, name: str) -> None:
    for clock in draft.open_clocks(name):
        draft.put_clock(clocks.hold(clock, draft.now, draft.actor.subject))
        draft.changed("held", name)


def _release(draft: Draft, name: str) -> None:
    for clock in draft.open_clocks(name):
        draft.put_clock(clocks.resume(clock, draft.now))
        draft.changed("released", name)


def _settle(draft: Draft, name: str) -> None:
    """T10: an accepted reply met its clock at the time it was submitted."""
    for clock in draft.open_clocks(name):
        at = clock.held_at or draft.now
        draft.put_clock(clocks.end(clock, at, "reply accepted"))
        draft.changed("met", name)


def _pause(draft: Draft, arg: Mapping[str, Any]) -> None:
    approval = draft.approval
    at = approval.requested_at if approval and arg.get("from") == "requested" else draft.now
    kind = arg.get("kind") or draft.form.get("kind", "paused")
    # a pause that was asked for never lasts longer than it was granted for, whether or not the workflow says so again
    cap = arg.get("cap", "pause_cap" if approval else None)
    caps = draft.open_clocks(cap) if cap else []
    until = caps[0].due_at if caps else None
    for name in arg["clocks"]:
        for clock in draft.open_clocks(name):
            if clock.state in {ClockState.RUNNING, ClockState.BREACHED_RUNNING}:
                reason = str(draft.form.get("reason", ""))
                draft.put_clock(clocks.pause(clock, at, kind, until, reason, draft.actor.subject))
                draft.changed("paused", name)


def _resume(draft: Draft, arg: Mapping[str, Any]) -> None:
    for name in arg["clocks"]:
        for clock in draft.open_clocks(name):
            if clock.state is ClockState.PAUSED:
                draft.put_clock(clocks.resume(clock, draft.now))
                draft.changed("resumed", name)


def _extend(draft: Draft, name: str) -> None:
    assert draft.approval is not None, "extend stands in an approval (checked when the workflow is loaded)"
    days = int(draft.approval.form["days"])
    for clock in draft.open_clocks(name):
        assert clock.measure.counts_days, "days are added to a clock of days (checked when the workflow is loaded)"
        ground = str(draft.approval.form.get("ground", ""))
        draft.put_clock(clocks.extend(clock, days, draft.now, draft.actor.subject, ground))
        draft.changed("extended", name)


def _excuse(draft: Draft, names: list[str], approval: Approval | None = None) -> None:
    approval = approval or draft.approval
    assert approval is not None, "excuse stands in an approval (checked when the workflow is loaded)"
    for name in names:
        for clock in draft.open_clocks(name):
            if clock.breached_at is None:
                draft.put_clock(
                    clocks.excuse_decision(clock, draft.env.calendar_of(clock), approval.requested_at, draft.now)
                )


def _assign_lead(draft: Draft, source: str) -> None:
    if source == "form":
        lead = str(draft.form["department"])
        co_handlers = tuple(draft.form.get("co_handlers", ()))
    elif source == "again":
        assert draft.ticket.lead is not None, "assigned again only where there was a lead (a guard of the workflow)"
        lead, co_handlers = draft.ticket.lead, ()
    else:
        assert draft.route is not None and draft.route.lead is not None, "routed only where a rule found the lead"
        lead, co_handlers = draft.route.lead, draft.route.co_handlers
    for leg in draft.ticket.assignments:
        # a co-handler that becomes the lead has one leg, not two
        if leg.open and (leg.role == "lead" or leg.department == lead):
            _end_assignment(draft, leg, "reassigned")
    _new_leg(draft, lead, "lead")
    draft.set(lead=lead)
    if source == "form":
        # another unit may have a workflow of its own; what is not like it keeps the ticket's (T8)
        rebind(draft, "dispatched to another unit", must=False)
    for code in co_handlers:
        _add_co_handler(draft, code)
    draft.notices.append(Notice(f"department:{lead}", "dispatched"))


def _new_leg(draft: Draft, department: str, role: str) -> Assignment:
    draft.check_not_recused(department)
    leg = Assignment(draft.env.new_id(), draft.ticket.id, department, role, "pending", draft.ticket.round, draft.now)
    draft.put("assignments", leg)
    return leg


def _add_co_handler(draft: Draft, code: str) -> None:
    if not any(a.open and a.department == code for a in draft.ticket.assignments):
        _new_leg(draft, code, "co_handler")
        draft.notices.append(Notice(f"department:{code}", "co_dispatched"))


def _add_co_handlers(draft: Draft, _: Any) -> None:
    code = str(draft.form["department"])
    if any(a.open and a.department == code for a in draft.ticket.assignments):
        raise Conflict(f"{code} handles this ticket already.")
    _add_co_handler(draft, code)


def _end_assignment(draft: Draft, leg: Assignment, reason: str) -> None:
    draft.put("assignments", evolve(leg, state="ended", ended_at=draft.now, end_reason=reason))
    own = [c for c in draft.ticket.clocks if c.open and c.assignment_id == leg.id]
    end_clocks(draft, own, reason, cancelled=True)


def _end_leg(draft: Draft, reason: str) -> None:
    leg = draft.leg or draft.ticket.lead_leg()
    if leg is not None and leg.open:
        _end_assignment(draft, leg, reason)


def _clear_lead(draft: Draft, _: Any) -> None:
    draft.set(lead=None)


def _assign_to(draft: Draft, _: Any) -> None:
    leg = draft.leg or draft.ticket.lead_leg()
    if leg is None:
        raise Conflict("No department handles this ticket yet; dispatch it first.")
    if f"person:{draft.form['assignee']}" in draft.ticket.recused:
        raise Conflict("This person is recused from this ticket.")
    draft.put("assignments", evolve(leg, assignee=str(draft.form["assignee"])))


def _accept(draft: Draft, how: str) -> None:
    leg = draft.leg if draft.leg is not None and draft.leg.role == "lead" else draft.ticket.lead_leg()
    if leg is None:
        return
    changes: dict[str, Any] = {"state": "accepted", "submitted_at": None}
    if how != "again":
        changes |= {"accepted_at": draft.now, "auto_accepted": how == "automatic"}
        if leg.assignee is None and how == "by_hand":
            changes["assignee"] = draft.actor.subject
    else:
        changes["round"] = draft.ticket.round
    draft.put("assignments", evolve(leg, **changes))


def _submit_leg(draft: Draft, _: Any) -> None:
    leg = draft.leg
    assert leg is not None, "a handler acts for a leg (checked before)"
    draft.put("assignments", evolve(leg, state="submitted", submitted_at=draft.now))
    if leg.role == "lead":
        _round(draft, submitted_at=draft.now, department=leg.department)


def _round(draft: Draft, **changes: Any) -> None:
    current = draft.ticket.current_round()
    if current is not None:
        draft.put("rounds", evolve(current, **changes))


def _request(draft: Draft, kind: str) -> None:
    definition = draft.env.workflow.approvals[kind]
    approval = Approval(
        id=draft.env.new_id(),
        ticket_id=draft.ticket.id,
        assignment_id=draft.leg.id if draft.leg else None,
        kind=kind,
        state="pending",
        department=draft.leg.department if draft.leg else None,
        requested_by=draft.actor.subject,
        requested_at=draft.now,
        form=dict(draft.form),
    )
    draft.put("approvals", approval)
    draft.approval = approval
    _start(draft, definition.clock)
    for name in definition.delays:
        for clock in draft.open_clocks(name):
            draft.put_clock(clock)
    draft.changed("requested", kind)


def _withdraw_open(draft: Draft, _: Any) -> None:
    """Requests that no longer matter end as withdrawn; waiting for them is not charged to the unit (T7)."""
    for approval in draft.ticket.approvals:
        if approval.state != "pending":
            continue
        definition = draft.env.workflow.approvals[approval.kind]
        draft.put("approvals", evolve(approval, state="withdrawn", decided_at=draft.now, reason="overtaken"))
        own = [c for c in draft.open_clocks(definition.clock) if c.subject_id == approval.id]
        end_clocks(draft, own, "overtaken", cancelled=True)
        _excuse(draft, list(definition.delays), approval)


OF_A_ROUND = ("callback_attempts", "yellow_cards", "red_cards")
"""Counters that begin anew with each round."""


def _new_round(draft: Draft, _: Any) -> None:
    current = draft.ticket.current_round()
    if current is not None and current.ended_at is None:  # a round that a closing ended keeps its end (P5)
        _round(draft, ended_at=draft.now)
    draft.set(round=draft.ticket.round + 1)
    draft.put("rounds", Round(draft.ticket.id, draft.ticket.round, draft.now))
    draft.set(counters={**draft.ticket.counters, **dict.fromkeys(OF_A_ROUND, 0)})


def _outcome(draft: Draft, value: str) -> None:
    if value == "from_reply":
        value = draft.ticket.facts.get("reply", {}).get("outcome") or "solved"
    draft.set(outcome=value)


def _card(draft: Draft, level: str) -> None:
    clock = draft.clock
    card = {"level": level, "clock": clock.name if clock else None, "at": draft.now.isoformat()}
    if clock and any(m.id == clock.subject_id for m in draft.ticket.measures):
        card |= {"measure": clock.subject_id, "department": clock.department}
    cards = draft.ticket.facts.get("cards", [])
    if level == "slip":  # a supervision slip (督办单) is a paper: it has a number of its own
        card["number"] = f"DB{draft.ticket.number[2:]}-{1 + sum(c['level'] == 'slip' for c in cards)}"
    else:
        draft.count(f"{level}_cards")
    draft.fact("cards", [*cards, card])
    draft.event("card.issued", **card)


def _notify(draft: Draft, targets: list[str]) -> None:
    if draft.quiet:
        return
    clock = draft.clock
    for target in targets:
        if target == "department":
            code = (draft.leg.department if draft.leg else None) or (clock and clock.department) or draft.ticket.lead
            if code is None:
                continue
            target = f"department:{code}"
        told = (clock.name, clock.due_at) if clock else (None, None)
        draft.notices.append(Notice(target, "attention", *told))


def _record(draft: Draft, name: str) -> None:
    entry = {**draft.form, "at": draft.now.isoformat(), "by": draft.actor.subject}
    if name == "co_reply":
        leg = draft.leg
        entry["department"] = leg.department if leg else None
        draft.fact("co_replies", [*draft.ticket.facts.get("co_replies", []), entry])
    else:
        draft.fact(name, entry)
    if name == "callback":
        _round(draft, solved=draft.form.get("solved"), satisfaction=draft.form.get("satisfaction"))


def _count(draft: Draft, name: str) -> None:
    if name == "callback_attempts":
        if draft.attempted_today():
            return
        draft.fact("attempted_on", draft.today())
    draft.count(name)


def _tell_enterprise(draft: Draft, about: str) -> None:
    """What the enterprise must be told; the hotline gets it as an event and passes it on."""
    due = [c.due_at.isoformat() for name in ("resolve", *CAPS) for c in draft.open_clocks(name)]
    told = {"about": about, "at": draft.now.isoformat(), "next_date": max(due, default=None)}
    for field in ("reason", "public_reply", "interim_reply", "measures", "planned_on", "legal_route", "kind"):
        if field in draft.form:
            told[field] = str(draft.form[field])
    draft.fact("enterprise_notices", [*draft.ticket.facts.get("enterprise_notices", []), told])
    draft.event("enterprise.told", **told)


def _leave_out(draft: Draft, code: str) -> None:
    """The rating of this round stays as it was given; by the decision of a third party the assessment leaves it out."""
    callback = draft.ticket.facts.get("callback", {})
    draft.exemptions.append(
        Exemption(
            id=draft.env.new_id(),
            ticket_id=draft.ticket.id,
            scope="rating",
            round=draft.ticket.round,
            code=code,
            reason=str(draft.form.get("reason", "")),
            evidence="",
            department=draft.ticket.lead,
            state="approved",
            requested_by=str(callback.get("by", "system")),
            requested_at=draft.now,
            expires_at=draft.now + LEFT_OUT_FOR,
            decided_by=draft.actor.subject,
            decided_at=draft.now,
            decision_reason=str(draft.form.get("reason", "")),
        )
    )


LEFT_OUT_FOR = timedelta(days=3650)
"""A decided dispute stays decided: longer than any assessment looks back."""


def _co_leg(draft: Draft, field: str) -> Assignment:
    code = draft.form[field]
    leg = next(
        (a for a in draft.ticket.assignments if a.open and a.role == "co_handler" and a.department == code), None
    )
    if leg is None:
        raise Conflict(f"{code} is no co-handler of this ticket.")
    return leg


def _sign_off(draft: Draft, verdict: str) -> None:
    """The lead accepts a co-handler's answer (会签), or sends it back: its leg then has a limit anew."""
    leg = _co_leg(draft, "department")
    if leg.state != "submitted":
        raise Conflict(f"{leg.department} has not answered yet.")
    signed = {"department": leg.department, "verdict": verdict, "at": draft.now.isoformat(), "by": draft.actor.subject}
    draft.fact(
        "signed_off", [*draft.ticket.facts.get("signed_off", []), {**signed, "reason": draft.form.get("reason")}]
    )
    if verdict == "accepted":
        return
    draft.put("assignments", evolve(leg, state="pending", submitted_at=None))
    for name, definition in draft.env.workflow.clocks.items():
        if name.startswith("co_") and definition.family == "assignment":
            start_clock(draft, name, anchor=draft.now, assignment=leg, budget=definition.rework)
    draft.notices.append(Notice(f"department:{leg.department}", "sent_back"))


def _substitute(draft: Draft, _: Any) -> None:
    """Another unit in a co-handler's place: what the first was late with stays its own."""
    leg = _co_leg(draft, "instead_of")
    code = str(draft.form["department"])
    if any(a.open and a.department == code for a in draft.ticket.assignments):
        raise Conflict(f"{code} handles this ticket already.")
    _end_assignment(draft, leg, "substituted")
    draft.notices.append(Notice(f"department:{leg.department}", "substituted"))
    _add_co_handler(draft, code)


def _reclassify(draft: Draft, _: Any) -> None:
    """Urgency, matter or domain were wrong or have changed: the promises are made anew by what fits now (T8)."""
    given = {name: draft.form[name] for name in ("urgency", "matter", "domain") if name in draft.form}
    if not given:
        raise Invalid.field("", "expected at least one of urgency, matter and domain")
    before = {name: getattr(draft.ticket, name) for name in given}
    draft.set(**given)
    draft.event("ticket.reclassified", before=before, after=given)
    rebind(draft, str(draft.form.get("reason", "")))


def _rebind(draft: Draft, which: str) -> None:
    if not rebind(draft, str(draft.form.get("reason", "")), newest=which == "newest"):
        raise Conflict(NOTHING_NEWER)


def _replace(draft: Draft, name: str) -> None:
    """T12: the review's dates take the place of the promise by a recorded decision; a breach before it stays."""
    for clock in draft.open_clocks(name):
        draft.put_clock(clocks.end(clock, draft.now, "replaced by the review's dates", cancelled=True))
        draft.changed("cancelled", name)


def _reopen(draft: Draft, _: Any) -> None:
    """T3: within the callback window the clocks go on, after it they begin again, as their definitions say."""
    closed_at = draft.ticket.closed_at
    assert closed_at is not None, "only a closed ticket is reopened (its stage says so)"
    late = draft.now > closed_at + timedelta(days=draft.env.workflow.callback_window_days)
    draft.cycle = "reopened_late" if late else "reopened"
    draft.set(closed_at=None, outcome=None)


def _propose_review(draft: Draft, ground: str) -> None:
    review = draft.ticket.open_review()
    if review is not None:
        if ground not in review.grounds:
            draft.put("reviews", replace(review, grounds=(*review.grounds, ground)))
        return
    review = proposal(draft, ground)
    draft.put("reviews", review)
    run(draft, draft.env.workflow.review["proposed"][0])
    draft.event("review.proposed", review=review.id, number=review.number, ground=ground, grounds=list(review.grounds))


def _close(draft: Draft, _: Any) -> None:
    """Nothing that belongs to a closed ticket stays open, and it cannot close over an open mandatory measure."""
    ticket = draft.ticket
    if ticket.closed_at is not None:
        return
    owed = [r for r in ticket.reviews if _owes_reply(r, ticket)]
    if owed and draft.actor is not SYSTEM and ticket.outcome not in {"withdrawn", "merged"}:
        raise Conflict(
            "The enterprise has not been told what the meeting decided: reply to it first"
            f" (POST /v1/reviews/{owed[0].id}/actions/reply, once the minutes are issued).",
            missing=["reply"],
            review=owed[0].id,
        )
    mandatory = [m.title for m in ticket.measures if m.mandatory and m.open]
    if mandatory:
        raise Conflict(
            f"{len(mandatory)} mandatory measure(s) of the review are open; strike them off or waive them first.",
            measures=mandatory,
        )
    _withdraw_open(draft, None)
    for task in ticket.measures:
        if task.open:
            draft.put("measures", replace(task, state="waived", reason="not mandatory; the ticket was closed"))
    review = ticket.open_review()
    if review is not None:
        state = "completed" if review.state == "decided" else "withdrawn"
        draft.put("reviews", replace(review, state=state, completed_at=draft.now))
    end_clocks(draft, [c for c in draft.ticket.clocks if c.open], "closed", cancelled=True)
    _finish_legs(draft)
    _round(draft, ended_at=draft.now)
    draft.set(closed_at=draft.now)


def _owes_reply(review: Review, ticket: Ticket) -> bool:
    """What a meeting decided is told to the enterprise; what was decided in writing, once minutes of it are issued."""
    settled = review.state in {"decided", "completed"} and review.replied_at is None
    return settled and (review.meeting_id is not None or review.issued_at is not None)


def _finish_legs(draft: Draft) -> None:
    """End every leg; who could see the ticket still can."""
    legs = {a.department for a in draft.ticket.assignments if a.open} | set(draft.ticket.visible_to)
    for leg in draft.ticket.assignments:
        if leg.open:
            draft.put("assignments", evolve(leg, state="ended", ended_at=draft.now, end_reason="closed"))
    draft.set(visible_to=tuple(sorted(legs)))


HANDLERS: Mapping[str, Callable[[Draft, Any], None]] = {
    "accept": _accept,
    "add_co_handlers": _add_co_handlers,
    "assign_lead": _assign_lead,
    "assign_to": _assign_to,
    "cancel": _cancel,
    "card": _card,
    "clear_lead": _clear_lead,
    "close": _close,
    "count": _count,
    "end_leg": _end_leg,
    "excuse": _excuse,
    "extend": _extend,
    "hold": _hold,
    "leave_out": _leave_out,
    "meet": _meet,
    "new_round": _new_round,
    "notify": _notify,
    "outcome": _outcome,
    "pause": _pause,
    "propose_review": _propose_review,
    "rebind": _rebind,
    "reclassify": _reclassify,
    "record": _record,
    "release": _release,
    "reopen": _reopen,
    "replace": _replace,
    "request": _request,
    "resume": _resume,
    "settle": _settle,
    "sign_off": _sign_off,
    "start": _start,
    "submit_leg": _submit_leg,
    "substitute": _substitute,
    "tell_enterprise": _tell_enterprise,
    "withdraw_open": _withdraw_open,
}
