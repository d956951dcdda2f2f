"""A calendar as plain data, parsed and checked: every error names the path in the data and what was expected there.

The shape of the data is described in workflows/calendars/README.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from typing import Any, Final, Literal, cast
from zoneinfo import ZoneInfo

from service.core.budgets import CalendarError

FIRST: Final = date(2000, 1, 1)
LAST: Final = date(2079, 12, 31)
DAY_MINUTES: Final = 24 * 60
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Rule = Literal["weekday", "weekend", "holiday", "make_up", "override", "statutory"]
DayEnd = Literal["24:00", "office_close"]

_TIME_PATTERN: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_KEY_PATTERN: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_DATE_PATTERN: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

Minutes = tuple[tuple[int, int], ...]
"""Office intervals of one day in order: (start, end) in minutes of the local day, half open, 0..1440."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A date that a notice or an override takes out of the weekday rule; no intervals means off."""

    intervals: Minutes
    rule: Rule
    name: str | None
    notice: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """A calendar as read and found well-formed, before its tables are built."""

    key: str
    title: dict[str, str]
    zone: ZoneInfo
    day_end: DayEnd
    week: tuple[Minutes, ...]
    marks: dict[date, Mark]
    horizon: date | None
    extends: str | None
    districts: frozenset[str]


def overlay(base: Mapping[str, Any] | None, own: Mapping[str, Any]) -> dict[str, Any]:
    """A district's calendar over its city's: what it says itself wins, `overrides` date by date, `week` day by day.

    `own` is kept in the result, so that a new version of the base can be laid under it again. Raises CalendarError
    when there is no such base, or when the base is an overlay itself.
    """
    name = own.get("extends")
    if base is None or base.get("extends"):
        raise CalendarError(f"extends: expected the key of a calendar that stands by itself, got {name!r}")
    merged = {**{k: v for k, v in base.items() if k not in {"districts", "own"}}, **own}
    for part in ("overrides", "week"):
        for side in (base, own):
            if side.get(part) and not isinstance(side[part], Mapping):
                raise CalendarError(f"{part}: expected a mapping, got {side[part]!r}")
        if base.get(part) or own.get(part):
            merged[part] = {**(base.get(part) or {}), **(own.get(part) or {})}
    return {**merged, "own": dict(own)}


def read_calendar(data: Mapping[str, Any]) -> Source:
    """Raises CalendarError, naming the path in the data and what was expected there."""
    optional = {"day_end", "years", "overrides", "extends", "districts", "own"}
    _fields(data, "calendar", {"key", "title", "zone", "week"}, optional)
    day_end = data.get("day_end", "24:00")
    expect(day_end in ("24:00", "office_close"), "day_end", '"24:00" or "office_close"', day_end)
    week = _read_week(data["week"])
    ordinary = next(intervals for intervals in week if intervals)
    years = _read_years(data.get("years"))
    marks = _read_marks(years, ordinary) | _read_overrides(data.get("overrides"), ordinary)
    return Source(
        key=_read_key(data["key"]),
        title=_read_title(data["title"]),
        zone=_read_zone(data["zone"]),
        day_end=cast(DayEnd, day_end),
        week=week,
        marks=marks,
        horizon=_horizon(years),
        extends=None if data.get("extends") is None else _text(data["extends"], "extends"),
        districts=_read_districts(data),
    )


def _read_key(value: object) -> str:
    key = _text(value, "key")
    expect(bool(_KEY_PATTERN.fullmatch(key)), "key", "a short name such as cn-jinan", value)
    return key


def _read_districts(data: Mapping[str, Any]) -> frozenset[str]:
    """Area codes (GB/T 2260) whose tickets an overlay counts; a calendar that stands by itself names none."""
    value = data.get("districts") or []
    expect(_is_list(value), "districts", 'a list of area codes such as ["370116"]', value)
    expect(not value or data.get("extends") is not None, "districts", "extends beside it: whose calendar it is", value)
    return frozenset(_text(code, f"districts[{n}]") for n, code in enumerate(value))


def expect(holds: bool, path: str, expected: str, got: object) -> None:
    if not holds:
        raise CalendarError(f"{path}: expected {expected}, got {got!r}")


def _fields(value: object, path: str, required: set[str], optional: set[str]) -> Mapping[str, Any]:
    """`value` if it is a mapping with all required and no unknown keys."""
    if not isinstance(value, Mapping):
        raise CalendarError(f"{path}: expected a mapping, got {value!r}")
    known = sorted(required | optional)
    for name in value:
        expect(name in known, f"{path}.{name}", f"one of the keys {', '.join(known)}", name)
    for name in sorted(required):
        expect(name in value, f"{path}.{name}", "a value", None)
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
    expect(any(days), "week", "at least one day with working time", value)
    return days


def _read_intervals(value: object, path: str) -> Minutes:
    expect(_is_list(value), path, 'a list of pairs such as ["09:00", "12:00"]', value)
    intervals: list[tuple[int, int]] = []
    free_from = 0
    for number, pair in enumerate(cast(Sequence[Any], value)):
        here = f"{path}[{number}]"
        expect(_is_list(pair) and len(pair) == 2, here, 'a pair such as ["09:00", "12:00"]', pair)
        start, end = (_read_time(text, here) for text in pair)
        expect(start < end, here, "a start before its end", pair)
        expect(start >= free_from, here, "intervals in order that do not overlap", pair)
        intervals.append((start, end))
        free_from = end
    return tuple(intervals)


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _read_time(value: object, path: str) -> int:
    """Minutes of the local day; "24:00" is its end."""
    if value == "24:00":
        return DAY_MINUTES
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
        expect(earlier.number < later.number, f"years.{later.number}", "each year once", later.number)
    return years


def _read_year(key: object, value: object) -> _Year:
    path = f"years.{key}"
    known = re.fullmatch(r"[0-9]{4}", str(key)) and FIRST.year <= int(str(key)) <= LAST.year
    expect(bool(known), path, f"a year of {FIRST.year} to {LAST.year}", key)
    year = _fields(value, path, {"status"}, {"notice", "off", "work"})
    status = year["status"]
    expect(status in ("official", "statutory_only"), f"{path}.status", "official or statutory_only", status)
    official = status == "official"
    notice = _read_notice(year.get("notice"), f"{path}.notice", official)
    off = _read_dates(year.get("off"), f"{path}.off", int(str(key)))
    work = _read_dates(year.get("work"), f"{path}.work", int(str(key)))
    expect(official or not work, f"{path}.work", "no make-up day without an official notice", sorted(work))
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
        expect(near, f"{path}.{key}", f"a date of {year} or of the December before", key)
        dates[day] = _text(name, f"{path}.{key}")
    return dates


def _read_marks(years: list[_Year], ordinary: Minutes) -> dict[date, Mark]:
    """What the notices say of each date; a date named by two of them cites the later."""
    marks: dict[date, Mark] = {}
    for year in years:
        for day, name in year.off.items():
            rule: Rule = "holiday" if year.official else "statutory"
            _put(marks, day, Mark((), rule, name, year.notice), f"years.{year.number}.off")
        for day, name in year.work.items():
            _put(marks, day, Mark(ordinary, "make_up", name, year.notice), f"years.{year.number}.work")
    return marks


def _put(marks: dict[date, Mark], day: date, mark: Mark, path: str) -> None:
    other = marks.get(day)
    agrees = other is None or bool(other.intervals) == bool(mark.intervals)
    expect(agrees, f"{path}.{day}", "a date that is either off or work", "both")
    marks[day] = mark


def _read_overrides(value: object, ordinary: Minutes) -> dict[date, Mark]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise CalendarError(f"overrides: expected a mapping of dates, got {value!r}")
    return {_read_date(key, "overrides"): _read_override(key, one, ordinary) for key, one in value.items()}


def _read_override(key: object, value: object, ordinary: Minutes) -> Mark:
    """A local decision about one date, which cites its source and wins over the notices."""
    path = f"overrides.{key}"
    override = _fields(value, path, {"source"}, {"off", "work", "intervals", "name"})
    kinds = {name: override[name] for name in ("off", "work") if name in override}
    expect(list(kinds.values()) == [True], path, "either off: true or work: true", kinds)
    intervals: Minutes = ordinary if "work" in kinds else ()
    if "intervals" in override:
        expect("work" in kinds, f"{path}.intervals", "no intervals on a date that is off", override["intervals"])
        intervals = _read_intervals(override["intervals"], f"{path}.intervals")
        expect(bool(intervals), f"{path}.intervals", "at least one interval on a date of work", [])
    name = override.get("name")
    source = _text(override["source"], f"{path}.source")
    return Mark(intervals, "override", None if name is None else _text(name, f"{path}.name"), source)


def _horizon(years: list[_Year]) -> date | None:
    """31 December of the last of the consecutive official years that begin with the first one."""
    last: int | None = None
    for year in years:
        if year.official and last in (None, year.number - 1):
            last = year.number
    return None if last is None else date(last, 12, 31)
