"""The rules of clocks, T1 to T20, each test named after its rule; and the examples of the rules, row by row."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core import clocks, rates
from service.core.calendar import Budget, Calendar, CalendarError, Measure
from service.core.clocks import HELD, RungTime
from service.core.errors import ActionNotPossible, Conflict
from service.core.model import Clock, ClockState, Extension, Segment, new_clock
from tests.builders import (
    DISPATCHER,
    EXTENSION,
    HOTLINE,
    LEAD,
    PAUSE,
    REPLY,
    RETURN,
    REVIEWER,
    SUPERVISOR,
    Case,
    a_clock,
    at,
    calendar,
    closing_calendar,
    folder,
    handled,
    handler,
)

PROFILE = settings(derandomize=True, deadline=None)
HOUR = timedelta(hours=1)
WARNING = ("warning", RungTime("share", percent=75))
BREACH = ("breach", RungTime("due"))


def paused(
    clock: Clock, start: str, end: str | None, kind: str = "waiting_enterprise", until: str | None = None
) -> Clock:
    segment = Segment(kind, at(start), at(end) if end else None, at(until) if until else None)
    return clocks.project(replace(clock, segments=(*clock.segments, segment)), (), calendar())


def days(amount: int, anchor: str, **how: object) -> Clock:
    return a_clock(Measure.working_days, amount, anchor, **how)


# --- the model: T1 to T5 -------------------------------------------------------------------------------------------


def test_a_clock_made_fast_is_the_clock_that_the_model_makes() -> None:
    terms = {
        "id": "c", "ticket_id": "t", "assignment_id": "a", "name": "accept", "cycle": 2, "family": "assignment",
        "measure": Measure.working_days, "budget": 5, "anchor_name": "dispatched_at", "anchor": at("2026-09-14 10:00"),
        "calendar_key": "cn", "calendar_version": 3, "due_at": at("2026-09-21 00:00"), "department": "tax",
        "subject_id": "s", "workflow_key": "w", "workflow_version": 4,
    }  # fmt: skip
    slow = Clock(state=ClockState.RUNNING, original_due_at=terms["due_at"], **terms)  # type: ignore[arg-type]
    fast = new_clock(**terms)  # type: ignore[arg-type]
    assert fast == slow and vars(fast) == vars(slow) and hash(fast) == hash(slow)


def test_T1_the_due_time_is_recomputed_from_budget_and_ledger_whatever_the_stored_one_says() -> None:
    """The complaint it answers: glpi#15605, a due date that somebody edited is all there is."""
    # glpi#6902, glpi#15605, frappe/helpdesk#3776: a stored due date that nobody can recompute
    clock = paused(days(5, "2026-09-14 10:00"), "2026-09-15 10:00", "2026-09-17 10:00")
    spoiled = replace(clock, due_at=at("2030-01-01 00:00"), next_fire_at=None)
    assert clocks.project(spoiled, (), calendar()).due_at == clock.due_at == at("2026-09-23 00:00")


def test_T1_the_same_ledger_in_another_order_gives_the_same_due_time() -> None:
    spans = [Segment("p", at(f"2026-09-{d} 10:00"), at(f"2026-09-{d + 1} 11:00")) for d in (15, 17, 21)]
    orders = [tuple(spans), tuple(reversed(spans)), (spans[1], spans[0], spans[2])]
    assert len({clocks.due(replace(days(9, "2026-09-14 10:00"), segments=o), calendar()) for o in orders}) == 1


def test_T2_a_clock_names_its_calendar_version_and_a_finished_one_cannot_be_changed() -> None:
    case = handled()
    done = case.clock("accept")
    assert (done.calendar_key, done.calendar_version, case.ticket.workflow_version) == ("cn-jinan", 1, 1)
    with pytest.raises((FrozenInstanceError, AttributeError)):
        done.ended_at = None  # type: ignore[misc]


def test_T2_a_finished_clock_is_the_same_for_ever_after() -> None:
    case = handled()
    done = case.clock("accept")
    case.on("2026-09-20 10:00").act(LEAD, "log_contact").on("2026-10-30 10:00").pump()
    assert case.clock("accept") == done


def test_T3_a_new_round_is_a_new_cycle_of_the_enterprises_clocks() -> None:
    case = handled().on("2026-09-15 10:00").act(LEAD, "submit_reply", **REPLY)
    case.act(DISPATCHER, "approve_reply").act(HOTLINE, "record_callback", solved="no", satisfaction="dissatisfied")
    assert [(c.name, c.cycle) for c in case.ticket.clocks if c.name == "resolve"] == [("resolve", 1), ("resolve", 2)]
    assert case.clock("resolve", 1).state is ClockState.MET
    assert case.clock("resolve", 2).anchor == case.now and case.clock("resolve", 2).budget == 8


def test_T3_no_two_clocks_of_a_name_share_a_cycle_and_a_leg() -> None:
    case = Case.opened(co_handlers=["finance", "water"]).act(DISPATCHER, "dispatch", department="finance")
    keys = [(c.name, c.assignment_id, c.cycle) for c in case.ticket.clocks]
    assert len(keys) == len(set(keys))


def test_T4_the_next_department_gets_its_own_time_and_the_enterprises_clocks_run_on() -> None:
    """The complaints it answers: glpi#1911 and #14423, a transfer stops or restarts the customer's own limit."""
    # glpi#1911, glpi#14423: after a transfer the second group inherits a deadline that is over
    case = Case.opened(received="2026-09-14 09:00").on("2026-09-14 10:00").act(LEAD, "request_return", **RETURN)
    resolve = case.clock("resolve")
    case.on("2026-09-14 15:00").decide("return", True).act(DISPATCHER, "dispatch", department="finance")
    first, second = (c for c in case.ticket.clocks if c.name == "accept")
    assert first.state is ClockState.CANCELLED and second.state is ClockState.RUNNING
    assert second.anchor == case.now and second.due_at == at("2026-09-14 17:00")
    after = case.clock("resolve")
    assert (after.anchor, after.due_at, after.cycle) == (resolve.anchor, resolve.due_at, 1)
    assert case.clock("contact").anchor == at("2026-09-14 09:00")


def test_T5_resolve_counts_from_the_hotlines_own_time_and_acceptance_from_the_dispatch() -> None:
    case = Case.opened("complaint_report", "2026-09-18 16:00", created="2026-09-21 09:00")
    assert (case.clock("resolve").anchor_name, case.clock("resolve").anchor) == ("received_at", at("2026-09-18 16:00"))
    assert (case.clock("accept").anchor_name, case.clock("accept").anchor) == ("dispatched_at", at("2026-09-21 09:00"))


# --- measures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measure", "budget", "anchor", "due"),
    [
        ("natural_hours", "PT2H", "2026-09-18 23:50", "2026-09-19 01:50"),
        ("working_hours", "PT30M", "2026-09-14 11:50", "2026-09-14 13:50"),
        ("working_hours", "PT7H", "2026-09-14 09:00", "2026-09-14 17:30"),
        ("working_hours", "PT2H", "2026-09-14 17:30:00", "2026-09-15 11:00"),
        ("working_hours", "PT2H", "2026-09-14 17:29:59.999", "2026-09-15 10:59:59.999"),
        ("natural_days", "5", "2026-09-14 10:00", "2026-09-21 00:00"),
        ("natural_days", "11", "2026-09-14 10:00", "2026-09-29 00:00"),
        ("working_days", "5", "2026-09-18 10:00", "2026-09-25 00:00"),
        ("working_days", "3", "2026-02-12 10:00", "2026-02-25 00:00"),
    ],
)
def test_measures_count_as_the_rules_say(measure: str, budget: str, anchor: str, due: str) -> None:
    assert a_clock(measure, budget, anchor).due_at == at(due)


def test_a_day_may_end_at_the_close_of_office() -> None:
    assert days(1, "2026-09-14 10:00", on=closing_calendar()).due_at == at("2026-09-15 17:30")


@pytest.mark.parametrize(
    ("measure", "budget"),
    [("working_days", "PT15"), ("working_days", "PT8H"), ("working_hours", "15"), ("working_hours", 2),
     ("working_hours", "P1D"), ("working_days", 0), ("natural_hours", "PT0S"), ("natural_days", "P1M")],
)  # fmt: skip
def test_an_ambiguous_or_empty_budget_is_refused(measure: str, budget: str | int) -> None:
    """The complaint it answers: jmix#790, one business day that was read as 24 hours."""
    # jmix#790: an ISO duration read as working days
    with pytest.raises(CalendarError):
        Budget.parse(measure, budget)


def test_beyond_the_published_horizon_a_due_time_is_provisional_except_that_of_natural_hours() -> None:
    assert days(15, "2026-12-25 10:00").provisional
    assert not days(3, "2026-12-25 10:00").provisional
    beyond = a_clock("natural_hours", "PT48H", "2026-12-31 10:00")
    assert not beyond.provisional and not clocks.explain(beyond, calendar(), ())["provisional"]


# --- T6: pauses ------------------------------------------------------------------------------------------------------


def test_T6_overlapping_pauses_are_united() -> None:
    clock = a_clock("natural_hours", "PT10H", "2026-09-14 08:00")
    for span in (("09:00", "11:00"), ("10:00", "12:00"), ("12:00", "12:30"), ("09:30", "09:40")):
        clock = paused(clock, f"2026-09-14 {span[0]}", f"2026-09-14 {span[1]}")
    assert clocks.pauses(clock) == [(at("2026-09-14 09:00"), at("2026-09-14 12:30"))]
    assert clock.due_at == at("2026-09-14 21:30")


@pytest.mark.parametrize("measure", ["natural_hours", "working_hours"])
def test_T6_hours_keep_what_remains(measure: str) -> None:
    clock = paused(a_clock(measure, "PT2H", "2026-09-14 10:00"), "2026-09-14 11:00", "2026-09-14 15:00")
    assert clock.due_at == at("2026-09-14 16:00")


def test_T6_working_days_keep_r_days_after_the_date_of_resumption() -> None:
    # Mon 14 + 5 = Mon 21, as Sun 20 works; paused on Wed 16 three are left: 17, 18, 20
    clock = days(5, "2026-09-14 10:00")
    assert clock.due_at == at("2026-09-21 00:00")
    assert paused(clock, "2026-09-16 10:00", "2026-09-21 09:00").due_at == at("2026-09-25 00:00")


def test_T6_with_nothing_left_the_clock_ends_with_the_day_of_resumption() -> None:
    clock = paused(days(2, "2026-09-14 10:00"), "2026-09-16 10:00", "2026-09-18 09:00")
    assert clock.due_at == at("2026-09-19 00:00")


def test_T6_with_nothing_left_and_resumed_on_a_day_off_the_clock_ends_with_the_next_working_day() -> None:
    clock = paused(days(2, "2026-09-14 10:00"), "2026-09-16 10:00", "2026-09-26 09:00")
    assert clock.due_at == at("2026-09-29 00:00")


def test_T6_natural_days_keep_r_up_to_the_due_date_before_it_is_moved_on() -> None:
    # 12 days after Mon 14 is Sat 26, in the holiday, moved on to Mon 28; paused on the 24th two are left, not four
    clock = a_clock("natural_days", 12, "2026-09-14 10:00")
    assert clock.due_at == at("2026-09-29 00:00")
    assert paused(clock, "2026-09-24 10:00", "2026-09-29 09:00").due_at == at("2026-10-09 00:00")
    assert paused(clock, "2026-09-27 10:00", "2026-09-29 09:00").due_at == at("2026-09-30 00:00")


@pytest.mark.parametrize("measure", ["natural_days", "working_days"])
def test_T6_a_pause_within_one_date_moves_no_clock_of_days(measure: str) -> None:
    clock = a_clock(measure, 3, "2026-09-14 10:00")
    assert paused(clock, "2026-09-15 00:00", "2026-09-15 23:59:59").due_at == clock.due_at


@pytest.mark.parametrize(("measure", "budget"), [("natural_hours", "PT2H"), ("working_hours", "PT2H"),
                                                 ("natural_days", "2"), ("working_days", "2")])  # fmt: skip
def test_T6_a_pause_begun_at_or_after_the_due_time_moves_nothing(measure: str, budget: str) -> None:
    clock = a_clock(measure, budget, "2026-09-14 10:00")
    for late in (timedelta(), timedelta(microseconds=1), timedelta(days=3)):
        start = clock.due_at + late
        after = replace(clock, segments=(Segment("p", start, start + timedelta(days=9)),))
        assert clocks.due(after, calendar()) == clock.due_at


def test_T6_a_pause_after_the_breach_leaves_the_breach_a_fact() -> None:
    clock = clocks.breach(a_clock("natural_hours", "PT2H", "2026-09-14 10:00"))
    clock = clocks.pause(clock, at("2026-09-14 13:00"), "force_majeure", at("2026-09-20 00:00"), "flood", "x")
    clock = clocks.resume(clock, at("2026-09-15 13:00"))
    assert (clock.state, clock.breached_at) == (ClockState.BREACHED_RUNNING, at("2026-09-14 12:00"))


@pytest.mark.parametrize(("measure", "budget", "due"), [
    ("natural_hours", "PT2H", "2026-09-16 12:00"), ("working_hours", "PT4H", "2026-09-16 15:30"),
    ("working_days", "2", "2026-09-19 00:00"), ("natural_days", "2", "2026-09-19 00:00"),
])  # fmt: skip
def test_T6_a_clock_started_inside_a_pause_counts_from_its_end(measure: str, budget: str, due: str) -> None:
    clock = paused(a_clock(measure, budget, "2026-09-14 10:00"), "2026-09-13 00:00", "2026-09-16 10:00")
    assert clock.due_at == at(due)


def test_T6_a_pause_ends_at_its_cap_even_if_somebody_resumes_later() -> None:
    clock = a_clock("natural_hours", "PT5H", "2026-09-14 08:00")
    clock = clocks.pause(clock, at("2026-09-14 09:00"), "statutory_procedure", at("2026-09-14 11:00"), "r", "x")
    assert clocks.resume(clock, at("2026-09-14 16:00")).segments[0].end == at("2026-09-14 11:00")


def test_T6_the_whole_pause_of_a_ticket_with_its_cap_and_automatic_end() -> None:
    case = handled(received="2026-09-14 10:00").on("2026-09-15 10:00").act(LEAD, "request_pause", days=2, **PAUSE)
    case.on("2026-09-15 16:00").decide("pause", True)
    resolve, cap = case.clock("resolve"), case.clock("pause_cap")
    assert (case.ticket.stage, resolve.state, cap.due_at) == ("waiting", ClockState.PAUSED, at("2026-09-18 00:00"))
    assert resolve.segments[0].start == at("2026-09-15 10:00") and resolve.segments[0].until == cap.due_at
    case.pump("2026-09-30 10:00")
    ended = case.clock("resolve")
    assert case.ticket.stage == "handling" and ended.state is ClockState.RUNNING
    assert ended.segments[0].end == at("2026-09-18 00:00")
    # 15 days from Mon 14; one used (15th), 14 left after the 18th: 20..24, 28..30, 8..10, 12..14
    assert ended.due_at == at("2026-10-15 00:00") and resolve.due_at == ended.due_at


def test_T6_a_late_decision_about_an_extension_does_not_keep_a_pause_open_beyond_its_end() -> None:
    case = (
        handled("complaint_report", "2026-09-14 10:00")
        .on("2026-09-18 10:00")
        .act(LEAD, "request_extension", **EXTENSION)
    )
    case.on("2026-09-22 10:00").act(LEAD, "request_pause", **PAUSE).decide("pause", True)
    case.on("2026-09-22 11:00").decide("extension", False)
    case.on("2026-09-23 10:00").act(LEAD, "resume")
    assert all(s.end is not None and s.end <= case.now for s in case.clock("resolve").segments)
    assert case.clock("resolve").due_at == at("2026-09-25 00:00")


# --- T7: extensions --------------------------------------------------------------------------------------------------


def extended(decided: str, approve: bool, key: str = "complaint_report") -> Case:
    """Due at the end of Fri 2026-09-18 (5 days from Fri 11), asked that morning."""
    case = handled(key, "2026-09-11 10:00").on("2026-09-18 10:00").act(LEAD, "request_extension", **EXTENSION)
    return case.pump_on_time(at(decided)).on(decided).decide("extension", approve, SUPERVISOR)


def test_T7_an_extension_adds_to_the_budget_and_the_original_target_stays() -> None:
    clock = extended("2026-09-18 15:00", True).clock("resolve")
    assert clock.original_due_at == at("2026-09-19 00:00")
    assert clock.due_at == at("2026-09-23 00:00")  # Sun 20, Mon 21, Tue 22
    assert (clock.extensions[0].amount, clock.extensions[0].by) == (3, "supervisor-1") and clock.segments == ()


def test_T7_decided_late_and_approved_the_clock_was_never_red() -> None:
    case = extended("2026-09-22 10:00", True)
    assert case.clock("resolve").breached_at is None and case.clock("resolve").segments == ()
    assert case.clock("resolve").due_at == at("2026-09-23 00:00")
    assert "clock.breached" not in {e.type for e in case.events if e.data.get("clock") == "resolve"}


def test_T7_decided_even_later_than_the_extension_reaches_the_wait_is_excused() -> None:
    case = extended("2026-09-24 10:00", True)
    clock = case.clock("resolve")
    assert clock.breached_at is None and clock.segments[0].kind == "awaiting_decision"
    # asked on the due date: of 5 + 3 days three were left, after the day of the decision: 28, 29, 30
    assert clock.due_at == at("2026-10-01 00:00")


def test_T7_decided_late_and_denied_the_clock_runs_out_with_the_day_of_the_decision() -> None:
    case = extended("2026-09-22 10:00", False)
    clock = case.clock("resolve")
    assert (clock.state, clock.due_at, clock.extensions) == (ClockState.RUNNING, at("2026-09-23 00:00"), ())
    case.pump("2026-09-23 00:01")
    assert case.clock("resolve").breached_at == at("2026-09-23 00:00")


def test_T7_denied_in_time_changes_nothing() -> None:
    clock = extended("2026-09-18 15:00", False).clock("resolve")
    assert (clock.due_at, clock.segments) == (at("2026-09-19 00:00"), ())


@pytest.mark.parametrize("decided", ["2026-09-18 18:00", "2026-09-21 17:45", "2026-09-22 10:00"])
def test_T7_where_the_day_ends_at_the_close_of_office_a_late_decision_is_never_red_either(decided: str) -> None:
    case = handled("complaint_report", "2026-09-11 10:00", on=closing_calendar())
    case.on("2026-09-18 17:00").act(LEAD, "request_extension", **EXTENSION).on(decided).decide("extension", False)
    clock = case.clock("resolve")
    assert clock.breached_at is None and clock.due_at > case.now
    assert clock.due_at <= at(decided) + timedelta(days=2)
    assert clock.due_at == clocks.due(clock, closing_calendar())


def test_T7_asked_late_is_refused() -> None:
    case = handled("complaint_report", "2026-09-11 10:00").on("2026-09-19 00:00:01")
    assert isinstance(case.refused(LEAD, "request_extension", **EXTENSION), ActionNotPossible)


def test_T7_withdrawn_by_the_reply_the_time_of_waiting_is_excused_too() -> None:
    case = (
        handled("complaint_report", "2026-09-11 10:00")
        .on("2026-09-18 10:00")
        .act(LEAD, "request_extension", **EXTENSION)
    )
    case.pump_on_time(at("2026-09-22 10:00")).on("2026-09-22 10:00").act(LEAD, "submit_reply", **REPLY)
    assert (
        case.approval("extension").state == "withdrawn"
        and case.clock("extension_decision").state is ClockState.CANCELLED
    )
    case.act(DISPATCHER, "approve_reply")
    assert case.clock("resolve").state is ClockState.MET


def test_T7_a_request_made_after_the_breach_does_not_silence_the_ladder() -> None:
    case = handled("complaint_report", "2026-09-11 10:00").on("2026-09-19 10:00").act(LEAD, "request_pause", **PAUSE)
    case.pump_on_time(at("2026-09-22 12:00"))
    assert ("red", at("2026-09-21 00:00"), "fired") in case.fired("resolve")


# --- T8, T9: what a ledger allows ------------------------------------------------------------------------------------


def test_T8_a_change_of_budget_counts_from_the_original_anchor_with_every_segment_kept() -> None:
    clock = paused(days(5, "2026-09-14 10:00"), "2026-09-15 10:00", "2026-09-17 10:00")
    rebound = clocks.project(replace(clock, budget=3), (), calendar())
    assert rebound.segments == clock.segments and rebound.due_at == at("2026-09-21 00:00")


def test_T9_another_version_of_the_calendar_moves_an_open_clock_by_what_it_says() -> None:
    plain = {**folder().calendars["cn-jinan"], "overrides": {"2026-09-16": {"off": True, "source": "storm order 7"}}}
    storm = Calendar.compile(plain, version=2)
    clock = days(5, "2026-09-14 10:00")
    assert clocks.project(clock, (), storm).due_at == at("2026-09-22 00:00")
    [off] = [d for d in clocks.explain(clock, storm, ())["counted"][0]["days"] if d["rule"] == "override"]
    assert (off["date"], off["reason"], off["notice"]) == ("2026-09-16", "off", "storm order 7")


# --- T10: holds ------------------------------------------------------------------------------------------------------


def test_T10_an_accepted_reply_met_the_clock_when_it_was_submitted() -> None:
    case = handled("complaint_report", "2026-09-11 10:00").on("2026-09-18 16:00").act(LEAD, "submit_reply", **REPLY)
    assert case.clock("resolve").state is ClockState.HELD and case.clock("resolve").next_fire_at is None
    case.pump_on_time(at("2026-09-28 10:00")).on("2026-09-28 10:00").act(DISPATCHER, "approve_reply")
    clock = case.clock("resolve")
    assert (clock.state, clock.ended_at, clock.breached_at) == (ClockState.MET, at("2026-09-18 16:00"), None)


def test_T10_a_reply_sent_back_runs_on_as_if_never_held_and_the_breach_is_dated_at_the_due_time() -> None:
    case = handled("complaint_report", "2026-09-11 10:00").on("2026-09-18 16:00").act(LEAD, "submit_reply", **REPLY)
    case.on("2026-09-20 10:00").act(DISPATCHER, "reject_reply", reason="empty").pump()
    clock = case.clock("resolve")
    assert (clock.due_at, clock.breached_at) == (at("2026-09-19 00:00"), at("2026-09-19 00:00"))
    assert clock.segments[0].kind == HELD and clocks.pauses(clock) == []


# --- T12, T13 --------------------------------------------------------------------------------------------------------


def test_T12_a_review_never_stops_the_resolve_clock() -> None:
    case = handled("consultation", "2026-09-14 10:00").act(LEAD, "escalate", reason="r")
    before = case.clock("resolve")
    case.on("2026-09-15 10:00").review(REVIEWER, "screen", decision="accept", tier=1)
    assert case.ticket.stage == "reviewing" and case.clock("resolve") == before
    case.pump("2026-09-18 10:00")
    assert case.clock("resolve").breached_at == at("2026-09-17 00:00")


def test_T12_a_paused_clock_runs_again_when_the_review_begins() -> None:
    case = handled().on("2026-09-15 10:00").act(LEAD, "request_pause", **PAUSE).decide("pause", True)
    case.act(LEAD, "escalate", reason="r").on("2026-09-17 10:00").review(REVIEWER, "screen", decision="accept")
    assert case.clock("resolve").state is ClockState.RUNNING and case.clock("pause_cap").state is ClockState.CANCELLED


def test_T13_only_segments_stop_a_clock_whatever_the_stage_is_called() -> None:
    clock = days(5, "2026-09-14 10:00")
    for state in (ClockState.RUNNING, ClockState.BREACHED_RUNNING, ClockState.PAUSED, ClockState.HELD, ClockState.MET):
        assert clocks.due(replace(clock, state=state), calendar()) == clock.due_at


# --- T14 to T19: firing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (RungTime("share", percent=60), "2026-09-18 00:00"),  # 60 % of 5 days is the third
        (RungTime("share", percent=50), "2026-09-18 00:00"),  # days are whole: 2.5 is 3
        (RungTime("due"), "2026-09-21 00:00"),
        (RungTime("before", offset=Budget.parse("working_days", 1)), "2026-09-19 00:00"),
        (RungTime("before", offset=Budget.parse("natural_hours", "PT2H")), "2026-09-20 22:00"),
        (RungTime("before", offset=Budget.parse("working_hours", "PT4H")), "2026-09-20 13:30"),
        (RungTime("after", offset=Budget.parse("working_days", 1)), "2026-09-22 00:00"),
        (RungTime("after", offset=Budget.parse("natural_days", 5)), "2026-09-26 00:00"),
    ],
)
def test_T14_a_rung_stands_at_a_share_or_before_or_after_the_due_time_in_any_measure(
    time: RungTime, expected: str
) -> None:
    assert clocks.rung_at(days(5, "2026-09-14 10:00"), time, calendar()) == at(expected)


def test_T14_a_rung_before_a_short_clock_does_not_stand_before_its_anchor() -> None:
    clock = a_clock("natural_hours", "PT1H", "2026-09-14 10:00")
    assert clocks.rung_at(clock, RungTime("before", offset=Budget.parse("working_days", 1)), calendar()) == clock.anchor


def test_T14_each_rung_of_a_clock_fires_once() -> None:
    case = Case.opened("consultation", "2026-09-14 10:00")
    for n in range(60):
        case.pump(at("2026-09-14 12:00") + n * timedelta(hours=11))
    claims = [(f.clock_id, f.rung) for f in case.firings]
    assert claims and len(claims) == len(set(claims))


def test_T16_resolved_in_the_very_second_of_the_due_time_is_met_if_the_person_came_first() -> None:
    """The complaint it answers: znuny#221, resolved and escalated in the same second."""
    # znuny#221: an escalation fired for a ticket that had just been resolved
    case = handled("complaint_report", "2026-09-11 10:00").on("2026-09-19 00:00").act(LEAD, "submit_reply", **REPLY)
    case.act(DISPATCHER, "approve_reply").pump("2026-09-25 10:00")
    assert case.clock("resolve").state is ClockState.MET
    assert "breach" not in {rung for rung, _, _ in case.fired("resolve")}


def test_T16_resolved_in_the_very_second_of_the_due_time_is_breached_if_the_timer_came_first() -> None:
    case = handled("complaint_report", "2026-09-11 10:00").pump("2026-09-19 00:00").act(LEAD, "submit_reply", **REPLY)
    case.act(DISPATCHER, "approve_reply")
    assert case.clock("resolve").state is ClockState.BREACHED_MET


def test_T16_one_microsecond_after_the_due_time_is_breached_even_if_no_timer_has_fired() -> None:
    case = handled("complaint_report", "2026-09-11 10:00").on("2026-09-19 00:00:00.000001")
    case.act(LEAD, "submit_reply", **REPLY).act(DISPATCHER, "approve_reply")
    assert case.clock("resolve").breached_at == at("2026-09-19 00:00")
    assert case.clock("resolve").state is ClockState.BREACHED_MET


def test_T17_after_an_outage_each_rung_fires_once_in_order_and_an_overtaken_warning_is_not_sent() -> None:
    case = Case.opened("complaint_report", "2026-09-11 10:00")
    case.notices.clear()
    case.pump("2026-09-23 10:00")
    fired = case.fired("resolve")
    assert [(rung, outcome) for rung, _, outcome in fired] == [
        ("warning", "superseded"), ("yellow", "superseded"), ("breach", "fired"), ("red", "fired"),
    ]  # fmt: skip
    assert [due for _, due, _ in fired] == sorted(due for _, due, _ in fired)
    assert all(f.fired_at == at("2026-09-23 10:00") for f in case.firings)
    assert [e.occurred_at for e in case.events] == sorted(e.occurred_at for e in case.events)
    case.pump("2026-09-23 10:00")
    assert case.fired("resolve") == fired


def test_T18_one_now_is_passed_in_and_dates_everything_a_command_does() -> None:
    case = handled().on("2026-09-16 11:11:11").act(LEAD, "submit_reply", **REPLY)
    assert case.events[-1].occurred_at == case.clock("audit").anchor == case.leg("tax").submitted_at == case.now


def test_T19_percentages_are_floored() -> None:
    assert rates.value(99_999, 100_000) == 0.9999 and rates.value(1, 3) == 0.3333
    assert rates.value(5, 5) == 1.0 and rates.value(0, 0) is None


@pytest.mark.parametrize("budget", [1, 2, 3, 5, 7, 15, 39])
def test_T19_a_warning_never_comes_before_its_share_of_the_days_is_used(budget: int) -> None:
    clock = days(budget, "2026-03-02 10:00")
    warned = clocks.rung_at(clock, RungTime("share", percent=60), calendar())
    assert clocks.used(clock, calendar(), warned - timedelta(microseconds=1)) * 100 >= 60 * budget


# --- T20: explanation ------------------------------------------------------------------------------------------------


def test_T20_an_explanation_names_anchor_rule_calendar_segments_days_off_with_their_notice_and_extensions() -> None:
    clock = replace(days(5, "2026-09-18 10:00"), extensions=(Extension(1, at("2026-09-21 09:00"), "head", "complex"),))
    clock = paused(clock, "2026-09-21 10:00", "2026-09-22 10:00")
    told = clocks.explain(clock, calendar(), [WARNING, BREACH])
    assert told["anchor"] == {"name": "received_at", "at": at("2026-09-18 10:00")}
    assert told["calendar"] == {"key": "cn-jinan", "version": 1, "zone": "Asia/Shanghai"}
    assert "working day" in told["counting_rule"] and told["budget"] == "5" and told["sum"] == "6"
    assert told["extensions"][0]["by"] == "head" and told["segments"][0]["kind"] == "waiting_enterprise"
    # 20, 21 | 23, 24, 28, 29
    assert [part["amount"] for part in told["counted"]] == [2, 4] and told["due_at"] == at("2026-09-30 00:00")
    rows = {d["date"]: d for part in told["counted"] for d in part["days"]}
    assert rows["2026-09-18"]["reason"] == "anchor_day" and rows["2026-09-19"]["rule"] == "weekend"
    assert (rows["2026-09-20"]["rule"], rows["2026-09-20"]["counted"]) == ("make_up", True)
    assert rows["2026-09-25"]["rule"] == "holiday" and rows["2026-09-25"]["reason"] == "off"
    assert all(rows[d]["notice"] for d in ("2026-09-20", "2026-09-25"))
    assert [r["name"] for r in told["rungs"]] == ["warning", "breach"]


MEASURES = st.sampled_from(list(Measure))
MINUTES_2022_TO_2027 = st.integers(0, 6 * 365 * 24 * 60)


@st.composite
def ledgers(draw: st.DrawFn) -> Clock:
    """A clock with an anchor between 2022 and 2027, up to five pauses (any order, any overlap) and two extensions."""
    measure = draw(MEASURES)
    amount = draw(st.integers(1, 25)) * (1 if measure.counts_days else 60_000_000 * draw(st.integers(1, 90)))
    anchor = at("2022-01-01 00:00") + timedelta(minutes=draw(MINUTES_2022_TO_2027))
    unit = 1 if measure.counts_days else 60_000_000 * 7
    more = [Extension(draw(st.integers(1, 10)) * unit, anchor, "head") for _ in range(draw(st.integers(0, 2)))]
    segments = []
    for _ in range(draw(st.integers(0, 5))):
        start = anchor + timedelta(minutes=draw(st.integers(-2 * 1440, 25 * 1440)))
        end = start + timedelta(minutes=draw(st.one_of(st.integers(0, 600), st.integers(0, 12 * 1440))))
        kind = draw(st.sampled_from(["waiting_enterprise", "force_majeure", "awaiting_decision", HELD]))
        segments.append(Segment(kind, start, end))
    return Clock(
        id="c", ticket_id="t", assignment_id=None, name="resolve", cycle=1, family="enterprise", measure=measure,
        budget=amount, anchor_name="received_at", anchor=anchor, calendar_key="cn-jinan", calendar_version=1,
        state=ClockState.RUNNING, due_at=anchor, original_due_at=anchor, segments=tuple(segments),
        extensions=tuple(more),
    )  # fmt: skip


def counted_by_hand(clock: Clock, cal: Calendar) -> datetime:
    """The due instant found by walking along the calendar, minute by minute or day by day."""
    wanted = clock.budget + sum(e.amount for e in clock.extensions)
    spans = [(s.start, s.end) for s in clock.segments if s.kind != HELD and s.end is not None and s.end > s.start]
    return (
        days_by_hand(clock, cal, wanted, spans)
        if clock.measure.counts_days
        else minutes_by_hand(clock, cal, wanted, spans)
    )


def minutes_by_hand(clock: Clock, cal: Calendar, wanted: int, spans: list[tuple[datetime, datetime]]) -> datetime:
    now, left, office = clock.anchor, wanted // 60_000_000, {}
    while left:
        day = now.date()
        if day not in office:
            office[day] = cal.day(day).intervals
        text = f"{now:%H:%M}"
        counts = clock.measure is Measure.natural_hours or any(a <= text < b for a, b in office[day])
        if counts and not any(start <= now < end for start, end in spans):
            left -= 1
        now += timedelta(minutes=1)
    return now


def days_by_hand(clock: Clock, cal: Calendar, wanted: int, spans: list[tuple[datetime, datetime]]) -> datetime:
    """A day counts if it lies after the anchor's and not in (date of a pause, date of its end]."""
    origin = clock.anchor
    while inside := [end for start, end in spans if start <= origin < end]:
        origin = max(inside)

    def local(instant: datetime) -> date:
        return instant.astimezone(at("2026-01-01").tzinfo).date()

    def working(day: date) -> bool:
        return cal.day(day).works

    def moved_on(day: date) -> date:
        while not working(day):
            day += timedelta(days=1)
        return day

    day, left = local(origin), wanted
    ahead = [(start, end) for start, end in spans if start > origin]
    while left:
        day += timedelta(days=1)
        stopped = any(local(start) < day <= local(end) for start, end in ahead)
        left -= not stopped and (clock.measure is Measure.natural_days or working(day))
    # used up on `day`; but a pause begun before its end carries the clock to the day on which it ends
    while carried := [
        local(end)
        for start, end in ahead
        if start < cal.end_of(moved_on(day)) and local(end) > day and local(start) >= day
    ]:
        day = max(carried)
    return cal.end_of(moved_on(day))


@pytest.mark.parametrize("day_end", ["24:00", "office_close"])
def test_T20_explanation_projection_and_counting_by_hand_agree_on_any_ledger(day_end: str) -> None:
    cal = calendar() if day_end == "24:00" else closing_calendar()

    @settings(PROFILE, max_examples=250)
    @given(ledgers())
    def agree(clock: Clock) -> None:
        due = clocks.due(clock, cal)
        assert due == counted_by_hand(clock, cal)
        clock = clocks.project(clock, [WARNING, BREACH], cal)
        assert clock.due_at == due
        told = clocks.explain(clock, cal, [WARNING, BREACH])
        total = clock.budget + sum(e.amount for e in clock.extensions)
        assert told["due_at"] == due and told["sum"] == Budget(clock.measure, total).text()
        assert sum(part["amount"] for part in told["counted"]) == total
        rows = [d for part in told["counted"] for d in part["days"]]
        assert sum(d["amount"] for d in rows) == total
        for part in told["counted"]:
            assert sum(d["amount"] for d in part["days"]) == part["amount"]
        assert all((d["reason"] is None) == d["counted"] for d in rows)
        assert [r["at"] for r in told["rungs"]][-1] == due
        assert told["rungs"][0]["at"] <= due

    agree()


@settings(PROFILE, max_examples=120)
@given(ledgers())
def test_T20_what_is_used_at_the_due_instant_is_the_whole_budget_of_hours(clock: Clock) -> None:
    due = clocks.due(clock, calendar())
    if not clock.measure.counts_days:
        assert clocks.used(clock, calendar(), due) == clocks.total(clock)
        assert clocks.used(clock, calendar(), due - timedelta(microseconds=1)) < clocks.total(clock)


# --- the table of examples -------------------------------------------------------------------------------------------


def test_example_received_on_friday_18_september_2026_five_working_days() -> None:
    case = Case.opened("complaint_report", "2026-09-18 10:00")
    assert case.clock("resolve").due_at == at("2026-09-25 00:00")  # the end of Thu 24


def test_example_received_before_spring_festival_three_working_days() -> None:
    assert days(3, "2026-02-12 10:00").due_at == at("2026-02-25 00:00")  # the end of Tue 24


def test_example_thirty_minutes_over_lunch() -> None:
    assert a_clock("working_hours", "PT30M", "2026-09-14 11:50").due_at == at("2026-09-14 13:50")


def test_example_received_at_closing_time_starts_the_next_morning_and_a_millisecond_before_uses_it() -> None:
    assert a_clock("working_hours", "PT1H", "2026-09-14 17:30:00").due_at == at("2026-09-15 10:00")
    assert a_clock("working_hours", "PT1H", "2026-09-14 17:29:59.999").due_at == at("2026-09-15 09:59:59.999")


def test_example_two_pauses_count_to_the_microsecond() -> None:
    clock = a_clock("working_hours", "PT4H", "2026-09-14 10:00")
    clock = paused(clock, "2026-09-14 10:00:05.000001", "2026-09-14 10:00:50")
    clock = paused(clock, "2026-09-14 10:00:55", "2026-09-14 12:00")
    # used before 13:30: 5.000001 s and 5 s
    assert clock.due_at == at("2026-09-14 17:29:49.999999")


def test_example_created_already_closed_is_met_at_creation_with_the_reason() -> None:
    clock = days(5, "2026-09-14 10:00")
    done = clocks.end(clock, clock.anchor, "closed when it was created")
    assert (done.state, done.ended_at, done.end_reason) == (ClockState.MET, clock.anchor, "closed when it was created")
    assert clocks.used(done, calendar(), at("2026-12-01 10:00")) == 0


def test_example_reopened_after_five_days_shows_the_closed_span_as_closed() -> None:
    clock = paused(days(5, "2026-09-14 10:00"), "2026-09-15 10:00", "2026-09-20 10:00", kind="closed")
    told = clocks.explain(clock, calendar(), ())
    assert told["segments"][0]["kind"] == "closed"
    assert [p["amount"] for p in told["counted"]] == [1, 4] and clock.due_at == at("2026-09-25 00:00")


def test_example_urgency_lowered_after_the_breach_keeps_the_breach_and_projects_later_rungs_anew() -> None:
    after = ("red", RungTime("after", offset=Budget.parse("working_days", 1)))
    clock = replace(clocks.breach(days(2, "2026-09-14 10:00")), fired=("breach",))
    lowered = clocks.project(replace(clock, budget=5), [BREACH, after], calendar())
    assert (lowered.state, lowered.breached_at) == (ClockState.BREACHED_RUNNING, at("2026-09-17 00:00"))
    assert lowered.due_at == at("2026-09-21 00:00") and lowered.next_fire_at == at("2026-09-22 00:00")


def test_example_the_worker_was_down_from_nine_to_eleven() -> None:
    # first contact: two hours from 08:30; its warning stands at 10:00, its breach at 10:30
    case = Case.opened(received="2026-09-14 08:30").pump("2026-09-14 11:00")
    assert case.fired("contact") == [
        ("warning", at("2026-09-14 10:00"), "superseded"),
        ("breach", at("2026-09-14 10:30"), "fired"),
    ]
    breach = next(f for f in case.firings if f.rung == "breach" and f.clock_id == case.clock("contact").id)
    assert (breach.due_at, breach.fired_at) == (at("2026-09-14 10:30"), at("2026-09-14 11:00"))


def test_example_the_co_handler_is_late_and_the_lead_in_time() -> None:
    case = handled(received="2026-09-14 10:00", co_handlers=["finance"])
    case.pump_on_time(at("2026-09-18 10:00")).on("2026-09-18 10:00")
    assert case.clock("co_reply").breached_at == at("2026-09-18 00:00")
    assert case.clock("resolve").state is ClockState.RUNNING
    case.act(handler("finance"), "submit_reply", **REPLY).act(LEAD, "submit_reply", **REPLY).act(
        DISPATCHER, "approve_reply"
    )
    assert (case.clock("co_reply").state, case.clock("resolve").state) == (ClockState.BREACHED_MET, ClockState.MET)


def test_example_a_ticket_with_an_open_mandatory_measure_does_not_close() -> None:
    case = handled().act(LEAD, "escalate", reason="r").review(REVIEWER, "screen", decision="accept")
    task = {"title": "pave the road", "department": "water", "due_on": "2026-10-30"}
    case.resolve(decision="approve", measures=[task])
    with pytest.raises(Conflict, match="mandatory"):
        case.act(DISPATCHER, "withdraw", reason="r")
    case.measure(REVIEWER, "strike_off", waive=True, reason="built already")
    assert case.ticket.stage == "callback"
