"""Clocks: budget + ledger -> due. Pure functions over `model.Clock`; a clock is never changed, only replaced.

A due time is always recomputed from anchor, budget, extensions and segments (never edited), so it can be explained
and checked. Counting follows Civil Code arts. 201 and 203 by analogy: the day of the anchor does not count, a limit
that ends on a day off moves to the end of the next working day.

What stops a clock, told apart in the ledger:
  pause  a span that does not count, with kind and cap; closed at the cap by itself
  hold   a submitted reply waits for its audit; if it is sent back the span counts as if never held
  awaiting_decision  asked in time, decided late: the approver's delay is not charged to the unit
  closed the ticket was closed and taken up again; shown as closed, never as waiting
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from service.core.calendar import Budget, Calendar, Measure
from service.core.model import Clock, ClockState, Extension, Segment, evolve, value

HELD = "held"
CLOSED = "closed"
AWAITING_DECISION = "awaiting_decision"
_DAYS = frozenset({Measure.natural_days, Measure.working_days})


@dataclass(frozen=True, slots=True)
class RungTime:
    """When a rung is due relative to its clock: `kind` share (percent of the budget), before, due or after.

    `series` names the rungs made of one that repeats: each is later than the one before it.
    """

    kind: str
    percent: int = 0
    offset: Budget | None = None
    series: str | None = None


@value
class Leg:
    """A stretch of counting: from `start` on, `amount` of the budget is used up before the next pause or the due."""

    start: datetime
    amount: int
    end: datetime


def total(clock: Clock) -> int:
    return clock.budget + sum(e.amount for e in clock.extensions)


def pauses(clock: Clock) -> list[tuple[datetime, datetime]]:
    """Spans that do not count, united and in order. An open pause is taken to last until its cap."""
    spans = sorted((s.start, end) for s in clock.segments if s.kind != HELD and (end := s.end or s.until) is not None)
    united: list[tuple[datetime, datetime]] = []
    for start, end in spans:
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(end, united[-1][1]))
        else:
            united.append((start, end))
    return united


def stopped(clock: Clock) -> bool:
    """Whether there are spans that do not count; a hold is none (`pauses`)."""
    return bool(clock.segments) and any(s.kind != HELD for s in clock.segments)


def legs(clock: Clock, calendar: Calendar, amount: int) -> Iterator[Leg]:
    """The stretches in which `amount` (in the clock's measure) is used up; the last one ends at the due instant."""
    if clock.measure in _DAYS:
        yield from _day_legs(clock, calendar, amount)
    else:
        yield from _hour_legs(clock, calendar, amount)


def _hour_legs(clock: Clock, calendar: Calendar, amount: int) -> Iterator[Leg]:
    at, left, measure = clock.anchor, amount, clock.measure
    for start, end in pauses(clock):
        if end <= at:
            continue
        if start <= at:
            at = end
            continue
        reach = calendar.add(at, Budget(measure, left))
        if start >= reach:
            break
        used = calendar.between(at, start, measure)
        if used:
            yield Leg(at, used, start)
        left, at = left - used, end
    yield Leg(at, left, calendar.add(at, Budget(measure, left)))


def _day_legs(clock: Clock, calendar: Calendar, amount: int) -> Iterator[Leg]:
    """T6: a pause keeps r, the days after its date up to the due date (unmoved); on resuming the r-th such day."""
    at, left, measure = clock.anchor, amount, clock.measure
    last = calendar.nth_day(calendar.local_date(at), left, measure)
    for start, end in pauses(clock):
        if end <= at:
            continue
        if start <= at:
            at = end
            last = calendar.nth_day(calendar.local_date(at), left, measure)
            continue
        if start >= calendar.end_of(calendar.roll(last)):
            break
        paused_on, resumed_on = calendar.local_date(start), calendar.local_date(end)
        if paused_on == resumed_on:
            continue
        remaining = max(0, calendar.count_days(paused_on, last, measure))
        if left - remaining:
            yield Leg(at, left - remaining, start)
        left, at = remaining, end
        last = calendar.nth_day(resumed_on, remaining, measure)
    yield Leg(at, left, calendar.end_of(calendar.roll(last)))


def due(clock: Clock, calendar: Calendar, amount: int | None = None) -> datetime:
    """The instant at which `amount` (default: the whole budget with extensions) is used up."""
    if not clock.segments:
        return calendar.add(clock.anchor, Budget(clock.measure, amount or total(clock)))
    *_, last = legs(clock, calendar, amount or total(clock))
    return last.end


def rung_at(clock: Clock, time: RungTime, calendar: Calendar) -> datetime:
    """When a rung is due; never before the clock's own anchor."""
    if time.kind == "due":
        return clock.due_at
    if time.kind == "share":
        # days are whole: a share of days is rounded up, so that a warning never comes before its share is used
        whole = total(clock) * time.percent
        amount = -(-whole // 100) if clock.measure in _DAYS else whole // 100
        return due(clock, calendar, max(1, amount))
    assert time.offset is not None, "before and after carry an offset (checked when the workflow is loaded)"
    if time.kind == "before":
        return max(clock.anchor, calendar.shift(clock.due_at, time.offset, -1))
    # a promise made anew after its due time (T8): nobody is escalated for the days before it was made
    since = max(clock.due_at, clock.escalates_from or clock.due_at)
    return max(clock.anchor, calendar.shift(since, time.offset, 1))


def project(clock: Clock, rungs: Sequence[tuple[str, RungTime]], calendar: Calendar, deciding: bool = False) -> Clock:
    """Refresh `due_at`, `provisional` and `next_fire_at` from the ledger.

    `deciding`: an extension or pause asked in time waits for its decision; until then the clock does not turn red (T7).
    """
    due_at = due(clock, calendar)
    clock = evolve(clock, due_at=due_at, provisional=calendar.is_provisional(due_at, clock.measure))
    return arm(clock, rungs, calendar, deciding)


def arm(clock: Clock, rungs: Sequence[tuple[str, RungTime]], calendar: Calendar, deciding: bool = False) -> Clock:
    """Refresh `next_fire_at` alone: after a rung, which leaves the ledger and so the due time as they are."""
    upcoming = next_rung(clock, rungs, calendar, deciding)
    return evolve(clock, next_fire_at=upcoming[1] if upcoming else None)


def next_rung(
    clock: Clock, rungs: Sequence[tuple[str, RungTime]], calendar: Calendar, deciding: bool = False
) -> tuple[str, datetime] | None:
    """The earliest rung that has not fired, with its instant; ties in the order of the definition."""
    if clock.state not in {ClockState.RUNNING, ClockState.BREACHED_RUNNING}:
        return None
    best: tuple[str, datetime] | None = None
    series: str | None = None
    for name, time in rungs:
        if name in clock.fired or (deciding and time.kind in {"due", "after"}):
            continue
        if time.series is not None and time.series == series:
            continue  # later than the one of its series that was just looked at
        series = time.series
        at = rung_at(clock, time, calendar)
        if best is None or at < best[1]:
            best = (name, at)
    return best


def pause(clock: Clock, at: datetime, kind: str, until: datetime | None, reason: str, by: str) -> Clock:
    """Stop counting from `at`. Only an open, not yet stopped clock is paused; a breach that is a fact stays one."""
    segment = Segment(kind, at, None, until, reason, by)
    return evolve(clock, state=ClockState.PAUSED, segments=(*clock.segments, segment))


def resume(clock: Clock, at: datetime) -> Clock:
    """Close the open span at `at`, or at its cap if that came first (T6: automatic resumption)."""
    return evolve(clock, state=_running(clock), segments=_close_open(clock, at), held_at=None)


def hold(clock: Clock, at: datetime, by: str) -> Clock:
    """T10: a submitted reply holds the clock at the submission time."""
    segments = (*clock.segments, Segment(HELD, at, None, None, "reply submitted", by))
    return evolve(clock, state=ClockState.HELD, held_at=at, segments=segments)


def extend(clock: Clock, amount: int, at: datetime, by: str, ground: str) -> Clock:
    return evolve(clock, extensions=(*clock.extensions, Extension(amount, at, by, ground)))


def excuse_decision(clock: Clock, calendar: Calendar, asked_at: datetime, decided_at: datetime) -> Clock:
    """T7: the time between asking and deciding never turns the clock red; recorded only where it would have."""
    if due(clock, calendar) >= decided_at:
        return clock
    segment = Segment(AWAITING_DECISION, asked_at, decided_at, None, "decided late", "system")
    excused = evolve(clock, segments=(*clock.segments, segment))
    if asked_at < clock.due_at and due(excused, calendar) < decided_at:
        # decided after the close of office: the day of the decision has no time left to give
        tomorrow = calendar.start_of(calendar.local_date(decided_at) + timedelta(days=1))
        excused = evolve(clock, segments=(*clock.segments, evolve(segment, end=tomorrow)))
    return excused


def breach(clock: Clock) -> Clock:
    """A breach is dated at the due instant and is never cured (P5)."""
    return evolve(clock, state=ClockState.BREACHED_RUNNING, breached_at=clock.due_at)


def end(clock: Clock, at: datetime, reason: str, cancelled: bool = False) -> Clock:
    """Finish the clock: met at exactly the due instant is met. A finished clock is an immutable fact (T2)."""
    late = clock.breached_at is not None
    state = ClockState.CANCELLED if cancelled else ClockState.BREACHED_MET if late else ClockState.MET
    segments = _close_open(clock, at)
    return evolve(clock, state=state, segments=segments, ended_at=at, end_reason=reason, next_fire_at=None)


def continued(clock: Clock, previous: Clock, at: datetime) -> Clock:
    """T3 `continue`: the next cycle goes on where the last one ended; the closed span is a segment that does not count.

    The breach and the rungs of the last cycle stay facts: they do not happen again, and what was left of the ladder
    counts from the reopening.
    """
    ended = previous.ended_at or at
    closed = Segment(CLOSED, ended, max(at, ended), None, previous.end_reason, "system")
    return evolve(
        clock,
        state=ClockState.BREACHED_RUNNING if previous.breached_at else ClockState.RUNNING,
        measure=previous.measure,
        budget=previous.budget,
        anchor_name=previous.anchor_name,
        anchor=previous.anchor,
        original_due_at=previous.original_due_at,
        segments=(*previous.segments, closed),
        extensions=previous.extensions,
        fired=previous.fired,
        breached_at=previous.breached_at,
        changes=previous.changes,
        escalates_from=at if previous.breached_at else None,
    )


def shown_state(clock: Clock, now: datetime) -> ClockState:
    """What a reader sees: overdue is derived, so a late pump never shows a wrong state."""
    if clock.state is ClockState.RUNNING and clock.next_fire_at is not None and clock.due_at < now:
        return ClockState.BREACHED_RUNNING
    return clock.state


def used(clock: Clock, calendar: Calendar, now: datetime) -> int:
    """Budget used up to now (or to the end), in the clock's measure; pauses do not count."""
    stop = clock.ended_at or clock.held_at or now
    counted, at = 0, clock.anchor
    for start, end in [*pauses(clock), (stop, stop)]:
        if start > at:
            counted += calendar.between(at, min(start, stop), clock.measure)
        at = max(at, end)
        if at >= stop:
            break
    return counted


def explain(clock: Clock, calendar: Calendar, rungs: Sequence[tuple[str, RungTime]]) -> dict[str, Any]:
    """T20: every interval that counted and every day that did not; `sum` equals `budget` + extensions exactly."""
    amount = total(clock)
    parts = []
    stretches = list(legs(clock, calendar, amount))
    for leg in stretches:
        part = calendar.explain(leg.start, Budget(clock.measure, leg.amount)) if leg.amount else {"days": []}
        days = part["days"]
        if leg is not stretches[-1]:
            last = calendar.local_date(leg.end).isoformat()
            days = [d for d in days if d["date"] <= last]
        parts.append({"from": leg.start, "to": leg.end, "amount": leg.amount, "days": days})
    return {
        "clock": {"id": clock.id, "name": clock.name, "cycle": clock.cycle, "state": clock.state},
        "anchor": {"name": clock.anchor_name, "at": clock.anchor},
        "measure": clock.measure,
        "budget": Budget(clock.measure, clock.budget).text(),
        "extensions": [_extension(clock, e) for e in clock.extensions],
        "calendar": {"key": clock.calendar_key, "version": clock.calendar_version, "zone": str(calendar.zone)},
        "counting_rule": COUNTING_RULES[clock.measure],
        "segments": [_segment(s) for s in clock.segments],
        "counted": parts,
        "sum": Budget(clock.measure, sum(leg.amount for leg in stretches)).text(),
        "original_due_at": clock.original_due_at,
        "due_at": stretches[-1].end,
        "provisional": calendar.is_provisional(stretches[-1].end, clock.measure),
        "breached_at": clock.breached_at,
        "ended_at": clock.ended_at,
        "changes": [dict(change) for change in clock.changes],
        "rungs": [
            {
                "name": n,
                "at": rung_at(clock, t, calendar),
                "fired": n in clock.fired,
                "would_not_have_fired": bool(clock.changes) and n in clock.changes[-1]["would_not_have_fired"],
            }
            for n, t in rungs
        ],
    }


COUNTING_RULES = {
    Measure.natural_hours: "Counts every hour, from the anchor on. 自起算时刻起连续计时。",
    Measure.working_hours: "Counts office hours only; due at the earliest instant the budget is used up. 仅计办公时间。",
    Measure.natural_days: "The anchor's day does not count; due at the end of the last day, moved on if that day is off."
    " 当日不计入，届满日为休息日的顺延。",
    Measure.working_days: "The anchor's day does not count; due at the end of the last working day. 当日不计入，只计工作日。",
}


def _extension(clock: Clock, e: Extension) -> dict[str, Any]:
    return {"amount": Budget(clock.measure, e.amount).text(), "at": e.at, "by": e.by, "ground": e.ground}


def _segment(s: Segment) -> dict[str, Any]:
    return {"kind": s.kind, "from": s.start, "to": s.end, "until": s.until, "reason": s.reason, "by": s.by}


def _running(clock: Clock) -> ClockState:
    return ClockState.BREACHED_RUNNING if clock.breached_at else ClockState.RUNNING


def _close_open(clock: Clock, at: datetime) -> tuple[Segment, ...]:
    # an excused wait may have been written down after the span that is still open: it need not be the last one
    return tuple(s if s.end is not None else _closed(s, at) for s in clock.segments)


def _closed(segment: Segment, at: datetime) -> Segment:
    end = min(at, segment.until) if segment.until else at
    return evolve(segment, end=max(end, segment.start))
