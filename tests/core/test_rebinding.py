"""Promises made anew: T3 (cycles), T5 (anchors), T8 (policy, urgency, unit), T9 (calendar), T11 (merge, split), T12, T13.

Working days of September 2026: Mon 14 to Fri 18, Sun 20 (made up), Mon 21 to Thu 24; Fri 25 is Mid-Autumn.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from service.core import clocks, joining, recounting, workflow
from service.core.calendar import Calendar
from service.core.calendar_data import overlay
from service.core.definitions import Workflow, compile_workflow
from service.core.draft import Env, RouteTo
from service.core.errors import ActionNotPossible, Conflict, Invalid
from service.core.model import Clock, ClockState, Decision, Event, Phase, Ticket, evolve
from service.core.policies import Policies
from tests.builders import (
    BAD,
    DISPATCHER,
    EXTENSION,
    HOTLINE,
    LEAD,
    PAUSE,
    REPLY,
    REVIEWER,
    SOLVED,
    SUPERVISOR,
    Case,
    a_ticket,
    at,
    calendar,
    departments,
    flow,
    folder,
    handled,
    ids,
)


def changed(case: Case, type_: str) -> list[dict[str, Any]]:
    return [dict(e.data) for e in case.events if e.type == type_]


def urgent(case: Case, urgency: str = "emergency", by: Any = DISPATCHER) -> Case:
    return case.act(by, "reclassify", urgency=urgency, reason="the line stands still")


def closed(key: str = "project_landing", received: str = "2026-09-14 10:00", replied: str = "2026-09-16 10:00") -> Case:
    case = handled(key, received).on(replied).act(LEAD, "submit_reply", outcome="solved", **REPLY)
    return case.act(DISPATCHER, "approve_reply").act(HOTLINE, "record_callback", **SOLVED)


# --- T3: cycles ------------------------------------------------------------------------------------------------------


def test_T3_reopened_within_the_callback_window_the_clock_goes_on_and_the_closed_span_is_shown_as_closed() -> None:
    """The complaint it answers: glpi#6902, a reopened ticket counts the time that it was closed."""
    case = closed()
    first, ended = case.clock("resolve", 1), case.ticket.rounds[0].ended_at
    case.on("2026-09-21 10:00").act(HOTLINE, "reopen", reason="the invoice was refused again")
    assert case.ticket.rounds[0].ended_at == ended, "the round that was closed keeps its end"
    clock = case.clock("resolve")
    assert (clock.cycle, clock.anchor, clock.budget, case.ticket.round) == (2, first.anchor, first.budget, 2)
    [span] = [s for s in clock.segments if s.kind == clocks.CLOSED]
    assert (span.start, span.end) == (first.ended_at, at("2026-09-21 10:00"))
    # 13 of the 15 working days were left after 16 September: the 13th after the 21st
    assert clock.due_at == calendar().end_of(calendar().nth_day(at("2026-09-21 10:00").date(), 13, clock.measure))
    assert (first.state, case.ticket.stage, case.ticket.outcome, case.ticket.closed_at) == (
        ClockState.MET, "accepting", None, None,
    )  # fmt: skip
    assert case.explain("resolve")["sum"] == "15"


def test_T3_reopened_after_the_callback_window_the_clock_begins_again() -> None:
    case = closed()
    now = at("2026-10-09 10:00")
    assert now > case.ticket.closed_at + timedelta(days=case.flow.callback_window_days)
    case.on(now).act(HOTLINE, "reopen", reason="new facts")
    clock = case.clock("resolve")
    assert (clock.cycle, clock.anchor, clock.budget, clock.segments) == (2, now, 15, ())


def test_T3_a_further_round_has_the_budget_of_rework() -> None:
    case = handled().on("2026-09-16 10:00").act(LEAD, "submit_reply", **REPLY).act(DISPATCHER, "approve_reply")
    case.act(HOTLINE, "record_callback", **BAD)
    assert (case.clock("resolve").budget, case.clock("resolve").anchor) == (8, case.now)


def test_T3_how_a_cycle_begins_is_data() -> None:
    plain = deepcopy(folder().workflows["project_landing"])
    plain["clocks"]["resolve"] |= {"rounds": "continue", "reopened": "new", "reopened_late": "continue"}
    definition = compile_workflow(plain)

    def relived(when: str, bad: bool) -> Clock:
        case = Case.opened()
        case.flow = definition
        case.act(LEAD, "accept").on("2026-09-16 10:00").act(LEAD, "submit_reply", **REPLY)
        case.act(DISPATCHER, "approve_reply")
        case.act(HOTLINE, "record_callback", **(BAD if bad else SOLVED))
        if not bad:
            case.on(when).act(HOTLINE, "reopen", reason="r")
        return case.clock("resolve")

    assert (relived("", True).budget, relived("", True).anchor) == (15, at("2026-09-14 10:00"))
    assert relived("2026-09-18 10:00", False).budget == 8
    assert relived("2026-11-02 10:00", False).anchor == at("2026-09-14 10:00")


def test_T3_a_breach_and_the_rungs_of_the_last_cycle_do_not_happen_again_after_a_reopening() -> None:
    case = closed("consultation", replied="2026-09-18 10:00")
    first = case.clock("resolve", 1)
    assert (first.state, first.breached_at) == (ClockState.BREACHED_MET, at("2026-09-17 00:00"))
    case.on("2026-09-22 10:00").act(HOTLINE, "reopen", reason="r")
    clock = case.clock("resolve")
    assert (clock.state, clock.breached_at) == (ClockState.BREACHED_RUNNING, first.breached_at)
    assert clock.fired == first.fired and "breach" in clock.fired
    before = len(case.firings)
    case.pump_on_time(at("2026-10-20 00:00"))
    fired = [f for f in case.firings[before:] if f.clock_id == clock.id]
    assert "breach" not in {f.rung for f in fired} and all(f.due_at > at("2026-09-22 10:00") for f in fired)


def test_T3_a_merged_or_withdrawn_ticket_stays_closed_and_three_times_are_the_most() -> None:
    withdrawn = handled().act(HOTLINE, "withdraw", reason="r")
    assert isinstance(withdrawn.refused(HOTLINE, "reopen", reason="r"), ActionNotPossible)
    case = closed()
    for _ in range(3):
        case.act(HOTLINE, "reopen", reason="r").act(LEAD, "accept").act(LEAD, "submit_reply", **REPLY)
        case.act(DISPATCHER, "approve_reply").act(HOTLINE, "record_callback", **SOLVED)
    assert isinstance(case.refused(HOTLINE, "reopen", reason="r"), ActionNotPossible)


# --- T5: anchors -----------------------------------------------------------------------------------------------------


def test_T5_a_clock_counts_from_the_instant_that_its_anchor_names() -> None:
    plain = deepcopy(folder().workflows["project_landing"])
    for name, anchor in {"audit": "submitted_at", "callback": "accepted_at", "opinion": "received_at"}.items():
        plain["clocks"][name]["anchor"] = anchor
    plain["clocks"]["dispatch"]["anchor"] = "ruling_at"
    case = Case.opened(created="2026-09-14 11:00")
    case.flow = compile_workflow(plain)
    case.on("2026-09-14 11:30").act(LEAD, "accept").on("2026-09-15 09:00").act(LEAD, "submit_reply", **REPLY)
    assert case.clock("audit").anchor == at("2026-09-15 09:00") == case.ticket.current_round().submitted_at
    case.on("2026-09-15 10:00").act(DISPATCHER, "approve_reply")
    assert (case.clock("callback").anchor, case.clock("callback").anchor_name) == (
        at("2026-09-14 11:30"),
        "accepted_at",
    )
    other = handled()
    other.flow = case.flow
    other.act(LEAD, "request_return", ground="not_our_duty", reason="r").on("2026-09-15 09:00").decide("return", True)
    assert other.clock("dispatch").anchor == other.approval("return").decided_at == at("2026-09-15 09:00")


# --- T8: policy, urgency, unit ---------------------------------------------------------------------------------------


def test_T8_a_raised_urgency_counts_from_the_original_anchor_with_the_whole_ledger() -> None:
    case = handled().on("2026-09-14 11:00").act(LEAD, "request_pause", **PAUSE).decide("pause", True)
    case.on("2026-09-14 16:00").act(LEAD, "resume").on("2026-09-14 17:00")
    before = case.clock("resolve")
    urgent(case)
    clock = case.clock("resolve")
    assert case.ticket.workflow_key == "emergency" and clock.workflow_key == "emergency"
    assert (clock.anchor, clock.segments, clock.cycle) == (before.anchor, before.segments, 1)
    assert (clock.budget, clock.due_at) == (1, at("2026-09-16 00:00"))
    [change] = clock.changes
    assert (change["kind"], change["before"]["due_at"], change["after"]["due_at"]) == (
        "policy", before.due_at.isoformat(), clock.due_at.isoformat(),
    )  # fmt: skip
    assert clock.state is ClockState.RUNNING and case.explain("resolve")["due_at"] == clock.due_at


def test_T8_already_past_the_new_due_time_is_breached_on_rebind_with_both_times_one_notice_and_no_burst() -> None:
    """The complaint it answers: frappe/helpdesk#3776, a changed priority leaves the old due date, or fires all at once."""
    case = handled().on("2026-09-18 10:00").pump()
    old = case.clock("resolve").due_at
    case.notices.clear()
    fired = len(case.firings)
    urgent(case)
    clock = case.clock("resolve")
    assert (clock.state, clock.breached_at) == (ClockState.BREACHED_RUNNING, at("2026-09-18 10:00"))
    [told] = [e for e in changed(case, "clock.breached_on_rebind") if e["clock"] == "resolve"]
    assert [datetime.fromisoformat(told[side]["due_at"]) for side in ("before", "after")] == [
        old,
        at("2026-09-16 00:00"),
    ]
    own = [f for f in case.firings[fired:] if f.clock_id == clock.id]
    assert {f.outcome for f in own} == {"superseded"} and {f.rung for f in own} == {"yellow", "breach"}
    assert [n for n in case.notices if n.about == "resolve"] == [
        n for n in case.notices if n.about == "resolve" and n.kind == "breached_on_rebind"
    ] and sum(n.about == "resolve" for n in case.notices) == 1
    assert not case.ticket.facts.get("cards"), "nobody gets a card for the days before the change"
    # escalation from now on: the red card stands one working day after the change, not after the new due time
    case.pump_on_time(at("2026-10-20 00:00"))
    times = {rung: due for rung, due, outcome in case.fired("resolve") if outcome == "fired"}
    assert times["red"] == calendar().end_of(at("2026-09-20 00:00").date()) and "breach" not in times


def test_T8_a_breach_that_is_a_fact_stays_one_when_the_urgency_is_lowered_and_later_rungs_are_projected_anew() -> None:
    case = urgent(Case.opened("project_landing", "2026-09-14 10:00")).act(LEAD, "accept")
    case.pump_on_time(at("2026-09-16 09:00")).on("2026-09-16 09:00")
    breached = case.clock("resolve")
    assert breached.breached_at == at("2026-09-16 00:00")
    urgent(case, "normal", SUPERVISOR)
    clock = case.clock("resolve")
    assert (clock.state, clock.breached_at, clock.budget) == (ClockState.BREACHED_RUNNING, breached.breached_at, 15)
    assert clock.due_at > at("2026-10-01 00:00") and set(breached.fired) <= set(clock.fired)
    assert set(clock.changes[-1]["would_not_have_fired"]) == {"yellow", "breach"}
    case.pump_on_time(at("2026-12-20 00:00"))
    rungs = [rung for rung, _, _ in case.fired("resolve")]
    assert len(rungs) == len(set(rungs)) and "red" in rungs


def test_T8_a_pending_request_that_the_new_policy_does_not_know_is_withdrawn() -> None:
    case = handled().act(LEAD, "request_extension", **EXTENSION)
    urgent(case)
    assert (case.approval("extension").state, case.clock("extension_decision").state) == (
        "withdrawn", ClockState.CANCELLED,
    )  # fmt: skip
    with pytest.raises(Conflict):
        case.decide("extension", True)


def test_T8_what_a_decision_granted_is_no_policy_and_stays() -> None:
    case = handled().act(LEAD, "request_pause", **PAUSE, days=3).decide("pause", True)
    cap = case.clock("pause_cap")
    urgent(case)
    assert (case.clock("pause_cap").budget, case.clock("pause_cap").due_at) == (3, cap.due_at)
    assert case.clock("resolve").state is ClockState.PAUSED and case.clock("resolve").breached_at is None


def test_T8_a_paused_or_held_clock_is_late_only_for_the_time_that_it_ran() -> None:
    held = handled().on("2026-09-15 09:00").act(LEAD, "submit_reply", **REPLY).on("2026-09-18 10:00")
    urgent(held)
    assert (held.clock("resolve").state, held.clock("resolve").breached_at) == (ClockState.HELD, None)
    late = handled().on("2026-09-17 09:00").act(LEAD, "submit_reply", **REPLY).on("2026-09-18 10:00")
    urgent(late)
    assert (late.clock("resolve").state, late.clock("resolve").breached_at) == (ClockState.HELD, late.now)
    late.act(DISPATCHER, "approve_reply")
    assert late.clock("resolve").state is ClockState.BREACHED_MET


def tax_flow(**changes: Any) -> Workflow:
    plain = deepcopy(folder().workflows["project_landing"])
    plain |= {"key": "tax_landing", "departments": ["tax"]}
    plain["clocks"]["resolve"]["budget"] = 5
    plain.update(changes)
    return compile_workflow(plain)


def with_tax(case: Case, definition: Workflow) -> Case:
    assert case.policies is not None
    case.policies = Policies({**case.policies.flows, definition.key: definition}, case.policies.calendars)
    return case


def test_T8_another_unit_brings_its_own_policy_and_the_promise_is_counted_from_the_original_anchor() -> None:
    case = with_tax(Case.opened(lead=None), tax_flow()).on("2026-09-15 10:00")
    case.act(DISPATCHER, "dispatch", department="tax")
    assert (case.ticket.workflow_key, case.clock("resolve").budget) == ("tax_landing", 5)
    assert case.clock("resolve").anchor == at("2026-09-14 10:00")
    assert case.ticket.facts["policy"]["rule"] == "departments: tax"
    assert "urgency: emergency" in {t["rule"] for t in case.ticket.facts["policy"]["tried"]}


def test_T8_a_policy_that_is_not_like_the_tickets_is_refused_by_hand_and_passed_over_by_a_dispatch() -> None:
    plain = deepcopy(folder().workflows["emergency"])
    plain["stages"].pop("reviewing")
    plain["review"] = {k: [{"effects": []}] for k in plain["review"]}
    for action in plain["actions"].values():
        if "branches" in action:
            action["branches"] = [{"effects": []}]
        if isinstance(action["stages"], list):
            action["stages"] = [s for s in action["stages"] if s != "reviewing"]
    other = compile_workflow(plain)
    case = with_tax(handled(), other)
    with pytest.raises(Conflict, match="reviewing"):
        urgent(case)
    assert case.ticket.urgency == "normal" and case.ticket.workflow_key == "project_landing"
    tax = compile_workflow({**plain, "key": "tax_landing", "departments": ["tax"], "urgency": []})
    passed = with_tax(Case.opened(lead="finance"), tax).act(DISPATCHER, "dispatch", department="tax")
    assert passed.ticket.workflow_key == "project_landing"


def test_T8_the_newest_version_of_a_policy_is_bound_by_an_explicit_act_only() -> None:
    case = handled()
    assert isinstance(case.refused(DISPATCHER, "rebind", reason="r"), Conflict)
    assert "rebind" not in case.possible(DISPATCHER), "what can only be refused is not offered"
    plain = deepcopy(folder().workflows["project_landing"])
    plain["clocks"]["resolve"]["budget"] = 12
    case = with_tax(case, compile_workflow(plain, 2)).on("2026-09-15 10:00")
    case.act(LEAD, "submit_plan", plan="p")
    assert case.clock("resolve").budget == 15, "nothing changes by itself"
    assert "rebind" in case.possible(DISPATCHER)
    case.act(DISPATCHER, "rebind", reason="the new limits hold for it too")
    assert (case.ticket.workflow_version, case.clock("resolve").budget) == (2, 12)
    assert case.clock("opinion").workflow_version == 1, "a finished clock keeps the policy it was finished under"


def test_T8_a_reclassification_names_what_it_changes() -> None:
    error = handled().refused(DISPATCHER, "reclassify", reason="r")
    assert isinstance(error, Invalid)
    error = handled().refused(DISPATCHER, "reclassify", matter="no_such_matter", reason="r")
    assert isinstance(error, Invalid) and error.errors[0].pointer == "/matter"
    case = handled("consultation").act(
        DISPATCHER, "reclassify", domain="project_landing", matter="land_use", reason="r"
    )
    assert (case.ticket.domain, case.ticket.matter, case.clock("resolve").budget) == ("project_landing", "land_use", 15)


def test_T8_units_are_types_an_extension_does_not_turn_into_another_measure() -> None:
    case = handled().act(LEAD, "request_extension", **EXTENSION).decide("extension", True)
    assert case.clock("resolve").extensions
    plain = deepcopy(folder().workflows["project_landing"])
    plain["clocks"]["resolve"] |= {"measure": "natural_hours", "budget": "PT360H", "rework_budget": "PT48H"}
    plain["clocks"]["resolve"]["rungs"] = []
    plain["approvals"]["extension"]["approve"]["effects"] = [{"count": "extensions"}]
    case = with_tax(case, compile_workflow(plain, 2)).act(DISPATCHER, "rebind", reason="r")
    clock = case.clock("resolve")
    assert (clock.extensions, clock.due_at) == ((), at("2026-09-29 10:00"))
    assert clock.changes[-1]["before"]["extensions"] == 1


# --- T9: calendar ----------------------------------------------------------------------------------------------------


def next_version(**overrides: Any) -> Calendar:
    """The city's calendar, second version. A key is a date with underscores: `d2026_09_21={"off": True}`."""
    data = deepcopy(folder().calendars["cn-jinan"])
    given = {name[1:].replace("_", "-"): {"source": "Order 1", **what} for name, what in overrides.items()}
    return Calendar.compile({**data, "overrides": given}, 2)


def recount(case: Case, newer: Calendar) -> tuple[Decision, list[Clock]]:
    env = case.env(SUPERVISOR)
    known = {("cn-jinan", 1): calendar(), ("cn-jinan", 2): newer}
    return recounting.recount(case.ticket, newer, "order 1", replace(env, calendar=newer, calendars=known))


def test_T9_a_new_version_moves_open_clocks_each_with_an_event_and_leaves_finished_ones() -> None:
    case = handled("complaint_report").on("2026-09-16 10:00")
    ended = [c for c in case.ticket.clocks if not c.open]
    decision, same = recount(case, next_version(d2026_09_17={"off": True}))
    moved = next(c for c in decision.after.clocks if c.name == "resolve")
    assert (moved.due_at, moved.calendar_version) == (at("2026-09-22 00:00"), 2)
    [event] = [e for e in decision.events if e.type == "clock.rebound" and e.data["clock"] == "resolve"]
    assert (event.data["kind"], event.data["reason"]) == ("calendar", "order 1")
    assert datetime.fromisoformat(event.data["before"]["due_at"]) == at("2026-09-21 00:00")
    assert [c for c in decision.after.clocks if not c.open] == ended and ended
    assert all(c.calendar_version == 2 and c.name != "resolve" for c in same)


def test_T9_a_rung_that_fired_stays_and_is_marked_where_it_would_not_have_fired() -> None:
    case = handled("consultation").pump_on_time(at("2026-09-16 10:00")).on("2026-09-16 10:00")
    assert "warning" in case.clock("resolve").fired
    decision, _ = recount(case, next_version(d2026_09_15={"off": True}))
    clock = next(c for c in decision.after.clocks if c.name == "resolve")
    assert "warning" in clock.fired and clock.changes[-1]["would_not_have_fired"] == ["warning"]
    assert clock.due_at == at("2026-09-18 00:00")


def test_T9_a_due_time_that_comes_to_lie_in_the_past_is_breached_on_rebind() -> None:
    off = {"off": True, "source": "Order 1"}
    data = {**folder().calendars["cn-jinan"], "overrides": {"2026-09-15": off, "2026-09-16": off}}
    case = Case.opened("consultation", on=Calendar.compile(data)).act(LEAD, "accept").on("2026-09-18 10:00")
    assert case.clock("resolve").due_at == at("2026-09-19 00:00")
    newer = Calendar.compile(folder().calendars["cn-jinan"], 2)
    known = {("cn-jinan", 1): case.calendar, ("cn-jinan", 2): newer}
    env = replace(case.env(SUPERVISOR), calendar=newer, calendars=known)
    decision, _ = recounting.recount(case.ticket, newer, "order 2", env)
    clock = next(c for c in decision.after.clocks if c.name == "resolve")
    assert (clock.due_at, clock.breached_at) == (at("2026-09-17 00:00"), case.now)
    assert "clock.breached_on_rebind" in {e.type for e in decision.events}


def test_T9_a_district_counts_by_the_calendar_that_extends_its_citys() -> None:
    data = deepcopy(folder().calendars["cn-jinan"])
    own = {"key": "cn-laiwu", "title": {"zh": "莱芜", "en": "Laiwu"}, "extends": "cn-jinan", "districts": ["370116"],
           "overrides": {"2026-09-17": {"off": True, "source": "District order"}}}  # fmt: skip
    laiwu = Calendar.compile(overlay(data, own))
    rules = Policies(dict(folder_flows()), {"cn-jinan": calendar(), "cn-laiwu": laiwu})
    chosen = rules.choose("project_landing", "normal", None).flow
    assert rules.calendar_for(chosen, "370116") is laiwu and rules.calendar_for(chosen, "370102") is calendar()
    assert not laiwu.is_working_day(at("2026-09-17").date()) and laiwu.is_working_day(at("2026-09-20").date())
    case = handled()
    ticket = evolve(case.ticket, district="370116")
    clock = case.clock("resolve")
    assert recounting.counts_by(clock, ticket, laiwu) and not recounting.counts_by(clock, case.ticket, laiwu)


def folder_flows() -> dict[str, Workflow]:
    return {key: flow(key) for key in folder().workflows}


# --- T11: merge and split --------------------------------------------------------------------------------------------


def merge(merged: Case, survivor: Case) -> None:
    form = {"into": survivor.ticket.number, "reason": "the same matter"}
    one, two = joining.merge(merged.ticket, survivor.ticket, form, merged.env(DISPATCHER), survivor.env(DISPATCHER))
    merged.take(one)
    survivor.take(two)


def another(case: Case) -> Case:
    """Ids of one city do not collide."""
    case.ticket = evolve(case.ticket, id="other-ticket", number="QY202609180000002")
    return case


def test_T11_a_merged_tickets_clocks_end_as_merged_and_the_survivor_takes_anchor_and_stricter_promise() -> None:
    merged = handled("complaint_report", "2026-09-14 10:00", co_handlers=["finance"]).on("2026-09-16 10:00")
    survivor = another(handled("project_landing", "2026-09-15 10:00")).on("2026-09-16 10:00")
    merge(merged, survivor)
    assert (merged.ticket.phase, merged.ticket.outcome, merged.ticket.merged_into) == (
        Phase.CLOSED, "merged", survivor.ticket.id,
    )  # fmt: skip
    ended = [c for c in merged.ticket.clocks if c.end_reason == "merged"]
    assert {c.name for c in ended} == {"resolve", "contact", "opinion", "co_reply"}
    assert not any(c.open for c in merged.ticket.clocks)
    clock = survivor.clock("resolve")
    assert (clock.anchor, clock.budget, clock.due_at) == (at("2026-09-14 10:00"), 5, at("2026-09-21 00:00"))
    assert clock.changes[-1]["kind"] == "merge" and "QY202609180000001" in clock.changes[-1]["reason"]
    assert survivor.types()[-1] == "ticket.absorbed" and merged.types()[-1] == "ticket.merge"


def test_T11_a_survivor_that_is_earlier_and_stricter_keeps_its_promise() -> None:
    merged = handled("project_landing", "2026-09-15 10:00").on("2026-09-16 10:00")
    survivor = another(handled("complaint_report", "2026-09-14 10:00")).on("2026-09-16 10:00")
    before = survivor.clock("resolve")
    merge(merged, survivor)
    assert survivor.clock("resolve") == before


def test_T11_a_survivor_takes_over_what_has_passed_as_breached_on_rebind() -> None:
    merged = handled("consultation", "2026-09-14 10:00").on("2026-09-18 10:00")
    survivor = another(handled("project_landing", "2026-09-18 09:00")).on("2026-09-18 10:00")
    merge(merged, survivor)
    assert merged.clock("resolve").breached_at == at("2026-09-17 00:00"), "a breach stays on the one that was late"
    assert survivor.clock("resolve").breached_at == at("2026-09-18 10:00")


def test_T11_a_ticket_is_not_merged_into_itself_or_a_closed_one_nor_by_anybody() -> None:
    case = handled()
    with pytest.raises(Invalid):
        merge(case, case)
    with pytest.raises(Conflict, match="closed"):
        merge(handled(), another(closed()))
    assert isinstance(case.refused(DISPATCHER, "merge", into="x", reason="r"), Conflict), "several at once is refused"
    with pytest.raises(Invalid) as error:
        joining.merge(case.ticket, another(handled()).ticket, {"into": "x"}, case.env(DISPATCHER), case.env(DISPATCHER))
    assert error.value.errors[0].pointer == "/reason"


def split(case: Case, part_flow: Workflow | None = None, title: str = "part") -> Case:
    definition = part_flow or flow(case.ticket.workflow_key)
    part = evolve(a_ticket(definition, case.ticket.received_at, case.now, case.new_id), split_from=case.ticket.id)
    made = Case(definition, case.now, part, case.new_id, case.calendar)
    env = Env(definition, case.calendar, DISPATCHER, case.now, case.new_id, departments())
    form = {"reason": "two matters", "parts": [{"title": title, "description": "d"}]}
    parts = [joining.Part(part, RouteTo("finance", (), "split"), env)]
    whole, first = joining.split(case.ticket, form, parts, case.env(DISPATCHER))
    case.take(whole)
    return made.take(first)


def test_T11_a_part_split_off_inherits_anchor_and_pauses_and_says_so() -> None:
    case = handled().on("2026-09-15 10:00").act(LEAD, "request_pause", **PAUSE).decide("pause", True)
    case.on("2026-09-17 10:00").act(LEAD, "resume").on("2026-09-18 10:00")
    part = split(case)
    clock = part.clock("resolve")
    assert (clock.anchor, clock.due_at) == (case.clock("resolve").anchor, case.clock("resolve").due_at)
    assert [s.kind for s in clock.segments] == ["waiting_enterprise"]
    assert clock.changes[-1]["kind"] == "split" and part.ticket.received_at == case.ticket.received_at
    opened = changed(part, "ticket.opened")[0]
    assert opened["split"] == {"of": {"id": case.ticket.id, "number": case.ticket.number}, "clocks": "inherit"}
    assert part.ticket.split_from == case.ticket.id and case.ticket.facts["parts"][0]["id"] == part.ticket.id
    assert part.clock("accept").anchor == case.now, "the unit that gets the part has its own time (T4)"
    assert case.ticket.open and case.clock("resolve").state is ClockState.RUNNING


def test_T11_a_part_whose_policy_restarts_counts_from_the_split_and_says_so() -> None:
    plain = {**folder().workflows["project_landing"], "split": "restart"}
    case = handled().on("2026-09-18 10:00")
    part = split(case, compile_workflow(plain))
    assert part.clock("resolve").anchor == case.now
    assert changed(part, "ticket.opened")[0]["split"]["clocks"] == "restart"


def test_T11_a_part_of_a_late_whole_is_late_from_the_split_on_without_a_burst() -> None:
    case = handled("consultation").pump_on_time(at("2026-09-24 10:00")).on("2026-09-24 10:00")
    part = split(case)
    clock = part.clock("resolve")
    assert (clock.state, clock.breached_at) == (ClockState.BREACHED_RUNNING, case.now)
    assert {f.outcome for f in part.firings} == {"superseded"}


# --- T12: review -----------------------------------------------------------------------------------------------------

MEASURE = {"title": "build the road", "department": "finance", "due_on": "2026-10-30"}


def on_the_docket() -> Case:
    case = handled().act(LEAD, "escalate", reason="three units")
    return case.review(REVIEWER, "screen", decision="accept", tier=1)


def test_T12_a_recorded_decision_replaces_the_promise_by_the_reviews_dates() -> None:
    case = on_the_docket()
    case.resolve(decision="approve", measures=[MEASURE], clock_effect="replaced")
    clock = case.clock("resolve")
    assert (clock.state, clock.end_reason) == (ClockState.CANCELLED, "replaced by the review's dates")
    assert case.clock("review_measure").state is ClockState.RUNNING and case.last_review().clock_effect == "replaced"
    assert changed(case, "review.decided")[0]["clock_effect"] == "replaced"


def test_T12_a_breach_before_the_decision_stays() -> None:
    case = on_the_docket().on("2026-10-20 10:00")
    case.resolve(decision="approve", measures=[MEASURE], clock_effect="replaced")
    assert case.clock("resolve").breached_at is not None and not case.clock("resolve").open


@pytest.mark.parametrize("measures", [[], [{**MEASURE, "mandatory": False}]])
def test_T12_a_promise_is_given_up_only_for_dated_duties(measures: list[dict[str, Any]]) -> None:
    with pytest.raises(Invalid):
        on_the_docket().resolve(decision="approve", measures=measures, clock_effect="replaced")


def test_T12_a_workflow_that_does_not_allow_it_keeps_the_promise_running() -> None:
    plain = deepcopy(folder().workflows["project_landing"])
    del plain["review"]["replaced"]
    case = on_the_docket()
    case.flow = compile_workflow(plain)
    with pytest.raises(Invalid):
        case.resolve(decision="approve", measures=[MEASURE], clock_effect="replaced")


# --- T13: born waiting, born closed ----------------------------------------------------------------------------------


def born(
    branch: str, plain: dict[str, Any], received: str, created: str, answered: Any = None
) -> tuple[Ticket, list[Event]]:
    definition, new_id = compile_workflow(plain), ids()
    ticket = a_ticket(definition, at(received), at(created), new_id)
    env = Env(definition, calendar(), HOTLINE, at(created), new_id, departments())
    decision = workflow.open_ticket(ticket, RouteTo("tax", (), "rule"), env, {}, answered)
    assert branch in definition.opened
    return decision.after, list(decision.events)


def test_T13_a_ticket_answered_at_once_is_born_closed_and_its_promise_met_at_creation() -> None:
    plain = folder().workflows["consultation"]
    ticket, [event] = born(
        "answered", plain, "2026-09-14 10:00", "2026-09-14 10:03", {"public_reply": "r", "outcome": "solved"}
    )
    assert event.data["answered"] is True
    assert (ticket.phase, ticket.outcome, ticket.facts["reply"]["public_reply"]) == (Phase.CLOSED, "solved", "r")
    [clock] = ticket.clocks
    assert (clock.state, clock.ended_at, clock.end_reason) == (
        ClockState.MET, at("2026-09-14 10:03"), "answered when it was taken",
    )  # fmt: skip
    assert event.type == "ticket.opened"


def test_T13_a_ticket_posted_after_its_limit_and_answered_at_once_was_late() -> None:
    plain = folder().workflows["consultation"]
    ticket, events = born("answered", plain, "2026-09-07 10:00", "2026-09-14 10:03", {"public_reply": "r"})
    [clock] = ticket.clocks
    assert (clock.state, clock.breached_at, clock.fired) == (ClockState.BREACHED_MET, clock.due_at, ("breach",))
    assert [(e.type, e.occurred_at) for e in events] == [
        ("ticket.opened", at("2026-09-14 10:03")), ("clock.breached", clock.due_at),
    ]  # fmt: skip


def test_T13_a_ticket_born_waiting_has_a_true_ledger_with_a_cap() -> None:
    plain = deepcopy(folder().workflows["consultation"])
    plain["open"]["routed"] = {
        "effects": [
            {"start": "resolve"}, {"assign_lead": "routed"}, {"start": "pause_cap"},
            {"pause": {"clocks": ["resolve"], "kind": "waiting_enterprise", "cap": "pause_cap"}},
        ],
        "to": "waiting",
    }  # fmt: skip
    ticket, _ = born("routed", plain, "2026-09-14 10:00", "2026-09-14 10:00")
    clock, cap = (next(c for c in ticket.clocks if c.name == n) for n in ("resolve", "pause_cap"))
    assert (clock.state, clock.segments[0].start, clock.segments[0].until) == (
        ClockState.PAUSED, at("2026-09-14 10:00"), cap.due_at,
    )  # fmt: skip
    assert ticket.phase is Phase.WAITING
