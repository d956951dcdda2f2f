"""The life of a ticket by the shipped workflows; what is refused; and what holds for random lives."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core import workflow
from service.core.errors import ActionNotPossible, Conflict, Forbidden, Invalid, NotFound
from service.core.model import Actor, ClockState, Phase, Role
from tests.builders import (
    AUDITOR,
    BAD,
    DISPATCHER,
    EXTENSION,
    HOTLINE,
    LEAD,
    PAUSE,
    PEOPLE,
    REPLY,
    RETURN,
    REVIEWER,
    SOLVED,
    SUPERVISOR,
    Case,
    a_form,
    a_history,
    at,
    flow,
    folder,
    handled,
    handler,
    relive,
    told,
)

PROFILE = settings(derandomize=True, deadline=None)
OPEN_STATES = {ClockState.RUNNING, ClockState.BREACHED_RUNNING}


def replied(key: str = "project_landing", **how: Any) -> Case:
    return handled(key, **how).act(LEAD, "submit_reply", outcome="solved", **REPLY)


def called_back(rounds: int = 1, key: str = "project_landing") -> Case:
    """A ticket in its callback, in the given round."""
    case = replied(key).act(DISPATCHER, "approve_reply")
    for _ in range(rounds - 1):
        case.act(HOTLINE, "record_callback", **BAD).act(LEAD, "submit_reply", **REPLY).act(DISPATCHER, "approve_reply")
    return case


# --- opening ---------------------------------------------------------------------------------------------------------


def test_a_routed_ticket_waits_for_its_leads_acceptance() -> None:
    case = Case.opened(lead="tax", co_handlers=["finance"])
    assert (case.ticket.stage, case.ticket.phase, case.ticket.lead) == ("accepting", Phase.ACCEPTANCE, "tax")
    assert {(a.department, a.role) for a in case.ticket.assignments} == {("tax", "lead"), ("finance", "co_handler")}
    assert sorted(c.name for c in case.ticket.clocks) == ["accept", "co_reply", "contact", "opinion", "resolve"]
    assert case.ticket.visible_to == ("finance", "tax") and case.types() == ["ticket.opened"]
    assert {n.to for n in case.notices} == {"department:tax", "department:finance"}


def test_an_unrouted_ticket_waits_for_the_dispatcher_and_its_resolve_clock_runs_already() -> None:
    case = Case.opened(lead=None)
    assert (case.ticket.stage, case.ticket.lead, case.ticket.assignments) == ("dispatching", None, ())
    assert sorted(c.name for c in case.ticket.clocks) == ["dispatch", "resolve"]
    case.on("2026-09-14 11:00").act(DISPATCHER, "dispatch", department="tax", co_handlers=["tax", "finance"])
    assert (case.ticket.stage, case.clock("dispatch").state) == ("accepting", ClockState.MET)
    assert [(a.department, a.role) for a in case.ticket.assignments] == [("tax", "lead"), ("finance", "co_handler")]


@pytest.mark.parametrize("key", sorted(k for k in folder().workflows if "draft_reply" not in flow(k).actions))
def test_every_shipped_workflow_leads_from_the_call_to_a_solved_and_closed_ticket(key: str) -> None:
    case = called_back(key=key).act(HOTLINE, "record_callback", **SOLVED)
    assert (case.ticket.phase, case.ticket.outcome, case.ticket.closed_at) == (Phase.CLOSED, "solved", case.now)
    assert case.clock("resolve").state is ClockState.MET
    assert case.types() == [
        "ticket.opened", "ticket.accept", "ticket.submit_reply", "ticket.approve_reply", "ticket.record_callback",
    ]  # fmt: skip


# --- acceptance ------------------------------------------------------------------------------------------------------


def test_accepted_by_hand_names_the_person_and_meets_the_clock() -> None:
    leg = handled().leg("tax")
    assert (leg.state, leg.assignee, leg.auto_accepted) == ("accepted", "handler-tax", False)
    assert handled().clock("accept").state is ClockState.MET


def test_silence_is_acceptance_at_exactly_the_due_instant() -> None:
    case = Case.opened(received="2026-09-14 10:00").pump("2026-09-14 11:59:59.999999")
    assert case.ticket.stage == "accepting"
    leg = case.pump("2026-09-14 12:00").leg("tax")
    assert (case.ticket.stage, leg.auto_accepted, leg.accepted_at) == ("handling", True, at("2026-09-14 12:00"))
    assert case.clock("accept").state is ClockState.BREACHED_MET


def test_acceptance_by_silence_is_dated_at_its_due_instant_however_late_the_timer_is() -> None:
    case = Case.opened(received="2026-09-14 10:00").on("2026-09-16 09:00").act(LEAD, "submit_reply", **REPLY)
    assert case.leg("tax").accepted_at == at("2026-09-14 12:00") and case.ticket.stage == "auditing"


def test_a_hand_that_accepts_at_the_very_due_instant_is_in_time() -> None:
    case = Case.opened(received="2026-09-14 10:00").on("2026-09-14 12:00").act(LEAD, "accept")
    assert (case.clock("accept").state, case.leg("tax").auto_accepted) == (ClockState.MET, False)


def test_only_the_lead_accepts() -> None:
    case = Case.opened(co_handlers=["finance"])
    assert isinstance(case.refused(handler("finance"), "accept"), ActionNotPossible)
    assert isinstance(case.refused(handler("water"), "accept"), Forbidden)
    assert isinstance(case.refused(DISPATCHER, "accept"), Forbidden)


# --- returns ---------------------------------------------------------------------------------------------------------


def test_an_approved_return_goes_back_to_the_dispatcher_and_the_unit_no_longer_sees_it() -> None:
    case = Case.opened().act(LEAD, "request_return", **RETURN).on("2026-09-14 11:00").decide("return", True)
    assert (case.ticket.stage, case.ticket.lead, case.ticket.visible_to) == ("dispatching", None, ())
    assert case.leg("tax").end_reason == "returned" and case.clock("accept").state is ClockState.CANCELLED
    assert case.clock("dispatch").anchor == case.now


def test_while_a_return_is_undecided_nobody_is_taken_to_have_accepted() -> None:
    case = Case.opened().act(LEAD, "request_return", **RETURN).pump("2026-09-15 09:00")
    assert (case.ticket.stage, case.clock("accept").state) == ("accepting", ClockState.PAUSED)
    assert isinstance(case.refused(LEAD, "accept"), ActionNotPossible)
    case.decide("return", False)
    # one hour was left of the two when it was asked at eleven
    assert case.clock("accept").state is ClockState.RUNNING and case.clock("accept").due_at == at("2026-09-15 11:00")


def test_no_second_return_after_a_ruling_against_it() -> None:
    case = Case.opened().act(LEAD, "request_return", **RETURN).decide("return", False)
    assert isinstance(case.refused(LEAD, "request_return", **RETURN), ActionNotPossible)
    case.act(LEAD, "accept")
    assert isinstance(case.refused(LEAD, "request_return", **RETURN), ActionNotPossible)


def test_a_ticket_is_sent_back_twice_at_most() -> None:
    case = Case.opened()
    for _ in range(2):
        case.act(LEAD, "request_return", **RETURN).decide("return", True).act(DISPATCHER, "dispatch", department="tax")
    assert isinstance(case.refused(LEAD, "request_return", **RETURN), ActionNotPossible)


def test_a_return_ends_what_else_the_unit_had_asked_for() -> None:
    case = handled().act(LEAD, "request_return", **RETURN).act(LEAD, "request_pause", **PAUSE)
    case.decide("return", True)
    assert case.approval("pause").state == "withdrawn" and case.clock("pause_decision").state is ClockState.CANCELLED
    with pytest.raises(Conflict):
        case.decide("pause", True)


def test_a_pause_does_not_outlive_the_department_it_was_granted_to() -> None:
    case = handled().act(LEAD, "request_return", **RETURN).act(LEAD, "request_pause", **PAUSE).decide("pause", True)
    case.on("2026-09-15 10:00").decide("return", True)
    assert (case.ticket.stage, case.clock("resolve").state) == ("dispatching", ClockState.RUNNING)
    case.pump("2026-10-20 10:00")
    assert case.ticket.stage == "dispatching"


def test_a_new_dispatch_withdraws_the_return_that_was_asked() -> None:
    case = Case.opened().act(LEAD, "request_return", **RETURN).act(DISPATCHER, "dispatch", department="finance")
    assert case.approval("return").state == "withdrawn" and case.ticket.lead == "finance"
    assert [a.department for a in case.ticket.assignments if a.open] == ["finance"]


# --- extensions and pauses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [0, 11, -1, "3", 2.5])
def test_an_extension_is_of_one_to_ten_days(days: Any) -> None:
    error = handled().refused(LEAD, "request_extension", **{**EXTENSION, "days": days})
    assert isinstance(error, Invalid) and error.errors[0].pointer == "/days"


def test_bounds_of_an_extension_are_those_of_the_workflow() -> None:
    assert isinstance(handled("consultation").refused(LEAD, "request_extension", **{**EXTENSION, "days": 4}), Invalid)
    assert isinstance(handled("emergency").refused(LEAD, "request_extension", **EXTENSION), NotFound)
    assert "extension" not in flow("emergency").approvals


def test_one_extension_is_granted_and_no_more() -> None:
    case = handled().act(LEAD, "request_extension", **EXTENSION)
    assert isinstance(case.refused(LEAD, "request_extension", **EXTENSION), ActionNotPossible)
    case.decide("extension", True)
    assert isinstance(case.refused(LEAD, "request_extension", **EXTENSION), ActionNotPossible)


def test_nobody_decides_his_or_her_own_request_nor_without_the_role_nor_twice() -> None:
    case = handled().act(LEAD, "request_extension", **EXTENSION)
    with pytest.raises(Forbidden, match="own request"):
        case.decide("extension", True, Actor(LEAD.subject, Role.DISPATCHER))
    with pytest.raises(Forbidden):
        case.decide("extension", True, LEAD)
    case.decide("extension", True)
    with pytest.raises(Conflict, match="approved"):
        case.decide("extension", False)


def test_a_pause_has_a_cap_even_if_none_was_asked_and_can_be_ended_earlier() -> None:
    case = handled().act(LEAD, "request_pause", **PAUSE).decide("pause", True)
    assert (
        case.clock("pause_cap").budget == 10
        and case.clock("resolve").segments[0].until == case.clock("pause_cap").due_at
    )
    case.on("2026-09-16 10:00").act(LEAD, "resume")
    assert (case.ticket.stage, case.clock("pause_cap").state) == ("handling", ClockState.MET)
    assert case.clock("resolve").segments[0].end == case.now


def test_two_pauses_a_ticket_are_the_most() -> None:
    case = handled()
    for _ in range(2):
        case.act(LEAD, "request_pause", **PAUSE).decide("pause", True).act(LEAD, "resume")
    assert isinstance(case.refused(LEAD, "request_pause", **PAUSE), ActionNotPossible)


# --- reply, audit, callback ------------------------------------------------------------------------------------------


def test_a_reply_is_audited_by_somebody_else() -> None:
    case = handled()
    case.act(Actor("both", Role.HANDLER, ("tax",)), "submit_reply", **REPLY)
    for action, form in (("approve_reply", {}), ("reject_reply", {"reason": "r"})):
        error = case.refused(Actor("both", Role.SUPERVISOR), action, **form)
        assert isinstance(error, Forbidden) and "Four eyes" in error.detail
    assert case.act(SUPERVISOR, "approve_reply").ticket.stage == "callback"


def test_a_reply_sent_back_is_handled_again_in_the_same_round_on_the_same_clock() -> None:
    case = replied().on("2026-09-15 10:00").act(DISPATCHER, "reject_reply", reason="says nothing")
    assert (case.ticket.stage, case.ticket.round, case.ticket.counters["audit_failures"]) == ("handling", 1, 1)
    assert case.clock("resolve").state is ClockState.RUNNING and case.clock("resolve").cycle == 1
    assert case.leg("tax").state == "accepted"
    assert case.act(LEAD, "submit_reply", **REPLY).ticket.stage == "auditing"


def test_three_unreachable_calls_close_the_ticket_unrated() -> None:
    case = called_back()
    for n, day in enumerate(("15", "16", "17")):
        assert case.ticket.stage == "callback" and case.ticket.counters.get("callback_attempts", 0) == n
        case.on(f"2026-09-{day} 10:00").act(HOTLINE, "record_callback", reached=False)
    assert (case.ticket.stage, case.ticket.outcome) == ("closed", "unrated")


@pytest.mark.parametrize(
    ("solved", "satisfaction", "stage"),
    [
        ("yes", "very_satisfied", "closed"),
        ("partly", "basically_satisfied", "closed"),
        ("yes", "dissatisfied", "handling"),
        ("partly", "very_dissatisfied", "handling"),
        ("no", "satisfied", "handling"),
    ],
)
def test_a_callback_closes_or_opens_the_next_round(solved: str, satisfaction: str, stage: str) -> None:
    case = called_back().act(HOTLINE, "record_callback", solved=solved, satisfaction=satisfaction)
    assert (case.ticket.stage, case.ticket.round) == (stage, 2 if stage == "handling" else 1)
    assert case.ticket.rounds[0].satisfaction == satisfaction


def test_the_second_round_has_the_rework_budget_and_the_third_ends_in_a_review() -> None:
    case = called_back(2)
    assert case.clock("resolve", 2).budget == flow("project_landing").clocks["resolve"].rework.amount == 8
    case = called_back(3).act(HOTLINE, "record_callback", **BAD)
    assert (case.ticket.stage, case.ticket.phase, case.last_review().grounds) == (
        "reviewing",
        Phase.REVIEW,
        ("rounds",),
    )
    case.review(REVIEWER, "screen", decision="refuse", reason="everything was tried")
    assert (case.ticket.stage, case.ticket.outcome) == ("closed", "explained_no_basis")


def test_a_round_that_begins_without_a_lead_begins_with_the_dispatcher() -> None:
    case = Case.opened(lead=None).act(DISPATCHER, "escalate", reason="nobody is competent")
    case.review(REVIEWER, "screen", decision="accept").resolve(decision="approve")
    case.act(HOTLINE, "record_callback", **BAD)
    assert (case.ticket.stage, case.ticket.round) == ("dispatching", 2)
    assert case.act(DISPATCHER, "dispatch", department="tax").ticket.stage == "accepting"


# --- the rest of a life ----------------------------------------------------------------------------------------------


def test_the_caller_withdraws_and_nothing_stays_open() -> None:
    case = (
        handled(co_handlers=["finance"]).act(LEAD, "request_extension", **EXTENSION).act(LEAD, "escalate", reason="r")
    )
    case.act(HOTLINE, "withdraw", reason="solved by itself")
    assert (case.ticket.stage, case.ticket.outcome) == ("closed", "withdrawn")
    assert not any(c.open for c in case.ticket.clocks) and not any(a.open for a in case.ticket.assignments)
    assert case.approval("extension").state == "withdrawn" and case.last_review().state == "withdrawn"
    assert case.ticket.visible_to == ("finance", "tax")


def test_a_comment_changes_nothing_but_the_history() -> None:
    case = handled()
    before = case.ticket
    case.act(HOTLINE, "comment", text="the caller rang again")
    assert case.ticket.clocks == before.clocks and case.ticket.stage == before.stage
    assert case.events[-1].data["form"] == {"text": "the caller rang again"}


def test_a_co_handler_has_a_clock_of_its_own_and_the_leads_is_not_touched() -> None:
    case = handled().on("2026-09-15 10:00").act(LEAD, "add_co_handler", department="finance")
    resolve = case.clock("resolve")
    assert case.clock("co_reply").anchor == case.now and case.clock("co_reply").department == "finance"
    case.on("2026-09-16 10:00").act(handler("finance"), "submit_reply", **REPLY)
    assert (case.clock("co_reply").state, case.clock("resolve"), case.ticket.stage) == (
        ClockState.MET,
        resolve,
        "handling",
    )
    assert case.leg("finance").state == "submitted" and case.leg("tax").state == "accepted"
    assert case.ticket.facts["co_replies"][0]["department"] == "finance"
    assert isinstance(case.refused(LEAD, "add_co_handler", department="finance"), Conflict)


def test_a_co_handler_that_becomes_the_lead_has_one_leg() -> None:
    case = Case.opened(co_handlers=["finance"]).act(DISPATCHER, "dispatch", department="finance")
    assert [(a.department, a.role) for a in case.ticket.assignments if a.open] == [("finance", "lead")]


def test_escalation_puts_a_ticket_on_the_docket_once_and_its_handling_goes_on() -> None:
    case = handled().act(LEAD, "escalate", reason="three bureaus", asked="who leads", tried="two meetings")
    assert (case.ticket.stage, case.last_review().state) == ("handling", "proposed")
    assert case.last_review().summary == "three bureaus\nwho leads\ntwo meetings"
    assert isinstance(case.refused(LEAD, "escalate", reason="again"), ActionNotPossible)
    assert case.act(LEAD, "submit_reply", **REPLY).ticket.stage == "auditing"


def test_the_department_of_a_person_can_be_changed_and_contacts_are_logged() -> None:
    case = handled().act(DISPATCHER, "assign", assignee="zhang").act(LEAD, "log_contact", reached=False)
    assert case.leg("tax").assignee == "zhang" and case.clock("contact").open
    assert case.act(LEAD, "log_contact", reached=True, channel="phone").clock("contact").state is ClockState.MET
    assert case.act(LEAD, "submit_plan", plan="p", planned_on="2026-09-20").clock("opinion").state is ClockState.MET


# --- what is refused -------------------------------------------------------------------------------------------------


def test_an_action_at_the_wrong_stage_names_the_stage_and_what_is_possible() -> None:
    error = Case.opened().refused(LEAD, "submit_reply", **REPLY)
    assert isinstance(error, ActionNotPossible)
    assert (error.extra["stage"], error.extra["phase"]) == ("accepting", "acceptance")
    assert set(error.extra["actions"]) == Case.opened().possible(LEAD)
    assert "accepting" in error.detail and "accept" in error.extra["actions"]


def test_an_unknown_action_and_a_role_that_may_not_are_told_apart() -> None:
    case = Case.opened()
    assert isinstance(case.refused(LEAD, "fly"), NotFound)
    error = case.refused(AUDITOR, "comment", text="t")
    assert isinstance(error, Forbidden) and "hotline" in error.detail and "auditor" in error.detail


SECRET = "13800001234"


@pytest.mark.parametrize(
    ("action", "form", "pointer"),
    [
        ("submit_reply", {}, "/public_reply"),
        ("submit_reply", {"public_reply": ""}, "/public_reply"),
        ("submit_reply", {"public_reply": 7}, "/public_reply"),
        ("submit_reply", {"public_reply": SECRET * 1000}, "/public_reply"),
        ("submit_reply", {"public_reply": "p", "outcome": SECRET}, "/outcome"),
        ("submit_reply", {"public_reply": "p", "other": SECRET}, "/other"),
        ("submit_reply", {"public_reply": "p", "13800001234": "x"}, "/(unnamed)"),
        ("submit_plan", {"plan": "p", "planned_on": SECRET}, "/planned_on"),
        ("add_co_handler", {"department": SECRET}, "/department"),
        ("request_return", {"ground": SECRET, "reason": "r"}, "/ground"),
        ("request_return", {**RETURN, "suggested_department": SECRET}, "/suggested_department"),
        ("log_contact", {"reached": SECRET}, "/reached"),
    ],
)
def test_a_wrong_form_names_the_field_and_never_what_was_sent(action: str, form: dict[str, Any], pointer: str) -> None:
    error = handled().refused(LEAD, action, **form)
    assert isinstance(error, Invalid) and error.errors
    assert error.errors[0].pointer == pointer
    assert SECRET not in repr([error.detail, error.errors, error.extra])


def test_unknown_co_handlers_of_a_dispatch_are_named_one_by_one() -> None:
    error = Case.opened().refused(DISPATCHER, "dispatch", department="tax", co_handlers=["finance", SECRET])
    assert isinstance(error, Invalid) and [e.pointer for e in error.errors] == ["/co_handlers/1"]
    assert SECRET not in repr(error.errors)


@pytest.mark.parametrize("form", [{}, {"solved": "yes"}, {"satisfaction": "satisfied"}, {"reached": True},
                                  {"reached": False, "solved": "perhaps"}])  # fmt: skip
def test_a_callback_that_reached_somebody_says_what_was_said(form: dict[str, Any]) -> None:
    assert isinstance(called_back().refused(HOTLINE, "record_callback", **form), Invalid)


def test_a_closed_ticket_can_be_taken_up_again_by_the_centre_and_nothing_else() -> None:
    case = called_back().act(HOTLINE, "record_callback", **SOLVED)
    assert all(case.possible(actor) == ({"reopen"} if actor in (HOTLINE, DISPATCHER) else set()) for actor in PEOPLE)
    error = case.refused(DISPATCHER, "comment", text="t")
    assert isinstance(error, ActionNotPossible) and error.extra["actions"] == ["reopen"]


# --- what holds for every life ---------------------------------------------------------------------------------------


def promises_kept(case: Case) -> None:
    """P3: an open ticket has a running clock or a pause with an end. I13: a closed ticket has no open clock."""
    ticket = case.ticket
    if not ticket.open:
        assert not any(c.open for c in ticket.clocks)
        assert not any(a.open for a in ticket.assignments) and ticket.open_review() is None
        assert not any(a.state == "pending" for a in ticket.approvals)
        return
    alive = [c for c in ticket.clocks if c.open]
    capped = [c for c in alive if c.state is ClockState.PAUSED and any(s.end is None and s.until for s in c.segments)]
    assert [c for c in alive if c.state in OPEN_STATES] or capped
    for clock in alive:
        if clock.state is ClockState.PAUSED and clock.name == "resolve":
            assert clock in capped and any(c.name in {"pause_cap", "planned_until"} for c in alive)
        if clock.state is ClockState.HELD:
            assert ticket.stage == "auditing"
    # nobody is left alone with a ticket: where a unit must act, there is a unit
    if ticket.phase in {Phase.ACCEPTANCE, Phase.HANDLING, Phase.WAITING, Phase.AUDIT}:
        leg = ticket.lead_leg()
        assert leg is not None and leg.department == ticket.lead
    assert len([a for a in ticket.assignments if a.open and a.role == "lead"]) <= 1
    assert len({a.department for a in ticket.assignments if a.open}) == len([a for a in ticket.assignments if a.open])


@settings(PROFILE, max_examples=120)
@given(st.integers(0, 10**9))
def test_P3_and_I13_hold_after_each_step_of_a_random_history(seed: int) -> None:
    a_history(Random(seed), watch=promises_kept)


@settings(PROFILE, max_examples=60)
@given(st.integers(0, 10**9))
def test_what_is_listed_as_possible_is_done_or_refused_with_a_reason_and_nothing_else_is_done(seed: int) -> None:
    rng = Random(seed)

    def agree(case: Case) -> None:
        actor = rng.choice(PEOPLE)
        listed = case.possible(actor)
        for name, action in case.env(actor).workflow.actions.items():
            form = a_form(action, rng)
            try:
                workflow.act(case.ticket, name, form, case.env(actor))
            except (ActionNotPossible, Forbidden):
                assert name not in listed
            except (Invalid, Conflict) as error:
                assert name in listed and error.detail  # noqa: PT017  # which error comes is what is tested
            else:
                assert name in listed

    a_history(rng, 8, watch=agree)


def test_T8_a_late_pump_changes_neither_the_final_state_nor_the_history() -> None:
    for seed in range(500):
        case, steps = a_history(Random(seed), 10)
        end = case.now + timedelta(days=20)
        case.pump_on_time(end).pump(end)
        on_time = told(case)
        for delay in (timedelta(hours=1), timedelta(days=3)):
            late = relive(Random(seed), steps, delay)
            late.pump_on_time(end, delay).pump(end)
            state, history = told(late)
            assert history == on_time[1], f"seed {seed}, pump late by {delay}"
            assert state == on_time[0], f"seed {seed}, pump late by {delay}"
            assert [(e.type, e.occurred_at) for e in late.events] == [(e.type, e.occurred_at) for e in case.events]


def test_a_ticket_that_nobody_touches_climbs_its_ladder_at_exactly_the_instants_told_before() -> None:
    case = Case.opened("consultation", "2026-09-17 16:00")
    promised = {r["name"]: r["at"] for r in case.explain("resolve")["rungs"]}
    accept = {r["name"]: r["at"] for r in case.explain("accept")["rungs"]}
    case.pump_on_time(at("2026-11-01 00:00"))
    fired = {rung: due for rung, due, _ in case.fired("resolve")}
    assert fired == {name: when for name, when in promised.items() if when < at("2026-11-01 00:00")}
    assert {rung: due for rung, due, _ in case.fired("accept")} == accept
    assert all(outcome == "fired" for _, _, outcome in case.fired("resolve"))
    # warning, then the unit is taken to have accepted, yellow, breach, red, review
    when = {e.data.get("rung", e.type): e.occurred_at for e in case.events if e.data.get("clock") in {"resolve", None}}
    assert case.leg("tax").accepted_at == accept["breach"] == at("2026-09-18 09:30")
    assert when["warning"] == at("2026-09-19 00:00") and when["yellow"] == at("2026-09-20 13:30")
    assert when["breach"] == at("2026-09-21 00:00") and when["red"] == at("2026-09-22 00:00")
    assert when["review"] == case.last_review().proposed_at == at("2026-09-29 00:00")
    assert case.last_review().grounds == ("overdue",) and case.last_review().state == "proposed"
    assert [c["level"] for c in case.ticket.facts["cards"]] == ["yellow", "red"]
    assert case.ticket.stage == "handling" and case.types().count("review.proposed") == 1
    assert all(c.open for c in case.ticket.clocks if c.name == "resolve")
