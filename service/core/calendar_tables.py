"""The tables of a compiled calendar: every office interval and every working day of `FIRST`..`LAST`, with prefix sums.

Every instant is an integer of epoch microseconds and every local date an index into the days of the range.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from service.core.budgets import DAY_US, MINUTE_US, SECOND_US, CalendarError
from service.core.calendar_data import DAY_MINUTES, FIRST, LAST, Minutes, Source

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_ORDINAL: Final = FIRST.toordinal()
DAYS: Final = LAST.toordinal() - _FIRST_ORDINAL + 1

IntArray = NDArray[np.int64]


# --- instants and dates


def micros(instant: datetime) -> int:
    """Epoch microseconds of an aware datetime."""
    try:
        span = instant - _EPOCH  # refuses a naive one by itself; asking it first would take as long again
    except TypeError:
        raise CalendarError(f"{instant!r}: expected an aware datetime, this one has no zone") from None
    return (span.days * 86_400 + span.seconds) * SECOND_US + span.microseconds


def instant_of(us: int) -> datetime:
    return _EPOCH + timedelta(0, 0, us)  # by position: half the time that the keyword takes


def date_at(index: int) -> date:
    return date.fromordinal(_FIRST_ORDINAL + index)


def index_of(day: date) -> int:
    """The day index of a date; a datetime is refused because its date depends on a zone."""
    if isinstance(day, datetime):
        raise CalendarError(f"{day!r}: expected a date, not a datetime")
    index = day.toordinal() - _FIRST_ORDINAL
    if not 0 <= index < DAYS:
        raise out_of_range()
    return index


def out_of_range() -> CalendarError:
    return CalendarError(f"outside the calendar's range: expected a local time of {FIRST} to {LAST}")


def shelves(values: IntArray, width: int, last: int) -> list[int]:
    """Where to search in sorted `values`: element k is how many of them lie below `values[0] + k * width`.

    A search for v, at most `last`, need look only from element `(v - values[0]) // width` to the next one: at a few
    values instead of all of them, whose ints lie scattered over the memory.
    """
    first = int(values[0])
    edges = first + width * np.arange((last - first) // width + 2, dtype=np.int64)
    below: list[int] = np.searchsorted(values, edges, "left").tolist()
    return below


def expect_within(values: IntArray, low: int, high: int) -> None:
    if values.size and (values.min() < low or values.max() > high):
        raise out_of_range()


# --- tables


@dataclass(frozen=True, slots=True)
class Intervals:
    """Office intervals of all days as parallel arrays of epoch microseconds, in order and disjoint.

    `days` is the day index of each. Element 0 is an empty interval at the very beginning, so that a search
    never falls off the left. `through` is the working time up to the end of each interval. `idle` is what its
    instants exceed the working time by, the same all through it: working time = instant - idle, and back.
    """

    starts: IntArray
    ends: IntArray
    days: IntArray
    idle: IntArray
    through: IntArray


@dataclass(frozen=True, slots=True)
class Tables:
    """Compiled arrays. `midnights` has one element more than there are days; so has `ranks`.

    `working` are the indexes of working days, `ranks[i]` how many of them lie before day i, `day_ends` the
    instants at which days end.
    """

    midnights: IntArray
    day_ends: IntArray
    working: IntArray
    ranks: IntArray
    intervals: Intervals

    @classmethod
    def build(cls, source: Source) -> Tables:
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
    steps = [timedelta(days=index) for index in range(DAYS + 1)]
    offsets = np.array([_offset_seconds(first + step) for step in steps], dtype=np.int64)
    local = np.arange(DAYS + 1, dtype=np.int64) * DAY_US + (FIRST - date(1970, 1, 1)).days * DAY_US
    return local - offsets * SECOND_US, np.flatnonzero(np.diff(offsets))


def _offset_seconds(local: datetime) -> int:
    offset = local.utcoffset() or timedelta()
    return offset.days * 86_400 + offset.seconds


def _plans(source: Source) -> tuple[list[Minutes], IntArray]:
    """The distinct days' intervals (seven weekdays first), and for every day the index of its plan."""
    plans = list(source.week)
    plan_of_day = (np.arange(DAYS, dtype=np.int64) + FIRST.weekday()) % 7
    numbers = {plan: number for number, plan in enumerate(plans)}
    for day, mark in source.marks.items():
        if mark.intervals not in numbers:
            numbers[mark.intervals] = len(plans)
            plans.append(mark.intervals)
        plan_of_day[index_of(day)] = numbers[mark.intervals]
    return plans, plan_of_day


def _lay_out(
    midnights: IntArray, uneven: IntArray, plans: list[Minutes], plan_of_day: IntArray, zone: ZoneInfo
) -> Intervals:
    """All office intervals in order: arithmetic, but for the few days on which the zone's offset changes."""
    widest = max(len(plan) for plan in plans)
    minutes = np.full((len(plans), widest, 2), -1, dtype=np.int64)
    for number, plan in enumerate(plans):
        if plan:
            minutes[number, : len(plan)] = plan
    wanted = minutes[plan_of_day]  # days x intervals x (start, end)
    edges = midnights[:-1, None, None] + wanted * MINUTE_US
    for index in uneven.tolist():
        for number, pair in enumerate(plans[plan_of_day[index]]):
            edges[index, number] = [_exact(midnights, index, minute, zone) for minute in pair]
    present = wanted[:, :, 0] >= 0
    return _sum_up(edges[present], np.nonzero(present)[0], int(midnights[0]))


def _exact(midnights: IntArray, index: int, minute: int, zone: ZoneInfo) -> int:
    """Epoch microseconds of a local time on a day of uneven length, fold=0."""
    if minute == DAY_MINUTES:
        return int(midnights[index + 1])
    day = date_at(index)
    return micros(datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=zone))


def _sum_up(edges: IntArray, days: IntArray, beginning: int) -> Intervals:
    """Add the prefix sums. Where a zone's gap makes intervals overlap or shrink, their union is left."""
    flat = np.maximum.accumulate(edges.reshape(-1))
    starts, ends = flat[0::2], flat[1::2]
    kept = ends > starts
    starts = np.concatenate(([beginning], starts[kept]))
    ends = np.concatenate(([beginning], ends[kept]))
    through = np.cumsum(ends - starts)
    owners = np.concatenate(([-1], days[kept]))
    return Intervals(starts, ends, owners, ends - through, through)
