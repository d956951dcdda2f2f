"""What the model city (tests/simulation) found in the core, each defect as its smallest history."""

from __future__ import annotations

from tests.builders import DISPATCHER, at, handled


def test_T8_a_stricter_policy_after_the_breach_brings_no_burst_of_old_steps() -> None:
    case = handled("complaint_report", "2026-09-14 10:00").pump("2026-09-23 10:00")
    assert [rung for rung, _, _ in case.fired("resolve")] == ["warning", "yellow", "breach", "red"]
    case.act(DISPATCHER, "reclassify", urgency="emergency", reason="the line stands still").pump("2026-09-24 10:00")
    assert case.clock("resolve").breached_at == at("2026-09-21 00:00")
    assert [rung for rung, _, _ in case.fired("resolve")][4:] == []
    # the proposal for review, two days after the due time of an emergency: two days after the change, 24 and 28
    case.pump("2026-09-29 10:00")
    assert case.fired("resolve")[4:] == [("review", at("2026-09-29 00:00"), "fired")]
