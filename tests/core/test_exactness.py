"""Calendars and clocks against a count minute by minute, on 100,000 random cases of 2022 to 2027 in all four measures.

The reference below is the rules read naively: what every single minute from December 2021 on is worth, and a step per
day. It knows the plain data of a calendar and the values of a clock, and nothing of how the core reckons.

A case is made from the name of its calendar and its number alone; one that fails shows both, and all that went in.
The calendars share EXACT_CASES, 100,000 if nothing is said, and number theirs from EXACT_FIRST (0) on. More, and others:

    EXACT_CASES=2000000 EXACT_FIRST=100000 python -m pytest tests/core/test_exactness.py

and case 4711 of one calendar once more: EXACT_CASES=1 EXACT_FIRST=4711 and `-k lord`. Local times that a change of the
clock skips or doubles are no ends of office time here; how they are read is tested in test_calendar.py.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from service.core import clocks
from service.core.calendar import Budget, Calendar, Measure
from service.core.model import Clock, ClockState, Extension, Segment
from service.core.yaml_files import read_yaml

CASES = int(os.environ.get("EXACT_CASES", "100000"))
FIRST_CASE = int(os.environ.get("EXACT_FIRST", "0"))
EXPLAIN_EVERY = 10
CALENDARS = Path(__file__).resolve().parents[2] / "workflows" / "calendars"

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK_MINUTES = 7 * 24 * 60
MICROSECOND = timedelta(microseconds=1)
BASE = datetime(2021, 12, 1, tzinfo=UTC)
ANCHORS = tuple((datetime(year, 1, 1, tzinfo=UTC) - BASE) // MICROSECOND for year in (2022, 2028))
MINUTES = (datetime(2029, 12, 1, tzinfo=UTC) - BASE) // timedelta(minutes=1)
FIRST_DATE = date(2021, 11, 30)  # a zone west of Greenwich is a day behind at BASE
DATES = [FIRST_DATE + timedelta(days=n) for n in range(MINUTES // 1440 + 2)]
YEARS = range(2022, 2028)
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


# --- the calendars: office hours that cross every change of the clock, make-up days, overrides, both ends of a day


def jinan(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = read_yaml(CALENDARS / "cn-jinan.yaml")
    data["years"] = read_yaml(CALENDARS / data.pop("holidays"))["years"]
    return data | changes


def elsewhere(zone: str, day_end: str, week: dict[str, Any]) -> dict[str, Any]:
    """A calendar of another zone. Its office hours cross the changes of the clock, but none begins or ends in one."""
    years = {
        str(year): {
            "status": "official",
            "notice": {"title": f"Notice of {year}"},
            "off": {f"{year}-05-{day:02d}": "Spring" for day in range(1, 6)} | {f"{year}-10-30": "Autumn"},
            "work": {f"{year}-04-{day}": "Spring" for day in (26, 27)} | {f"{year}-11-08": "Autumn"},
        }
        for year in range(2021, 2027)
    }
    overrides = {f"{year}-03-20": {"work": True, "intervals": [["08:00", "08:01"]], "source": "s"} for year in YEARS}
    overrides |= {f"{year}-06-15": {"off": True, "source": "s"} for year in YEARS}
    title = {"zh": "日历", "en": zone}
    return {
        "key": "k", "title": title, "zone": zone, "day_end": day_end, "week": week, "years": years, "overrides": overrides
    }  # fmt: skip


OFFICE = [["09:00", "12:00"], ["13:30", "17:30"]]
WORKDAYS: dict[str, Any] = dict.fromkeys(WEEKDAYS[:5], OFFICE)
DATA = {
    "jinan": jinan(),
    "jinan, close of office, overrides": jinan(
        day_end="office_close",
        overrides={
            "2023-07-01": {"work": True, "source": "s"},
            "2024-02-19": {"off": True, "source": "s"},
            "2025-10-11": {"off": True, "source": "s"},  # a make-up day taken back
            "2026-02-16": {"work": True, "intervals": [["00:00", "01:00"], ["23:59", "24:00"]], "source": "s"},
        },
    ),
    "new york by night": elsewhere(
        "America/New_York",
        "office_close",
        {
            "mon": [["08:15", "12:00"], ["12:01", "16:00"]],
            "wed": [["00:00", "24:00"]],
            "sat": [["20:00", "24:00"]],
            "sun": [["00:00", "05:00"], ["06:30", "06:31"], ["22:00", "23:00"]],
        },
    ),
    "berlin": elsewhere("Europe/Berlin", "24:00", WORKDAYS | {"sun": [["01:00", "04:30"], ["05:00", "06:00"]]}),
    "lord howe": elsewhere("Australia/Lord_Howe", "office_close", WORKDAYS | {"sun": [["00:00", "04:00"]]}),
    "havana": elsewhere(
        "America/Havana", "24:00", WORKDAYS | {"sat": [["20:00", "24:00"]], "sun": [["00:00", "07:00"]]}
    ),
    "santiago": elsewhere("America/Santiago", "24:00", {"mon": OFFICE, "sat": [["12:00", "24:00"]], "sun": OFFICE}),
}


# --- the reference


class Reference:
    """What each minute is worth and how each date counts. Instants are microseconds since BASE, dates indexes of DATES."""

    def __init__(self, data: dict[str, Any]) -> None:
        zone = ZoneInfo(data["zone"])
        plans = [plan(data, day) for day in DATES]
        office = np.zeros((len(DATES), 1440), dtype=bool)
        for number, intervals in enumerate(plans):
            for start, end in intervals:
                office[number, minute_of(start) : minute_of(end)] = True
        # No zone changes its clock within a quarter of an hour.
        quarters = [(BASE + timedelta(minutes=15 * n)).astimezone(zone).utcoffset() for n in range(MINUTES // 15)]
        offsets = np.repeat([(offset or timedelta()) // timedelta(minutes=1) for offset in quarters], 15)
        local = np.arange(MINUTES) + offsets + 1440
        self.dates = local // 1440
        self.works = [bool(intervals) for intervals in plans]
        in_office = office[self.dates, local % 1440]
        self.counts = {Measure.working_hours: in_office.astype(np.int64), Measure.natural_hours: np.ones_like(local)}
        self.edges = np.flatnonzero(in_office[1:] != in_office[:-1]) + 1  # to make interesting cases of
        self.ends = np.zeros(len(DATES), dtype=np.int64)
        self.ends[self.dates] = np.arange(MINUTES) + 1  # the minute after a date's last one: later ones overwrite
        if data["day_end"] == "office_close":
            worked = np.flatnonzero(in_office)
            self.ends[self.dates[worked]] = worked + 1

    def date(self, at: int) -> int:
        return int(self.dates[at // MINUTE])

    # hours

    def worth(self, measure: Measure, low: int, high: int, stops: list[tuple[int, int]]) -> np.ndarray:
        """How many microseconds count of each of the minutes low..high: all or none, less what of it is stopped."""
        counts = self.counts[measure]
        worth = counts[low:high] * MINUTE
        for start, end in stops:
            first, last = max(low, start // MINUTE), min(high, end // MINUTE + 1)
            if first < last:
                minutes = np.arange(first, last) * MINUTE
                stopped = np.minimum(minutes + MINUTE, end) - np.maximum(minutes, start)
                worth[first - low : last - low] -= counts[first:last] * stopped
        return worth

    def hours_used(self, measure: Measure, start: int, stop: int, pauses: list[tuple[int, int]]) -> int:
        if stop <= start:
            return 0
        stops = united([*pauses, (0, start), (stop, stop + MINUTE)])
        return int(self.worth(measure, start // MINUTE, stop // MINUTE + 1, stops).sum())

    def hours_due(self, measure: Measure, anchor: int, left: int, pauses: list[tuple[int, int]]) -> int:
        """The earliest instant at which `left` is used up: week by week, until there is a minute in which it is."""
        stops = united([*pauses, (0, anchor)])
        low = anchor // MINUTE
        while (total := (used := self.worth(measure, low, low + WEEK_MINUTES, stops).cumsum())[-1]) < left:
            low, left = low + WEEK_MINUTES, left - int(total)
        minute = int((used >= left).argmax())
        at, left = (low + minute) * MINUTE, left - int(used[minute - 1] if minute else 0)
        for start, end in stops:  # those of this very minute
            if at < start < at + left:
                left -= start - at
                at = end
            elif start <= at < end:
                at = end
        return at + left

    # days

    def counts_day(self, measure: Measure, day: int) -> bool:
        return measure is Measure.natural_days or self.works[day]

    def days_used(self, measure: Measure, start: int, stop: int, pauses: list[tuple[int, int]]) -> list[int]:
        """The days that count after the date of `start` up to that of `stop`: none after a pause's date to its end's."""
        start = max([start, *(end for begin, end in united(pauses) if begin <= start)])
        paused = [(self.date(begin), self.date(end)) for begin, end in united(pauses) if end > start]
        return [
            day
            for day in range(self.date(start) + 1, self.date(max(start, stop)) + 1)
            if self.counts_day(measure, day) and not any(begin < day <= end for begin, end in paused)
        ]

    def days_due(self, measure: Measure, anchor: int, n: int, pauses: list[tuple[int, int]]) -> tuple[int, list[int]]:
        """The due instant and the days that counted. T6: what is left after a pause's date is left after its end's."""
        later = [pause for pause in united(pauses) if pause[1] > anchor]
        if later and later[0][0] <= anchor:
            anchor = later.pop(0)[1]
        paused = [(start, self.date(start), self.date(end)) for start, end in later]
        day, counted = self.date(anchor), list[int]()
        while len(counted) < n:
            day += 1
            if self.counts_day(measure, day) and not any(begin < day <= end for _, begin, end in paused):
                counted.append(day)
        for start, begin, end in paused:  # nothing is left (r = 0), but it is paused before it is due
            if start < self.end(day) and day <= begin < end:
                day = end
        return self.end(day), counted

    def end(self, day: int) -> int:
        """The end of a day, or of the next working day if it is off."""
        while not self.works[day]:
            day += 1
        return int(self.ends[day]) * MINUTE


def plan(data: dict[str, Any], day: date) -> list[list[str]]:
    """The office intervals of a date: an override wins over the notices, a notice over the weekday."""
    week, key = data["week"], day.isoformat()
    if override := data.get("overrides", {}).get(key):
        return override.get("intervals", week["mon"]) if "work" in override else []
    for year in data["years"].values():
        if key in year.get("off", {}):
            return []
        if key in (year.get("work") or {}):
            return week["mon"]
    return week.get(WEEKDAYS[day.weekday()], [])


def minute_of(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def united(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Overlapping and touching spans made one, in order; empty ones left out."""
    result: list[tuple[int, int]] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if result and start <= result[-1][1]:
            start, end = result[-1][0], max(end, result.pop()[1])
        result.append((start, end))
    return result


# --- the cases


@dataclass(frozen=True)
class Case:
    number: int
    calendar: str
    clock: Clock
    now: datetime

    def told(self, **answers: object) -> str:
        lines = [f"case {self.number} of {self.calendar!r}: {self.clock!r}", f"now {self.now}"]
        return "\n".join([*lines, *(f"{name}: {answer}" for name, answer in answers.items())])


def case_of(name: str, number: int, edges: np.ndarray) -> Case:
    """A clock with up to four segments and two extensions; instants to the microsecond, many at edges of office time."""
    chance = random.Random(f"{name} {number}")
    measure = chance.choice(list(Measure))

    def some_instant(low: int, high: int) -> int:
        minute = chance.randrange(low, high) // MINUTE
        if chance.random() < 0.4:
            minute = int(edges[edges.searchsorted(minute)])
        return minute * MINUTE + chance.choice((0, 0, 0, 1, -1, chance.randrange(MINUTE)))

    def some_amount(most: int) -> int:
        if measure.counts_days:
            return chance.randrange(1, 1 + most)
        return chance.choice((1, chance.randrange(1, 6 * most) * 10 * MINUTE, chance.randrange(1, most * HOUR)))

    anchor = some_instant(*ANCHORS)
    segments, last = [], anchor
    for _ in range(chance.choice((0, 0, 1, 1, 2, 3, 4))):
        start = chance.choice((last, some_instant(anchor - 2 * DAY, anchor + 25 * DAY), last + SECOND * 5))
        longest = chance.choice((MINUTE, 10 * HOUR, 12 * DAY))
        last = max(start, chance.choice((start + chance.randrange(longest), some_instant(start, start + longest))))
        kind = chance.choice(("waiting_enterprise", "statutory", "force_majeure", "awaiting_decision", clocks.HELD))
        open_ended = chance.random() < 0.1 and kind != clocks.HELD
        segments.append(Segment(kind, at(start), None if open_ended else at(last), at(last) if open_ended else None))
    extensions = [Extension(some_amount(15), at(anchor), "head") for _ in range(chance.choice((0, 0, 1, 2)))]
    now = at(some_instant(anchor - DAY, anchor + chance.choice((HOUR, 40 * DAY))))
    clock = Clock(
        id="c", ticket_id="t", assignment_id=None, name="resolve", cycle=1, family="enterprise", measure=measure,
        budget=some_amount(30), anchor_name="received_at", anchor=at(anchor), calendar_key="k", calendar_version=1,
        state=ClockState.RUNNING, due_at=at(anchor), original_due_at=at(anchor), segments=tuple(segments),
        extensions=tuple(extensions), held_at=chance.choice((None, None, None, now - timedelta(hours=5))),
        ended_at=chance.choice((None, None, None, None, now - timedelta(hours=29))),
    )  # fmt: skip
    return Case(number, name, clock, now)


def at(us: int) -> datetime:
    return BASE + us * MICROSECOND


def us(instant: datetime) -> int:
    return (instant - BASE) // MICROSECOND


@lru_cache(maxsize=1)
def both(name: str) -> tuple[Calendar, Reference]:
    return Calendar.compile(DATA[name]), Reference(DATA[name])


# --- what must agree


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA)
def test_calendar_and_clocks_equal_a_count_minute_by_minute(name: str) -> None:
    calendar, judge = both(name)
    for number in range(FIRST_CASE, FIRST_CASE + -(-CASES // len(DATA))):
        agrees(case_of(name, number, judge.edges), calendar, judge)


def agrees(case: Case, calendar: Calendar, judge: Reference) -> None:
    clock, measure = case.clock, case.clock.measure
    until = clock.ended_at or clock.held_at or case.now
    anchor, stop, total = us(clock.anchor), us(until), clock.budget + extended(clock)
    pauses = [(us(s.start), us(s.end or s.until)) for s in clock.segments if s.kind != clocks.HELD]  # type: ignore[arg-type]
    if measure.counts_days:
        due, days = judge.days_due(measure, anchor, total, pauses)
        plain = judge.days_due(measure, anchor, clock.budget, [])[0]
        between, used = (len(judge.days_used(measure, anchor, stop, spans)) for spans in ([], pauses))
    else:
        due, days = judge.hours_due(measure, anchor, total, pauses), []
        plain = judge.hours_due(measure, anchor, clock.budget, [])
        between, used = (judge.hours_used(measure, anchor, stop, spans) for spans in ([], pauses))
    wanted = (at(plain), between, at(due), used)
    got = (
        calendar.add(clock.anchor, Budget(measure, clock.budget)),
        calendar.between(clock.anchor, until, measure),
        clocks.due(clock, calendar),
        clocks.used(clock, calendar, case.now),
    )
    assert got == wanted, case.told(asked="add, between, due, used", core=got, reference=wanted)
    if case.number % EXPLAIN_EVERY == 0:
        explains(case, calendar, judge, due, days, pauses)


def explains(
    case: Case, calendar: Calendar, judge: Reference, due: int, days: list[int], pauses: list[tuple[int, int]]
) -> None:
    """The explanation names the due instant, and what it says counted are the days and the time that counted."""
    clock, told = case.clock, clocks.explain(case.clock, calendar, ())
    total = clock.budget + extended(clock)
    rows = [row for part in told["counted"] for row in part["days"]]
    sums = (sum(part["amount"] for part in told["counted"]), sum(row["amount"] for row in rows))
    assert (told["due_at"], sums) == (at(due), (total, total)), case.told(explained=told, reference=at(due))
    for part in told["counted"]:  # no part goes on into the next one
        end = DATES[judge.date(us(part["to"]))].isoformat()
        assert all(row["date"] <= end for row in part["days"]), case.told(explained=told)
    if clock.measure.counts_days:
        counted = [row["date"] for row in rows if row["counted"]]
        assert counted == [DATES[day].isoformat() for day in days], case.told(explained=told, reference=days)
        return
    spans = [[us(datetime.fromisoformat(text)) for text in span] for row in rows for span in row["intervals"]]
    ends = [us(clock.anchor), *(end for _, end in spans)]
    assert all(start >= before for (start, _), before in zip(spans, ends, strict=False)), case.told(explained=told)
    lengths = [judge.hours_used(clock.measure, start, end, pauses) for start, end in spans]
    assert lengths == [end - start for start, end in spans], case.told(explained=told, reference=lengths)


def extended(clock: Clock) -> int:
    return sum(extension.amount for extension in clock.extensions)


# --- examples and rules of the measures that no other test names


def working_hours(text: str) -> Budget:
    return Budget.parse(Measure.working_hours, text)


def jinan_time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Asia/Shanghai"))


def test_monday_to_friday_and_holidays_without_make_up_days_each_give_another_day() -> None:
    anchor, budget = jinan_time("2026-09-18T10:00"), Budget(Measure.working_days, 5)
    whole, plain, without_make_up = jinan(), jinan(years={}), jinan()
    without_make_up["years"]["2026"].pop("work")
    ends = [Calendar.compile(data).due_date(anchor, budget) for data in (whole, plain, without_make_up)]
    assert ends == [date(2026, 9, 24), date(2026, 9, 25), date(2026, 9, 28)]


def test_two_weeks_of_office_time_are_over_a_day_early_when_a_make_up_day_lies_in_them() -> None:
    calendar, anchor = Calendar.compile(jinan()), jinan_time("2026-09-14T09:00")
    assert calendar.add(anchor, working_hours("PT70H")) == jinan_time("2026-09-24T17:30")
    assert calendar.between(anchor, jinan_time("2026-09-28T09:00"), Measure.working_hours) == 10 * 7 * HOUR
    assert calendar.between(anchor, jinan_time("2026-09-21T09:00"), Measure.working_hours) == 6 * 7 * HOUR


def test_an_interval_holds_its_first_instant_and_not_its_last() -> None:
    calendar = Calendar.compile(jinan())
    for edge, counts in (("09:00", True), ("12:00", False), ("13:30", True), ("17:30", False)):
        instant = jinan_time(f"2026-09-16T{edge}")
        assert calendar.between(instant, instant + MICROSECOND, Measure.working_hours) == counts
        assert calendar.between(instant - MICROSECOND, instant, Measure.working_hours) == (not counts)


def test_a_due_time_at_closing_lies_outside_office_time_and_stays_where_it_is() -> None:
    calendar, due = Calendar.compile(jinan()), jinan_time("2026-09-16T17:30")
    assert calendar.add(jinan_time("2026-09-16T15:30"), working_hours("PT2H")) == due
    assert calendar.between(due, jinan_time("2026-09-17T09:00"), Measure.working_hours) == 0
    assert calendar.shift(due, working_hours("PT2H"), -1) == jinan_time("2026-09-16T15:30")
    assert calendar.shift(due, working_hours("PT1H"), 1) == jinan_time("2026-09-17T10:00")


def test_a_make_up_day_has_the_hours_of_a_weekday_unless_an_override_gives_it_others() -> None:
    override = {"2026-09-20": {"work": True, "intervals": [["08:00", "10:30"]], "source": "s"}}
    lengths = [
        Calendar.compile(data).between(
            jinan_time("2026-09-20T00:00"), jinan_time("2026-09-21T00:00"), Measure.working_hours
        )
        for data in (jinan(), jinan(overrides=override))
    ]
    assert lengths == [7 * HOUR, 150 * MINUTE]


def test_a_change_of_half_an_hour_shortens_and_lengthens_office_time_by_it() -> None:
    calendar = Calendar.compile(DATA["lord howe"])
    ordinary, gap, fold = (
        calendar.between(calendar.start_of(day), calendar.end_of(day), Measure.working_hours)
        for day in (date(2026, 5, 17), date(2026, 10, 4), date(2026, 4, 5))
    )
    assert (ordinary, gap, fold) == (240 * MINUTE, 210 * MINUTE, 270 * MINUTE)
