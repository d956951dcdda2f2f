"""Who had the ticket when: its whole time, split so that every instant is charged to exactly one.

    before the first unit, between two units, the audit, the callback         centre
    a unit whose return was approved: it should never have had the ticket     centre
    a lead at work, also while a return that was then denied was decided      the lead's unit
    a lead at work while a co-handler is past its own limit                   the co-handler's unit
    a pause                                                                   enterprise, statutory, force_majeure, planned
    one matter, one discussion                                                review
    closed, between an end and a reopening                                    closed

Where several hold at once the first of `ORDER` counts. The spans touch without gap or overlap, so natural and office time
of the spans add up to those of the whole, to the microsecond.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from service.core.calendar import Calendar, Measure
from service.core.clocks import AWAITING_DECISION, CLOSED, HELD
from service.core.model import Assignment, ClockState, Ticket

ORDER = (
    "closed",
    "pause",
    "review",
    "audit",
    "callback",
    "dispute",
    "mis_dispatch",
    "co_handler_late",
    "lead",
    "dispatch",
)
PAUSED_FOR = {"waiting_enterprise": "enterprise", "statutory_procedure": "statutory"}
"""Kind of a pause -> whom it is charged to; other kinds stand for themselves."""
CENTRE = "centre"


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` (included) to `end` (excluded) the ticket was with `charged_to`: a unit's code, or one of the above."""

    start: datetime
    end: datetime
    charged_to: str
    because: str
    leg: str | None = None


def split(ticket: Ticket, now: datetime) -> list[Span]:
    """The whole time of a ticket, in order; adjacent spans of the same charge are one."""
    begin = min([ticket.received_at, *(a.dispatched_at for a in ticket.assignments)])
    end = ticket.closed_at or now
    claims = [c for c in _claims(ticket, begin, end) if c.start < c.end]
    edges = sorted({begin, end, *(t for c in claims for t in (c.start, c.end) if begin < t < end)})
    out: list[Span] = []
    for start, stop in pairwise(edges):
        here = [c for c in claims if c.start <= start and stop <= c.end]
        claim = min(here, key=lambda c: ORDER.index(c.because), default=Span(start, stop, CENTRE, "dispatch"))
        if out and (out[-1].charged_to, out[-1].because, out[-1].leg) == (claim.charged_to, claim.because, claim.leg):
            out[-1] = Span(out[-1].start, stop, claim.charged_to, claim.because, claim.leg)
        else:
            out.append(Span(start, stop, claim.charged_to, claim.because, claim.leg))
    return out


def _claims(ticket: Ticket, begin: datetime, end: datetime) -> Iterator[Span]:
    for leg in ticket.assignments:
        until = leg.ended_at or end
        if leg.role == "lead":
            returned = _returned_at(ticket, leg)
            yield Span(leg.dispatched_at, until, leg.department, "lead", leg.id)
            if returned is not None:
                yield Span(leg.dispatched_at, returned, CENTRE, "mis_dispatch", leg.id)
    yield from _late_co_handlers(ticket, end)
    for clock in ticket.clocks:
        if clock.name in {"audit", "callback", "dispute"}:
            yield Span(clock.anchor, clock.ended_at or end, CENTRE, clock.name)
        if clock.name == "resolve":
            for segment in clock.segments:
                until = min(t for t in (segment.end, segment.until, clock.ended_at, end) if t is not None)
                if segment.kind == CLOSED:
                    yield Span(segment.start, segment.end or end, "closed", "closed")
                elif segment.kind not in {HELD, AWAITING_DECISION}:
                    yield Span(segment.start, until, PAUSED_FOR.get(segment.kind, segment.kind), "pause")
    for review in ticket.reviews:
        if review.screened_at is not None and review.state != "refused":
            yield Span(review.screened_at, review.completed_at or end, "review", "review")
    # a clock that began anew says nothing of the time for which the ticket was closed: the rounds do
    for one, other in pairwise(ticket.rounds):
        if one.ended_at is not None and one.ended_at < other.started_at:
            yield Span(one.ended_at, other.started_at, "closed", "closed")


def _returned_at(ticket: Ticket, leg: Assignment) -> datetime | None:
    """When it was ruled that this unit should not have had the ticket."""
    approved = (
        a for a in ticket.approvals if a.assignment_id == leg.id and (a.kind, a.state) == ("return", "approved")
    )
    return next((a.decided_at for a in approved), None)


def _late_co_handlers(ticket: Ticket, end: datetime) -> Iterator[Span]:
    """From its own limit on until it answers, a co-handler has the time of the lead that waits for it."""
    late = sorted(
        (
            c
            for c in ticket.clocks
            if c.breached_at is not None and c.assignment_id is not None and c.name.startswith("co_")
        ),
        key=lambda c: c.due_at,
    )
    for clock in late:
        for lead in ticket.assignments:
            # what waits: the lead's leg while it has not answered itself
            if lead.role == "lead":
                since = max(clock.due_at, lead.dispatched_at)
                until = min(t for t in (clock.ended_at, lead.ended_at, end) if t is not None)
                yield Span(since, until, clock.department or "", "co_handler_late", clock.assignment_id)


@dataclass(frozen=True, slots=True)
class Amount:
    """Natural time, and office time by one calendar, in microseconds."""

    gross_us: int
    working_us: int


def amount(spans: Sequence[Span], calendar: Calendar) -> Amount:
    gross = sum(_us(s.start, s.end) for s in spans)
    return Amount(gross, sum(calendar.between(s.start, s.end, Measure.working_hours) for s in spans))


def _us(start: datetime, end: datetime) -> int:
    span = end - start
    return (span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds


def late_by(ticket: Ticket, leg: Assignment) -> list[dict[str, object]]:
    """The leg's own clocks that were or are late."""
    return [
        {"clock": c.name, "due_at": c.due_at, "ended_at": c.ended_at, "running": c.state is ClockState.BREACHED_RUNNING}
        for c in ticket.clocks
        if c.assignment_id == leg.id and c.breached_at is not None
    ]
