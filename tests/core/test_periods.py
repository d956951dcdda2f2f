"""Slots of periodic work as values."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from service.core.periods import Daily, Every, due_slots

NOW = datetime(2026, 11, 23, 10, 30, 45, tzinfo=UTC)
HOURLY = Every(timedelta(hours=1))


def test_the_first_slot_ever_is_the_latest() -> None:
    assert list(due_slots(HOURLY, None, NOW, run_all=True)) == [NOW.replace(minute=0, second=0)]


def test_after_downtime_all_or_the_latest_as_declared() -> None:
    last = NOW.replace(hour=5, minute=0, second=0)
    assert [s.hour for s in due_slots(HOURLY, last, NOW, run_all=True)] == [6, 7, 8, 9, 10]
    assert [s.hour for s in due_slots(HOURLY, last, NOW, run_all=False)] == [10]
    assert list(due_slots(HOURLY, NOW.replace(minute=0, second=0), NOW, run_all=True)) == []


def test_a_day_has_one_slot_at_its_local_time_also_when_summer_time_begins() -> None:
    berlin = Daily(time(2, 30), ZoneInfo("Europe/Berlin"))
    slot = berlin.latest(datetime(2026, 3, 28, 12, tzinfo=UTC))
    slots = [slot]
    for _ in range(3):
        slots.append(berlin.after(slots[-1]))
    assert [s.astimezone(berlin.zone).date().day for s in slots] == [28, 29, 30, 31]
    shanghai = Daily(time(2), ZoneInfo("Asia/Shanghai"))
    assert shanghai.latest(NOW) == datetime(2026, 11, 22, 18, tzinfo=UTC)
