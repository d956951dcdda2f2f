"""The engine at replaying speed: the same effects, on state that is changed in place and with what recurs kept.

A `Replay` is a draft for many steps of one life instead of one: nothing is copied per step, no history is written, and
three answers that recur in thousands of lives are remembered. None of them is a rule of its own:

  conditions    by the values that the condition's text reads
  due times     of clocks of days, by the date of their anchor: the time of day does not matter to them
  rungs         of the same clocks, likewise

Rungs that do nothing but tell people, whom a replay does not tell, are passed by in one go up to whatever comes next.
A test lives random histories through this and through the engine itself and finds the same tickets.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final, TypeVar

from service.core import clocks
from service.core.budgets import Budget, Measure
from service.core.calendar import Calendar
from service.core.clocks import RungTime
from service.core.definitions import CONTEXT, ClockDef
from service.core.draft import Draft, Env
from service.core.model import Clock, ClockState, Decision, Ticket, evolve

_NAMES: Final = "|".join(sorted(CONTEXT))
_READ: Final = re.compile(rf"(?<![\w.])({_NAMES})\b(?:\.(\w+))?(?:\.(\w+))?")
_KEPT: Final = 50_000
_OF_A_SERIES: Final = 3
_FURTHER: Final = 4
_ABSENT: Final = object()
_NOTHING: Final[Mapping[str, Any]] = {}
_AFTER: Final = frozenset({"due", "after"})
_LIVE: Final = frozenset({ClockState.RUNNING, ClockState.BREACHED_RUNNING})
_NATURAL_HOURS: Final = Measure.natural_hours
At = TypeVar("At", datetime, timedelta)
RungOf = tuple[str, str, At, bool]
"""Name, kind, when, and whether it does nothing but tell people."""
Getter = Callable[["Replay"], Any]


@dataclass(frozen=True, slots=True)
class Ladder:
    """Due time and rungs of a clock of days without pauses, in the order in which they fire.

    `clear`: every rung lies at or after this instant, so an anchor up to it moves none. `more`: of a series of rungs only
    so many are here, with whatever else comes before the last of them (few lives go further); 0: all are.
    """

    due_at: datetime
    rungs: tuple[RungOf[datetime], ...]
    clear: datetime
    more: int


@dataclass(frozen=True, slots=True)
class Span:
    """The same of a clock of natural hours whose rungs are natural hours too: all counted from its anchor."""

    due: timedelta
    rungs: tuple[RungOf[timedelta], ...]


@dataclass(slots=True)
class Memory:
    """What replays of one process remember. Answers are pure functions of their keys: sharing it changes nothing."""

    ladders: dict[Any, Ladder] = field(default_factory=dict)
    spans: dict[Any, Span | None] = field(default_factory=dict)
    dates: dict[Any, date] = field(default_factory=dict)
    conditions: dict[int, tuple[Any, tuple[Getter, ...] | None, dict[Any, bool]]] = field(default_factory=dict)


class Replay(Draft):
    """One life being replayed. The ticket handed in becomes this object's own and is changed in place."""

    def __init__(self, ticket: Ticket, env: Env, memory: Memory) -> None:
        super().__init__(ticket, env)
        self.ticket = evolve(ticket)
        self.memory = memory
        self.cards: list[tuple[str, datetime]] = []
        """(level, instant) of each card."""
        self.proposed: list[datetime] = []
        """When the ticket was proposed for review."""

    # -- one step after the other

    def begin(self, env: Env) -> None:
        """The next step happens in this environment."""
        self.env, self.now, self.actor = env, env.now, env.actor
        self.form, self.cycle, self.met_because = _NOTHING, "rounds", "met"
        self.route = self.approval = self.leg = self.clock = None

    def mark(self) -> tuple[Any, ...]:
        """Where to go back to, should the next step be refused half way."""
        return dict(self.ticket.__dict__), len(self.cards), len(self.proposed)

    def back_to(self, mark: tuple[Any, ...]) -> None:
        state, cards, proposed = mark
        self.ticket.__dict__.clear()
        self.ticket.__dict__.update(state)
        del self.cards[cards:], self.proposed[proposed:]
        self.changes = {}

    def take(self, decision: Decision) -> None:
        """Go on from what the engine itself decided."""
        self.ticket = evolve(decision.after)
        for event in decision.events:
            self._note(event.type, event.occurred_at, event.data)

    def _note(self, type_: str, at: datetime, data: Mapping[str, Any]) -> None:
        if type_ == "card.issued":
            self.cards.append((data["level"], at))
        elif type_ == "review.proposed":
            self.proposed.append(at)

    # -- writing, in place

    def set(self, **changes: Any) -> None:
        self.ticket.__dict__.update(changes)

    def put(self, kind: str, row: Any) -> None:
        state, wanted = self.ticket.__dict__, row.id
        rows = state[kind]
        for n, other in enumerate(rows):
            if other.id == wanted:
                state[kind] = (*rows[:n], row, *rows[n + 1 :])
                return
        state[kind] = (*rows, row)

    def event(self, type_: str, **data: Any) -> None:
        self.changes = {}
        self._note(type_, self.now, data)

    def fired(self, clock: Clock, rung: str, outcome: str, fired_at: datetime) -> None:
        self.changes = {}

    @property
    def quiet(self) -> bool:
        """Nobody is told anything."""
        return True

    @quiet.setter
    def quiet(self, _: bool) -> None: ...

    def put_clock(self, clock: Clock) -> None:
        """As the draft does, but `provisional` is not kept up: nothing is decided by it."""
        if clock.open:
            ladder = self._ladder(clock)
            if ladder is not None:
                clock = evolve(clock, due_at=ladder.due_at)
                first = self._next(clock, ladder)
                clock.__dict__["next_fire_at"] = first[1] if first else None
            elif (span := self._span(clock)) is not None:
                start, soon = clock.anchor, self._first(clock, span.rungs)
                clock = evolve(clock, due_at=start + span.due, next_fire_at=start + soon[2] if soon else None)
            else:
                times = self.env.workflow.clocks[clock.name].times
                clock = clocks.project(clock, times, self.env.calendar_of(clock), self.deciding(clock))
        elif clocks.stopped(clock):
            clock = evolve(clock, due_at=clocks.due(clock, self.env.calendar_of(clock)))
        self.put("clocks", clock)

    def pass_by(self, due: Sequence[Clock], until: datetime) -> bool:
        """All rungs that only tell people, up to the first that does more: nothing reads what they change before that."""
        told = []
        for clock in due:
            rungs, more = self._coming(clock)
            told.append((clock, rungs))
            if more is not None and more < until:
                until = more
        passing = False
        for clock, rungs in told:
            passed = [rung for rung in rungs if rung[2] < until]
            if not passed:
                continue
            if any(kind == "due" for _, kind, _, _ in passed):
                clock = clocks.breach(clock)
            self.put("clocks", self.armed(evolve(clock, fired=(*clock.fired, *(rung[0] for rung in passed)))))
            passing = True
        return passing

    # -- reading, with what is remembered

    def upcoming(self, clock: Clock) -> tuple[str, datetime] | None:
        ladder = self._ladder(clock)
        if ladder is not None:
            return self._next(clock, ladder)
        span = self._span(clock)
        if span is None:
            return super().upcoming(clock)
        soon = self._first(clock, span.rungs)
        return (soon[0], clock.anchor + soon[2]) if soon else None

    def holds(self, condition: Any) -> bool:
        if condition is None:
            return True
        known = self.memory.conditions.get(id(condition))
        if known is None:
            known = self.memory.conditions[id(condition)] = (condition, _getters(condition.source), {})
        _, getters, answers = known
        if getters is None:
            return super().holds(condition)
        try:
            key = tuple([get(self) for get in getters])
            answer = answers.get(key)
        except TypeError:  # a list in a form
            return super().holds(condition)
        if answer is None:
            if len(answers) >= _KEPT:
                answers.clear()
            answer = answers[key] = super().holds(condition)
        return answer

    def _ladder(self, clock: Clock) -> Ladder | None:
        """Of a clock of days that nothing stopped or made anew; None for any other."""
        if clock.escalates_from is not None or not clock.measure.counts_days or clocks.stopped(clock):
            return None
        definition, calendar = self.env.workflow.clocks[clock.name], self.env.calendar_of(clock)
        amount = clocks.total(clock) if clock.extensions else clock.budget
        measure, anchor, fired = clock.measure, clock.anchor, clock.fired
        ladder = self._rungs_of(definition, calendar, measure, amount, anchor)
        while ladder.more and ladder.rungs[-1][0] in fired:
            ladder = self._rungs_of(definition, calendar, measure, amount, anchor, ladder.more * _FURTHER)
        return ladder if anchor <= ladder.clear else None

    def due_of(self, name: str, anchor: datetime, budget: Budget) -> datetime:
        if not budget.measure.counts_days:
            return super().due_of(name, anchor, budget)
        definition = self.env.workflow.clocks[name]
        return self._rungs_of(definition, self.env.calendar, budget.measure, budget.amount, anchor).due_at

    def _rungs_of(
        self, definition: ClockDef, calendar: Calendar, measure: Measure, amount: int, anchor: datetime,
        series: int = _OF_A_SERIES,
    ) -> Ladder:  # fmt: skip
        memory = self.memory
        day = self._date(anchor, calendar)
        key = (id(definition), id(calendar), measure, amount, day, series)
        ladder = memory.ladders.get(key)
        if ladder is None:
            if len(memory.ladders) >= _KEPT:
                memory.ladders.clear()
            ladder = memory.ladders[key] = _laid_out(definition, calendar, Budget(measure, amount), day, series)
        return ladder

    def _span(self, clock: Clock) -> Span | None:
        """Of a clock of natural hours that nothing stopped or made anew; None for any other."""
        if clock.measure is not _NATURAL_HOURS or clock.escalates_from is not None or clocks.stopped(clock):
            return None
        definition = self.env.workflow.clocks[clock.name]
        key = (id(definition), clock.budget)
        if key not in self.memory.spans:
            self.memory.spans[key] = _stretched(definition, clock.budget)
        return self.memory.spans[key]

    def _date(self, instant: datetime, calendar: Calendar) -> date:
        key = (id(calendar), instant)
        day = self.memory.dates.get(key)
        if day is None:
            if len(self.memory.dates) >= _KEPT:
                self.memory.dates.clear()
            day = self.memory.dates[key] = calendar.local_date(instant)
        return day

    def _next(self, clock: Clock, ladder: Ladder) -> tuple[str, datetime] | None:
        found = self._first(clock, ladder.rungs)
        if found is None:
            return super().upcoming(clock) if ladder.more else None
        return found[0], found[2]

    def _first(self, clock: Clock, rungs: Sequence[RungOf[At]]) -> RungOf[At] | None:
        if clock.state not in _LIVE:
            return None
        fired, deciding = clock.fired, bool(self.ticket.approvals) and self.deciding(clock)
        for rung in rungs:
            if rung[0] not in fired and not (deciding and rung[1] in _AFTER):
                return rung
        return None

    def _coming(self, clock: Clock) -> tuple[Sequence[RungOf[datetime]], datetime | None]:
        """The next rungs that only tell people, and up to when these are known to be all that this clock does."""
        last: datetime | None = None
        rungs: Sequence[RungOf[datetime]]
        if (ladder := self._ladder(clock)) is not None:
            rungs, last = ladder.rungs, ladder.rungs[-1][2] if ladder.more else None
        elif (span := self._span(clock)) is not None:
            rungs = [(name, kind, clock.anchor + at, tells) for name, kind, at, tells in span.rungs]
        else:
            return (), clock.next_fire_at
        coming: list[RungOf[datetime]] = []
        fired, deciding = clock.fired, bool(self.ticket.approvals) and self.deciding(clock)
        for rung in rungs:
            if rung[0] in fired or (deciding and rung[1] in _AFTER):
                continue
            if not rung[3]:
                return coming, rung[2]
            coming.append(rung)
        return coming, last


def _laid_out(definition: ClockDef, calendar: Calendar, budget: Budget, day: date, series: int) -> Ladder:
    """The ladder of every such clock whose anchor lies on this date, with so many rungs of each series."""
    first = _bare(definition, budget, calendar.start_of(day), calendar)
    rungs: list[RungOf[datetime]] = []
    counted: Counter[str] = Counter()
    last: dict[str, datetime] = {}
    ends: dict[str, datetime] = {}
    for name, time in definition.times:
        if time.series is not None:
            counted[time.series] += 1
            if counted[time.series] > series:
                ends[time.series] = last[time.series]
                continue
        at = clocks.rung_at(first, time, calendar)
        rungs.append((name, time.kind, at, definition.rungs[name].only_tells))
        last[time.series or ""] = at
    clear = min([first.due_at, *(at for _, kind, at, _ in rungs if kind == "before")])
    if ends:
        rungs = [rung for rung in rungs if rung[2] <= min(ends.values())]
    return Ladder(first.due_at, tuple(sorted(rungs, key=lambda rung: rung[2])), clear, series if ends else 0)


def _stretched(definition: ClockDef, budget: int) -> Span | None:
    measures = {time.offset.measure for _, time in definition.times if time.offset is not None}
    if measures - {_NATURAL_HOURS}:
        return None
    due = timedelta(microseconds=budget)
    rungs = [
        (name, time.kind, _after(time, budget), definition.rungs[name].only_tells) for name, time in definition.times
    ]
    return Span(due, tuple(sorted(rungs, key=lambda rung: rung[2])))


def _after(time: RungTime, budget: int) -> timedelta:
    """How long after the anchor a rung of natural hours is due; never before it."""
    offset = time.offset.amount if time.offset is not None else 0
    amounts = {"due": budget, "share": max(1, budget * time.percent // 100), "before": max(0, budget - offset),
               "after": budget + offset}  # fmt: skip
    return timedelta(microseconds=amounts[time.kind])


def _bare(definition: ClockDef, budget: Budget, anchor: datetime, calendar: Calendar) -> Clock:
    """A clock with nothing but its terms."""
    due_at = calendar.add(anchor, budget)
    return Clock(
        id="", ticket_id="", assignment_id=None, name=definition.name, cycle=1, family=definition.family,
        measure=budget.measure, budget=budget.amount, anchor_name=definition.anchor, anchor=anchor,
        calendar_key=calendar.key, calendar_version=calendar.version, state=ClockState.RUNNING, due_at=due_at,
        original_due_at=due_at,
    )  # fmt: skip


# --- what a condition reads ------------------------------------------------------------------------------------------


def _getters(source: str) -> tuple[Getter, ...] | None:
    """Functions that give what this condition may look at; None when its text does not tell."""
    found = []
    for match in _READ.finditer(source):
        top, name, part = match.groups()
        if name is None:
            return None
        found.append((top, name, part if top == "clocks" else None))
    return tuple(_getter(*path) for path in sorted(set(found), key=str))


def _getter(top: str, name: str, part: str | None) -> Getter:
    if top == "form":
        return lambda r: _typed(r.form.get(name, _ABSENT))
    if top == "ticket":
        return lambda r: getattr(r.ticket, name, None)
    if top == "leg":
        return lambda r: getattr(r.leg, name, None) if r.leg is not None else None
    if top == "counters" and name == "attempts_today":
        return lambda r: r.attempted_today()
    if top == "counters":
        return lambda r: r.ticket.counters.get(name)
    if top == "pending":
        return lambda r: any(a.kind == name and a.state == "pending" for a in r.ticket.approvals)
    if top == "review":
        return lambda r: r.ticket.open_review() is not None
    return lambda r: next(
        ((c.open, c.state, c.breached_at is None) for c in reversed(r.ticket.clocks) if c.name == name), None
    )


def _typed(value: Any) -> Any:
    """1, 1.0 and true are one key of a dict and three values of a condition."""
    return value.__class__, value
