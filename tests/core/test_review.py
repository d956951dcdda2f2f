"""One matter, one discussion: from the proposal to the callback, and what is refused on the way."""

from __future__ import annotations

from typing import Any

import pytest

from service.core.errors import ActionNotPossible, Conflict, Forbidden, Invalid, NotFound
from service.core.model import ClockState
from tests.builders import (
    BAD,
    DISPATCHER,
    HOTLINE,
    LEAD,
    REPLY,
    REVIEWER,
    SOLVED,
    SUPERVISOR,
    Case,
    at,
    handled,
    handler,
)

WATER, FINANCE = handler("water"), handler("finance")


def task(department: str = "water", due_on: str = "2026-10-30", **more: Any) -> dict[str, Any]:
    return {"title": f"task of {department}", "department": department, "due_on": due_on, **more}


def accepted(key: str = "project_landing") -> Case:
    return handled(key).propose(LEAD).on("2026-09-15 10:00").review(REVIEWER, "screen", decision="accept")


def decided(*measures: dict[str, Any]) -> Case:
    return accepted().resolve(decision="approve", measures=list(measures))


def test_the_whole_way_from_proposal_to_callback() -> None:
    case = handled().propose(LEAD, reason="three bureaus", asked="who leads", tried="two meetings")
    docket = case.last_review()
    assert (docket.number, docket.state, docket.grounds) == ("YS202609180000001-1", "proposed", ("manual",))
    assert case.ticket.stage == "handling" and case.clock("review_screen").due_at == at("2026-09-18 00:00")

    case.on("2026-09-15 10:00").review(REVIEWER, "screen", decision="accept")
    assert (case.ticket.stage, case.last_review().state, case.last_review().tier) == ("reviewing", "preparing", 1)
    assert case.clock("review_screen").state is ClockState.MET and case.clock("review_decision").open

    case.review(REVIEWER, "request_opinions", departments=["water", "finance"])
    assert case.ticket.visible_to == ("finance", "tax", "water")
    case.review(WATER, "give_opinion", position="condition", text="if paid", legal_basis="art. 3")
    asked = {o.department: o.position for o in case.ticket.opinions}
    assert asked == {"water": "condition", "finance": None}  # silence is shown as no opinion, never as consent

    case.on("2026-09-16 10:00").settled()
    with pytest.raises(ActionNotPossible) as early:
        case.review(REVIEWER, "decide", decision="approve", text="t")
    assert [(m["what"], m["department"]) for m in early.value.extra["missing"]] == [("opinion", "finance")]
    case.on("2026-09-19 10:00")  # its limit has passed in silence
    case.review(REVIEWER, "decide", decision="approve", text="t", measures=[task(), task("finance", mandatory=False)])
    assert case.last_review().state == "decided" and case.ticket.stage == "reviewing"
    assert case.clock("review_decision").state is ClockState.MET
    opinions = [(c.department, c.state) for c in case.ticket.clocks if c.name == "review_opinion"]
    assert opinions == [("water", ClockState.MET), ("finance", ClockState.CANCELLED)]
    due = [(c.department, c.due_at) for c in case.ticket.clocks if c.name == "review_measure"]
    assert due == [("water", at("2026-10-31 00:00")), ("finance", at("2026-10-31 00:00"))]

    case.measure(WATER, "report", text="half done").measure(WATER, "submit_evidence", evidence="photo 1")
    case.on("2026-10-20 10:00").strike_off()
    assert (case.last_review().state, case.ticket.stage) == ("completed", "callback")
    assert case.ticket.measures[0].state == "struck_off" and case.ticket.measures[1].open
    assert case.clock("callback").anchor == case.now and not case.clock("resolve").open

    case.act(HOTLINE, "record_callback", **SOLVED)
    assert case.ticket.stage == "closed" and case.ticket.measures[1].state == "waived"
    assert [t for t in case.types() if t.startswith(("review", "measure"))] == [
        "review.proposed",
        "review.accepted",
        "review.opinions_requested",
        "review.opinion_given",
        *["review.gate"] * 3,
        "review.decided",
        "measure.reported",
        "measure.evidence_submitted",
        "measure.struck_off",
        "review.completed",
    ]


def test_a_ticket_does_not_close_while_a_mandatory_measure_is_open() -> None:
    case = decided(task())
    with pytest.raises(Conflict, match=r"1 mandatory measure\(s\)") as refused:
        case.act(DISPATCHER, "withdraw", reason="r")
    assert refused.value.extra["measures"] == ["task of water"]
    assert case.ticket.stage == "reviewing"


def test_a_measure_is_struck_off_on_evidence_only() -> None:
    case = decided(task())
    with pytest.raises(ActionNotPossible, match="evidence"):
        case.strike_off()
    case.measure(WATER, "submit_evidence", evidence="photo").strike_off()
    with pytest.raises(ActionNotPossible, match="struck_off already"):
        case.strike_off()


def test_a_measure_is_waived_only_with_a_reason() -> None:
    case = decided(task())
    with pytest.raises(Invalid) as refused:
        case.measure(REVIEWER, "strike_off", waive=True)
    assert refused.value.errors[0].pointer == "/reason"
    case.measure(REVIEWER, "strike_off", waive=True, reason="the firm has moved")
    assert (case.ticket.measures[0].state, case.ticket.measures[0].reason) == ("waived", "the firm has moved")
    assert case.clock("review_measure").state is ClockState.CANCELLED and case.ticket.stage == "callback"


def test_of_two_mandatory_measures_the_last_one_completes_the_review() -> None:
    case = decided(task(), task("finance"))
    case.measure(WATER, "submit_evidence", 0, evidence="e").strike_off(0)
    assert (case.last_review().state, case.ticket.stage) == ("decided", "reviewing")
    case.measure(FINANCE, "submit_evidence", 1, evidence="e").strike_off(1)
    assert (case.last_review().state, case.ticket.stage) == ("completed", "callback")


def test_a_new_date_begins_a_new_clock_and_a_breach_stays_a_fact() -> None:
    case = decided(task(due_on="2026-09-17")).pump("2026-09-21 10:00")
    case.measure(REVIEWER, "reschedule", due_on="2026-10-30", reason="flood")
    old, new = [c for c in case.ticket.clocks if c.name == "review_measure"]
    assert (old.state, old.breached_at) == (ClockState.CANCELLED, at("2026-09-18 00:00"))
    assert new.due_at == at("2026-10-31 00:00") and case.ticket.measures[0].due_on == "2026-10-30"


@pytest.mark.parametrize("due_on", ["2026-09-15", "2026-01-01", "2029-01-01"])
def test_a_measure_is_due_from_tomorrow_on_within_two_years(due_on: str) -> None:
    with pytest.raises(Invalid) as refused:
        decided(task(), task("finance", due_on=due_on))
    assert refused.value.errors[0].pointer == "/measures/1/due_on"
    with pytest.raises(Invalid):
        decided(task()).measure(REVIEWER, "reschedule", due_on=due_on, reason="r")


def test_a_refused_proposal_leaves_the_ticket_where_it_is() -> None:
    case = handled().propose(LEAD)
    case.review(REVIEWER, "screen", decision="refuse", reason="a matter of one bureau")
    assert (case.ticket.stage, case.last_review().state) == ("handling", "refused")
    assert case.last_review().screen_reason == "a matter of one bureau"
    assert case.clock("review_screen").state is ClockState.MET and case.clock("resolve").state is ClockState.RUNNING
    assert case.propose(LEAD).last_review().number.endswith("-2")


def test_a_decision_without_measures_or_a_refusal_goes_to_the_callback_at_once() -> None:
    for decision in ("approve", "approve_with_conditions", "refuse"):
        case = accepted().resolve(decision=decision, conditions="paid", dissent="water: too dear")
        assert (case.last_review().state, case.ticket.stage) == ("completed", "callback")
        assert case.last_review().dissent == "water: too dear"
    with pytest.raises(Invalid):
        accepted().review(REVIEWER, "decide", decision="refuse", text="t", measures=[task()])


def test_a_matter_is_postponed_once_and_stays_on_the_docket() -> None:
    case = accepted().on("2026-09-22 10:00").review(REVIEWER, "decide", decision="postpone", text="a survey is awaited")
    assert (case.last_review().state, case.ticket.stage) == ("preparing", "reviewing")
    assert case.clock("resolve").open and case.clock("review_decision").anchor == case.now
    with pytest.raises(Conflict, match="once"):
        case.review(REVIEWER, "decide", decision="postpone", text="again")
    assert case.resolve(decision="approve").ticket.stage == "callback"


@pytest.mark.parametrize("accept_first", [False, True])
def test_a_review_can_be_withdrawn_until_it_is_decided(accept_first: bool) -> None:
    case = accepted() if accept_first else handled().propose(LEAD)
    if accept_first:
        case.review(REVIEWER, "request_opinions", departments=["water"])
    case.review(DISPATCHER, "withdraw", reason="solved meanwhile")
    assert case.last_review().state == "withdrawn"
    assert not any(c.open for c in case.ticket.clocks if c.name.startswith("review_"))
    assert case.ticket.stage == "handling"
    assert case.clock("resolve").open
    with pytest.raises(ActionNotPossible):
        decided(task()).review(REVIEWER, "withdraw", reason="r")


def test_only_the_roles_of_the_docket_act_on_it() -> None:
    case = handled().propose(LEAD)
    for actor in (LEAD, DISPATCHER, SUPERVISOR, HOTLINE):
        with pytest.raises(Forbidden):
            case.review(actor, "screen", decision="accept")
    case.review(REVIEWER, "screen", decision="accept")
    for action in ("decide", "request_opinions"):
        with pytest.raises(Forbidden):
            case.review(LEAD, action, decision="approve", text="t", departments=["water"])
    case.resolve(decision="approve", measures=[task()])
    with pytest.raises(Forbidden, match="another department"):
        case.measure(FINANCE, "submit_evidence", evidence="e")
    with pytest.raises(Forbidden):
        case.measure(WATER, "strike_off", waive=True, reason="r")


def test_a_step_at_the_wrong_time_names_what_is_possible() -> None:
    case = handled().propose(LEAD)
    with pytest.raises(ActionNotPossible) as refused:
        case.review(REVIEWER, "decide", decision="approve", text="t")
    assert (refused.value.extra["stage"], refused.value.extra["actions"]) == ("proposed", ["screen", "withdraw"])
    with pytest.raises(NotFound):
        case.review(REVIEWER, "celebrate")


def test_an_opinion_is_given_by_a_unit_that_was_asked_and_once() -> None:
    case = accepted().review(REVIEWER, "request_opinions", departments=["water", "water"])
    assert len(case.ticket.opinions) == 1
    case.review(REVIEWER, "request_opinions", departments=["water", "finance"])
    assert len(case.ticket.opinions) == 2
    with pytest.raises(Forbidden):
        case.review(LEAD, "give_opinion", position="agree")
    case.review(WATER, "give_opinion", position="disagree")
    with pytest.raises(Conflict):
        case.review(WATER, "give_opinion", position="agree")


def test_a_person_of_two_units_gives_the_opinion_of_each() -> None:
    both = handler("water", "finance", who="both")
    case = accepted().review(REVIEWER, "request_opinions", departments=["water", "finance"])
    case.review(both, "give_opinion", position="agree").review(both, "give_opinion", position="disagree")
    assert [o.position for o in case.ticket.opinions] == ["agree", "disagree"]


def test_departments_that_do_not_exist_are_named_by_their_place() -> None:
    with pytest.raises(Invalid) as refused:
        accepted().review(REVIEWER, "request_opinions", departments=["water", "moon"])
    assert [e.pointer for e in refused.value.errors] == ["/departments/1"]
    with pytest.raises(Invalid) as refused:
        decided(task(), task("moon"))
    assert [e.pointer for e in refused.value.errors] == ["/measures/1"]


def test_a_proposal_by_the_timer_never_convenes() -> None:
    # 2 days from Mon 14: due Wed 16; five working days after that it is proposed, and then only reminders come
    case = handled("consultation").pump_on_time(at("2026-12-01 00:00"))
    assert case.last_review().grounds == ("overdue",) and case.last_review().proposed_by == "system"
    assert (case.last_review().state, case.ticket.stage, case.ticket.opinions) == ("proposed", "handling", ())
    assert case.clock("review_screen").breached_at is not None
    assert {n.to for n in case.notices} >= {"reviewer", "supervisor"}


def test_what_is_on_the_docket_already_gets_another_ground_instead_of_a_second_review() -> None:
    case = handled("consultation").propose(LEAD).pump_on_time(at("2026-10-01 00:00"))
    assert [r.grounds for r in case.ticket.reviews] == [("manual", "overdue")]
    with pytest.raises(Conflict, match="already"):
        case.propose(DISPATCHER)


def test_a_ticket_whose_reply_is_being_judged_is_neither_proposed_nor_convened() -> None:
    case = handled().propose(LEAD).act(LEAD, "submit_reply", **REPLY)
    with pytest.raises(ActionNotPossible, match="audit or the callback"):
        case.review(REVIEWER, "screen", decision="accept")
    case.review(REVIEWER, "screen", decision="refuse", reason="a reply is there")
    with pytest.raises(ActionNotPossible):
        case.propose(DISPATCHER)


def test_after_a_review_a_dissatisfied_enterprise_gets_a_new_round() -> None:
    case = decided().act(HOTLINE, "record_callback", **BAD)
    assert (case.ticket.stage, case.ticket.round, case.clock("resolve").cycle) == ("handling", 2, 2)
    assert case.leg("tax").state == "accepted"
