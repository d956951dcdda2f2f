"""A ticket being changed, and what a change may look at. Used by the engine (`workflow`, `effects`, `review`) only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from service.core import clocks
from service.core.calendar import Budget, Calendar
from service.core.definitions import Workflow, holds
from service.core.docket import Docket
from service.core.errors import Conflict
from service.core.model import (
    Actor,
    Approval,
    Assignment,
    Clock,
    Decision,
    Event,
    Exemption,
    Firing,
    Notice,
    Ticket,
    evolve,
    value,
)
from service.core.policies import Policies

COUNTERS = (
    "return_requests",
    "returns_denied",
    "extension_requests",
    "extensions",
    "pause_requests",
    "pauses",
    "audit_failures",
    "callback_attempts",
    "urges",
    "reopenings",
    "attempts_today",
    "yellow_cards",
    "red_cards",
)


@value
class Env:
    """What a decision may look at besides the ticket. `departments`: the codes that exist.

    `punctual`: timers fire as if the pump had been there at their very instant (a sandbox clock that is moved).
    """

    workflow: Workflow
    calendar: Calendar
    actor: Actor
    now: datetime
    new_id: Callable[[], str]
    departments: frozenset[str]
    punctual: bool = False
    calendars: Mapping[tuple[str, int], Calendar] = field(default_factory=dict)
    """Calendars by key and version: a clock is counted by the version it was started under (T2)."""
    matters: frozenset[str] = frozenset()
    policies: Policies | None = None
    """The newest workflows and calendars, for a ticket that is bound anew (T8); None: it keeps what it has."""
    docket: Docket | None = None
    """The docket's rules; None: a life that was lived already, which is not judged by them again."""

    def calendar_of(self, clock: Clock) -> Calendar:
        return self.calendars.get((clock.calendar_key, clock.calendar_version), self.calendar)


@dataclass(frozen=True, slots=True)
class RouteTo:
    """Where routing sends a new ticket; `lead` None means the dispatcher."""

    lead: str | None
    co_handlers: tuple[str, ...] = ()
    rule: str | None = None


class Draft:
    """A ticket being changed. `now` moves: inside a timer it is the timer's due instant, else the command's time."""

    def __init__(self, ticket: Ticket, env: Env) -> None:
        self.env, self.before, self.ticket = env, ticket, ticket
        self.now, self.actor = env.now, env.actor
        self.form: Mapping[str, Any] = {}
        self.route: RouteTo | None = None
        self.approval: Approval | None = None
        self.leg: Assignment | None = None
        self.clock: Clock | None = None
        self.quiet = False
        self.cycle = "rounds"
        """Which of a clock's rules begins its next cycle (T3): rounds, reopened or reopened_late."""
        self.met_because = "met"
        self.events: list[Event] = []
        self.firings: list[Firing] = []
        self.notices: list[Notice] = []
        self.exemptions: list[Exemption] = []
        self.changes: dict[str, list[str]] = {}

    # -- writing ---------------------------------------------------------------------------------------------

    def set(self, **changes: Any) -> None:
        self.ticket = evolve(self.ticket, **changes)

    def fact(self, key: str, value: Any) -> None:
        self.set(facts={**self.ticket.facts, key: value})

    def count(self, name: str) -> None:
        self.set(counters={**self.ticket.counters, name: self.ticket.counters.get(name, 0) + 1})

    def put(self, kind: str, row: Any) -> None:
        """Add or replace one child (`kind` is the attribute's name) by its id."""
        rows: tuple[Any, ...] = getattr(self.ticket, kind)
        ids = [r.id for r in rows]
        n = ids.index(row.id) if row.id in ids else len(rows)
        self.set(**{kind: (*rows[:n], row, *rows[n + 1 :])})

    def put_clock(self, clock: Clock) -> None:
        definition, calendar = self.env.workflow.clocks[clock.name], self.env.calendar_of(clock)
        if clock.open:
            clock = clocks.project(clock, definition.times, calendar, self.deciding(clock))
        elif clock.segments:
            # the end closed a pause that was still open: what is kept for ever is what the ledger gives
            clock = evolve(clock, due_at=clocks.due(clock, calendar))
        self.put("clocks", clock)

    def deciding(self, clock: Clock) -> bool:
        """Whether a request asked in time and not yet decided keeps this clock from turning red (T7)."""
        return clock.breached_at is None and any(self.delays(a, clock) for a in self.ticket.approvals)

    def delays(self, approval: Approval, clock: Clock) -> bool:
        """Whether this request is undecided and of a kind that this clock waits for."""
        return approval.state == "pending" and clock.name in self.env.workflow.approvals[approval.kind].delays

    def changed(self, what: str, name: str) -> None:
        self.changes.setdefault(what, []).append(name)

    def event(self, type_: str, **data: Any) -> None:
        if self.changes:
            data["clocks"] = self.changes
            self.changes = {}
        self.events.append(Event(type_, self.now, self.actor, data))

    def fired(self, clock: Clock, rung: str, outcome: str, fired_at: datetime) -> None:
        """Tell that a rung of this clock took effect, with what it brought about."""
        self.event(
            "clock.breached" if rung == "breach" else "clock.fired",
            clock=clock.name,
            clock_id=clock.id,
            rung=rung,
            outcome=outcome,
            due_at=clock.due_at.isoformat(),
            fired_at=fired_at.isoformat(),
        )

    def pass_by(self, due: Sequence[Clock], until: datetime) -> bool:
        """Whether some rungs of these clocks need no firing and are behind them now: never where people are told."""
        return False

    def check_not_recused(self, department: str) -> None:
        """Raise Conflict for a unit that must have no part in this ticket: accuser material never reaches the accused."""
        if f"unit:{department}" in self.ticket.recused:
            raise Conflict(
                f"{department} is recused from this ticket (it may be the unit complained of);"
                " lift that first if it is wrong.",
                department=department,
            )

    # -- reading ---------------------------------------------------------------------------------------------

    def open_clocks(self, name: str) -> list[Clock]:
        return [c for c in self.ticket.clocks if c.name == name and c.open]

    def due_of(self, name: str, anchor: datetime, budget: Budget) -> datetime:
        """When a new clock of this name is due."""
        return self.env.calendar.add(anchor, budget)

    def upcoming(self, clock: Clock) -> tuple[str, datetime] | None:
        """The rung that this clock fires next, with its instant."""
        times = self.env.workflow.clocks[clock.name].times
        return clocks.next_rung(clock, times, self.env.calendar_of(clock), self.deciding(clock))

    def armed(self, clock: Clock) -> Clock:
        """The clock with its next rung, after one that left the ledger and so the due time as they were."""
        first = self.upcoming(clock)
        return evolve(clock, next_fire_at=first[1] if first else None)

    def holds(self, condition: Any) -> bool:
        """Whether a compiled condition (a guard, a `when`) is true now; a missing one always is."""
        return condition is None or holds(condition, self.context())

    def context(self) -> dict[str, Any]:
        """What guards and conditions (CEL) may read."""
        ticket, leg = self.ticket, self.leg
        pending = {a.kind for a in ticket.approvals if a.state == "pending"}
        latest = {c.name: c for c in ticket.clocks}
        return {
            "form": dict(self.form),
            "ticket": {
                "round": ticket.round,
                "stage": ticket.stage,
                "phase": str(ticket.phase),
                "domain": ticket.domain,
                "matter": ticket.matter or "",
                "urgency": ticket.urgency,
                "district": ticket.district or "",
                "lead": ticket.lead or "",
                "outcome": ticket.outcome or "",
                "reply": ticket.reply,
            },
            "leg": {
                "role": leg.role if leg else "",
                "state": leg.state if leg else "",
                "department": leg.department if leg else "",
            },
            "legs": self._co_handlers(),
            "counters": {
                **dict.fromkeys((*COUNTERS, *self.env.workflow.counters), 0),
                **ticket.counters,
                "attempts_today": int(self.attempted_today()),
            },
            "pending": {kind: kind in pending for kind in self.env.workflow.approvals},
            "clocks": {
                name: {"open": c.open, "state": str(c.state), "breached": c.breached_at is not None}
                for name, c in latest.items()
            },
            "review": {"open": ticket.open_review() is not None},
        }

    def today(self) -> str:
        return self.env.calendar.local_date(self.now).isoformat()

    def attempted_today(self) -> bool:
        """Whether a callback that reached nobody was tried on this day already: only one a day counts."""
        return self.ticket.facts.get("attempted_on") == self.today()

    def _co_handlers(self) -> dict[str, int]:
        """How the co-handlers stand: those at work, those who replied, are late, or are still waited for."""
        legs = [a for a in self.ticket.assignments if a.open and a.role == "co_handler"]
        replied = {a.id for a in legs if a.state == "submitted"}
        late = {c.assignment_id for c in self.ticket.clocks if c.open and c.breached_at is not None}
        late &= {a.id for a in legs} - replied
        waiting = len(legs) - len(replied) - len(late)
        return {"co_handlers": len(legs), "replied": len(replied), "late": len(late), "waiting": waiting}

    def finish(self) -> Decision:
        ticket, changes = self.ticket, {"updated_at": self.env.now, "version": self.before.version + 1}
        if ticket.open:
            legs = [a.department for a in ticket.assignments if a.open]
            review = ticket.open_review()
            asked = [o.department for o in ticket.opinions if review and o.review_id == review.id]
            owners = [code for m in ticket.measures if m.open for code in (m.department, *m.co_units)]
            changes["visible_to"] = tuple(sorted({*legs, *asked, *owners}))
        return Decision(
            self.before,
            evolve(ticket, **changes),
            tuple(self.events),
            tuple(self.firings),
            tuple(self.notices),
            tuple(self.exemptions),
        )
