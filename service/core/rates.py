"""The figures of the SLA report: each one's definition in words, and how a value is made of two counts.

Definitions follow the usage of published bulletins (the limit *falls* in the period, not "closed in the period", so a
backlog cannot hide). What a limit is, when it has fallen and who is charged with it is said in db/sql/sla_facts.sql.
A rate with an empty denominator is null, never 0 or 100 %: a unit without requests has no rate. Percentages are
floored at four digits: 99.995 % is never shown as 100 % (time rule T19). An exempt ticket leaves both sides of a rate.

Counts are figures too: their numerator is the number of tickets, denominator and value are null. They add up:
carried_over + new = closed + open_at_end, and closed = completed + withdrawn + merged + not_accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Any

import numpy as np

from service.core.calendar import Calendar, IntArray


@dataclass(frozen=True, slots=True)
class Rate:
    """`denominator` and `numerator` say in words what is counted."""

    name: str
    zh: str
    denominator: str
    numerator: str


@dataclass(frozen=True, slots=True)
class Count:
    """A number of tickets; `counted` says in words which."""

    name: str
    zh: str
    counted: str


DUE = "resolution limit (of any round, extensions included) fell in the period"
ENDED = "closed in the period; not withdrawn, merged or not accepted"
DUE_FIRST = "resolution limit of round 1 fell in the period"

RATES: tuple[Rate, ...] = (
    Rate("on_time_sign_rate", "按时签收率", "acceptance limit fell in the period",
         "accepted by hand within the limit; a silent acceptance is late"),
    Rate("response_rate", "响应率", "first-contact limit fell in the period", "enterprise reached within the limit"),
    Rate("on_time_completion_rate", "按时办结率", DUE, "reply submitted within the limit and accepted"),
    Rate("on_time_after_extension_rate", "延期后按时率", DUE,
         "reply accepted and within the limit, but after the limit that stood before the extension"),
    Rate("late_completion_rate", "逾期办结率", DUE, "reply accepted, but submitted after the limit"),
    Rate("completion_rate", "办结率", DUE, "reply accepted, late ones included"),
    Rate("overdue_rate", "超期率", DUE,
         "no reply accepted as of now, and none that was submitted within the limit waits for its audit"),
    Rate("extension_rate", "延期率", DUE, "an extension was approved"),
    Rate("first_time_completion_rate", "一次办结率", DUE_FIRST, "closed in round 1; not withdrawn, merged or not accepted"),
    Rate("second_time_completion_rate", "二次办结率", DUE_FIRST, "closed in round 2; not withdrawn, merged or not accepted"),
    Rate("third_time_completion_rate", "三次办结率", DUE_FIRST, "closed in round 3; not withdrawn, merged or not accepted"),
    Rate("later_completion_rate", "四次及以上办结率", DUE_FIRST,
         "closed in round 4 or later; not withdrawn, merged or not accepted"),
    Rate("resolution_rate", "解决率", "callback of a round reached the enterprise in the period", "callback says solved"),
    Rate("partly_solved_rate", "部分解决率", "callback of a round reached the enterprise in the period",
         "callback says partly solved"),
    Rate("satisfaction_rate", "满意率", "rated at a callback in the period",
         "very satisfied, satisfied or basically satisfied"),
    Rate("unreachable_rate", "未联系上率", "callback of a round was answered or given up in the period",
         "given up: closed without reaching the enterprise"),
    Rate("return_rate", "退单率", "dispatched to a lead in the period", "that department asked to send it back"),
    Rate("invalid_return_rate", "无效退单率", "return asked in the period and ruled on", "ruled against the department"),
    Rate("rework_rate", "重办率", ENDED, "needed a second round or more"),
    Rate("repeat_rate", "重复诉求率", ENDED,
         "same enterprise and matter came again within 30 days after closing"),
    Rate("audit_failure_rate", "答复不规范率", "reply submitted in the period and audited", "sent back by the audit"),
    Rate("review_rate", "提请议事率", "received in the period",
         "put on the docket of one matter, one discussion (enterprise problems only)"),
)  # fmt: skip

COUNTS: tuple[Count, ...] = (
    Count("carried_over", "上期结转", "received before the period and not closed before it"),
    Count("new", "本期新收", "received in the period"),
    Count("closed", "本期结案", "closed in the period, for whatever reason"),
    Count(
        "completed",
        "本期办结",
        "closed in the period; not withdrawn, merged or not accepted; handling times are taken of these",
    ),
    Count("withdrawn", "本期撤单", "closed in the period because it was withdrawn"),
    Count("merged", "本期并单", "closed in the period because it was merged into another"),
    Count("not_accepted", "本期不予受理", "closed in the period: rejected, or handed over to an emergency line"),
    Count(
        "open_at_end", "期末在办", "received and not closed at the end of the period, or as of now if that is earlier"
    ),
)

RATE_NAMES = tuple(r.name for r in RATES)
COUNT_NAMES = tuple(c.name for c in COUNTS)
NAMES = (*RATE_NAMES, *COUNT_NAMES)
PERCENTILES = (50, 90, 99)
HOUR_US = 3_600_000_000


def value(numerator: int, denominator: int) -> float | None:
    """Share, floored to four decimals; None when nothing was to be counted."""
    if denominator == 0:
        return None
    return (numerator * 10_000 // denominator) / 10_000


def figures(counts: Mapping[str, tuple[int, int, int]], link: Callable[[str], str]) -> dict[str, dict[str, Any]]:
    """(numerator, denominator, excluded) by name -> the report's figures, all of them; `link` gives where one is listed.

    `excluded`: what an exemption keeps out of both sides of a rate.
    """
    out: dict[str, dict[str, Any]] = {}
    for name in NAMES:
        numerator, denominator, excluded = counts.get(name, (0, 0, 0))
        counted = name in RATE_NAMES
        out[name] = {
            "numerator": numerator,
            "denominator": denominator if counted else None,
            "value": value(numerator, denominator) if counted else None,
            "excluded": excluded if counted else None,
            "tickets": link(name),
        }
    return out


def percentile(ordered: Sequence[int], share: float) -> int | None:
    """Nearest-rank percentile of an ascending sequence; None when it is empty."""
    if not ordered:
        return None
    rank = max(1, -(-round(share * 1000) * len(ordered) // 1000))
    return ordered[min(rank, len(ordered)) - 1]


def hours(spans_us: IntArray) -> dict[str, float | None]:
    """p50, p90 and p99 of spans in microseconds, as hours to two decimals."""
    ordered: list[int] = np.sort(spans_us).tolist()
    found = {f"p{p}": percentile(ordered, p / 100) for p in PERCENTILES}
    return {name: None if us is None else round(us / HOUR_US, 2) for name, us in found.items()}


# --- working time of many spans at once --------------------------------------------------------------------------


def office_time(calendar: Calendar, since_us: IntArray, until_us: IntArray) -> IntArray:
    """`calendar.between(…, working_hours)` for arrays of epoch microseconds: microseconds of office time, exact."""
    if not since_us.size:
        return np.zeros(0, dtype=np.int64)
    zone = calendar.zone
    first = datetime.fromtimestamp(min(int(since_us.min()), int(until_us.min())) // 1_000_000, zone).year
    last = datetime.fromtimestamp(max(int(since_us.max()), int(until_us.max())) // 1_000_000, zone).year
    edges, through = _office(calendar, first, last)
    spent: IntArray = np.maximum(0, _used(edges, through, until_us) - _used(edges, through, since_us))
    return spent


def _used(edges: IntArray, through: IntArray, at_us: IntArray) -> IntArray:
    """Office time from the first edge up to each instant: inside an interval it grows, between two it stands still."""
    index = np.searchsorted(edges, at_us, "right") - 1
    known = np.maximum(index, 0)
    inside = (index >= 0) & (known % 2 == 0)
    used: IntArray = np.where(index < 0, 0, through[known]) + np.where(inside, at_us - edges[known], 0)
    return used


@lru_cache(maxsize=64)
def _office(calendar: Calendar, first_year: int, last_year: int) -> tuple[IntArray, IntArray]:
    """Starts and ends of office intervals, alternating, and the office time up to each."""
    flat = [edge for year in range(first_year, last_year + 1) for edge in _year(calendar, year)]
    edges = np.maximum.accumulate(np.array(flat, dtype=np.int64))  # a zone's gap may make intervals overlap
    lengths = edges[1::2] - edges[0::2]
    through = np.zeros(len(edges), dtype=np.int64)
    through[1::2] = np.cumsum(lengths)
    through[2::2] = through[1:-1:2]
    return edges, through


@lru_cache(maxsize=256)
def _year(calendar: Calendar, year: int) -> tuple[int, ...]:
    edges: list[int] = []
    day = date(year, 1, 1)
    while day.year == year:
        for start, end in calendar.day(day).intervals:
            edges += (_local_us(calendar, day, start), _local_us(calendar, day, end))
        day += timedelta(days=1)
    return tuple(edges)


def _local_us(calendar: Calendar, day: date, text: str) -> int:
    """Epoch microseconds of a local time of a date; "24:00" is the next midnight."""
    if text == "24:00":
        day, text = day + timedelta(days=1), "00:00"
    return int(datetime.combine(day, time.fromisoformat(text), calendar.zone).timestamp()) * 1_000_000
