"""The measures of a resolution (议定事项): progress, evidence, strike-off, a new date.

The owner reports and proves; the convenor's side alone changes a date or strikes off, with the enterprise's opinion on
record and, from the tier on where the rules say so, an approver's signature. A breach stays a fact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from service.core.draft import Draft, Env
from service.core.effects import end_clocks
from service.core.errors import ActionNotPossible, Forbidden, Invalid, NotFound
from service.core.model import Actor, Decision, MeasureTask, Review, Role, Ticket
from service.core.procedure import check_no_stake
from service.core.resolving import complete_if_done, start_measure_clock
from service.core.workflow import catch_up

ROLES: Mapping[str, frozenset[Role]] = {
    "report": frozenset({Role.HANDLER, Role.REVIEWER}),
    "submit_evidence": frozenset({Role.HANDLER}),
    "strike_off": frozenset({Role.REVIEWER}),
    "reschedule": frozenset({Role.REVIEWER}),
}
OPINIONS = ("satisfied", "basically_satisfied", "dissatisfied", "not_reached")
"""What the enterprise says at the strike-off. Dissatisfied does not block; it is recorded and reported."""


def act(ticket: Ticket, measure_id: str, action: str, form: Mapping[str, Any], env: Env) -> Decision:
    """One step of one measure; the last mandatory one struck off sends the ticket to its callback."""
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    task = next((m for m in draft.ticket.measures if m.id == measure_id), None)
    if task is None or action not in ROLES:
        raise NotFound("There is no such measure or action.")
    _check_may(task, action, env.actor)
    if not task.open:
        raise ActionNotPossible(f"This measure is {task.state} already.", stage=task.state, actions=[])
    _STEPS[action](draft, task, form)
    return draft.finish()


def possible(task: MeasureTask, actor: Actor) -> list[str]:
    """What this actor may do with it now."""

    def may(action: str) -> bool:
        try:
            _check_may(task, action, actor)
        except Forbidden:
            return False
        return True

    return [name for name in ROLES if task.open and may(name)]


def _check_may(task: MeasureTask, action: str, actor: Actor) -> None:
    if actor.role not in ROLES[action]:
        raise Forbidden(f"{action!r} is done by: {', '.join(sorted(ROLES[action]))}; you are {actor.role}.")
    if actor.role is not Role.HANDLER or task.department in actor.departments:
        return
    if action != "report" or not set(task.co_units) & set(actor.departments):
        raise Forbidden("This measure is owned by another department.")


def _report(draft: Draft, task: MeasureTask, form: Mapping[str, Any]) -> None:
    entry = {"at": draft.now.isoformat(), "by": draft.env.actor.subject, "text": str(form["text"])}
    state = "reported" if task.state == "open" else task.state
    draft.put("measures", replace(task, state=state, progress=(*task.progress, entry)))
    draft.event("measure.reported", measure=task.id)


def _submit_evidence(draft: Draft, task: MeasureTask, form: Mapping[str, Any]) -> None:
    kind = str(form.get("type") or task.evidence_type)
    if task.evidence_type and kind != task.evidence_type:
        raise Invalid.field("/type", f"expected {task.evidence_type}: the resolution asks for it")
    draft.put("measures", replace(task, state="evidence", evidence=str(form["evidence"]), evidence_type=kind))
    draft.event("measure.evidence_submitted", measure=task.id)


def _strike_off(draft: Draft, task: MeasureTask, form: Mapping[str, Any]) -> None:
    waived, reason = bool(form.get("waive")), str(form.get("reason") or "")
    review = next(r for r in draft.ticket.reviews if r.id == task.review_id)
    if waived and not reason:
        raise Invalid.field("/reason", "expected a reason: a measure is waived only with one")
    if not waived and task.state != "evidence":
        raise ActionNotPossible(
            "A measure is struck off on evidence; submit it first, or waive with a reason.",
            stage=task.state, actions=["report", "submit_evidence", "reschedule"],
            missing=[{"what": "evidence", "department": task.department, "settle": "submit_evidence"}],
        )  # fmt: skip
    _check_signed(draft, review, form, waived)
    state, actor = "waived" if waived else "struck_off", draft.env.actor
    changes: dict[str, Any] = {
        "state": state,
        "struck_off_at": draft.now,
        "struck_off_by": actor.subject,
        "reason": reason,
    }
    if form.get("enterprise_opinion") or form.get("signed_by"):
        changes["enterprise_opinion"] = {
            "opinion": form.get("enterprise_opinion"), "text": str(form.get("opinion_text") or ""),
            "at": draft.now.isoformat(), "by": actor.subject, "signed_by": str(form.get("signed_by") or ""),
        }  # fmt: skip
    draft.put("measures", replace(task, **changes))
    own = [c for c in draft.open_clocks("review_measure") if c.subject_id == task.id]
    end_clocks(draft, own, state, cancelled=waived)
    draft.event(f"measure.{state}", measure=task.id, reason=reason, enterprise_opinion=form.get("enterprise_opinion"))
    if review.state == "decided":
        complete_if_done(draft, review)


def _check_signed(draft: Draft, review: Review, form: Mapping[str, Any], waived: bool) -> None:
    """The enterprise is heard, and an approver of the tier signs; a measure is waived with the same right only."""
    docket = draft.env.docket
    if docket is None:
        return
    check_no_stake(review, draft.env.actor)
    tier = docket.tiers[review.tier or 1]
    if not waived and not form.get("enterprise_opinion"):
        raise Invalid.field("/enterprise_opinion", f"expected what the enterprise says of it: {', '.join(OPINIONS)}")
    if form.get("enterprise_opinion") in {"dissatisfied", "not_reached"} and not form.get("opinion_text"):
        raise Invalid.field("/opinion_text", "expected its words, or what was tried to reach it")
    if tier.signed and not form.get("signed_by"):
        wanted = f"expected who of the same tier signs ({tier.chair.en} {tier.chair.zh})"
        raise Invalid.field("/signed_by", f"{wanted}: tier {review.tier} decided, so tier {review.tier} lets it go")


def _reschedule(draft: Draft, task: MeasureTask, form: Mapping[str, Any]) -> None:
    """Only the convenor's side changes a date; the old clock ends and its breach, if any, stays a fact."""
    moved = replace(task, due_on=str(form["due_on"]))
    own = [c for c in draft.open_clocks("review_measure") if c.subject_id == task.id]
    end_clocks(draft, own, "rescheduled", cancelled=True)
    draft.put("measures", moved)
    start_measure_clock(draft, moved, "")
    draft.event(
        "measure.rescheduled", measure=task.id, before=task.due_on, after=moved.due_on, reason=form.get("reason")
    )


_STEPS: Mapping[str, Callable[[Draft, MeasureTask, Mapping[str, Any]], None]] = {
    "report": _report,
    "submit_evidence": _submit_evidence,
    "strike_off": _strike_off,
    "reschedule": _reschedule,
}
