"""One matter, one discussion (一事一议): the docket of hard cases, from proposal to strike-off.

    proposed --screen: accept--> preparing --decide--> decided --last mandatory measure struck off--> completed
        |                            |
        +--screen: refuse--> refused +--withdraw--> withdrawn

A proposal by a timer never convenes by itself: somebody screens it. Silence of a unit asked for its opinion is shown as
no opinion, never as consent. The ticket stays open all the while and its resolve clock runs on (time rule T12).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from service.core.calendar import Budget, Measure
from service.core.draft import Draft, Env
from service.core.effects import HANDLERS, end_clocks, run, start_clock
from service.core.errors import ActionNotPossible, Conflict, FieldError, Forbidden, Invalid, NotFound
from service.core.model import Actor, Decision, MeasureTask, Opinion, Phase, Review, Role, Ticket
from service.core.workflow import catch_up

ACTIONS: Mapping[str, tuple[frozenset[str], frozenset[Role]]] = {
    "screen": (frozenset({"proposed"}), frozenset({Role.REVIEWER})),
    "request_opinions": (frozenset({"preparing"}), frozenset({Role.REVIEWER})),
    "give_opinion": (frozenset({"preparing"}), frozenset({Role.HANDLER})),
    "decide": (frozenset({"preparing"}), frozenset({Role.REVIEWER})),
    "withdraw": (frozenset({"proposed", "preparing"}), frozenset({Role.REVIEWER, Role.DISPATCHER})),
}
"""Action -> the states in which it is possible and the roles that may do it."""

MEASURE_ACTIONS: Mapping[str, frozenset[Role]] = {
    "report": frozenset({Role.HANDLER, Role.REVIEWER}),
    "submit_evidence": frozenset({Role.HANDLER}),
    "strike_off": frozenset({Role.REVIEWER}),
    "reschedule": frozenset({Role.REVIEWER}),
}


def propose(ticket: Ticket, form: Mapping[str, Any], env: Env) -> Decision:
    """A person puts the matter on the docket (the same as the ticket's own action `escalate`)."""
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    known = draft.ticket.open_review()
    if known is not None:
        raise Conflict("This ticket is on the docket already.", review=known.id)
    if not draft.ticket.open or draft.ticket.phase in {Phase.AUDIT, Phase.CALLBACK, Phase.REVIEW}:
        raise ActionNotPossible("Only a ticket that is being handled is proposed.", stage=ticket.stage, actions=[])
    draft.form = form
    HANDLERS["propose_review"](draft, "manual")
    return draft.finish()


def act(ticket: Ticket, review_id: str, action: str, form: Mapping[str, Any], env: Env) -> Decision:
    """One step of the docket. Raises ActionNotPossible (with the actions that are), Forbidden, NotFound, Invalid."""
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    review = next((r for r in draft.ticket.reviews if r.id == review_id), None)
    if review is None or action not in ACTIONS:
        raise NotFound("There is no such review or action.")
    states, roles = ACTIONS[action]
    if env.actor.role not in roles:
        raise Forbidden(f"{action!r} is done by: {', '.join(sorted(roles))}; you are {env.actor.role}.")
    if review.state not in states:
        possible = sorted(name for name, (s, _) in ACTIONS.items() if review.state in s)
        raise ActionNotPossible(
            f"{action!r} is not possible while the review is {review.state}.", stage=review.state, actions=possible
        )
    draft.form = form
    _STEPS[action](draft, review, form)
    return draft.finish()


def act_on_measure(ticket: Ticket, measure_id: str, action: str, form: Mapping[str, Any], env: Env) -> Decision:
    """Progress, evidence, strike-off or a new date for one measure; the last one sends the ticket to its callback."""
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    task = next((m for m in draft.ticket.measures if m.id == measure_id), None)
    if task is None or action not in MEASURE_ACTIONS:
        raise NotFound("There is no such measure or action.")
    if env.actor.role not in MEASURE_ACTIONS[action]:
        raise Forbidden(f"{action!r} is done by: {', '.join(sorted(MEASURE_ACTIONS[action]))}.")
    if env.actor.role is Role.HANDLER and task.department not in env.actor.departments:
        raise Forbidden("This measure is owned by another department.")
    if not task.open:
        raise ActionNotPossible(f"This measure is {task.state} already.", stage=task.state, actions=[])
    _MEASURE_STEPS[action](draft, task, form)
    return draft.finish()


# --- steps of the docket -------------------------------------------------------------------------------------------


def _take(draft: Draft, step: str) -> None:
    branch = next((b for b in draft.env.workflow.review[step] if draft.holds(b.when)), None)
    if branch is not None:
        run(draft, branch)


def _screen(draft: Draft, review: Review, form: Mapping[str, Any]) -> None:
    actor, reason = draft.env.actor, str(form.get("reason") or "")
    decision = form["decision"]
    if decision == "accept":
        if draft.ticket.phase in {Phase.AUDIT, Phase.CALLBACK}:
            raise ActionNotPossible(
                "The department has replied: finish the audit or the callback first, or refuse the proposal.",
                stage=draft.ticket.stage,
                actions=["screen"],
            )
        review = replace(review, state="preparing", tier=int(form.get("tier") or 1))
        step = "accepted"
    else:
        review = replace(review, state="refused", completed_at=draft.now)
        step = "refused"
    review = replace(review, screened_by=actor.subject, screened_at=draft.now, screen_reason=reason)
    draft.put("reviews", review)
    _take(draft, step)
    draft.event(f"review.{step}", review=review.id, tier=review.tier, reason=reason)


def _request_opinions(draft: Draft, review: Review, form: Mapping[str, Any]) -> None:
    _known(draft.env, form["departments"], "/departments")
    asked = {o.department for o in draft.ticket.opinions if o.review_id == review.id}
    for code in form["departments"]:
        if code in asked:
            continue
        asked.add(code)
        draft.check_not_recused(code)
        opinion = Opinion(draft.env.new_id(), draft.ticket.id, review.id, code, draft.now)
        draft.put("opinions", opinion)
        start_clock(draft, "review_opinion", anchor=draft.now, subject_id=opinion.id, department=code)
    draft.event("review.opinions_requested", review=review.id, departments=list(form["departments"]))


def _give_opinion(draft: Draft, review: Review, form: Mapping[str, Any]) -> None:
    actor = draft.env.actor
    mine = [o for o in draft.ticket.opinions if o.review_id == review.id and o.department in actor.departments]
    if not mine:
        raise Forbidden("Your department was not asked for an opinion on this matter.")
    opinion = next((o for o in mine if o.position is None), mine[0])
    if opinion.position is not None:
        raise Conflict("Your department has given its opinion already.", position=opinion.position)
    opinion = replace(
        opinion,
        position=form["position"],
        text=str(form.get("text") or ""),
        legal_basis=str(form.get("legal_basis") or ""),
        given_at=draft.now,
        given_by=actor.subject,
    )
    draft.put("opinions", opinion)
    end_clocks(draft, [c for c in draft.open_clocks("review_opinion") if c.subject_id == opinion.id], "given")
    # who said what stays with the convenor until the matter is decided: the history is read by every unit concerned
    draft.event("review.opinion_given", review=review.id)


def _decide(draft: Draft, review: Review, form: Mapping[str, Any]) -> None:
    measures: Sequence[Mapping[str, Any]] = form.get("measures") or ()
    _known(draft.env, [m["department"] for m in measures], "/measures")
    if form["decision"] in {"refuse", "postpone"} and measures:
        raise Invalid.field("/measures", f"expected no measures with the decision {form['decision']!r}")
    if form["decision"] == "postpone":
        _postpone(draft, review, form)
        return
    effect = str(form.get("clock_effect") or "runs")
    if effect == "replaced":
        _check_replaceable(draft, measures)
    review = replace(
        review,
        state="decided",
        decision=form["decision"],
        decision_text=str(form["text"]),
        enterprise_extract=str(form.get("enterprise_extract") or ""),
        dissent=str(form.get("dissent") or ""),
        decided_by=draft.env.actor.subject,
        decided_at=draft.now,
        clock_effect=effect,
    )
    draft.put("reviews", review)
    _take(draft, "decided")
    for n, item in enumerate(measures):
        _create_measure(draft, review, item, n)
    if effect == "replaced":
        _take(draft, "replaced")
    draft.event(
        "review.decided", review=review.id, decision=review.decision, measures=len(measures), clock_effect=effect
    )
    _complete_if_done(draft, review)


def _check_replaceable(draft: Draft, measures: Sequence[Mapping[str, Any]]) -> None:
    """T12: the enterprise's promise is only given up for dated duties that somebody has, where the workflow allows it."""
    if not draft.env.workflow.review["replaced"]:
        raise Invalid.field("/clock_effect", "expected runs: this workflow lets no review replace the promise")
    if not any(item.get("mandatory", True) for item in measures):
        raise Invalid.field(
            "/clock_effect", "expected runs, or a mandatory measure whose date takes the promise's place"
        )


def _postpone(draft: Draft, review: Review, form: Mapping[str, Any]) -> None:
    """Nothing is decided yet: the matter stays on the docket with a new limit. Once only."""
    if review.decision == "postpone":
        raise Conflict("This matter was postponed once; now it is decided.", decision=review.decision)
    review = replace(review, decision="postpone", decision_text=str(form["text"]))
    draft.put("reviews", review)
    end_clocks(draft, draft.open_clocks("review_decision"), "postponed")
    start_clock(draft, "review_decision", anchor=draft.now)
    draft.event("review.postponed", review=review.id, reason=review.decision_text)


def _create_measure(draft: Draft, review: Review, item: Mapping[str, Any], n: int) -> None:
    today = draft.env.calendar.local_date(draft.now)
    days = (date.fromisoformat(str(item["due_on"])) - today).days
    if not 1 <= days <= 730:
        raise Invalid.field(f"/measures/{n}/due_on", "expected a date from tomorrow on, within two years")
    draft.check_not_recused(str(item["department"]))
    task = MeasureTask(
        id=draft.env.new_id(),
        ticket_id=draft.ticket.id,
        review_id=review.id,
        title=str(item["title"]),
        department=str(item["department"]),
        due_on=str(item["due_on"]),
        mandatory=bool(item.get("mandatory", True)),
        state="open",
    )
    draft.put("measures", task)
    budget = Budget(Measure.natural_days, days)
    start_clock(
        draft, "review_measure", anchor=draft.now, subject_id=task.id, department=task.department, budget=budget
    )


def _withdraw(draft: Draft, review: Review, form: Mapping[str, Any]) -> None:
    reason = str(form["reason"])
    review = replace(review, state="withdrawn", completed_at=draft.now, screen_reason=reason)
    draft.put("reviews", review)
    own = [c for name in ("review_screen", "review_decision", "review_opinion") for c in draft.open_clocks(name)]
    end_clocks(draft, own, "withdrawn", cancelled=True)
    _take(draft, "withdrawn")
    draft.event("review.withdrawn", review=review.id, reason=reason)


def _complete_if_done(draft: Draft, review: Review) -> None:
    tasks = [m for m in draft.ticket.measures if m.review_id == review.id]
    if any(m.mandatory and m.open for m in tasks):
        return
    draft.put("reviews", replace(review, state="completed", completed_at=draft.now))
    _take(draft, "completed")
    draft.event("review.completed", review=review.id)


def _known(env: Env, codes: Sequence[str], pointer: str) -> None:
    unknown = [n for n, code in enumerate(codes) if code not in env.departments]
    if unknown:
        raise Invalid(
            "A department is not known.",
            [FieldError(f"{pointer}/{n}", "expected the code of a department; GET /v1/departments") for n in unknown],
        )


# --- steps of a measure ----------------------------------------------------------------------------------------------


def _report(draft: Draft, task: MeasureTask, form: Mapping[str, Any]) -> None:
    entry = {"at": draft.now.isoformat(), "by": draft.env.actor.subject, "text": str(form["text"])}
    state = "reported" if task.state == "open" else task.state
    draft.put("measures", replace(task, state=state, progress=(*task.progress, entry)))
    draft.event("measure.reported", measure=task.id)


def _submit_evidence(draft: Draft, task: MeasureTask, form: Mapping[str, Any]) -> None:
    draft.put("measures", replace(task, state="evidence", evidence=str(form["evidence"])))
    draft.event("measure.evidence_submitted", measure=task.id)


def _strike_off(draft: Draft, task: MeasureTask, form: Mapping[str, Any]) -> None:
    waived = bool(form.get("waive"))
    reason = str(form.get("reason") or "")
    if waived and not reason:
        raise Invalid.field("/reason", "expected a reason: a measure is waived only with one")
    if not waived and task.state != "evidence":
        raise ActionNotPossible("A measure is struck off on evidence; submit it first, or waive with a reason.",
                                stage=task.state, actions=["report", "submit_evidence", "reschedule"])  # fmt: skip
    state = "waived" if waived else "struck_off"
    actor: Actor = draft.env.actor
    draft.put(
        "measures", replace(task, state=state, struck_off_at=draft.now, struck_off_by=actor.subject, reason=reason)
    )
    own = [c for c in draft.open_clocks("review_measure") if c.subject_id == task.id]
    end_clocks(draft, own, state, cancelled=waived)
    draft.event(f"measure.{state}", measure=task.id, reason=reason)
    review = next(r for r in draft.ticket.reviews if r.id == task.review_id)
    if review.state == "decided":
        _complete_if_done(draft, review)


def _reschedule(draft: Draft, task: MeasureTask, form: Mapping[str, Any]) -> None:
    """Only the convenor's side changes a date; the old clock ends and its breach, if any, stays a fact."""
    days = (date.fromisoformat(str(form["due_on"])) - draft.env.calendar.local_date(draft.now)).days
    if not 1 <= days <= 730:
        raise Invalid.field("/due_on", "expected a date from tomorrow on, within two years")
    own = [c for c in draft.open_clocks("review_measure") if c.subject_id == task.id]
    end_clocks(draft, own, "rescheduled", cancelled=True)
    budget = Budget(Measure.natural_days, days)
    start_clock(
        draft, "review_measure", anchor=draft.now, subject_id=task.id, department=task.department, budget=budget
    )
    before = task.due_on
    draft.put("measures", replace(task, due_on=str(form["due_on"])))
    draft.event("measure.rescheduled", measure=task.id, before=before, after=form["due_on"], reason=form.get("reason"))


_STEPS: Mapping[str, Callable[[Draft, Review, Mapping[str, Any]], None]] = {
    "screen": _screen,
    "request_opinions": _request_opinions,
    "give_opinion": _give_opinion,
    "decide": _decide,
    "withdraw": _withdraw,
}
_MEASURE_STEPS: Mapping[str, Callable[[Draft, MeasureTask, Mapping[str, Any]], None]] = {
    "report": _report,
    "submit_evidence": _submit_evidence,
    "strike_off": _strike_off,
    "reschedule": _reschedule,
}
