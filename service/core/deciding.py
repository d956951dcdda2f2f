"""The decision on a matter of the docket: approve, refuse, postpone once, refer up or out; dissent is recorded.

Only what is to be done needs the gates; who decides is there, has no stake, and the whole quorum with it (`procedure`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

from service.core.calendar import Budget, Measure
from service.core.draft import Draft
from service.core.effects import end_clocks, start_clock
from service.core.errors import Conflict, Invalid
from service.core.meetings import Meeting
from service.core.model import Review
from service.core.procedure import check_decision, dissents_of
from service.core.resolving import check_departments, complete_if_done, create_measure, days_until, take

LAST_TIER = 3


def decide(draft: Draft, review: Review, form: Mapping[str, Any], meeting: Meeting | None) -> None:
    """One decision on one matter. `meeting`: the sitting that takes it; None: in writing."""
    decision = form["decision"]
    _check_resolution(draft, review, form)
    if decision == "postpone" and (review.decision == "postpone" or review.postponed_to is not None):
        raise Conflict("This matter was postponed once; now it is decided.", decision="postpone")
    if decision == "refer_up" and (review.tier or 1) >= LAST_TIER:
        raise Conflict("There is no higher tier: refer it out to the legislature or the province.", tier=review.tier)
    check_decision(draft, review, form, meeting)
    review = replace(
        review,
        decision=decision,
        decision_text=str(form["text"]),
        conditions=str(form.get("conditions") or ""),
        enterprise_extract=str(form.get("enterprise_extract") or ""),
        dissent=str(form.get("dissent") or ""),
        dissents=dissents_of(draft, review, form),
        votes={side: list(units) for side, units in (form.get("votes") or {}).items() if units},
        decided_by=draft.env.actor.subject,
        decided_at=draft.now,
    )
    _DECISIONS.get(decision, _resolve)(draft, review, form)


def _check_resolution(draft: Draft, review: Review, form: Mapping[str, Any]) -> None:
    """The form agrees with itself, and all that it names is there."""
    decision, measures = form["decision"], list(form.get("measures") or ())
    commitments: Sequence[Mapping[str, Any]] = form.get("commitments") or ()
    check_departments(draft.env, [m["department"] for m in measures], "/measures")
    for where, items in (("measures", measures), ("commitments", commitments)):
        for n, item in enumerate(items):
            check_departments(draft.env, item.get("co_units") or (), f"/{where}/{n}/co_units")
    check_departments(draft.env, [c["department"] for c in commitments], "/commitments")
    if decision in {"refuse", "postpone", "refer_up"} and (measures or commitments):
        where = "/measures" if measures else "/commitments"
        raise Invalid.field(where, f"expected no measures with the decision {decision!r}")
    if draft.env.docket is None:
        return
    if commitments and review.kind != "investment_project":
        raise Invalid.field("/commitments", "expected none: resources are committed to an investment_project only")
    if decision == "approve_with_conditions" and not form.get("conditions"):
        raise Invalid.field("/conditions", "expected on which conditions it is approved")
    if decision == "refer_out":
        if not form.get("referred_to"):
            raise Invalid.field("/referred_to", "expected legislature or province")
        if not any(m.get("mandatory", True) for m in measures):
            raise Invalid.field("/measures", "expected who reports it up and by when: a mandatory measure")


def _resolve(draft: Draft, review: Review, form: Mapping[str, Any]) -> None:
    """Something is decided for good: what is to be done becomes measures with clocks."""
    measures = list(form.get("measures") or ())
    commitments = list(form.get("commitments") or ())
    effect = str(form.get("clock_effect") or "runs")
    if effect == "replaced":
        _check_replaceable(draft, [*measures, *commitments])
    review = replace(review, state="decided", clock_effect=effect, referred_to=form.get("referred_to"))
    draft.put("reviews", review)
    take(draft, "decided")
    if review.meeting_id is not None and "review_minutes" in draft.env.workflow.clocks:
        start_clock(draft, "review_minutes", anchor=draft.now, subject_id=review.id)
    for where, items in (("measures", measures), ("commitments", commitments)):
        for n, item in enumerate(items):
            create_measure(draft, review, item, f"/{where}/{n}")
    if effect == "replaced":
        take(draft, "replaced")
    draft.event(
        "review.decided",
        review=review.id,
        decision=review.decision,
        measures=len(measures) + len(commitments),
        clock_effect=effect,
        dissents=len(review.dissents),
    )
    complete_if_done(draft, review)


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
    budget, until = None, form.get("postponed_to")
    if until:
        days = days_until(draft, str(until), "/postponed_to")
        latest = _last_day(draft, draft.due_of("review_decision", draft.now, _limit(draft)))
        if draft.env.docket is not None and str(until) > str(latest):
            raise Invalid.field(
                "/postponed_to", f"expected a date up to {latest}: the limit of the decision, counted anew"
            )
        budget = Budget(Measure.natural_days, days)
    end_clocks(draft, draft.open_clocks("review_decision"), "postponed")
    clock = start_clock(draft, "review_decision", anchor=draft.now, budget=budget)
    until_day = str(until or _last_day(draft, clock.due_at))
    draft.put("reviews", replace(review, postponed_to=until_day, meeting_id=None))
    draft.event(
        "review.postponed", review=review.id, reason=review.decision_text, **({"until": str(until)} if until else {})
    )


def _limit(draft: Draft) -> Budget:
    return draft.env.workflow.clocks["review_decision"].budget


def _last_day(draft: Draft, due: datetime) -> date:
    """The end of a day belongs to that day."""
    return draft.env.calendar.local_date(due - timedelta(microseconds=1))


def _refer_up(draft: Draft, review: Review, form: Mapping[str, Any]) -> None:
    """The next tier decides, within the limit anew; its own meeting is still to be found."""
    tier = (review.tier or 1) + 1
    draft.put("reviews", replace(review, tier=tier, meeting_id=None))
    end_clocks(draft, draft.open_clocks("review_decision"), "referred")
    start_clock(draft, "review_decision", anchor=draft.now)
    draft.event("review.referred", review=review.id, tier=tier, reason=review.decision_text)


_DECISIONS: Mapping[str, Callable[[Draft, Review, Mapping[str, Any]], None]] = {
    "postpone": _postpone,
    "refer_up": _refer_up,
}
