"""Values, percentiles and working time of many spans, against the plain definitions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core import clocks, rates
from service.core.calendar import Calendar, Measure
from service.core.model import Clock, ClockState, Segment

WEEK = {day: [["09:00", "12:00"], ["13:30", "17:30"]] for day in ("mon", "tue", "wed", "thu", "fri")}
NIGHTS = {**WEEK, "sat": [["00:00", "04:30"], ["22:00", "24:00"]], "sun": [["00:00", "03:15"]]}


def _calendar(zone: str, week: dict[str, list[list[str]]]) -> Calendar:
    return Calendar.compile({"key": "k", "title": {"zh": "日历", "en": "Calendar"}, "zone": zone, "week": week})


CALENDARS = (
    _calendar("Asia/Shanghai", WEEK),
    _calendar("Europe/Berlin", NIGHTS),
    _calendar("America/New_York", NIGHTS),
)
INSTANTS = st.integers(0, 3 * 365 * 86_400_000_000).map(
    lambda us: datetime(2023, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
)


def _us(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def test_nothing_counted_has_no_value() -> None:
    assert rates.value(0, 0) is None
    assert rates.value(0, 5) == 0.0
    assert rates.value(5, 5) == 1.0


@pytest.mark.parametrize(
    ("numerator", "denominator", "shown"), [(2, 3, 0.6666), (99_999, 100_000, 0.9999), (1, 8, 0.125)]
)
def test_a_share_is_floored(numerator: int, denominator: int, shown: float) -> None:
    assert rates.value(numerator, denominator) == shown


def test_each_figure_has_one_name_and_says_what_it_counts() -> None:
    assert len(set(rates.NAMES)) == len(rates.NAMES)
    assert all(r.denominator and r.numerator and r.zh for r in rates.RATES)
    assert all(c.counted and c.zh for c in rates.COUNTS)


def test_a_report_names_every_figure_also_those_without_rows() -> None:
    found = rates.figures({"return_rate": (1, 4, 2), "new": (7, 7, 0)}, lambda name: f"/list/{name}")
    assert list(found) == list(rates.NAMES)
    told = {"numerator": 1, "denominator": 4, "value": 0.25, "excluded": 2, "tickets": "/list/return_rate"}
    assert found["return_rate"] == told
    none = {"denominator": None, "value": None, "excluded": None}
    assert found["new"] == {"numerator": 7, **none, "tickets": "/list/new"}
    assert found["rework_rate"]["value"] is None


@pytest.mark.parametrize(
    ("count", "share", "found"),
    [
        (1, 0.5, 1),
        (2, 0.5, 1),
        (3, 0.5, 2),
        (10, 0.9, 9),
        (100, 0.99, 99),
        (101, 0.99, 100),
        (100, 0.57, 57),
        (4, 1.0, 4),
    ],
)
def test_a_percentile_is_the_nearest_rank(count: int, share: float, found: int) -> None:
    assert rates.percentile(range(1, count + 1), share) == found


def test_a_percentile_of_nothing_is_none() -> None:
    assert rates.percentile([], 0.5) is None
    assert rates.hours(np.zeros(0, dtype=np.int64)) == {"p50": None, "p90": None, "p99": None}


def test_hours_are_rounded_to_two_decimals() -> None:
    assert rates.hours(np.array([90 * 60_000_000, 3_600_000_000 // 3]))["p99"] == 1.5
    assert rates.hours(np.array([3_600_000_000 // 3]))["p50"] == 0.33


@given(st.sampled_from(CALENDARS), st.lists(st.tuples(INSTANTS, INSTANTS), min_size=1, max_size=8))
def test_office_time_of_many_spans_is_what_the_calendar_says_of_each(
    calendar: Calendar, spans: list[tuple[datetime, datetime]]
) -> None:
    since, until = (np.array([_us(span[side]) for span in spans], dtype=np.int64) for side in (0, 1))
    expected = [calendar.between(a, b, Measure.working_hours) for a, b in spans]
    assert rates.office_time(calendar, since, until).tolist() == expected


@pytest.mark.parametrize("day", ["2024-03-31", "2024-10-27", "2024-03-10", "2024-11-03"])
def test_office_time_is_exact_where_summer_time_begins_and_ends(day: str) -> None:
    first = datetime.fromisoformat(f"{day}T00:00:00+00:00") - timedelta(days=1)
    edges = [first + timedelta(minutes=7 * n) for n in range(400)]
    since = np.full(len(edges), _us(first), dtype=np.int64)
    for calendar in CALENDARS:
        found = rates.office_time(calendar, since, np.array([_us(e) for e in edges], dtype=np.int64))
        assert found.tolist() == [calendar.between(first, e, Measure.working_hours) for e in edges]


@given(INSTANTS, st.integers(1, 400), st.lists(st.tuples(st.integers(0, 400), st.integers(1, 90)), max_size=3))
def test_net_time_is_what_a_clock_in_working_hours_would_have_used(
    anchor: datetime, length: int, pauses: list[tuple[int, int]]
) -> None:
    calendar, stop = CALENDARS[0], anchor + timedelta(hours=length)
    spans = [(anchor + timedelta(hours=a), anchor + timedelta(hours=a + n)) for a, n in pauses if a < length]
    segments = tuple(Segment("waiting_enterprise", a, b) for a, b in spans)
    clock = Clock(
        "c", "t", None, "resolve", 1, "enterprise", Measure.working_hours, 1, "received_at", anchor, "k", 1,
        ClockState.MET, stop, stop, segments, ended_at=stop,
    )  # fmt: skip
    taken = [(max(a, anchor), min(b, stop)) for a, b in clocks.pauses(clock)]
    since = np.array([_us(anchor), *(_us(a) for a, _ in taken)], dtype=np.int64)
    until = np.array([_us(stop), *(_us(b) for _, b in taken)], dtype=np.int64)
    sign = np.array([1] + [-1] * len(taken))
    assert int((sign * rates.office_time(calendar, since, until)).sum()) == clocks.used(clock, calendar, stop)


def test_no_span_has_no_office_time() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    assert rates.office_time(CALENDARS[0], nothing, nothing).size == 0
