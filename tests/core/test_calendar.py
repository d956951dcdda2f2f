"""Working time: the examples of the rules, the official calendar, and brute force to judge the rest."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from time import process_time
from typing import Any
from zoneinfo import ZoneInfo

import chinese_calendar
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.calendar import LAST, MAX_EXPLAINED_DAYS, MEASURES, Budget, Calendar, CalendarError, Day, Measure
from service.core.yaml_files import read_yaml

CALENDARS = Path(__file__).resolve().parents[2] / "workflows" / "calendars"
SHANGHAI = ZoneInfo("Asia/Shanghai")
NEW_YORK = ZoneInfo("America/New_York")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
NATURAL_HOURS, WORKING_HOURS = Measure.natural_hours, Measure.working_hours
NATURAL_DAYS, WORKING_DAYS = Measure.natural_days, Measure.working_days
OFFICE = [["09:00", "12:00"], ["13:30", "17:30"]]
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

# Office hours by night, across both changes of the clock.
NIGHTS: dict[str, Any] = {
    "key": "us-nights",
    "title": {"zh": "夜班", "en": "Nights"},
    "zone": "America/New_York",
    "day_end": "office_close",
    "week": {
        "mon": OFFICE,
        "tue": [["00:00", "02:30"], ["22:00", "24:00"]],
        "thu": [["00:15", "01:30"], ["01:45", "02:20"], ["02:40", "03:30"], ["23:00", "24:00"]],
        "sat": [["20:00", "24:00"]],
        "sun": [["00:30", "01:30"], ["01:40", "02:30"], ["02:45", "04:00"], ["12:00", "12:01"]],
    },
    "years": {
        "2026": {
            "status": "official",
            "notice": {"title": "Holidays of 2026", "published": "2025-11-01", "url": "https://example.org/"},
            "off": {"2026-05-25": "Memorial Day", "2026-09-07": "Labor Day"},
            "work": {"2026-09-04": "Labor Day"},
        }
    },
    "overrides": {
        "2026-03-10": {"off": True, "name": "Storm", "source": "Order 7"},
        "2026-11-01": {
            "work": True,
            "intervals": [["00:30", "01:30"], ["01:30", "03:00"]],
            "source": "Order 9",
        },
    },
}


def jinan_data() -> dict[str, Any]:
    data: dict[str, Any] = read_yaml(CALENDARS / "cn-jinan.yaml")
    data["years"] = read_yaml(CALENDARS / data.pop("holidays"))["years"]
    return data


@cache
def compiled(name: str) -> tuple[dict[str, Any], Calendar]:
    data = {"jinan": jinan_data, "nights": lambda: NIGHTS, "closing": closing_data}[name]()
    return data, Calendar.compile(data)


def closing_data() -> dict[str, Any]:
    return jinan_data() | {"day_end": "office_close"}


@pytest.fixture(scope="module")
def jinan() -> Calendar:
    return compiled("jinan")[1]


def at(text: str, zone: ZoneInfo = SHANGHAI) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


def us(instant: datetime) -> int:
    return (instant - EPOCH) // MICROSECOND


def hours(text: str) -> Budget:
    return Budget.parse(WORKING_HOURS, text)


# --- the examples of the rules


def test_a_make_up_sunday_counts_and_mid_autumn_does_not(jinan: Calendar) -> None:
    due = jinan.add(at("2026-09-18T10:00"), Budget(WORKING_DAYS, 5))
    assert due == at("2026-09-25T00:00")
    assert jinan.due_date(at("2026-09-18T10:00"), Budget(WORKING_DAYS, 5)) == date(2026, 9, 24)


def test_working_days_pass_over_the_spring_festival(jinan: Calendar) -> None:
    assert jinan.add(at("2026-02-12T16:00"), Budget(WORKING_DAYS, 3)) == at("2026-02-25T00:00")
    assert jinan.due_date(at("2026-02-12T16:00"), Budget(WORKING_DAYS, 3)) == date(2026, 2, 24)


def test_the_noon_break_does_not_count(jinan: Calendar) -> None:
    assert jinan.add(at("2026-09-16T11:50"), hours("PT30M")) == at("2026-09-16T13:50")


def test_the_instant_of_closing_uses_nothing_of_the_day(jinan: Calendar) -> None:
    assert jinan.add(at("2026-09-16T17:30"), hours("PT1H")) == at("2026-09-17T10:00")
    assert jinan.between(at("2026-09-16T17:30"), at("2026-09-17T09:00"), WORKING_HOURS) == 0


def test_a_millisecond_before_closing_is_used(jinan: Calendar) -> None:
    assert jinan.add(at("2026-09-16T17:29:59.999"), hours("PT0.001S")) == at("2026-09-16T17:30")
    assert jinan.add(at("2026-09-16T17:29:59.999"), hours("PT0.002S")) == at("2026-09-17T09:00:00.001")


def test_working_hours_are_due_at_closing_and_not_at_the_next_opening(jinan: Calendar) -> None:
    assert jinan.add(at("2026-09-16T09:00"), hours("PT7H")) == at("2026-09-16T17:30")
    assert jinan.add(at("2026-09-16T09:00"), hours("PT3H")) == at("2026-09-16T12:00")


def test_two_pauses_are_measured_to_the_microsecond(jinan: Calendar) -> None:
    spans = [("10:00:05", "10:00:50"), ("10:00:55", "12:00:00")]
    used = sum(
        jinan.between(at(f"2026-09-16T{start}"), at(f"2026-09-16T{stop}"), WORKING_HOURS) for start, stop in spans
    )
    assert used == (45 + 7_145) * 1_000_000


def test_natural_hours_are_plain_elapsed_time(jinan: Calendar) -> None:
    due = jinan.add(at("2026-02-16T23:00:00.000001"), Budget.parse(NATURAL_HOURS, "PT4H"))
    assert due == at("2026-02-17T03:00:00.000001")


def test_natural_days_move_on_from_a_holiday_to_the_next_working_day(jinan: Calendar) -> None:
    anchor, budget = at("2026-09-20T10:00"), Budget(NATURAL_DAYS, 5)
    assert jinan.due_date_unmoved(anchor, budget) == date(2026, 9, 25)
    assert jinan.due_date(anchor, budget) == date(2026, 9, 28)
    assert jinan.add(anchor, budget) == at("2026-09-29T00:00")


def test_natural_days_are_not_moved_from_a_make_up_sunday(jinan: Calendar) -> None:
    assert jinan.due_date(at("2026-09-18T10:00"), Budget(NATURAL_DAYS, 2)) == date(2026, 9, 20)


def test_the_day_of_the_anchor_is_the_local_one(jinan: Calendar) -> None:
    before, after = at("2026-09-16T23:59:59.999999"), at("2026-09-17T00:00")
    assert jinan.due_date(before, Budget(WORKING_DAYS, 1)) == date(2026, 9, 17)
    assert jinan.due_date(after.astimezone(UTC), Budget(WORKING_DAYS, 1)) == date(2026, 9, 18)
    assert jinan.local_date(before) == date(2026, 9, 16)


def test_a_day_may_end_at_the_close_of_office() -> None:
    calendar = compiled("closing")[1]
    assert calendar.add(at("2026-09-18T10:00"), Budget(WORKING_DAYS, 5)) == at("2026-09-24T17:30")
    assert calendar.end_of(date(2026, 9, 25)) == at("2026-09-26T00:00")
    assert calendar.start_of(date(2026, 9, 25)) == at("2026-09-25T00:00")


def test_results_are_in_utc(jinan: Calendar) -> None:
    assert jinan.add(at("2026-09-18T10:00"), Budget(WORKING_DAYS, 5)).tzinfo is UTC


def test_one_working_day_is_neither_a_day_nor_eight_hours(jinan: Calendar) -> None:
    anchor = at("2026-09-16T10:00")
    day = jinan.add(anchor, Budget(WORKING_DAYS, 1))
    assert day == at("2026-09-18T00:00")
    assert day != jinan.add(anchor, hours("PT8H"))
    assert day != jinan.add(anchor, Budget.parse(NATURAL_HOURS, "PT24H"))


# --- beyond what is published


def test_beyond_the_horizon_statutory_days_are_off_and_nothing_is_made_up(jinan: Calendar) -> None:
    assert jinan.horizon == date(2026, 12, 31)
    assert jinan.due_date(at("2026-12-31T10:00"), Budget(WORKING_DAYS, 1)) == date(2027, 1, 4)
    assert jinan.day(date(2027, 2, 8)).rule == "statutory"
    assert jinan.day(date(2027, 2, 9)).rule == "weekday"


def test_the_end_of_the_last_published_day_is_not_provisional(jinan: Calendar) -> None:
    assert not jinan.is_provisional(jinan.end_of(date(2026, 12, 31)))
    assert jinan.is_provisional(jinan.end_of(date(2026, 12, 31)) + MICROSECOND)
    assert not jinan.is_provisional(at("2027-06-01T00:00"), NATURAL_HOURS)


def test_a_natural_day_moved_over_the_horizon_is_provisional(jinan: Calendar) -> None:
    data = jinan_data()
    data["overrides"] = {"2026-12-31": {"off": True, "source": "local"}}
    explained = Calendar.compile(data).explain(at("2026-12-30T10:00"), Budget(NATURAL_DAYS, 1))
    assert explained["due_at"] == "2027-01-05T00:00:00+08:00"
    assert explained["provisional"] is True


def test_the_horizon_stops_before_a_year_without_a_notice() -> None:
    data = jinan_data()
    del data["years"]["2020"]
    assert Calendar.compile(data).horizon == date(2019, 12, 31)
    data["years"] = {}
    assert Calendar.compile(data).is_provisional(at("2026-01-05T10:00"))


# --- the official calendar


def test_every_date_from_2010_to_2026_agrees_with_an_independent_calendar(jinan: Calendar) -> None:
    days = [date(2010, 1, 1) + timedelta(days=n) for n in range((date(2027, 1, 1) - date(2010, 1, 1)).days)]
    assert [day for day in days if jinan.is_working_day(day) != chinese_calendar.is_workday(day)] == []
    assert len(days) == 6_209


def test_a_day_cites_the_rule_and_the_notice_it_comes_from(jinan: Calendar) -> None:
    office = (("09:00", "12:00"), ("13:30", "17:30"))
    notice = "国务院办公厅关于2026年部分节假日安排的通知"
    assert jinan.day(date(2026, 9, 20)) == Day(date(2026, 9, 20), True, office, "make_up", "国庆节", notice)
    assert jinan.day(date(2026, 9, 25)) == Day(date(2026, 9, 25), False, (), "holiday", "中秋节", notice)
    assert jinan.day(date(2026, 9, 24)) == Day(date(2026, 9, 24), True, office, "weekday", None, None)
    assert jinan.day(date(2026, 9, 19)) == Day(date(2026, 9, 19), False, (), "weekend", None, None)


@pytest.mark.parametrize(
    ("day", "year"),
    [
        ("2011-12-31", 2012),
        ("2018-12-29", 2019),
        ("2018-12-31", 2019),
        ("2022-12-31", 2023),
        ("2023-01-01", 2023),
    ],
)
def test_a_december_day_cites_the_notice_of_the_next_year(jinan: Calendar, day: str, year: int) -> None:
    assert jinan.day(date.fromisoformat(day)).notice == f"国务院办公厅关于{year}年部分节假日安排的通知"


def test_an_override_wins_over_the_notices() -> None:
    data = jinan_data()
    data["overrides"] = {
        "2026-09-20": {"off": True, "name": "停电", "source": "济办〔2026〕1号"},
        "2026-09-26": {"work": True, "intervals": [["10:00", "11:00"]], "source": "济办〔2026〕2号"},
    }
    calendar = Calendar.compile(data, version=2)
    assert calendar.version == 2
    assert calendar.day(date(2026, 9, 20)).rule == "override"
    assert calendar.day(date(2026, 9, 20)).notice == "济办〔2026〕1号"
    assert calendar.day(date(2026, 9, 26)).intervals == (("10:00", "11:00"),)
    assert calendar.due_date(at("2026-09-18T10:00"), Budget(WORKING_DAYS, 5)) == date(2026, 9, 26)


def test_dates_read_as_dates_by_a_yaml_reader_are_understood() -> None:
    data = jinan_data()
    data["overrides"] = {date(2026, 9, 24): {"off": True, "source": "local"}}
    data["years"] = {int(year): block for year, block in data["years"].items()}
    assert not Calendar.compile(data).is_working_day(date(2026, 9, 24))


# --- days


def test_the_nth_day_goes_both_ways_and_counts_back(jinan: Calendar) -> None:
    friday = date(2026, 9, 18)
    assert jinan.nth_day(friday, 0, WORKING_DAYS) == friday
    assert jinan.nth_day(date(2026, 9, 19), 0, WORKING_DAYS) == date(2026, 9, 19)
    assert jinan.nth_day(friday, 1, WORKING_DAYS) == date(2026, 9, 20)
    assert jinan.nth_day(date(2026, 9, 20), -1, WORKING_DAYS) == friday
    assert jinan.nth_day(friday, -18, NATURAL_DAYS) == date(2026, 8, 31)
    assert jinan.count_days(friday, date(2026, 9, 25), WORKING_DAYS) == 5
    assert jinan.count_days(date(2026, 9, 25), friday, NATURAL_DAYS) == 0
    assert jinan.roll(date(2026, 9, 25)) == date(2026, 9, 28)
    assert jinan.roll(friday) == friday


def test_between_counts_days_after_the_first_date_up_to_the_last(jinan: Calendar) -> None:
    start, stop = at("2026-09-18T10:00"), at("2026-09-25T09:00")
    assert jinan.between(start, stop, WORKING_DAYS) == 5
    assert jinan.between(start, stop, NATURAL_DAYS) == 7
    assert jinan.between(stop, start, NATURAL_DAYS) == 0
    assert jinan.between(start, start, WORKING_HOURS) == 0


def test_a_warning_a_working_day_before_the_end_of_a_day_is_the_end_of_the_day_before(
    jinan: Calendar,
) -> None:
    due = jinan.add(at("2026-09-16T10:00"), Budget(WORKING_DAYS, 3))
    assert due == jinan.end_of(date(2026, 9, 20))
    assert jinan.shift(due, Budget(WORKING_DAYS, 1), -1) == jinan.end_of(date(2026, 9, 18))
    assert jinan.shift(due, Budget(NATURAL_DAYS, 1), -1) == jinan.end_of(date(2026, 9, 19))
    assert jinan.shift(due, Budget(WORKING_DAYS, 5), 1) == jinan.end_of(date(2026, 9, 28))


def test_a_warning_in_working_hours_stands_at_the_latest_instant_before_and_the_earliest_after(
    jinan: Calendar,
) -> None:
    assert jinan.shift(at("2026-09-16T17:30"), hours("PT4H"), -1) == at("2026-09-16T13:30")
    assert jinan.shift(at("2026-09-16T17:30"), hours("PT4H0.000001S"), -1) == at("2026-09-16T11:59:59.999999")
    assert jinan.shift(at("2026-09-16T12:00"), hours("PT4H"), 1) == at("2026-09-16T17:30")
    assert jinan.shift(at("2026-09-16T12:00"), Budget.parse(NATURAL_HOURS, "PT13H"), -1) == at("2026-09-15T23:00")
    with pytest.raises(CalendarError, match="sign 0"):
        jinan.shift(at("2026-09-16T12:00"), hours("PT4H"), 0)


# --- budgets


@pytest.mark.parametrize(
    ("measure", "text", "amount", "canonical"),
    [
        ("working_hours", "PT4H", 4 * HOUR_US, "PT4H"),
        ("working_hours", "PT2H30M", 150 * MINUTE_US, "PT2H30M"),
        ("working_hours", "PT50400S", 14 * HOUR_US, "PT14H"),
        ("working_hours", "PT0.25S", 250_000, "PT0.25S"),
        ("natural_hours", "P1DT2H", 26 * HOUR_US, "PT26H"),
        ("natural_hours", "PT1M0,000001S", MINUTE_US + 1, "PT1M0.000001S"),
        ("natural_days", 15, 15, "15"),
        ("working_days", "15", 15, "15"),
        ("working_days", "P15D", 15, "15"),
    ],
)
def test_a_budget_is_read_and_written(measure: str, text: str | int, amount: int, canonical: str) -> None:
    budget = Budget.parse(Measure(measure), text)
    assert budget == Budget(Measure(measure), amount)
    assert budget.text() == canonical


@pytest.mark.parametrize(
    ("measure", "text", "expected"),
    [
        ("working_hours", 4, "a bare number is ambiguous"),
        ("working_hours", "4", "a bare number is ambiguous"),
        ("working_hours", "P1DT2H", "a day is not 24 h nor 8 h"),
        ("working_hours", "P1D", "a day is not 24 h nor 8 h"),
        ("natural_hours", "P1Y", "a duration such as"),
        ("natural_hours", "P1M", "a duration such as"),
        ("natural_hours", "P1W", "a duration such as"),
        ("natural_hours", "PT", "a duration such as"),
        ("natural_hours", "P", "a duration such as"),
        ("natural_hours", "P1DT", "a duration such as"),
        ("natural_hours", "-PT4H", "a duration such as"),
        ("natural_hours", "PT4H\n", "a duration such as"),
        ("natural_hours", "PT0.0000001S", "a duration such as"),
        ("natural_hours", "PT" + "9" * 5_000 + "H", "a duration such as"),
        ("natural_hours", "PT0H", "more than zero"),
        ("natural_hours", "P3661D", "at most 3660 days"),
        ("working_days", "PT8H", "one working day is never 24 h nor 8 h"),
        ("natural_days", "P1DT2H", "one working day is never 24 h nor 8 h"),
        ("natural_days", "1.5", "a whole number of days"),
        ("natural_days", 1.5, "a whole number of days"),
        ("natural_days", True, "a whole number of days"),
        ("natural_days", None, "a whole number of days"),
        ("working_days", 0, "more than zero"),
        ("working_days", -5, "more than zero"),
        ("working_days", 3661, "at most 3660 days"),
        ("fortnights", 1, "expected one of natural_hours"),
    ],
)
def test_an_ambiguous_or_absurd_budget_is_refused(measure: Any, text: Any, expected: str) -> None:
    with pytest.raises(CalendarError, match=expected):
        Budget.parse(measure, text)


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(st.sampled_from(Measure), st.integers(1, 3660), st.integers(1, 3660 * 24 * HOUR_US))
def test_every_budget_reads_back_from_its_own_text(measure: Measure, days: int, micros: int) -> None:
    budget = Budget(measure, days if measure.counts_days else micros)
    assert Budget.parse(measure, budget.text()) == budget


# --- refusals


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("week", {}, "week: expected at least one day with working time"),
        ("week", {"mon": []}, "week: expected at least one day with working time"),
        ("week.mon", [["12:00", "09:00"]], r"week.mon\[0\]: expected a start before its end"),
        ("week.mon", [["09:00", "09:00"]], r"week.mon\[0\]: expected a start before its end"),
        ("week.mon", [["09:00", "12:00"], ["11:59", "13:00"]], r"week.mon\[1\]: .*do not overlap"),
        ("week.mon", [["09:00", "24:01"]], r"week.mon\[0\]: expected a time in quotes"),
        ("week.mon", [["9:00", "12:00"]], r"week.mon\[0\]: expected a time in quotes"),
        ("week.mon", [[32_400, "12:00"]], r"week.mon\[0\]: expected a time in quotes"),
        ("week.mon", ["09:00"], r"week.mon\[0\]: expected a pair"),
        ("week.mon", "09:00", "week.mon: expected a list of pairs"),
        ("week.monday", [], "week.monday: expected one of the keys"),
        ("zone", "Asia/Jinan", "zone: expected an IANA zone"),
        ("zone", "../etc/passwd", "zone: expected an IANA zone"),
        ("day_end", "17:30", "day_end: expected"),
        ("title", {"zh": "夜班"}, "title.en: expected a value"),
        ("holidays", "cn.yaml", "calendar.holidays: expected one of the keys"),
        ("years.26", {"status": "official"}, "years.26: expected a year"),
        ("years.2026.status", "draft", "years.2026.status: expected official or statutory_only"),
        ("years.2026.notice", None, "years.2026.notice: expected a mapping"),
        ("years.2026.notice.published", "soon", "years.2026.notice.published.soon: expected a date"),
        ("years.2026.extra", 1, "years.2026.extra: expected one of the keys"),
        ("years.2026.off", {"2026-02-30": "x"}, "years.2026.off.2026-02-30: expected a date"),
        ("years.2026.off", {"20260201": "x"}, "years.2026.off.20260201: expected a date"),
        ("years.2026.off", {"2026-02-01": ""}, "years.2026.off.2026-02-01: expected a text"),
        ("years.2026.off", {"2027-02-01": "x"}, "years.2026.off.2027-02-01: expected a date of 2026"),
        ("years.2026.off", {"2026-09-04": "x"}, "years.2026.work.2026-09-04: .* either off or work"),
        ("years.2026.status", "statutory_only", "years.2026.work: expected no make-up day"),
        ("overrides.2026-03-10", {"off": True}, "overrides.2026-03-10.source: expected a value"),
        (
            "overrides.2026-03-10",
            {"off": True, "work": True, "source": "s"},
            "either off: true or work: true",
        ),
        ("overrides.2026-03-10", {"source": "s"}, "either off: true or work: true"),
        ("overrides.2026-03-10", {"off": True, "intervals": OFFICE, "source": "s"}, "no intervals on a date"),
        ("overrides.2026-03-10", {"work": True, "intervals": [], "source": "s"}, "at least one interval"),
        ("overrides.1999-03-10", {"off": True, "source": "s"}, "overrides.1999-03-10: expected a date"),
    ],
)
def test_a_malformed_calendar_is_refused_by_path(path: str, value: Any, message: str) -> None:
    data = deepcopy(NIGHTS)
    *parents, last = path.split(".")
    place = data
    for name in parents:
        place = place[name]
    place[last] = value
    with pytest.raises(CalendarError, match=message):
        Calendar.compile(data)


def test_a_version_is_a_whole_number_from_one() -> None:
    with pytest.raises(CalendarError, match="version"):
        Calendar.compile(NIGHTS, version=0)


def test_a_naive_datetime_is_refused(jinan: Calendar) -> None:
    naive = datetime(2026, 9, 18, 10)  # noqa: DTZ001 - the naive one is what is tested
    for ask in (
        lambda: jinan.add(naive, hours("PT1H")),
        lambda: jinan.between(naive, at("2026-09-18T10:00"), WORKING_HOURS),
        lambda: jinan.local_date(naive),
        lambda: jinan.explain(naive, hours("PT1H")),
    ):
        with pytest.raises(CalendarError, match="has no zone"):
            ask()


def test_what_lies_outside_the_compiled_range_is_refused(jinan: Calendar) -> None:
    for ask in (
        lambda: jinan.add(at("1999-12-31T23:59"), hours("PT1H")),
        lambda: jinan.add(at("1999-12-31T23:59"), Budget(WORKING_DAYS, 1)),
        lambda: jinan.add(at("2079-12-31T10:00"), Budget(WORKING_DAYS, 3)),
        lambda: jinan.add(at("2079-12-29T10:00"), Budget(NATURAL_DAYS, 3)),
        lambda: jinan.add(at("2079-12-29T17:00"), hours("PT200H")),
        lambda: jinan.add(at("2079-12-31T17:00"), Budget.parse(NATURAL_HOURS, "PT200H")),
        lambda: jinan.shift(at("2000-01-03T10:00"), hours("PT9H"), -1),
        lambda: jinan.start_of(date(2080, 1, 1)),
        lambda: jinan.add_many(np.array([us(at("1999-12-31T23:59"))]), Budget(NATURAL_DAYS, 1)),
        lambda: jinan.add_many(np.array([us(at("2079-12-31T10:00"))]), Budget(WORKING_DAYS, 3)),
    ):
        with pytest.raises(CalendarError, match="outside the calendar's range"):
            ask()


def test_questions_that_make_no_sense_are_refused(jinan: Calendar) -> None:
    with pytest.raises(CalendarError, match="natural_days or working_days"):
        jinan.nth_day(date(2026, 9, 18), 1, WORKING_HOURS)
    with pytest.raises(CalendarError, match="natural_days or working_days"):
        jinan.due_date(at("2026-09-18T10:00"), hours("PT1H"))
    with pytest.raises(CalendarError, match="not a datetime"):
        jinan.start_of(at("2026-09-18T10:00"))
    with pytest.raises(CalendarError, match="int64"):
        jinan.add_many(np.array([1.5]), Budget(NATURAL_DAYS, 1))  # type: ignore[arg-type]


# --- brute force: minute by minute and day by day, straight from the plain data


class Reference:
    """The rules read naively: a flag per minute, a step per day. No prefix sums, no searching."""

    def __init__(self, data: dict[str, Any], first: date, last: date) -> None:
        self.data = data
        self.zone = ZoneInfo(data["zone"])
        self.base = us(datetime(first.year, first.month, first.day, tzinfo=UTC)) - 24 * HOUR_US
        self.works = bytearray(((last - first).days + 3) * 24 * 60)
        day = first
        while day <= last:
            for start, end in self.intervals(day):
                begin, stop = (us(self.wall(day, text)) - self.base for text in (start, end))
                for minute in range(begin // MINUTE_US, stop // MINUTE_US):
                    self.works[minute] = 1
            day += timedelta(days=1)

    def wall(self, day: date, text: str) -> datetime:
        if text == "24:00":
            day, text = day + timedelta(days=1), "00:00"
        return datetime.combine(day, datetime.strptime(text, "%H:%M").time(), self.zone)  # noqa: DTZ007

    def intervals(self, day: date) -> list[list[str]]:
        week, key = self.data["week"], day.isoformat()
        override = self.data.get("overrides", {}).get(key)
        if override:
            return [] if "off" in override else override.get("intervals", week["mon"])
        for year in self.data["years"].values():
            if key in year.get("off", {}):
                return []
            if key in year.get("work", {}):
                return week["mon"]
        return week.get(WEEKDAYS[day.weekday()], [])

    def add_hours(self, anchor: int, left: int) -> int:
        minute, into = divmod(anchor - self.base, MINUTE_US)
        while True:
            if self.works[minute]:
                if left <= MINUTE_US - into:
                    return self.base + minute * MINUTE_US + into + left
                left -= MINUTE_US - into
            minute, into = minute + 1, 0

    def back_hours(self, instant: int, left: int) -> int:
        minute, into = divmod(instant - self.base, MINUTE_US)
        while True:
            if self.works[minute]:
                if left <= into:
                    return self.base + minute * MINUTE_US + into - left
                left -= into
            minute, into = minute - 1, MINUTE_US

    def used(self, start: int, stop: int) -> int:
        total, now = 0, start
        while now < stop:
            minute = (now - self.base) // MINUTE_US
            until = min(stop, self.base + (minute + 1) * MINUTE_US)
            total += (until - now) * self.works[minute]
            now = until
        return total

    def add_days(self, anchor: datetime, budget: Budget) -> datetime:
        day, left = anchor.astimezone(self.zone).date(), budget.amount
        while left:
            day += timedelta(days=1)
            left -= budget.measure is NATURAL_DAYS or bool(self.intervals(day))
        while not self.intervals(day):
            day += timedelta(days=1)
        return self.end(day)

    def end(self, day: date) -> datetime:
        intervals = self.intervals(day)
        closes = intervals and self.data["day_end"] == "office_close"
        return self.wall(day, intervals[-1][1] if closes else "24:00")


@cache
def reference(name: str) -> Reference:
    return Reference(compiled(name)[0], date(2025, 11, 1), date(2027, 3, 31))


def random_anchor(chance: random.Random) -> datetime:
    """An instant of 2026, often on the minute, often near a change of the clock."""
    base = chance.choice([at("2026-01-01T00:00"), at("2026-03-05T00:00"), at("2026-10-29T00:00")])
    span = 365 if base.month == 1 else 6
    minute = timedelta(minutes=chance.randrange(span * 24 * 60))
    return base + minute + timedelta(microseconds=chance.choice([0, 0, 1, chance.randrange(MINUTE_US)]))


def random_hours(chance: random.Random) -> int:
    return chance.choice([1, chance.randrange(1, 90) * 10 * MINUTE_US, chance.randrange(1, 15 * HOUR_US)])


NAMES = pytest.mark.parametrize("name", ["jinan", "nights", "closing"])


@NAMES
def test_working_hours_equal_a_count_minute_by_minute(name: str) -> None:
    calendar, judge, chance = compiled(name)[1], reference(name), random.Random(f"hours {name}")
    for _ in range(700):
        anchor, amount = random_anchor(chance), random_hours(chance)
        due = calendar.add(anchor, Budget(WORKING_HOURS, amount))
        assert us(due) == judge.add_hours(us(anchor), amount), (anchor, amount)
        back = calendar.shift(anchor, Budget(WORKING_HOURS, amount), -1)
        assert us(back) == judge.back_hours(us(anchor), amount), (anchor, amount)
        stop = anchor + timedelta(microseconds=random_hours(chance) * 3)
        assert calendar.between(anchor, stop, WORKING_HOURS) == judge.used(us(anchor), us(stop)), (
            anchor,
            stop,
        )


@NAMES
@pytest.mark.parametrize("measure", [NATURAL_DAYS, WORKING_DAYS])
def test_days_equal_a_count_day_by_day(name: str, measure: Measure) -> None:
    calendar, judge, chance = compiled(name)[1], reference(name), random.Random(f"{measure} {name}")
    for _ in range(700):
        anchor, budget = random_anchor(chance), Budget(measure, chance.randrange(1, 40))
        assert calendar.add(anchor, budget) == judge.add_days(anchor, budget), (anchor, budget)


@NAMES
def test_natural_hours_equal_elapsed_time_across_changes_of_the_clock(name: str) -> None:
    calendar, chance = compiled(name)[1], random.Random(name)
    for _ in range(300):
        anchor, amount = random_anchor(chance), random_hours(chance)
        due = calendar.add(anchor.astimezone(NEW_YORK), Budget(NATURAL_HOURS, amount))
        assert us(due) - us(anchor) == amount == calendar.between(anchor, due, NATURAL_HOURS)


instants = st.integers(us(at("2005-01-01T00:00")), us(at("2060-01-01T00:00"))).map(
    lambda micros: EPOCH + timedelta(microseconds=micros)
)
amounts = st.one_of(st.integers(1, 400 * HOUR_US), st.integers(1, 400).map(lambda n: n * HOUR_US // 2))


@NAMES
@settings(derandomize=True, database=None, deadline=None, max_examples=400)
@given(anchor=instants, amount=amounts)
def test_between_undoes_add_and_the_due_instant_is_the_earliest(name: str, anchor: datetime, amount: int) -> None:
    calendar, budget = compiled(name)[1], Budget(WORKING_HOURS, amount)
    due = calendar.add(anchor, budget)
    assert calendar.between(anchor, due, WORKING_HOURS) == amount
    assert calendar.between(anchor, due - MICROSECOND, WORKING_HOURS) == amount - 1
    back = calendar.shift(due, budget, -1)
    assert back >= anchor
    assert calendar.between(back, due, WORKING_HOURS) == amount
    assert calendar.between(back + MICROSECOND, due, WORKING_HOURS) == amount - 1


@NAMES
@settings(derandomize=True, database=None, deadline=None, max_examples=200)
@given(anchor=instants, n=st.integers(1, 500), measure=st.sampled_from([NATURAL_DAYS, WORKING_DAYS]))
def test_counting_days_undoes_the_nth_day(name: str, anchor: datetime, n: int, measure: Measure) -> None:
    calendar = compiled(name)[1]
    start = calendar.local_date(anchor)
    stop = calendar.nth_day(start, n, measure)
    assert calendar.count_days(start, stop, measure) == n
    assert stop == calendar.due_date_unmoved(anchor, Budget(measure, n))
    first = calendar.roll(start) if measure is WORKING_DAYS else start
    assert calendar.nth_day(calendar.nth_day(first, n, measure), -n, measure) == first


# --- zones with summer time


def test_an_interval_over_the_gap_is_an_hour_shorter_and_one_over_the_fold_an_hour_longer() -> None:
    data = deepcopy(NIGHTS) | {"week": {"sun": [["00:00", "06:00"]]}, "overrides": {}, "years": {}}
    calendar = Calendar.compile(data)
    lengths = [
        calendar.between(calendar.start_of(day), calendar.end_of(day), WORKING_HOURS) // HOUR_US
        for day in (date(2026, 3, 1), date(2026, 3, 8), date(2026, 11, 1))
    ]
    assert lengths == [6, 5, 7]


def test_intervals_that_a_gap_pushes_over_each_other_count_once() -> None:
    data = deepcopy(NIGHTS) | {"week": {"sun": [["01:30", "02:30"], ["03:00", "04:00"]]}, "overrides": {}}
    calendar = Calendar.compile(data)
    day = date(2026, 3, 8)
    assert calendar.between(calendar.start_of(day), calendar.end_of(day), WORKING_HOURS) == 90 * MINUTE_US


def test_a_midnight_that_does_not_exist_begins_the_day_at_the_change() -> None:
    data = deepcopy(NIGHTS) | {"zone": "America/Sao_Paulo", "day_end": "24:00"}
    calendar = Calendar.compile(data)
    change = datetime(2018, 11, 4, 3, tzinfo=UTC)
    assert calendar.start_of(date(2018, 11, 4)) == change == calendar.end_of(date(2018, 11, 3))
    assert calendar.local_date(change) == date(2018, 11, 4)
    assert calendar.local_date(change - MICROSECOND) == date(2018, 11, 3)


@pytest.mark.parametrize(
    "zone", ["Pacific/Apia", "Africa/Casablanca", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Havana"]
)
def test_days_of_odd_zones_follow_each_other_without_a_hole(zone: str) -> None:
    calendar = Calendar.compile(deepcopy(NIGHTS) | {"zone": zone, "day_end": "24:00"})
    chance = random.Random(zone)
    for _ in range(500):
        day = date(2005, 1, 1) + timedelta(days=chance.randrange(14_000))
        assert calendar.end_of(day) == calendar.start_of(day + timedelta(days=1))
        assert us(calendar.start_of(day)) == us(at(day.isoformat(), ZoneInfo(zone)))
        assert calendar.local_date(calendar.start_of(day)) in (day, day + timedelta(days=1))


# --- explanations


@NAMES
@pytest.mark.parametrize("measure", list(Measure))
def test_an_explanation_adds_up_to_the_budget_exactly(name: str, measure: Measure) -> None:
    calendar, chance = compiled(name)[1], random.Random(f"explain {name} {measure}")
    for _ in range(60):
        anchor = random_anchor(chance)
        budget = Budget(measure, chance.randrange(1, 30) if measure.counts_days else random_hours(chance))
        told = calendar.explain(anchor, budget)
        assert told["sum"] == budget.amount == sum(row["amount"] for row in told["days"])
        assert datetime.fromisoformat(told["due_at"]) == calendar.add(anchor, budget)
        spans = [span for row in told["days"] for span in row["intervals"]]
        length = sum(us(datetime.fromisoformat(b)) - us(datetime.fromisoformat(a)) for a, b in spans)
        assert length == (0 if measure.counts_days else budget.amount)
        assert json.loads(json.dumps(told)) == told


def test_an_explanation_names_each_day_that_did_not_count(jinan: Calendar) -> None:
    told = jinan.explain(at("2026-09-18T10:00"), Budget(WORKING_DAYS, 6))
    rows = [(row["date"][5:], row["amount"], row["reason"], row["rule"], row["name"]) for row in told["days"]]
    assert rows == [
        ("09-18", 0, "anchor_day", "weekday", None),
        ("09-19", 0, "off", "weekend", None),
        ("09-20", 1, None, "make_up", "国庆节"),
        ("09-21", 1, None, "weekday", None),
        ("09-22", 1, None, "weekday", None),
        ("09-23", 1, None, "weekday", None),
        ("09-24", 1, None, "weekday", None),
        ("09-25", 0, "off", "holiday", "中秋节"),
        ("09-26", 0, "off", "holiday", "中秋节"),
        ("09-27", 0, "off", "holiday", "中秋节"),
        ("09-28", 1, None, "weekday", None),
    ]
    assert told["days"][2]["notice"] == "国务院办公厅关于2026年部分节假日安排的通知"
    assert told["calendar"] == {"key": "cn-jinan", "version": 1}
    assert (told["budget"], told["counting_rule"], told["provisional"]) == (
        "6",
        "counting.working_days",
        False,
    )


def test_an_explanation_tells_days_moved_on_from_days_counted(jinan: Calendar) -> None:
    told = jinan.explain(at("2026-09-23T10:00"), Budget(NATURAL_DAYS, 2))
    reasons = [row["reason"] for row in told["days"]]
    assert reasons == ["anchor_day", None, None, "moved_on", "moved_on", "moved_on"]


def test_an_explanation_of_hours_shows_the_intervals_that_counted(jinan: Calendar) -> None:
    told = jinan.explain(at("2026-09-18T17:00"), hours("PT1H30M"))
    assert [(row["date"], row["amount"] // MINUTE_US, row["intervals"]) for row in told["days"]] == [
        ("2026-09-18", 30, [["2026-09-18T17:00:00+08:00", "2026-09-18T17:30:00+08:00"]]),
        ("2026-09-19", 0, []),
        ("2026-09-20", 60, [["2026-09-20T09:00:00+08:00", "2026-09-20T10:00:00+08:00"]]),
    ]


def test_a_very_long_explanation_is_bounded_and_still_adds_up(jinan: Calendar) -> None:
    told = jinan.explain(at("2026-09-18T17:00"), Budget(WORKING_DAYS, 3660))
    assert len(told["days"]) == MAX_EXPLAINED_DAYS + 1
    assert told["sum"] == 3660
    assert told["days"][-1]["rule"] == "remainder"
    assert told["days"][-1]["until"] == jinan.due_date(at("2026-09-18T17:00"), Budget(WORKING_DAYS, 3660)).isoformat()


# --- many at once, and speed


@NAMES
@pytest.mark.parametrize("measure", list(Measure))
def test_many_at_once_equal_one_by_one(name: str, measure: Measure) -> None:
    calendar, chance = compiled(name)[1], random.Random(f"many {name} {measure}")
    anchors = [random_anchor(chance) for _ in range(1_000)]
    budget = Budget(measure, 7 if measure.counts_days else 9 * HOUR_US + 1)
    many = calendar.add_many(np.array([us(anchor) for anchor in anchors], dtype=np.int64), budget)
    assert many.dtype == np.int64
    assert many.tolist() == [us(calendar.add(anchor, budget)) for anchor in anchors]


def test_many_at_once_are_due_at_closing_and_not_at_the_next_opening(jinan: Calendar) -> None:
    anchors = np.array([us(at("2026-09-16T09:00")), us(at("2026-09-15T18:00"))], dtype=np.int64)
    assert jinan.add_many(anchors, hours("PT7H")).tolist() == [us(at("2026-09-16T17:30"))] * 2


def test_no_anchors_give_no_due_times(jinan: Calendar) -> None:
    for measure in Measure:
        assert jinan.add_many(np.array([], dtype=np.int64), Budget(measure, 1)).tolist() == []


@NAMES
def test_each_with_its_own_budget_equals_one_by_one(name: str) -> None:
    calendar, chance = compiled(name)[1], random.Random(f"each {name}")
    anchors = [random_anchor(chance) for _ in range(2_000)]
    measures = [chance.choice(MEASURES) for _ in anchors]
    budgets = [Budget(m, chance.randrange(1, 40) if m.counts_days else random_hours(chance)) for m in measures]
    asked = (map(us, anchors), map(MEASURES.index, measures), (budget.amount for budget in budgets))
    due = calendar.add_each(*(np.array(list(values), dtype=np.int64) for values in asked))
    assert due.tolist() == [us(calendar.add(a, b)) for a, b in zip(anchors, budgets, strict=True)]


def test_a_new_version_of_the_calendar_moves_the_clocks_that_it_should_and_no_other(jinan: Calendar) -> None:
    data = jinan_data() | {"overrides": {"2026-09-17": {"off": True, "source": "local"}}}
    anchors = np.array([us(at(f"2026-09-{day}T10:00")) for day in (14, 15, 16, 17)], dtype=np.int64)
    asked = (anchors, np.full(4, MEASURES.index(WORKING_DAYS)), np.array([2, 2, 2, 1]))
    old, new = (calendar.add_each(*asked) for calendar in (jinan, Calendar.compile(data, version=2)))
    assert (new != old).tolist() == [False, True, True, False]
    assert new[1] == us(at("2026-09-19T00:00"))


def test_clocks_asked_about_together_are_refused_for_what_each_would_be_refused_for(jinan: Calendar) -> None:
    anchors = np.array([us(at("2026-09-14T10:00"))] * 2)
    for measures, amounts, message in (
        ([3, 4], [1, 1], "positions in MEASURES"),
        ([-1, 3], [1, 1], "positions in MEASURES"),
        ([3, 3], [1, 0], "more than zero"),
        ([3, 1], [3_661, 1], "at most 3660 days"),
        ([3, 3], [1.0, 1.0], "int64"),
        ([3], [1], "the same three times"),
    ):
        with pytest.raises(CalendarError, match=message):
            jinan.add_each(anchors, np.array(measures), np.array(amounts))


@NAMES
def test_the_first_and_the_last_instant_of_the_range_are_answered_and_the_next_ones_refused(name: str) -> None:
    calendar = compiled(name)[1]
    first, last = calendar.start_of(date(2000, 1, 1)), calendar.end_of(LAST - timedelta(days=1))
    end = calendar.add(calendar.start_of(LAST), Budget(NATURAL_HOURS, 24 * HOUR_US))
    whole = calendar.between(first, end, WORKING_HOURS)
    assert calendar.between(first, last, WORKING_HOURS) + calendar.between(last, end, WORKING_HOURS) == whole
    assert calendar.between(end - MICROSECOND, end, NATURAL_HOURS) == 1
    assert calendar.local_date(end - MICROSECOND) == LAST
    for ask in (
        lambda: calendar.between(first - MICROSECOND, end, WORKING_HOURS),
        lambda: calendar.between(first, end + MICROSECOND, WORKING_HOURS),
        lambda: calendar.between(first, end, WORKING_DAYS),
        lambda: calendar.local_date(end),
        lambda: calendar.add(end, Budget(WORKING_HOURS, 1)),
    ):
        with pytest.raises(CalendarError, match="outside the calendar's range"):
            ask()


def test_a_million_due_times_take_less_than_two_seconds(jinan: Calendar) -> None:
    chance = np.random.default_rng(7)
    anchors = chance.integers(us(at("2020-01-01T00:00")), us(at("2030-01-01T00:00")), 1_000_000)
    begin = process_time()
    jinan.add_many(anchors, hours("PT14H"))
    assert process_time() - begin < 2


def test_a_million_clocks_are_projected_by_a_new_calendar_in_less_than_two_seconds(jinan: Calendar) -> None:
    chance = np.random.default_rng(9)
    anchors = chance.integers(us(at("2020-01-01T00:00")), us(at("2030-01-01T00:00")), 1_000_000)
    measures = chance.integers(0, len(MEASURES), 1_000_000)
    counts_days = np.array([measure.counts_days for measure in MEASURES])[measures]
    amounts = chance.integers(1, 60, 1_000_000) * np.where(counts_days, 1, HOUR_US)
    begin = process_time()
    jinan.add_each(anchors, measures, amounts)
    assert process_time() - begin < 2


def test_compiling_takes_less_than_a_quarter_of_a_second() -> None:
    data = jinan_data()
    Calendar.compile(data)
    begin = process_time()
    Calendar.compile(data | {"zone": "Asia/Singapore"})
    assert process_time() - begin < 0.25
