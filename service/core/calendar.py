"""Working time: compiled calendars that add, measure and explain spans of time.

A `Calendar` is compiled once from plain data and is then a pure value: no clock is read, nothing is opened.
Inside, every instant is an integer of epoch microseconds and every local date an index into the days of
`FIRST`..`LAST`; prefix sums over office intervals and over working days make each question one or two
bisections of a few elements.

Four measures, which never turn into one another (one working day is neither 24 h nor 8 h):

    natural_hours   due = anchor + budget
    working_hours   office intervals only, half open; due is the earliest instant that uses the budget up
    natural_days    the anchor's day does not count; end of the N-th day, or of the next working day if off
    working_days    the anchor's day does not count; end of the N-th working day

Legal source: Civil Code of the People's Republic of China, art. 201 (the first day is not counted; a period
in hours runs from the moment it begins) and art. 203 (a last day that is off moves on to the day after the
holiday; the day ends at 24:00 or at the close of business). Which dates are off or made up: the yearly
notices of the State Council.

Zones with summer time: a local time that does not exist or exists twice is read with fold=0 everywhere;
lengths are real elapsed time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import numpy as np

from service.core.budgets import DAY_US, MAX_BUDGET_DAYS, Budget, CalendarError, Measure
from service.core.calendar_data import FIRST, LAST, WEEKDAYS, DayEnd, Mark, Rule, Source, expect, read_calendar
from service.core.calendar_tables import (
    DAYS,
    IntArray,
    Tables,
    date_at,
    expect_within,
    index_of,
    instant_of,
    micros,
    out_of_range,
    shelves,
)

__all__ = [
    "FIRST",
    "LAST",
    "MAX_BUDGET_DAYS",
    "MAX_EXPLAINED_DAYS",
    "MEASURES",
    "WEEKDAYS",
    "Budget",
    "Calendar",
    "CalendarError",
    "Day",
    "DayEnd",
    "IntArray",
    "Measure",
    "Rule",
]

MAX_EXPLAINED_DAYS: Final = 4000
MEASURES: Final = tuple(Measure)
"""The measures in the order by which `Calendar.add_each` numbers them."""

# Bound once: until Python 3.12 each look at a member of an enum is a call of a Python function.
_NATURAL_HOURS: Final = Measure.natural_hours
_WORKING_HOURS: Final = Measure.working_hours
_NATURAL_DAYS: Final = Measure.natural_days
_WORKING_DAYS: Final = Measure.working_days


@dataclass(frozen=True, slots=True)
class Day:
    """One local date: whether it works, when (`("09:00", "12:00")` pairs), by which rule and notice."""

    date: date
    works: bool
    intervals: tuple[tuple[str, str], ...]
    rule: Rule
    name: str | None
    notice: str | None


class Calendar:
    """Office hours, holidays and make-up days of one place, compiled for `FIRST`..`LAST`.

    All datetimes are aware, results are in UTC and exact to the microsecond. Every method raises
    CalendarError for a naive datetime, for an instant or date outside the compiled range, and for a measure
    that makes no sense there.
    """

    __slots__ = (
        "_day_ends",
        "_days_by_shelf",
        "_ends",
        "_first",
        "_idles",
        "_last",
        "_marks",
        "_midnights",
        "_owners",
        "_ranks",
        "_starts",
        "_starts_by_shelf",
        "_tables",
        "_throughs",
        "_throughs_by_shelf",
        "_week",
        "_working",
        "_working_shelf",
        "day_end",
        "districts",
        "extends",
        "horizon",
        "key",
        "title",
        "version",
        "zone",
    )

    def __init__(self, source: Source, version: int) -> None:
        """Use `Calendar.compile`. Keeps numpy arrays for many questions and lists of ints for one."""
        self.key: Final = source.key
        self.version: Final = version
        self.title: Final = source.title
        self.zone: Final = source.zone
        self.day_end: Final[DayEnd] = source.day_end
        self.horizon: Final = source.horizon
        """Last date of the last consecutive official year; None if there is none: all is provisional."""
        self.extends: Final = source.extends
        self.districts: Final = source.districts
        """Area codes whose tickets count by this calendar instead of the one it extends."""
        self._week = source.week
        self._marks = source.marks
        self._tables = Tables.build(source)
        self._midnights: list[int] = self._tables.midnights.tolist()
        self._first, self._last = self._midnights[0], self._midnights[-1]
        self._days_by_shelf = shelves(self._tables.midnights, DAY_US, self._last)
        self._day_ends: list[int] = self._tables.day_ends.tolist()
        self._working: list[int] = self._tables.working.tolist()
        self._ranks: list[int] = self._tables.ranks.tolist()
        intervals = self._tables.intervals
        self._starts: list[int] = intervals.starts.tolist()
        self._ends: list[int] = intervals.ends.tolist()
        self._owners: list[int] = intervals.days.tolist()
        self._idles: list[int] = intervals.idle.tolist()
        self._throughs: list[int] = intervals.through.tolist()
        self._starts_by_shelf = shelves(intervals.starts, DAY_US, self._last)
        self._working_shelf: Final = max(1, self._throughs[-1] // DAYS)
        self._throughs_by_shelf = shelves(intervals.through, self._working_shelf, self._throughs[-1])

    @classmethod
    def compile(cls, data: Mapping[str, Any], version: int = 1) -> Calendar:
        """Compile plain data (see workflows/calendars/README.md for its shape).

        Raises CalendarError, naming the path in the data and what was expected there.
        """
        expect(type(version) is int and version >= 1, "version", "a whole number from 1 on", version)
        return cls(read_calendar(data), version)

    def __repr__(self) -> str:
        return f"Calendar({self.key!r}, version={self.version})"

    def dates_unlike(self, other: Calendar) -> list[date]:
        """The dates, in order, that the two count differently: begin, end, office intervals or whether they work."""
        ours, theirs = self._tables, other._tables
        unlike = (np.diff(ours.ranks) != np.diff(theirs.ranks)) | (ours.day_ends != theirs.day_ends)
        unlike |= (ours.midnights[:-1] != theirs.midnights[:-1]) | (ours.midnights[1:] != theirs.midnights[1:])
        rows = [set(zip(c._owners, c._starts, c._ends, strict=True)) for c in (self, other)]
        unlike[[day for day, _, _ in rows[0] ^ rows[1] if day >= 0]] = True
        return [date_at(index) for index in np.flatnonzero(unlike).tolist()]

    # --- due times

    def add(self, anchor: datetime, budget: Budget) -> datetime:
        """The due instant of `budget` counted from `anchor`. Met at exactly this instant is met.

        Working hours end at the earliest instant at which they are used up (17:30:00, not 09:00 of the next
        day).
        """
        us = micros(anchor)
        if budget.measure is _WORKING_HOURS:
            return instant_of(self._spend(us, budget.amount))
        if budget.measure is _NATURAL_HOURS:
            return instant_of(self._inside(self._inside(us) + budget.amount))
        return instant_of(self._day_ends[self._due_index(us, budget)])

    def between(self, start: datetime, stop: datetime, measure: Measure) -> int:
        """How much of `measure` lies between two instants; 0 if `stop` is not after `start`.

        Microseconds for the hour measures. For the day measures the number of (natural or working) days
        after the local date of `start` up to and including that of `stop`.
        """
        begin, end = micros(start), micros(stop)
        if end <= begin:
            return 0
        if measure is _WORKING_HOURS:
            return self._used(end) - self._used(begin)
        if measure is _NATURAL_HOURS:
            return self._inside(end) - self._inside(begin)
        return self._count(self._index(begin), self._index(end), measure)

    def due_date(self, anchor: datetime, budget: Budget) -> date:
        """The local date on which a budget of days ends, moved on to a working day (art. 203)."""
        return date_at(self._due_index(micros(anchor), budget))

    def due_date_unmoved(self, anchor: datetime, budget: Budget) -> date:
        """The N-th day itself, before it is moved on; the same as `due_date` for working days."""
        return date_at(self._nth(self._index(micros(anchor)), budget.amount, budget.measure))

    def shift(self, instant: datetime, budget: Budget, sign: int) -> datetime:
        """The instant `budget` before (sign -1) or after (+1) a due instant: where a warning rung stands.

        Working hours: exactly that much working time lies between; the latest such instant backwards, the
        earliest forwards. Days: `instant` is the end of some day D; the end of the n-th such day before or
        after D.
        """
        if sign not in (-1, 1):
            raise CalendarError(f"sign {sign!r}: expected -1 (before) or 1 (after)")
        us = micros(instant)
        if budget.measure is _NATURAL_HOURS:
            return instant_of(self._inside(self._inside(us) + sign * budget.amount))
        if budget.measure is _WORKING_HOURS:
            return instant_of(self._spend(us, budget.amount) if sign > 0 else self._unspend(us, budget.amount))
        return instant_of(self._day_ends[self._nth(self._index(us - 1), sign * budget.amount, budget.measure)])

    def is_provisional(self, due: datetime, measure: Measure | None = None) -> bool:
        """Whether a notice not yet published may move `due`: its day lies beyond the published horizon.

        The end of a day belongs to that day, although it is the next midnight. Natural hours, if that is
        said to be the measure, never are: no notice moves them.
        """
        if measure is _NATURAL_HOURS:
            return False
        return self.horizon is None or date_at(self._index(micros(due) - 1)) > self.horizon

    # --- days

    def local_date(self, instant: datetime) -> date:
        """The date of the calendar's zone on which `instant` falls."""
        return date_at(self._index(micros(instant)))

    def start_of(self, day: date) -> datetime:
        """The local midnight at which `day` begins."""
        return instant_of(self._midnights[index_of(day)])

    def end_of(self, day: date) -> datetime:
        """The end of `day` by `day_end`: the next local midnight, or the close of its last office interval.

        A date that is off has no close and ends at the next midnight in either case.
        """
        return instant_of(self._day_ends[index_of(day)])

    def nth_day(self, after: date, n: int, measure: Measure) -> date:
        """The n-th (natural or working) day after a date; 0 is the date itself, negative n goes backwards."""
        return date_at(self._nth(index_of(after), n, measure))

    def count_days(self, after: date, upto: date, measure: Measure) -> int:
        """The number of (natural or working) days d with after < d <= upto."""
        return self._count(index_of(after), index_of(upto), measure)

    def roll(self, day: date) -> date:
        """`day` if it works, else the next working day (art. 203)."""
        return date_at(self._roll(index_of(day)))

    def is_working_day(self, day: date) -> bool:
        """Whether `day` has office hours."""
        return self._works(index_of(day))

    def day(self, day: date) -> Day:
        """What the calendar says about one date, and whose notice says so."""
        index_of(day)
        mark = self._mark(day)
        intervals = tuple((_clock_text(start), _clock_text(end)) for start, end in mark.intervals)
        return Day(day, bool(intervals), intervals, mark.rule, mark.name, mark.notice)

    # --- many at once

    def add_many(self, anchors_us: IntArray, budget: Budget) -> IntArray:
        """`add` for an int64 array of epoch microseconds of any shape; the same answers in the same unit."""
        return self._add_many(_int64("anchors", anchors_us), budget.measure, np.array(budget.amount, dtype=np.int64))

    def add_each(self, anchors_us: IntArray, measures: IntArray, amounts: IntArray) -> IntArray:
        """`add` of a budget of its own to each anchor: what a new version of the calendar makes of many clocks (T9).

        int64 arrays of one shape: epoch microseconds; positions in `MEASURES`; microseconds or days. The answers are
        epoch microseconds in that shape; a clock moves where its answer is not its old due time. For clocks without
        pauses only: what these do to a clock is told by `core.clocks.due`.
        """
        anchors, numbers, budgets = (
            _int64(name, values)
            for name, values in (("anchors", anchors_us), ("measures", measures), ("amounts", amounts))
        )
        if not anchors.shape == numbers.shape == budgets.shape:
            raise CalendarError(
                f"shapes {anchors.shape}, {numbers.shape}, {budgets.shape}: expected the same three times"
            )
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(MEASURES):
            raise CalendarError(f"measures: expected positions in MEASURES, 0 to {len(MEASURES) - 1}")
        due = np.empty_like(anchors)
        for number, measure in enumerate(MEASURES):
            these = numbers == number
            if these.any():
                for extreme in (budgets[these].min(), budgets[these].max()):
                    Budget(measure, int(extreme))  # refuses what lies outside the bounds of its measure
                due[these] = self._add_many(anchors[these], measure, budgets[these])
        return due

    # --- explanation

    def explain(self, anchor: datetime, budget: Budget) -> dict[str, Any]:
        """How `add` comes to its answer, JSON-able: one row per local day from the anchor's to the due one.

        Each row: `date`, `weekday`, `counted`, `amount` (microseconds, or 0/1 days), `reason` it did not
        count (anchor_day, off, outside_hours, moved_on; None if it did), `rule`, `name`, `notice`,
        `intervals` counted (ISO instants in the calendar's zone; hour measures only). `sum` is the sum of the rows and
        equals the budget exactly. A span of more than MAX_EXPLAINED_DAYS ends in one row of rule
        `remainder` that runs from `date` up to `until`.
        """
        due = self.add(anchor, budget)
        rows = self._rows(micros(anchor), micros(due), budget)
        return {
            "anchor": anchor.astimezone(self.zone).isoformat(),
            "measure": budget.measure.value,
            "budget": budget.text(),
            "due_at": due.astimezone(self.zone).isoformat(),
            "calendar": {"key": self.key, "version": self.version},
            "counting_rule": f"counting.{budget.measure.value}",
            "provisional": self.is_provisional(due, budget.measure),
            "days": rows,
            "unit": "days" if budget.measure.counts_days else "microseconds",
            "sum": sum(row["amount"] for row in rows),
        }

    # --- inside: epoch microseconds and day indexes

    def _inside(self, us: int) -> int:
        if not self._first <= us <= self._last:
            raise out_of_range()
        return us

    def _index(self, us: int) -> int:
        """The day index of an instant."""
        if not self._first <= us < self._last:
            raise out_of_range()
        shelf = (us - self._first) // DAY_US
        return bisect_right(self._midnights, us, self._days_by_shelf[shelf], self._days_by_shelf[shelf + 1]) - 1

    def _used(self, us: int) -> int:
        """Working microseconds from the beginning of the range to `us`."""
        if not self._first <= us <= self._last:
            raise out_of_range()
        shelf = (us - self._first) // DAY_US
        at = bisect_right(self._starts, us, self._starts_by_shelf[shelf], self._starts_by_shelf[shelf + 1]) - 1
        end = self._ends[at]
        return (us if us < end else end) - self._idles[at]

    def _spend(self, us: int, amount: int) -> int:
        """The earliest instant at which `amount` of working time after `us` is used up."""
        target = self._used(us) + amount
        if target > self._throughs[-1]:
            raise out_of_range()
        shelf = target // self._working_shelf
        at = bisect_left(self._throughs, target, self._throughs_by_shelf[shelf], self._throughs_by_shelf[shelf + 1])
        return target + self._idles[at]

    def _unspend(self, us: int, amount: int) -> int:
        """The latest instant from which `amount` of working time passes until `us`."""
        target = self._used(us) - amount
        if target < 0:
            raise out_of_range()
        at = bisect_right(self._throughs, target)
        return target + self._idles[at]

    def _works(self, index: int) -> bool:
        return self._ranks[index + 1] > self._ranks[index]

    def _roll(self, index: int) -> int:
        rank = self._ranks[index]
        if rank == len(self._working):
            raise out_of_range()
        return self._working[rank]

    def _nth(self, index: int, n: int, measure: Measure) -> int:
        if measure is _NATURAL_DAYS:
            target = index + n
            if 0 <= target < DAYS:
                return target
        elif measure is _WORKING_DAYS:
            if n == 0:
                return index
            rank = self._ranks[index + 1] + n - 1 if n > 0 else self._ranks[index] + n
            if 0 <= rank < len(self._working):
                return self._working[rank]
        else:
            raise _not_days(measure)
        raise out_of_range()

    def _count(self, after: int, upto: int, measure: Measure) -> int:
        if measure is _NATURAL_DAYS:
            return max(0, upto - after)
        if measure is _WORKING_DAYS:
            return max(0, self._ranks[upto + 1] - self._ranks[after + 1])
        raise _not_days(measure)

    def _due_index(self, us: int, budget: Budget) -> int:
        index = self._nth(self._index(us), budget.amount, budget.measure)
        return self._roll(index) if budget.measure is _NATURAL_DAYS else index

    def _mark(self, day: date) -> Mark:
        mark = self._marks.get(day)
        if mark is not None:
            return mark
        intervals = self._week[day.weekday()]
        return Mark(intervals, "weekday" if intervals else "weekend", None, None)

    def _add_many(self, anchors: IntArray, measure: Measure, amounts: IntArray) -> IntArray:
        """`amounts`: one for all anchors, or one for each."""
        expect_within(anchors, self._first, self._last)
        if measure is _NATURAL_HOURS:
            due = anchors + amounts
            expect_within(due, self._first, self._last)
            return due
        if measure is _WORKING_HOURS:
            return self._spend_many(anchors, amounts)
        return self._due_many(anchors, measure, amounts)

    def _spend_many(self, anchors: IntArray, amounts: IntArray) -> IntArray:
        table = self._tables.intervals
        at = np.searchsorted(table.starts, anchors, "right") - 1
        target = np.minimum(anchors, table.ends[at]) - table.idle[at] + amounts
        at = np.searchsorted(table.through, target, "left")
        expect_within(at, 0, len(table.through) - 1)
        return target + table.idle[at]

    def _due_many(self, anchors: IntArray, measure: Measure, amounts: IntArray) -> IntArray:
        tables = self._tables
        index = np.searchsorted(tables.midnights, anchors, "right") - 1
        expect_within(index, 0, DAYS - 1)
        if measure is _NATURAL_DAYS:
            index = index + amounts
            expect_within(index, 0, DAYS - 1)
            rank = tables.ranks[index]
        else:
            rank = tables.ranks[index + 1] + amounts - 1
        expect_within(rank, 0, len(tables.working) - 1)
        return tables.day_ends[tables.working[rank]]

    # --- inside: rows of an explanation

    def _rows(self, anchor: int, due: int, budget: Budget) -> list[dict[str, Any]]:
        first = self._index(anchor)
        last = max(first, self._index(due - 1))
        shown = min(last, first + MAX_EXPLAINED_DAYS - 1)
        make = self._day_row if budget.measure.counts_days else self._hour_row
        rows = [make(index, anchor, due, budget) for index in range(first, shown + 1)]
        if shown < last:
            left = budget.amount - sum(row["amount"] for row in rows)
            rest = {"rule": "remainder", "until": date_at(last).isoformat()}
            rows.append(_row(date_at(shown + 1), left, None) | rest)
        return rows

    def _day_row(self, index: int, anchor: int, due: int, budget: Budget) -> dict[str, Any]:
        first = self._index(anchor)
        reason = None
        if index == first:
            reason = "anchor_day"
        elif budget.measure is _WORKING_DAYS and not self._works(index):
            reason = "off"
        elif budget.measure is _NATURAL_DAYS and index > first + budget.amount:
            reason = "moved_on"
        return _row(date_at(index), int(reason is None), reason) | self._cited(index)

    def _hour_row(self, index: int, anchor: int, due: int, budget: Budget) -> dict[str, Any]:
        clipped = [(max(start, anchor), min(end, due)) for start, end in self._spans(index, budget.measure)]
        spans = [(start, end) for start, end in clipped if start < end]
        amount = sum(end - start for start, end in spans)
        reason = None if amount else "outside_hours" if self._works(index) else "off"
        intervals = [
            [instant_of(start).astimezone(self.zone).isoformat(), instant_of(end).astimezone(self.zone).isoformat()]
            for start, end in spans
        ]
        return _row(date_at(index), amount, reason) | self._cited(index) | {"intervals": intervals}

    def _spans(self, index: int, measure: Measure) -> Iterator[tuple[int, int]]:
        """What counts on one day, in epoch microseconds: the whole day, or its office intervals."""
        if measure is _NATURAL_HOURS:
            yield self._midnights[index], self._midnights[index + 1]
            return
        for at in range(bisect_left(self._owners, index), bisect_right(self._owners, index)):
            yield self._starts[at], self._ends[at]

    def _cited(self, index: int) -> dict[str, Any]:
        mark = self._mark(date_at(index))
        return {"rule": mark.rule, "name": mark.name, "notice": mark.notice}


def _row(day: date, amount: int, reason: str | None) -> dict[str, Any]:
    return {
        "date": day.isoformat(),
        "weekday": WEEKDAYS[day.weekday()],
        "counted": amount > 0,
        "amount": amount,
        "reason": reason,
        "rule": None,
        "name": None,
        "notice": None,
        "intervals": [],
    }


def _int64(name: str, values: IntArray) -> IntArray:
    array = np.asarray(values)
    if array.dtype != np.int64:
        raise CalendarError(f"{name} of {array.dtype}: expected an int64 array")
    return array


def _clock_text(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _not_days(measure: Measure) -> CalendarError:
    return CalendarError(f"measure {measure!s}: expected natural_days or working_days")
