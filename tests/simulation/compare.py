"""Where the real city differs from the model, in words; and what must hold of any ticket whatever the model says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from service.core import clocks
from service.core.model import Clock, ClockState
from service.core.model import Ticket as Stored
from tests.simulation.ledger import Promise
from tests.simulation.model import Ticket

JINAN = ZoneInfo("Asia/Shanghai")
COUNTERS = ("return_requests", "returns_denied", "extensions", "extension_requests", "pauses", "pause_requests",
            "callback_attempts", "reopenings")  # fmt: skip


def differences(model: Ticket, stored: Stored, firings: list[Any], numbered: Any) -> list[str]:
    """Nothing, or what is different and how."""
    return [
        *_of_the_ticket(model, stored),
        *_of_the_clocks(model, stored),
        *_of_the_firings(model, stored, firings),
        *_broken_promises(stored, numbered),
    ]


def _told(value: Any) -> str:
    return value.astimezone(JINAN).isoformat() if isinstance(value, datetime) else repr(value)


def _unequal(what: str, model: Any, real: Any) -> Iterator[str]:
    if model != real:
        yield f"{what}: by the model {_told(model)}, in the database {_told(real)}"


def _of_the_ticket(model: Ticket, stored: Stored) -> Iterator[str]:
    for name in ("stage", "round", "outcome", "closed_at", "domain", "urgency"):
        yield from _unequal(name, getattr(model, name), getattr(stored, name))
    yield from _unequal("workflow", model.flow, stored.workflow_key)
    yield from _unequal("lead", model.lead or None, stored.lead)
    for name in COUNTERS:
        yield from _unequal(name, model.count(name), stored.counters.get(name, 0))
    legs = sorted((leg.department, leg.role, leg.state) for leg in model.legs if leg.open)
    yield from _unequal("legs", legs, sorted((a.department, a.role, a.state) for a in stored.assignments if a.open))
    pending = sorted(a.kind for a in stored.approvals if a.state == "pending")
    yield from _unequal("pending", sorted(model.requests), pending)
    yield from _unequal("reviews", [r.state for r in model.reviews], [r.state for r in stored.reviews])
    yield from _unequal("measures", [t.state for t in model.tasks], [m.state for m in stored.measures])


def _of_the_clocks(model: Ticket, stored: Stored) -> Iterator[str]:
    promises = {(p.name, p.cycle): p for p in model.promises}
    real = {(c.name, c.cycle): c for c in stored.clocks}
    assert len(promises) == len(model.promises), "T3: a clock is known by its name and cycle"
    yield from _unequal("number of clocks", len(model.promises), len(stored.clocks))
    yield from _unequal("clocks", sorted(promises), sorted(real))
    for key in promises.keys() & real.keys():
        for difference in _of_a_clock(promises[key], real[key]):
            yield f"{key[0]} {key[1]}: {difference}"


def _of_a_clock(promise: Promise, clock: Clock) -> Iterator[str]:
    yield from _unequal("state", promise.state, str(clock.state))
    yield from _unequal("anchor", promise.anchor, clock.anchor)
    yield from _unequal("measure", promise.amount.measure, str(clock.measure))
    yield from _unequal("budget", promise.amount.size, clock.budget)
    yield from _unequal("extensions", promise.added, sum(e.amount for e in clock.extensions))
    stops = [(s.kind, s.start, s.end, s.cap) for s in promise.stops]
    yield from _unequal("stops", [s[:3] for s in stops], [(s.kind, s.start, s.end) for s in clock.segments])
    yield from _unequal("due", promise.due, clock.due_at)
    yield from _unequal("first due", promise.first_due, clock.original_due_at)
    yield from _unequal("breached at", promise.breached_at, clock.breached_at)
    yield from _unequal("ended at", promise.ended_at, clock.ended_at)
    yield from _unequal("fired", sorted(promise.fired), sorted(clock.fired))
    if promise.open:
        yield from _unequal(
            "caps", [s[3] for s in stops if s[2] is None], [s.until for s in clock.segments if not s.end]
        )
        yield from _unequal("held at", promise.held_at, clock.held_at)
        yield from _unequal("next step", min((at for at, _ in promise.ladder), default=None), clock.next_fire_at)
        provisional = promise.days.is_provisional(promise.due, promise.amount.measure)
        yield from _unequal("provisional", provisional, clock.provisional)


def _of_the_firings(model: Ticket, stored: Stored, rows: list[Any]) -> Iterator[str]:
    """Each step exactly once, at its due instant, whenever the pump came; overtaken warnings are not sent (T17)."""
    keys = {c.id: (c.name, c.cycle) for c in stored.clocks}
    real = {(keys[row["clock_id"]], row["rung"]): row for row in rows}
    expected = {(f.clock, f.rung): f for f in model.fired}
    assert len(expected) == len(model.fired), "T14: the model fires nothing twice"
    yield from _unequal("firings", sorted(expected), sorted(real))
    for key in expected.keys() & real.keys():
        fired, row = expected[key], real[key]
        yield from _unequal(f"{key} due at", fired.due_at, row["due_at"])
        overtaken = fired.behind or (fired.by is not None and fired.by <= row["fired_at"])
        yield from _unequal(f"{key} outcome", "superseded" if overtaken else "fired", row["outcome"])
        if row["fired_at"] < row["due_at"]:
            yield f"{key} fired at {_told(row['fired_at'])} before it was due at {_told(row['due_at'])}"


def _broken_promises(stored: Stored, numbered: Any) -> Iterator[str]:
    """P3, P5 and I13, whatever the model says."""
    if tuple(numbered)[1:] != (stored.last_seq, 1, stored.last_seq):
        yield f"events are numbered {numbered}, the last one is {stored.last_seq}"
    alive = [c for c in stored.clocks if c.open]
    if not stored.open:
        yield from _unequal("open clocks of a closed ticket", [], [c.name for c in alive])
        return
    running = [c for c in alive if c.state in {ClockState.RUNNING, ClockState.BREACHED_RUNNING}]
    capped = [c for c in alive if any(s.end is None and s.until for s in c.segments)]
    if not running and not capped:
        yield "P3: an open ticket has neither a running clock nor a pause with an end"


def unexplained(told: dict[str, Any], clock: Clock) -> list[str]:
    """P4, T20: an explanation adds up to the budget exactly and ends at the due time."""
    counted = sum(part["amount"] for part in told["counted"])
    due = datetime.fromisoformat(told["due_at"])
    return [
        *_unequal(f"sum of the explanation of {clock.name}", clocks.total(clock), counted),
        *_unequal(f"end of the explanation of {clock.name}", clock.due_at, due),
    ]
