"""Budgets and the measures they are counted in: the amounts of time that a workflow grants.

Four measures, which never turn into one another (one working day is neither 24 h nor 8 h): natural_hours,
working_hours, natural_days, working_days. What each means on a calendar: `service.core.calendar`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAX_BUDGET_DAYS: Final = 3660

SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US

_HOURS_PATTERN: Final = re.compile(
    r"P(?:([0-9]{1,9})D)?(?:T(?=[0-9])(?:([0-9]{1,9})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9})(?:[.,]([0-9]{1,6}))?S)?)?"
)
_DAYS_PATTERN: Final = re.compile(r"P([0-9]{1,9})D|([0-9]{1,9})")


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
        return self is _NATURAL_DAYS or self is _WORKING_DAYS


_NATURAL_DAYS, _WORKING_DAYS = Measure.natural_days, Measure.working_days


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
        if self.amount > MAX_BUDGET_DAYS * (1 if self.measure.counts_days else DAY_US):
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
        hours, rest = divmod(self.amount, HOUR_US)
        minutes, rest = divmod(rest, MINUTE_US)
        seconds, fraction = divmod(rest, SECOND_US)
        tail = f"{seconds}.{fraction:06d}".rstrip("0") if fraction else str(seconds)
        parts = ((str(hours), "H"), (str(minutes), "M"), (tail, "S"))
        return "PT" + "".join(number + unit for number, unit in parts if number != "0")


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
    return days * DAY_US + hours * HOUR_US + minutes * MINUTE_US + seconds * SECOND_US + fraction
