"""What the city decides about its docket (workflows/docket.yaml): criteria, exclusions, tiers, gates, meetings.

Plain data -> checked values. An `Env` without it belongs to a replay: what was done then is not judged by today's rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from service.core.calendar import Calendar
from service.core.documents import Name, Part, TextDoc, parsed

Check = Literal["assignments", "rounds", "overdue_working_days", "cluster"]
Need = Literal["always", "investment_project", "commitments", "favours", "major", "funds"]
GATES = ("competence", "fair_competition", "legality", "budget", "confidentiality", "recusal")
"""The gates that the engine knows; the file says where each is needed."""


class Criterion(Part):
    """Why a matter may be proposed: proved by the engine (`check`), vouched for by name (`signed`), or explained."""

    title: TextDoc
    check: Check | None = None
    at_least: int = Field(1, ge=1, le=1000)
    days: int = Field(90, ge=1, le=730)
    signed: bool = False


class Tier(Part):
    title: TextDoc
    chair: TextDoc
    written: bool = False
    signed: bool = False


class Gate(Part):
    """`working_days`: how long the reviewing body has at least, from when it was asked."""

    title: TextDoc
    needed: list[Need] = Field(min_length=1)
    skip: bool = True
    working_days: int = Field(0, ge=0, le=60)


class AgendaCloses(Part):
    weekday: int = Field(ge=1, le=7)
    at: time


class MeetingRules(Part):
    agenda_closes: AgendaCloses
    extra_closes_hours: int = Field(24, ge=0, le=240)
    notice_working_days: int = Field(1, ge=0, le=10)
    papers_working_days: int = Field(2, ge=0, le=10)


class Screening(Part):
    returns: int = Field(2, ge=0, le=2)


class MeasureRules(Part):
    progress_months: int = Field(1, ge=1, le=12)
    evidence: list[Name] = Field(min_length=1)


class MinutesHead(Part):
    """Whose minutes a tier's are: the red mark, the office that issues them, the series whose numbers they take."""

    mark: str = Field(min_length=1, max_length=40)
    office: str = Field(min_length=1, max_length=40)
    series: Name


class Docket(Part):
    """The rules of the docket, compiled."""

    calendar: str = Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")
    criteria: dict[Name, Criterion]
    exclusions: dict[Name, TextDoc]
    screening: Screening
    tiers: dict[Annotated[int, Field(ge=1, le=3)], Tier]
    gates: dict[Name, Gate]
    meeting: MeetingRules
    measures: MeasureRules
    minutes: dict[Annotated[int, Field(ge=1, le=3)], MinutesHead]

    @model_validator(mode="after")
    def _whole(self) -> Docket:
        if sorted(self.tiers) != [1, 2, 3]:
            raise ValueError("there are three tiers: 1, 2 and 3")
        if sorted(self.minutes) != [1, 2, 3]:
            raise ValueError("the minutes of each tier, 1, 2 and 3, have a head")
        if set(self.gates) != set(GATES):
            raise ValueError(f"the gates are: {', '.join(GATES)}")
        if "manual" not in self.criteria:
            raise ValueError("`manual` is the criterion of whoever names none")
        return self

    def agenda_closes_at(self, held_at: datetime, calendar: Calendar) -> datetime:
        """The last such weekday's hour before the day of the meeting, by the city's clock."""
        rule, day = self.meeting.agenda_closes, calendar.local_date(held_at)
        back = (day.isoweekday() - rule.weekday) % 7 or 7
        return datetime.combine(day - timedelta(days=back), rule.at, held_at.astimezone(calendar.zone).tzinfo)

    def progress_due_on(self, last: date) -> date:
        """A month (or as many as the rule says) after the last report; at a short month's end its last day."""
        months = last.month - 1 + self.measures.progress_months
        year, month = last.year + months // 12, months % 12 + 1
        following = date(year + month // 12, month % 12 + 1, 1)
        return min(date(year, month, 1) + timedelta(days=last.day - 1), following - timedelta(days=1))


def parse_docket(plain: Mapping[str, Any]) -> Docket:
    """Raises DefinitionError with the path of what is wrong and what was expected."""
    return parsed(Docket, plain)
