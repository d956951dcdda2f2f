"""Time as a person with a wall calendar and a pencil would count it: day by day, interval by interval.

Written from the rules of time (measures and T6) over the plain data of a calendar file. It knows nothing of how the
core reckons: no tables, no bisection. Instants are aware datetimes; amounts are microseconds or whole days.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1)
Span = tuple[datetime, datetime]
_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?")


@dataclass(frozen=True)
class Amount:
    """How much time, in one of the four measures: microseconds of hours, or whole days."""

    measure: str
    size: int

    @classmethod
    def parse(cls, measure: str, text: str | int) -> Amount:
        if measure.endswith("days"):
            return cls(measure, int(text))
        found = _DURATION.fullmatch(str(text))
        assert found, f"a duration of hours and minutes, not {text!r}"
        hours, minutes = (int(part or 0) for part in found.groups())
        return cls(measure, timedelta(hours=hours, minutes=minutes) // MICROSECOND)

    @property
    def in_days(self) -> bool:
        return self.measure.endswith("days")


class Days:
    """A calendar as its file says it: what each date is, and how far an amount of time reaches."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        assert data["day_end"] == "24:00", "the shipped calendar's days end at midnight"
        self._data, self._zone = data, ZoneInfo(data["zone"])
        self.office, self.away = cache(self._office), cache(self._away)
        official = {int(year) for year, block in data["years"].items() if block["status"] == "official"}
        self.horizon = date(next(y for y in sorted(official) if y + 1 not in official), 12, 31)

    def __deepcopy__(self, memo: dict[int, Any]) -> Days:
        return self  # nothing of it changes

    def _office(self, day: date) -> tuple[Span, ...]:
        """The office intervals of a date: a notice wins over the weekday; a make-up day is like a Monday."""
        week = self._data["week"]
        plan = week.get(WEEKDAYS[day.weekday()], [])
        for year in self._data["years"].values():
            if day.isoformat() in (year.get("off") or {}):
                plan = []
            elif day.isoformat() in (year.get("work") or {}):
                plan = week["mon"]
        return tuple((self._at(day, start), self._at(day, end)) for start, end in plan)

    def _at(self, day: date, text: str) -> datetime:
        return datetime.combine(day, time.fromisoformat(text), self._zone).astimezone(UTC)

    # --- dates

    def date_of(self, at: datetime) -> date:
        return at.astimezone(self._zone).date()

    def end(self, day: date) -> datetime:
        return datetime.combine(day + DAY, time(), self._zone).astimezone(UTC)

    def counts(self, day: date, measure: str) -> bool:
        return measure == "natural_days" or bool(self.office(day))

    def moved_on(self, day: date) -> date:
        while not self.office(day):
            day += DAY
        return day

    # --- how far an amount reaches

    def due(self, anchor: datetime, amount: Amount, pauses: list[Span]) -> datetime:
        """The instant at which `amount` is used up; `pauses` do not count, and may overlap."""
        for start, end in united(pauses):
            if start <= anchor < end:
                anchor = end  # it starts inside a pause: it counts from the pause's end
        later = [(start, end) for start, end in united(pauses) if start > anchor]
        if amount.in_days:
            return self._due_in_days(anchor, amount, later)
        return self._due_in_hours(anchor, amount, later)

    def _due_in_hours(self, anchor: datetime, amount: Amount, pauses: list[Span]) -> datetime:
        left = amount.size * MICROSECOND
        for start, end in without(self._counting(anchor, amount.measure), pauses):
            if end - start >= left:
                return start + left
            left -= end - start
        raise AssertionError("time does not end")

    def _counting(self, anchor: datetime, measure: str) -> Iterator[Span]:
        """The intervals that count from `anchor` on, for ever."""
        day = self.date_of(anchor)
        while True:
            intervals = self.office(day) if measure == "working_hours" else ((self.end(day - DAY), self.end(day)),)
            for start, end in intervals:
                if end > anchor:
                    yield max(start, anchor), end
            day += DAY

    def _due_in_days(self, anchor: datetime, amount: Amount, pauses: list[Span]) -> datetime:
        """T6: a pause takes out the days after its own date up to the date of its end. The anchor's day is none."""
        dates = [(start, self.date_of(start), self.date_of(end)) for start, end in pauses]
        day, left = self.date_of(anchor), amount.size
        while left:
            day += DAY
            paused = any(began < day <= ended for _, began, ended in dates)
            left -= self.counts(day, amount.measure) and not paused
        for start, began, ended in dates:
            # nothing is left (r = 0), but it was paused before it was due: the end of the day on which it goes on
            if start < self.end(self.moved_on(day)) and day <= began < ended:
                day = ended
        return self.end(self.moved_on(day))

    def _away(self, at: datetime, amount: Amount, sign: int) -> datetime:
        """`amount` before (-1) or after (+1) a due instant: where a step of the ladder stands."""
        if amount.measure == "natural_hours":
            return at + sign * amount.size * MICROSECOND
        if amount.measure == "working_hours":
            return self._due_in_hours(at, amount, []) if sign > 0 else self._hours_before(at, amount)
        day, left = self.date_of(at - MICROSECOND), amount.size  # midnight is the end of a day
        while left:
            day += sign * DAY
            left -= self.counts(day, amount.measure)
        return self.end(day)

    def _hours_before(self, at: datetime, amount: Amount) -> datetime:
        day, left = self.date_of(at), amount.size * MICROSECOND
        while True:
            for start, end in reversed(self.office(day)):
                reach = min(end, at)
                if reach - start >= left:
                    return reach - left
                left -= max(reach - start, timedelta())
            day -= DAY

    def is_provisional(self, due: datetime, measure: str) -> bool:
        """No notice moves a natural hour; any other due time beyond the last notice may yet move."""
        return measure != "natural_hours" and self.date_of(due - MICROSECOND) > self.horizon


def united(spans: list[Span]) -> list[Span]:
    """Overlapping and touching spans made one, in order; empty ones left out."""
    result: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if result and start <= result[-1][1]:
            start, end = result[-1][0], max(end, result.pop()[1])
        result.append((start, end))
    return result


def without(intervals: Iterator[Span], holes: list[Span]) -> Iterator[Span]:
    """What of the intervals lies in no hole."""
    for start, end in intervals:
        for hole_start, hole_end in holes:
            if start < hole_end and hole_start < end:
                if start < hole_start:
                    yield start, hole_start
                start = hole_end
        if start < end:
            yield start, end
