"""One promise as a plain ledger, and the ladder of its steps: what must be, by the rules of time (T1, T6 to T8, T14)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.simulation.days import Amount, Days, Span

Rule = Mapping[str, Any]
"""What a workflow file says of one clock, as plain data."""


@dataclass
class Stop:
    """A stretch of the ledger in which the clock does not run. `cap`: when a pause ends by itself."""

    kind: str
    start: datetime
    end: datetime | None = None
    cap: datetime | None = None

    def close(self, at: datetime) -> None:
        if self.end is None:
            self.end = max(self.start, min(at, self.cap or at))


@dataclass(frozen=True)
class Step:
    """One step of a ladder (T14). `kind`: share, before, due or after."""

    name: str
    kind: str
    share: int = 0
    offset: Amount | None = None
    series: str = ""
    """The step that this one repeats, later than the one before."""

    @property
    def warns(self) -> bool:
        return self.kind in {"share", "before"}


@dataclass
class Promise:
    """One clock of one ticket. Its due time is worked out anew from the ledger whenever anything changes."""

    name: str
    cycle: int
    family: str
    anchor: datetime
    amount: Amount
    days: Days
    """The calendar that it was started under (T2), until a newer one is published for it (T9)."""
    about: str | None = None
    """The leg, request, opinion or measure that it belongs to."""
    added: int = 0
    stops: list[Stop] = field(default_factory=list)
    stopped: str | None = None
    ended: str | None = None
    ended_at: datetime | None = None
    held_at: datetime | None = None
    breached_at: datetime | None = None
    fired: dict[str, datetime] = field(default_factory=dict)
    escalates_from: datetime | None = None
    due: datetime = field(init=False)
    first_due: datetime = field(init=False)
    """The original target, which no extension moves (T7)."""
    ladder: list[tuple[datetime, Step]] = field(default_factory=list)
    """What fires next, with its instants; of steps that repeat the first that has not fired."""

    @property
    def open(self) -> bool:
        return self.ended is None

    @property
    def total(self) -> Amount:
        return Amount(self.amount.measure, self.amount.size + self.added)

    @property
    def state(self) -> str:
        if self.ended == "cancelled":
            return "cancelled"
        if self.ended:
            return "breached_met" if self.breached_at else "met"
        return self.stopped or ("breached_running" if self.breached_at else "running")

    def pauses(self) -> list[Span]:
        """What does not count: every stop but a hold (T10), an open pause up to its cap."""
        spans = [(s.start, s.end or s.cap) for s in self.stops if s.kind != "held"]
        return [(start, end) for start, end in spans if end is not None]

    def reckon(self, steps: list[Step], deciding: bool) -> None:
        """Work out the due time and the ladder. `deciding`: what was asked in time is undecided, so no red (T7)."""
        self.recount()
        left = [step for step in steps if step.name not in self.fired and (step.warns or not deciding)]
        firsts = {step.series or step.name: step for step in reversed(left)}
        ladder = [(self.at(step), step) for step in left if firsts[step.series or step.name] is step]
        self.ladder = [] if self.stopped else ladder

    def recount(self) -> None:
        self.due = self.days.due(self.anchor, self.total, self.pauses())

    def at(self, step: Step) -> datetime:
        """When a step stands; never before the anchor. A share of whole days is rounded up, of hours down."""
        if step.kind == "due":
            return self.due
        if step.kind == "share":
            whole = self.total.size * step.share
            size = -(-whole // 100) if self.amount.in_days else whole // 100
            return self.days.due(self.anchor, Amount(self.amount.measure, size), self.pauses())
        assert step.offset is not None
        if step.kind == "before":
            return max(self.anchor, self.days.away(self.due, step.offset, -1))
        return self.days.away(max(self.due, self.escalates_from or self.due), step.offset, 1)

    def granted(self, rule: Rule) -> str:
        """Whose amount it is: the `whole` budget of this policy, the one of `rework`, or what a `decision` set.

        Where both budgets are the same, a cycle that goes on with an earlier one (T3) has what that one had.
        """
        fits = [which for which in ("whole", "rework") if budget_of(rule, which) == self.amount]
        began = self.cycle - sum(s.kind == "closed" for s in self.stops) if self.family == "enterprise" else 1
        return fits[0] if len(fits) == 1 else "decision" if not fits else "whole" if began <= 1 else "rework"

    # --- what happens to it

    def stop(self, kind: str, at: datetime, cap: datetime | None = None) -> None:
        self.stops.append(Stop(kind, at, None, cap))
        self.stopped = "held" if kind == "held" else "paused"
        self.held_at = at if kind == "held" else None

    def go_on(self, at: datetime) -> None:
        for stop in self.stops:
            stop.close(at)
        self.stopped = self.held_at = None

    def end(self, how: str, at: datetime) -> None:
        for stop in self.stops:
            stop.close(at)
        self.ended, self.ended_at, self.ladder = how, at, []

    def excuse(self, asked: datetime, decided: datetime) -> None:
        """T7: the time between asking and deciding never turns the clock red; only where it would have."""
        if self.breached_at is None and self.days.due(self.anchor, self.total, self.pauses()) < decided:
            self.stops.append(Stop("awaiting_decision", asked, decided))
            self.recount()


def steps_of(rule: Rule) -> list[Step]:
    """The ladder of a clock as its file says it, the breach last."""
    steps = []
    for rung in rule.get("rungs", []):
        if "share" in rung:
            steps.append(Step(rung["name"], "share", share=rung["share"]))
            continue
        kind = "before" if "before" in rung else "after"
        one = Amount.parse(rung.get("measure", rule["measure"]), rung[kind])
        times = rung.get("times", 1)
        for n in range(1, times + 1):
            name = rung["name"] if times == 1 else f"{rung['name']}_{n}"
            steps.append(Step(name, kind, offset=Amount(one.measure, one.size * n), series=rung["name"]))
    return [*steps, Step("breach", "due")]


def budget_of(rule: Rule, which: str) -> Amount:
    """The whole budget, or that of rework."""
    text = rule.get("rework_budget") if which == "rework" else None
    return Amount.parse(rule["measure"], rule["budget"] if text is None else text)
