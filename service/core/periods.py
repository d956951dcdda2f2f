"""When periodic work is due: slots of a grid, each done once (T10 of the reliability goals). Pure values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_SLOTS = 1000
"""At most so many missed slots are gone through at a time; the next look goes on."""


class Period(Protocol):
    def latest(self, now: datetime) -> datetime:
        """The last slot at or before `now`."""

    def after(self, slot: datetime) -> datetime:
        """The slot that follows."""


@dataclass(frozen=True, slots=True)
class Every:
    """Slots at multiples of `span` since the epoch."""

    span: timedelta

    def latest(self, now: datetime) -> datetime:
        return now - (now - _EPOCH) % self.span

    def after(self, slot: datetime) -> datetime:
        return slot + self.span


@dataclass(frozen=True, slots=True)
class Daily:
    """One slot a day, at a local time."""

    at: time
    zone: ZoneInfo

    def latest(self, now: datetime) -> datetime:
        today = now.astimezone(self.zone).date()
        slot = datetime.combine(today, self.at, self.zone)
        if slot > now:
            slot = datetime.combine(today - timedelta(days=1), self.at, self.zone)
        return slot.astimezone(UTC)

    def after(self, slot: datetime) -> datetime:
        tomorrow = slot.astimezone(self.zone).date() + timedelta(days=1)
        return datetime.combine(tomorrow, self.at, self.zone).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Weekly:
    """One slot a week, at a local time of a weekday (0: Monday)."""

    weekday: int
    at: time
    zone: ZoneInfo

    def latest(self, now: datetime) -> datetime:
        slot = Daily(self.at, self.zone).latest(now).astimezone(self.zone)
        day = slot.date() - timedelta(days=(slot.weekday() - self.weekday) % 7)
        return datetime.combine(day, self.at, self.zone).astimezone(UTC)

    def after(self, slot: datetime) -> datetime:
        next_week = slot.astimezone(self.zone).date() + timedelta(days=7)
        return datetime.combine(next_week, self.at, self.zone).astimezone(UTC)


def due_slots(period: Period, last: datetime | None, now: datetime, *, run_all: bool) -> Iterator[datetime]:
    """Slots to be done at `now`, oldest first. `last`: the newest one that was claimed, None if none ever was.

    After downtime: every missed one with `run_all`, else the latest only.
    """
    latest = period.latest(now)
    if last is None or not run_all:
        if last is None or latest > last:
            yield latest
        return
    for _ in range(MAX_SLOTS):
        last = period.after(last)
        if last > latest:
            return
        yield last
