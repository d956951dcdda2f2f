"""What the model city (tests/simulation) found in the core, each defect as its smallest history."""

from __future__ import annotations

from service.core import invariants
from service.core.model import SYSTEM, ClockState
from tests.builders import (
    DISPATCHER,
    EXTENSION,
    HOTLINE,
    LEAD,
    PAUSE,
    REPLY,
    SOLVED,
    Case,
    at,
    handled,
)


def emergency(case: Case) -> Case:
    return case.act(DISPATCHER, "reclassify", urgency="emergency", reason="the line stands still")


def test_T8_a_stricter_policy_after_the_breach_brings_no_burst_of_old_steps() -> None:
    case = handled("complaint_report", "2026-09-14 10:00").pump("2026-09-23 10:00")
    assert [rung for rung, _, _ in case.fired("resolve")] == ["warning", "yellow", "breach", "red"]
    emergency(case).pump("2026-09-24 10:00")
    assert case.clock("resolve").breached_at == at("2026-09-21 00:00")
    assert case.fired("resolve")[4:] == []
    # the proposal for review, two days after the due time of an emergency: two days after the change, 24 and 28
    case.pump("2026-09-29 10:00")
    assert case.fired("resolve")[4:] == [("review", at("2026-09-29 00:00"), "fired")]


def test_T8_a_pause_asked_after_the_new_due_time_does_not_hide_that_it_had_passed() -> None:
    # an opinion within four hours was due at 14:00; the pause was asked at 16:00
    case = handled("complaint_report", "2026-09-14 10:00").on("2026-09-14 16:00").act(LEAD, "request_pause", **PAUSE)
    emergency(case.on("2026-09-14 17:00"))
    assert case.clock("opinion").breached_at == at("2026-09-14 17:00")
    case.on("2026-09-14 18:00").act(LEAD, "submit_reply", **REPLY)
    opinion = case.clock("opinion")
    assert (opinion.state, opinion.breached_at) == (ClockState.BREACHED_MET, at("2026-09-14 17:00"))


def test_T8_a_pause_asked_before_the_new_due_time_still_keeps_the_clock_from_turning_red() -> None:
    case = handled("complaint_report", "2026-09-14 10:00").on("2026-09-14 11:00").act(LEAD, "request_pause", **PAUSE)
    emergency(case.on("2026-09-14 17:00"))
    assert case.clock("opinion").breached_at is None


def test_T7_an_extension_that_an_emergency_does_not_know_excuses_the_time_of_waiting_for_it() -> None:
    # due at the end of Tuesday by the rules of an emergency; asked on Monday, never decided, overtaken on Thursday
    case = handled("complaint_report", "2026-09-14 10:00").on("2026-09-14 15:00")
    case.act(LEAD, "request_extension", **EXTENSION)
    emergency(case.pump_on_time(at("2026-09-17 10:00")).on("2026-09-17 10:00"))
    resolve = case.clock("resolve")
    assert case.approval("extension").state == "withdrawn"
    assert (resolve.breached_at, resolve.due_at) == (None, at("2026-09-19 00:00"))


def test_T3_a_reopened_clock_that_goes_on_has_the_whole_budget_of_another_policy_and_not_that_of_rework() -> None:
    case = handled("government_service", "2026-09-14 10:00").act(LEAD, "submit_reply", **REPLY)
    case.act(DISPATCHER, "approve_reply").act(HOTLINE, "record_callback", **SOLVED)
    case.act(HOTLINE, "reopen", reason="it came back")
    assert case.clock("resolve").budget == 10
    case.act(DISPATCHER, "reclassify", domain="complaint_report", reason="it is a complaint")
    assert (case.clock("resolve").cycle, case.clock("resolve").budget) == (2, 5)


def test_T8_a_reply_under_audit_that_a_stricter_policy_makes_late_is_red_from_the_change_and_met_when_submitted() -> (
    None
):
    case = handled("complaint_report", "2026-09-14 10:00").on("2026-09-16 10:00").act(LEAD, "submit_reply", **REPLY)
    emergency(case.on("2026-09-16 11:00")).on("2026-09-16 12:00").act(DISPATCHER, "approve_reply")
    resolve = case.clock("resolve")
    assert (resolve.state, resolve.ended_at, resolve.breached_at) == (
        ClockState.BREACHED_MET, at("2026-09-16 10:00"), at("2026-09-16 11:00")
    )  # fmt: skip
    looked = invariants.Case(case.ticket, case.env(SYSTEM), None, [], [], frozenset(), [], [], False)
    assert [why for why in invariants.breach_is_a_fact(looked) if why] == []
