"""The clock gate as a value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from service.core.gate import Gate, Reading

START = datetime(2026, 11, 23, 1, tzinfo=UTC)


def reading(passed: float, jumped: float = 0, host: float = 0) -> Reading:
    database = START + timedelta(seconds=passed + jumped)
    return Reading(database, START + timedelta(seconds=passed + host), 1000 + passed)


def test_time_that_passes_as_the_machine_says_opens_nothing_and_closes_nothing() -> None:
    gate = Gate()
    for passed in (0, 1, 5, 86_400 * 3):
        gate = gate.look(reading(passed))
        assert gate.held is None


def test_a_minute_is_tolerated_and_more_is_not() -> None:
    gate = Gate().look(reading(0))
    assert gate.look(reading(1, jumped=60, host=60)).held is None
    assert gate.look(reading(1, jumped=61, host=61)).held == "the database's clock jumped by +61 s"
    assert gate.look(reading(1, jumped=-61, host=-61)).held == "the database's clock jumped by -61 s"
    assert Gate().look(reading(0, host=61)).held == "the host's clock is +61 s from the database's"


def test_it_opens_by_itself_only_when_all_is_as_expected() -> None:
    gate = Gate().look(reading(0)).look(reading(1, jumped=7200))
    assert gate.look(reading(100, jumped=7200)).held
    assert gate.look(reading(100, jumped=6)).held
    assert gate.look(reading(100, jumped=5)).held is None


def test_a_slow_drift_is_followed() -> None:
    gate = Gate()
    for second in range(0, 10_000, 10):
        gate = gate.look(reading(second, jumped=second / 100, host=second / 100))
        assert gate.held is None


def test_what_was_released_is_the_new_truth() -> None:
    gate = Gate().look(reading(0)).look(reading(1, jumped=7200))
    gate = gate.released(reading(2, jumped=7200))
    assert gate.look(reading(3, jumped=7200)).held is None
    assert gate.look(reading(4)).held == "the database's clock jumped by -7200 s"
