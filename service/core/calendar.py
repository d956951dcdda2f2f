"""Working time: compiled calendars that add, measure and explain spans of time.

A `Calendar` is compiled once from plain data and is then a pure value: no clock is read, nothing is opened.
Inside, every instant is an integer of epoch microseconds and every local date an index into the days of
`FIRST`..`LAST`; prefix sums over office intervals and over working days make each question one or two
bisections.

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

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, Literal, cast
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

FIRST: Final = date(2000, 1, 1)
LAST: Final = date(2079, 12, 31)
MAX_BUDGET_DAYS: Final = 3660
MAX_EXPLAINED_DAYS: Final = 4000
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Rule = Literal["weekday", "weekend", "holiday", "make_up", "override", "statutory"]
DayEnd = Literal["24:00", "office_close"]

_SECOND_US: Final = 1_000_000
_MINUTE_US: Final = 60 * _SECOND_US
_HOUR_US: Final = 60 * _MINUTE_US
_DAY_US: Final = 24 * _HOUR_US
_DAY_MINUTES: Final = 24 * 60
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_ORDINAL: Final = FIRST.toordinal()
_DAYS: Final = LAST.toordinal() - _FIRST_ORDINAL + 1

_HOURS_PATTERN: Final = re.compile(
    r"P(?:([0-9]{1,9})D)?(?:T(?=[0-9])(?:([0-9]{1,9})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9})(?:[.,]([0-9]{1,6}))?S)?)?"
)
_DAYS_PATTERN: Final = re.compile(r"P([0-9]{1,9})D|([0-9]{1,9})")
_TIME_PATTERN: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_DATE_PATTERN: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

Minutes = tuple[tuple[int, int], ...]
"""Office intervals of one day in order: (start, end) in minutes of the local day, half open, 0..1440."""

IntArray = NDArray[np.int64]


class CalendarError(ValueError):
    """A calendar, a budget or a question that cannot be answered; the message says what was expected."""


class Measure(StrEnum):
    """What a budget is counted in."""

    natural_hours = "natural_hours"
    working_hours = "working_hours"
    natural_days = "natural_days"
    working_days = "working_days"

    @property
    def counts_days(self) -> bool:
        """True for the two measures of whole days, false for the two of hours."""
        return self is Measure.natural_days or self is Measure.working_days


@dataclass(frozen=True, slots=True)
class Budget:
    """An amount of one measure: microseconds for hour measures, whole days for day measures. Never zero."""

    measure: Measure
    amount: int

    def __post_init__(self) -> None:
        if type(self.amount) is not int:
            raise CalendarError(f"budget {self.amount!r}: expected an int of microseconds or of whole days")
        if self.amount <= 0:
            raise CalendarError(f"budget {self.amount!r}: expected more than zero")
        if self.amount > MAX_BUDGET_DAYS * (1 if self.measure.counts_days else _DAY_US):
            raise CalendarError(f"budget {self.amount!r}: expected at most {MAX_BUDGET_DAYS} days")

    @classmethod
    def parse(cls, measure: Measure | str, text: str | int) -> Budget:
        """Read what a workflow says: `PT2H30M` for hours; `15`, `"15"` or `P15D` for days.

        `P1DT2H` (a day of 24 h) is for natural_hours only. Raises CalendarError for anything ambiguous: a
        bare number of hours, hours for a day measure, years, months, weeks; and for zero, negative or
        absurd amounts.
        """
        measure = _measure(measure)
        if isinstance(text, bool) or not isinstance(text, str | int):
            raise CalendarError(f"{measure} budget {text!r}: expected {_expected(measure)}")
        read = _parse_days if measure.counts_days else _parse_hours
        return cls(measure, read(measure, text))

    def text(self) -> str:
        """The canonical form, which `parse` reads back: `PT4H`, `PT2H30M`, `PT0.5S`; days as `15`."""
        if self.measure.counts_days:
            return str(self.amount)
        hours, rest = divmod(self.amount, _HOUR_US)
        minutes, rest = divmod(rest, _MINUTE_US)
        seconds, fraction = divmod(rest, _SECOND_US)
        tail = f"{seconds}.{fraction:06d}".rstrip("0") if fraction else str(seconds)
        parts = ((str(hours), "H"), (str(minutes), "M"), (tail, "S"))
        return "PT" + "".join(number + unit for number, unit in parts if number != "0")


@dataclass(frozen=True, slots=True)
class Day:
    """One local date: whether it works, when (`("09:00", "12:00")` pairs), by which rule and notice."""

    date: date
    works: bool
    intervals: tuple[tuple[str, str], ...]
    rule: Rule
    name: str | None
    notice: str | None


@dataclass(frozen=True, slots=True)
class _Mark:
    """A date that a notice or an override takes out of the weekday rule; no intervals means off."""

    intervals: Minutes
    rule: Rule
    name: str | None
    notice: str | None


@dataclass(frozen=True, slots=True)
class _Intervals:
    """Office intervals of all days as parallel arrays of epoch microseconds, in order and disjoint.

    `days` is the day index of each. Element 0 is an empty interval at the very beginning, so that a search
    never falls off the left. `before` and `through` are the working time before and up to the end of each
    interval.
    """

    starts: IntArray
    ends: IntArray
    days: IntArray
    before: IntArray
    through: IntArray


class Calendar:
    """Office hours, holidays and make-up days of one place, compiled for `FIRST`..`LAST`.

    All datetimes are aware, results are in UTC and exact to the microsecond. Every method raises
    CalendarError for a naive datetime, for an instant or date outside the compiled range, and for a measure
    that makes no sense there.
    """

    __slots__ = (
        "_befores",
        "_day_ends",
        "_ends",
        "_marks",
        "_midnights",
        "_owners",
        "_ranks",
        "_starts",
        "_tables",
        "_throughs",
        "_week",
        "_working",
        "day_end",
        "horizon",
        "key",
        "title",
        "version",
        "zone",
    )

    def __init__(self, source: _Source, version: int) -> None:
        """Use `Calendar.compile`. Keeps numpy arrays for many questions and lists of ints for one."""
        self.key: Final = source.key
        self.version: Final = version
        self.title: Final = source.title
        self.zone: Final = source.zone
        self.day_end: Final[DayEnd] = source.day_end
        self.horizon: Final = source.horizon
        """Last date of the last consecutive official year; None if there is none: all is provisional."""
        self._week = source.week
        self._marks = source.marks
        self._tables = _Tables.build(source)
        self._midnights: list[int] = self._tables.midnights.tolist()
        self._day_ends: list[int] = self._tables.day_ends.tolist()
        self._working: list[int] = self._tables.working.tolist()
        self._ranks: list[int] = self._tables.ranks.tolist()
        intervals = self._tables.intervals
        self._starts: list[int] = intervals.starts.tolist()
        self._ends: list[int] = intervals.ends.tolist()
        self._owners: list[int] = intervals.days.tolist()
        self._befores: list[int] = intervals.before.tolist()
        self._throughs: list[int] = intervals.through.tolist()

    @classmethod
    def compile(cls, data: Mapping[str, Any], version: int = 1) -> Calendar:
        """Compile plain data (see workflows/calendars/README.md for its shape).

        Raises CalendarError, naming the path in the data and what was expected there.
        """
        _expect(type(version) is int and version >= 1, "version", "a whole number from 1 on", version)
        return cls(_read(data), version)

    def __repr__(self) -> str:
        return f"Calendar({self.key!r}, version={self.version})"

    # --- due times

    def add(self, anchor: datetime, budget: Budget) -> datetime:
        """The due instant of `budget` counted from `anchor`. Met at exactly this instant is met.

        Working hours end at the earliest instant at which they are used up (17:30:00, not 09:00 of the next
        day).
        """
        us = _micros(anchor)
        if budget.measure is Measure.working_hours:
            return _instant(self._spend(us, budget.amount))
        if budget.measure is Measure.natural_hours:
            return _instant(self._inside(self._inside(us) + budget.amount))
        return _instant(self._day_ends[self._due_index(us, budget)])

    def between(self, start: datetime, stop: datetime, measure: Measure) -> int:
        """How much of `measure` lies between two instants; 0 if `stop` is not after `start`.

        Microseconds for the hour measures. For the day measures the number of (natural or working) days
        after the local date of `start` up to and including that of `stop`.
        """
        begin, end = _micros(start), _micros(stop)
        if end <= begin:
            return 0
        if measure is Measure.working_hours:
            return self._used(end) - self._used(begin)
        if measure is Measure.natural_hours:
            return self._inside(end) - self._inside(begin)
        return self._count(self._index(begin), self._index(end), measure)

    def due_date(self, anchor: datetime, budget: Budget) -> date:
        """The local date on which a budget of days ends, moved on to a working day (art. 203)."""
        return _date(self._due_index(_micros(anchor), budget))

    def due_date_unmoved(self, anchor: datetime, budget: Budget) -> date:
        """The N-th day itself, before it is moved on; the same as `due_date` for working days."""
        return _date(self._nth(self._index(_micros(anchor)), budget.amount, budget.measure))

    def shift(self, instant: datetime, budget: Budget, sign: int) -> datetime:
        """The instant `budget` before (sign -1) or after (+1) a due instant: where a warning rung stands.

        Working hours: exactly that much working time lies between; the latest such instant backwards, the
        earliest forwards. Days: `instant` is the end of some day D; the end of the n-th such day before or
        after D.
        """
        if sign not in (-1, 1):
            raise CalendarError(f"sign {sign!r}: expected -1 (before) or 1 (after)")
        us = _micros(instant)
        if budget.measure is Measure.natural_hours:
            return _instant(self._inside(self._inside(us) + sign * budget.amount))
        if budget.measure is Measure.working_hours:
            return _instant(self._spend(us, budget.amount) if sign > 0 else self._unspend(us, budget.amount))
        return _instant(self._day_ends[self._nth(self._index(us - 1), sign * budget.amount, budget.measure)])

    def is_provisional(self, due: datetime, measure: Measure | None = None) -> bool:
        """Whether a notice not yet published may move `due`: its day lies beyond the published horizon.

        The end of a day belongs to that day, although it is the next midnight. Natural hours, if that is
        said to be the measure, never are: no notice moves them.
        """
        if measure is Measure.natural_hours:
            return False
        return self.horizon is None or _date(self._index(_micros(due) - 1)) > self.horizon

    # --- days

    def local_date(self, instant: datetime) -> date:
        """The date of the calendar's zone on which `instant` falls."""
        return _date(self._index(_micros(instant)))

    def start_of(self, day: date) -> datetime:
        """The local midnight at which `day` begins."""
        return _instant(self._midnights[_index_of(day)])

    def end_of(self, day: date) -> datetime:
        """The end of `day` by `day_end`: the next local midnight, or the close of its last office interval.

        A date that is off has no close and ends at the next midnight in either case.
        """
        return _instant(self._day_ends[_index_of(day)])

    def nth_day(self, after: date, n: int, measure: Measure) -> date:
        """The n-th (natural or working) day after a date; 0 is the date itself, negative n goes backwards."""
        return _date(self._nth(_index_of(after), n, measure))

    def count_days(self, after: date, upto: date, measure: Measure) -> int:
        """The number of (natural or working) days d with after < d <= upto."""
        return self._count(_index_of(after), _index_of(upto), measure)

    def roll(self, day: date) -> date:
        """`day` if it works, else the next working day (art. 203)."""
        return _date(self._roll(_index_of(day)))

    def is_working_day(self, day: date) -> bool:
        """Whether `day` has office hours."""
        return self._works(_index_of(day))

    def day(self, day: date) -> Day:
        """What the calendar says about one date, and whose notice says so."""
        _index_of(day)
        mark = self._mark(day)
        intervals = tuple((_clock_text(start), _clock_text(end)) for start, end in mark.intervals)
        return Day(day, bool(intervals), intervals, mark.rule, mark.name, mark.notice)

    # --- many at once

    def add_many(self, anchors_us: IntArray, budget: Budget) -> IntArray:
        """`add` for an int64 array of epoch microseconds of any shape; the same answers in the same unit."""
        anchors = np.asarray(anchors_us)
        if anchors.dtype != np.int64:
            raise CalendarError(f"anchors of {anchors.dtype}: expected an int64 array of epoch microseconds")
        _expect_within(anchors, self._midnights[0], self._midnights[-1])
        if budget.measure is Measure.natural_hours:
            due = anchors + budget.amount
            _expect_within(due, self._midnights[0], self._midnights[-1])
            return due
        if budget.measure is Measure.working_hours:
            return self._spend_many(anchors, budget.amount)
        return self._due_many(anchors, budget)

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
        rows = self._rows(_micros(anchor), _micros(due), budget)
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
        if not self._midnights[0] <= us <= self._midnights[-1]:
            raise _out_of_range()
        return us

    def _index(self, us: int) -> int:
        """The day index of an instant."""
        index = bisect_right(self._midnights, us) - 1
        if not 0 <= index < _DAYS:
            raise _out_of_range()
        return index

    def _used(self, us: int) -> int:
        """Working microseconds from the beginning of the range to `us`."""
        at = bisect_right(self._starts, self._inside(us)) - 1
        return self._befores[at] + min(us, self._ends[at]) - self._starts[at]

    def _spend(self, us: int, amount: int) -> int:
        """The earliest instant at which `amount` of working time after `us` is used up."""
        target = self._used(us) + amount
        at = bisect_left(self._throughs, target)
        if at == len(self._throughs):
            raise _out_of_range()
        return self._starts[at] + target - self._befores[at]

    def _unspend(self, us: int, amount: int) -> int:
        """The latest instant from which `amount` of working time passes until `us`."""
        target = self._used(us) - amount
        if target < 0:
            raise _out_of_range()
        at = bisect_right(self._throughs, target)
        return self._starts[at] + target - self._befores[at]

    def _works(self, index: int) -> bool:
        return self._ranks[index + 1] > self._ranks[index]

    def _roll(self, index: int) -> int:
        rank = self._ranks[index]
        if rank == len(self._working):
            raise _out_of_range()
        return self._working[rank]

    def _nth(self, index: int, n: int, measure: Measure) -> int:
        if measure is Measure.natural_days:
            target = index + n
            if 0 <= target < _DAYS:
                return target
        elif measure is Measure.working_days:
            if n == 0:
                return index
            rank = self._ranks[index + 1] + n - 1 if n > 0 else self._ranks[index] + n
            if 0 <= rank < len(self._working):
                return self._working[rank]
        else:
            raise _not_days(measure)
        raise _out_of_range()

    def _count(self, after: int, upto: int, measure: Measure) -> int:
        if measure is Measure.natural_days:
            return max(0, upto - after)
        if measure is Measure.working_days:
            return max(0, self._ranks[upto + 1] - self._ranks[after + 1])
        raise _not_days(measure)

    def _due_index(self, us: int, budget: Budget) -> int:
        index = self._nth(self._index(us), budget.amount, budget.measure)
        return self._roll(index) if budget.measure is Measure.natural_days else index

    def _mark(self, day: date) -> _Mark:
        mark = self._marks.get(day)
        if mark is not None:
            return mark
        intervals = self._week[day.weekday()]
        return _Mark(intervals, "weekday" if intervals else "weekend", None, None)

    def _spend_many(self, anchors: IntArray, amount: int) -> IntArray:
        table = self._tables.intervals
        at = np.searchsorted(table.starts, anchors, "right") - 1
        target = table.before[at] + np.minimum(anchors, table.ends[at]) - table.starts[at] + amount
        at = np.searchsorted(table.through, target, "left")
        _expect_within(at, 0, len(table.through) - 1)
        return table.starts[at] + target - table.before[at]

    def _due_many(self, anchors: IntArray, budget: Budget) -> IntArray:
        tables = self._tables
        index = np.searchsorted(tables.midnights, anchors, "right") - 1
        _expect_within(index, 0, _DAYS - 1)
        if budget.measure is Measure.natural_days:
            index = index + budget.amount
            _expect_within(index, 0, _DAYS - 1)
            rank = tables.ranks[index]
        else:
            rank = tables.ranks[index + 1] + budget.amount - 1
        _expect_within(rank, 0, len(tables.working) - 1)
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
            rest = {"rule": "remainder", "until": _date(last).isoformat()}
            rows.append(_row(_date(shown + 1), left, None) | rest)
        return rows

    def _day_row(self, index: int, anchor: int, due: int, budget: Budget) -> dict[str, Any]:
        first = self._index(anchor)
        reason = None
        if index == first:
            reason = "anchor_day"
        elif budget.measure is Measure.working_days and not self._works(index):
            reason = "off"
        elif budget.measure is Measure.natural_days and index > first + budget.amount:
            reason = "moved_on"
        return _row(_date(index), int(reason is None), reason) | self._cited(index)

    def _hour_row(self, index: int, anchor: int, due: int, budget: Budget) -> dict[str, Any]:
        clipped = [(max(start, anchor), min(end, due)) for start, end in self._spans(index, budget.measure)]
        spans = [(start, end) for start, end in clipped if start < end]
        amount = sum(end - start for start, end in spans)
        reason = None if amount else "outside_hours" if self._works(index) else "off"
        intervals = [
            [_instant(start).astimezone(self.zone).isoformat(), _instant(end).astimezone(self.zone).isoformat()]
            for start, end in spans
        ]
        return _row(_date(index), amount, reason) | self._cited(index) | {"intervals": intervals}

    def _spans(self, index: int, measure: Measure) -> Iterator[tuple[int, int]]:
        """What counts on one day, in epoch microseconds: the whole day, or its office intervals."""
        if measure is Measure.natural_hours:
            yield self._midnights[index], self._midnights[index + 1]
            return
        for at in range(bisect_left(self._owners, index), bisect_right(self._owners, index)):
            yield self._starts[at], self._ends[at]

    def _cited(self, index: int) -> dict[str, Any]:
        mark = self._mark(_date(index))
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


# --- instants and dates


def _micros(instant: datetime) -> int:
    """Epoch microseconds of an aware datetime."""
    if instant.tzinfo is None or instant.utcoffset() is None:
        raise CalendarError(f"{instant!r}: expected an aware datetime, this one has no zone")
    span = instant - _EPOCH
    return (span.days * 86_400 + span.seconds) * _SECOND_US + span.microseconds


def _instant(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)


def _date(index: int) -> date:
    return date.fromordinal(_FIRST_ORDINAL + index)


def _index_of(day: date) -> int:
    """The day index of a date; a datetime is refused because its date depends on a zone."""
    if isinstance(day, datetime):
        raise CalendarError(f"{day!r}: expected a date, not a datetime")
    index = day.toordinal() - _FIRST_ORDINAL
    if not 0 <= index < _DAYS:
        raise _out_of_range()
    return index


def _clock_text(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _out_of_range() -> CalendarError:
    return CalendarError(f"outside the calendar's range: expected a local time of {FIRST} to {LAST}")


def _not_days(measure: Measure) -> CalendarError:
    return CalendarError(f"measure {measure!s}: expected natural_days or working_days")


def _expect_within(values: IntArray, low: int, high: int) -> None:
    if values.size and (values.min() < low or values.max() > high):
        raise _out_of_range()


# --- budgets


def _measure(value: Measure | str) -> Measure:
    try:
        return Measure(value)
    except ValueError:
        raise CalendarError(f"measure {value!r}: expected one of {', '.join(Measure)}") from None


def _expected(measure: Measure) -> str:
    if measure.counts_days:
        return "a whole number of days such as 15 or P15D (one working day is never 24 h nor 8 h)"
    if measure is Measure.natural_hours:
        return "a duration such as PT4H, PT2H30M or P1DT2H (a bare number is ambiguous)"
    return "an ISO 8601 duration such as PT4H or PT2H30M (a bare number is ambiguous; a day is not 24 h nor 8 h)"


def _parse_days(measure: Measure, value: str | int) -> int:
    if isinstance(value, int):
        return value
    match = _DAYS_PATTERN.fullmatch(value)
    if match is None:
        raise CalendarError(f"{measure} budget {value!r}: expected {_expected(measure)}")
    return int(match[1] or match[2])


def _parse_hours(measure: Measure, value: str | int) -> int:
    match = _HOURS_PATTERN.fullmatch(value) if isinstance(value, str) else None
    if match is None or not any(match.groups()) or (match[1] and measure is Measure.working_hours):
        raise CalendarError(f"{measure} budget {value!r}: expected {_expected(measure)}")
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups()[:4])
    fraction = int((match[5] or "").ljust(6, "0"))
    return days * _DAY_US + hours * _HOUR_US + minutes * _MINUTE_US + seconds * _SECOND_US + fraction


# --- reading plain data


@dataclass(frozen=True, slots=True)
class _Source:
    """A calendar as read and found well-formed, before its tables are built."""

    key: str
    title: dict[str, str]
    zone: ZoneInfo
    day_end: DayEnd
    week: tuple[Minutes, ...]
    marks: dict[date, _Mark]
    horizon: date | None


def _expect(holds: bool, path: str, expected: str, got: object) -> None:
    if not holds:
        raise CalendarError(f"{path}: expected {expected}, got {got!r}")


def _read(data: Mapping[str, Any]) -> _Source:
    _fields(data, "calendar", {"key", "title", "zone", "week"}, {"day_end", "years", "overrides"})
    day_end = data.get("day_end", "24:00")
    _expect(day_end in ("24:00", "office_close"), "day_end", '"24:00" or "office_close"', day_end)
    week = _read_week(data["week"])
    ordinary = next(intervals for intervals in week if intervals)
    years = _read_years(data.get("years"))
    marks = _read_marks(years, ordinary) | _read_overrides(data.get("overrides"), ordinary)
    return _Source(
        key=_text(data["key"], "key"),
        title=_read_title(data["title"]),
        zone=_read_zone(data["zone"]),
        day_end=cast(DayEnd, day_end),
        week=week,
        marks=marks,
        horizon=_horizon(years),
    )


def _fields(value: object, path: str, required: set[str], optional: set[str]) -> Mapping[str, Any]:
    """`value` if it is a mapping with all required and no unknown keys."""
    if not isinstance(value, Mapping):
        raise CalendarError(f"{path}: expected a mapping, got {value!r}")
    known = sorted(required | optional)
    for name in value:
        _expect(name in known, f"{path}.{name}", f"one of the keys {', '.join(known)}", name)
    for name in sorted(required):
        _expect(name in value, f"{path}.{name}", "a value", None)
    return value


def _text(value: object, path: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise CalendarError(f"{path}: expected a text, got {value!r}")
    return value


def _read_title(value: object) -> dict[str, str]:
    title = _fields(value, "title", {"zh", "en"}, set())
    return {language: _text(title[language], f"title.{language}") for language in ("zh", "en")}


def _read_zone(value: object) -> ZoneInfo:
    try:
        return ZoneInfo(_text(value, "zone"))
    except (KeyError, ValueError, OSError):
        raise CalendarError(f"zone: expected an IANA zone such as Asia/Shanghai, got {value!r}") from None


def _read_week(value: object) -> tuple[Minutes, ...]:
    week = _fields(value, "week", set(), set(WEEKDAYS))
    days = tuple(_read_intervals(week.get(name) or [], f"week.{name}") for name in WEEKDAYS)
    _expect(any(days), "week", "at least one day with working time", value)
    return days


def _read_intervals(value: object, path: str) -> Minutes:
    _expect(_is_list(value), path, 'a list of pairs such as ["09:00", "12:00"]', value)
    intervals: list[tuple[int, int]] = []
    free_from = 0
    for number, pair in enumerate(cast(Sequence[Any], value)):
        here = f"{path}[{number}]"
        _expect(_is_list(pair) and len(pair) == 2, here, 'a pair such as ["09:00", "12:00"]', pair)
        start, end = (_read_time(text, here) for text in pair)
        _expect(start < end, here, "a start before its end", pair)
        _expect(start >= free_from, here, "intervals in order that do not overlap", pair)
        intervals.append((start, end))
        free_from = end
    return tuple(intervals)


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _read_time(value: object, path: str) -> int:
    """Minutes of the local day; "24:00" is its end."""
    if value == "24:00":
        return _DAY_MINUTES
    match = _TIME_PATTERN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise CalendarError(f'{path}: expected a time in quotes such as "09:00" or "24:00", got {value!r}')
    return int(match[1]) * 60 + int(match[2])


def _read_date(value: object, path: str) -> date:
    """A date from `2026-01-01` (or a date, as some YAML readers give) inside the compiled range."""
    day = value if isinstance(value, date) and not isinstance(value, datetime) else None
    if isinstance(value, str) and _DATE_PATTERN.fullmatch(value):
        try:
            day = date.fromisoformat(value)
        except ValueError:
            day = None
    if day is None or not FIRST <= day <= LAST:
        raise CalendarError(f"{path}.{value}: expected a date YYYY-MM-DD of {FIRST} to {LAST}, got {value!r}")
    return day


@dataclass(frozen=True, slots=True)
class _Year:
    """One notice: the dates it orders off or worked. It may name days of the December before."""

    number: int
    official: bool
    notice: str | None
    off: dict[date, str]
    work: dict[date, str]


def _read_years(value: object) -> list[_Year]:
    if value is None:
        return []
    if not isinstance(value, Mapping):
        raise CalendarError(f"years: expected a mapping of years, got {value!r}")
    years = sorted((_read_year(number, year) for number, year in value.items()), key=lambda year: year.number)
    for earlier, later in pairwise(years):
        _expect(earlier.number < later.number, f"years.{later.number}", "each year once", later.number)
    return years


def _read_year(key: object, value: object) -> _Year:
    path = f"years.{key}"
    known = re.fullmatch(r"[0-9]{4}", str(key)) and FIRST.year <= int(str(key)) <= LAST.year
    _expect(bool(known), path, f"a year of {FIRST.year} to {LAST.year}", key)
    year = _fields(value, path, {"status"}, {"notice", "off", "work"})
    status = year["status"]
    _expect(status in ("official", "statutory_only"), f"{path}.status", "official or statutory_only", status)
    official = status == "official"
    notice = _read_notice(year.get("notice"), f"{path}.notice", official)
    off = _read_dates(year.get("off"), f"{path}.off", int(str(key)))
    work = _read_dates(year.get("work"), f"{path}.work", int(str(key)))
    _expect(official or not work, f"{path}.work", "no make-up day without an official notice", sorted(work))
    return _Year(int(str(key)), official, notice, off, work)


def _read_notice(value: object, path: str, official: bool) -> str | None:
    """The title of the notice; an official year must cite one."""
    if value is None and not official:
        return None
    notice = _fields(value, path, {"title"}, {"published", "url"})
    if notice.get("published") is not None:
        _read_date(notice["published"], f"{path}.published")
    urls = notice.get("url") or []
    for url in urls if _is_list(urls) else [urls]:
        _text(url, f"{path}.url")
    return _text(notice["title"], f"{path}.title")


def _read_dates(value: object, path: str, year: int) -> dict[date, str]:
    """Dates with the name of their holiday. A notice also orders days at the end of the year before."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise CalendarError(f"{path}: expected a mapping of dates to names, got {value!r}")
    dates: dict[date, str] = {}
    for key, name in value.items():
        day = _read_date(key, path)
        near = day.year == year or (day.year, day.month) == (year - 1, 12)
        _expect(near, f"{path}.{key}", f"a date of {year} or of the December before", key)
        dates[day] = _text(name, f"{path}.{key}")
    return dates


def _read_marks(years: list[_Year], ordinary: Minutes) -> dict[date, _Mark]:
    """What the notices say of each date; a date named by two of them cites the later."""
    marks: dict[date, _Mark] = {}
    for year in years:
        for day, name in year.off.items():
            rule: Rule = "holiday" if year.official else "statutory"
            _put(marks, day, _Mark((), rule, name, year.notice), f"years.{year.number}.off")
        for day, name in year.work.items():
            _put(marks, day, _Mark(ordinary, "make_up", name, year.notice), f"years.{year.number}.work")
    return marks


def _put(marks: dict[date, _Mark], day: date, mark: _Mark, path: str) -> None:
    other = marks.get(day)
    agrees = other is None or bool(other.intervals) == bool(mark.intervals)
    _expect(agrees, f"{path}.{day}", "a date that is either off or work", "both")
    marks[day] = mark


def _read_overrides(value: object, ordinary: Minutes) -> dict[date, _Mark]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise CalendarError(f"overrides: expected a mapping of dates, got {value!r}")
    return {_read_date(key, "overrides"): _read_override(key, one, ordinary) for key, one in value.items()}


def _read_override(key: object, value: object, ordinary: Minutes) -> _Mark:
    """A local decision about one date, which cites its source and wins over the notices."""
    path = f"overrides.{key}"
    override = _fields(value, path, {"source"}, {"off", "work", "intervals", "name"})
    kinds = {name: override[name] for name in ("off", "work") if name in override}
    _expect(list(kinds.values()) == [True], path, "either off: true or work: true", kinds)
    intervals: Minutes = ordinary if "work" in kinds else ()
    if "intervals" in override:
        _expect("work" in kinds, f"{path}.intervals", "no intervals on a date that is off", override["intervals"])
        intervals = _read_intervals(override["intervals"], f"{path}.intervals")
        _expect(bool(intervals), f"{path}.intervals", "at least one interval on a date of work", [])
    name = override.get("name")
    source = _text(override["source"], f"{path}.source")
    return _Mark(intervals, "override", None if name is None else _text(name, f"{path}.name"), source)


def _horizon(years: list[_Year]) -> date | None:
    """31 December of the last of the consecutive official years that begin with the first one."""
    last: int | None = None
    for year in years:
        if year.official and last in (None, year.number - 1):
            last = year.number
    return None if last is None else date(last, 12, 31)


# --- building tables


@dataclass(frozen=True, slots=True)
class _Tables:
    """Compiled arrays. `midnights` has one element more than there are days; so has `ranks`.

    `working` are the indexes of working days, `ranks[i]` how many of them lie before day i, `day_ends` the
    instants at which days end.
    """

    midnights: IntArray
    day_ends: IntArray
    working: IntArray
    ranks: IntArray
    intervals: _Intervals

    @classmethod
    def build(cls, source: _Source) -> _Tables:
        midnights, uneven = _zone_days(source.zone.key)
        plans, plan_of_day = _plans(source)
        works = np.array([bool(plan) for plan in plans])[plan_of_day]
        intervals = _lay_out(midnights, uneven, plans, plan_of_day, source.zone)
        day_ends = midnights[1:].copy()
        if source.day_end == "office_close":
            day_ends[intervals.days[1:]] = intervals.ends[1:]  # in order: the last interval of a day stays
        ranks = np.concatenate(([0], np.cumsum(works))).astype(np.int64)
        return cls(midnights, day_ends, np.flatnonzero(works), ranks, intervals)


@lru_cache(maxsize=32)
def _zone_days(zone_key: str) -> tuple[IntArray, IntArray]:
    """Epoch microseconds of local midnights, and the indexes of days on which the zone's offset changes."""
    first = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=ZoneInfo(zone_key))
    steps = [timedelta(days=index) for index in range(_DAYS + 1)]
    offsets = np.array([_offset_seconds(first + step) for step in steps], dtype=np.int64)
    local = np.arange(_DAYS + 1, dtype=np.int64) * _DAY_US + (FIRST - date(1970, 1, 1)).days * _DAY_US
    return local - offsets * _SECOND_US, np.flatnonzero(np.diff(offsets))


def _offset_seconds(local: datetime) -> int:
    offset = local.utcoffset() or timedelta()
    return offset.days * 86_400 + offset.seconds


def _plans(source: _Source) -> tuple[list[Minutes], IntArray]:
    """The distinct days' intervals (seven weekdays first), and for every day the index of its plan."""
    plans = list(source.week)
    plan_of_day = (np.arange(_DAYS, dtype=np.int64) + FIRST.weekday()) % 7
    numbers = {plan: number for number, plan in enumerate(plans)}
    for day, mark in source.marks.items():
        if mark.intervals not in numbers:
            numbers[mark.intervals] = len(plans)
            plans.append(mark.intervals)
        plan_of_day[_index_of(day)] = numbers[mark.intervals]
    return plans, plan_of_day


def _lay_out(
    midnights: IntArray, uneven: IntArray, plans: list[Minutes], plan_of_day: IntArray, zone: ZoneInfo
) -> _Intervals:
    """All office intervals in order: arithmetic, but for the few days on which the zone's offset changes."""
    widest = max(len(plan) for plan in plans)
    minutes = np.full((len(plans), widest, 2), -1, dtype=np.int64)
    for number, plan in enumerate(plans):
        if plan:
            minutes[number, : len(plan)] = plan
    wanted = minutes[plan_of_day]  # days x intervals x (start, end)
    edges = midnights[:-1, None, None] + wanted * _MINUTE_US
    for index in uneven.tolist():
        for number, pair in enumerate(plans[plan_of_day[index]]):
            edges[index, number] = [_exact(midnights, index, minute, zone) for minute in pair]
    present = wanted[:, :, 0] >= 0
    return _sum_up(edges[present], np.nonzero(present)[0], int(midnights[0]))


def _exact(midnights: IntArray, index: int, minute: int, zone: ZoneInfo) -> int:
    """Epoch microseconds of a local time on a day of uneven length, fold=0."""
    if minute == _DAY_MINUTES:
        return int(midnights[index + 1])
    day = _date(index)
    return _micros(datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=zone))


def _sum_up(edges: IntArray, days: IntArray, beginning: int) -> _Intervals:
    """Add the prefix sums. Where a zone's gap makes intervals overlap or shrink, their union is left."""
    flat = np.maximum.accumulate(edges.reshape(-1))
    starts, ends = flat[0::2], flat[1::2]
    kept = ends > starts
    starts = np.concatenate(([beginning], starts[kept]))
    ends = np.concatenate(([beginning], ends[kept]))
    through = np.cumsum(ends - starts)
    owners = np.concatenate(([-1], days[kept]))
    return _Intervals(starts, ends, owners, through - (ends - starts), through)
