"""A simple city to compare the real one with: what each ticket and each of its clocks must be, by the rules of time.

Written from the rules (T1 to T17) and from what the shipped workflow files say, not from the core: its tickets are plain
mutable objects, its promises plain ledgers, and everything is worked out anew after each act. What people do to a ticket
stands in `acts` and `docket`. Stages and effects are those of workflows/city/base.yaml; budgets, ladders and rules of
cycles are read from the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from tests.simulation.days import Amount, Days
from tests.simulation.ledger import Promise, Rule, Step, Stop, budget_of, steps_of

CYCLES = {"rounds": "new", "reopened": "continue", "reopened_late": "restart"}
"""How the next cycle of a clock begins where its file is silent (T3)."""


@dataclass
class Leg:
    """One department's part in a ticket. `role`: lead or co_handler. `state`: pending, accepted, submitted."""

    number: int
    department: str
    role: str
    dispatched_at: datetime
    state: str = "pending"
    open: bool = True

    @property
    def name(self) -> str:
        return f"leg {self.number}"


@dataclass
class Request:
    """Something that somebody else must decide: a return, an extension, a pause."""

    kind: str
    asked: datetime
    leg: Leg
    form: Mapping[str, Any]


@dataclass
class Review:
    """One matter on the docket. `state`: proposed, preparing, decided, completed, refused, withdrawn."""

    number: int
    state: str = "proposed"
    postponed: bool = False
    asked: dict[str, bool] = field(default_factory=dict)
    """The units asked for an opinion, and whether they gave it."""

    @property
    def open(self) -> bool:
        return self.state in {"proposed", "preparing", "decided"}


@dataclass
class Task:
    """A measure of a resolution. `state`: open, reported, evidence, struck_off, waived."""

    number: int
    review: int
    department: str
    mandatory: bool
    state: str = "open"

    @property
    def open(self) -> bool:
        return self.state not in {"struck_off", "waived"}


@dataclass(frozen=True)
class Fired:
    """One step that must have fired, once. `by`: until when it is still worth sending, if it warns (T17)."""

    clock: tuple[str, int]
    rung: str
    due_at: datetime
    by: datetime | None
    behind: bool = False
    """It lay behind when the promise was made anew: recorded, never sent (T8)."""


class Rules:
    """The workflow files and the calendar as plain data."""

    def __init__(self, workflows: Mapping[str, Any], calendar: Mapping[str, Any]) -> None:
        self.flows, self.days = workflows, Days(calendar)
        """The newest calendar; older promises may keep an older one."""
        self.steps = cache(self._steps)

    def __deepcopy__(self, memo: dict[int, Any]) -> Rules:
        return self

    def clock(self, flow: str, name: str) -> Rule:
        rule: Rule = self.flows[flow]["clocks"][name]
        return rule

    def _steps(self, flow: str, name: str) -> list[Step]:
        return steps_of(self.clock(flow, name))

    def fitting(self, domain: str, urgency: str) -> str:
        """The workflow by urgency first, then by domain."""
        flows = {key: flow for key, flow in self.flows.items() if not flow.get("abstract")}
        by_urgency = [key for key, flow in flows.items() if urgency in flow.get("urgency", [])]
        return (by_urgency or [key for key, flow in flows.items() if domain in flow.get("domains", [])])[0]


@dataclass
class Ticket:
    """One ticket of the model city."""

    rules: Rules
    flow: str
    domain: str
    urgency: str
    received_at: datetime
    stage: str = ""
    round: int = 1
    lead: str = ""
    outcome: str | None = None
    reply_outcome: str = "solved"
    closed_at: datetime | None = None
    counters: dict[str, int] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)
    legs: list[Leg] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    reviews: list[Review] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    fired: list[Fired] = field(default_factory=list)
    attempted_on: str = ""
    """The day of the last callback that reached nobody: a further one on that day does not count."""
    now: datetime | None = None
    cycle: str = "rounds"
    """Which rule begins the next cycle of a clock: rounds, or reopened, or reopened_late while it is taken up again."""

    # --- looking

    @property
    def open(self) -> bool:
        return self.closed_at is None

    def count(self, name: str) -> int:
        return self.counters.get(name, 0)

    def running(self, *names: str) -> list[Promise]:
        return [p for p in self.promises if p.open and (not names or p.name in names)]

    def leg_of(self, department: str) -> Leg | None:
        return next((leg for leg in self.legs if leg.open and leg.department == department), None)

    def lead_leg(self) -> Leg | None:
        return next((leg for leg in self.legs if leg.open and leg.role == "lead"), None)

    def review(self) -> Review | None:
        return next((r for r in self.reviews if r.open), None)

    def next_step_at(self) -> datetime | None:
        return min((at for p in self.running() for at, _ in p.ladder), default=None)

    def ahead(self, now: datetime, *, timers: bool = False) -> Ticket:
        """The ticket once everything due has taken effect: itself if nothing is due, else a copy."""
        self.now = now
        first = self.next_step_at()
        if first is None or first > now:
            return self
        later = deepcopy(self)
        later.catch_up(now, timers=timers)
        return later

    # --- timers

    def catch_up(self, now: datetime, *, timers: bool = False) -> None:
        """What was due takes effect, each step at its own instant and once (T14, T17).

        What a person does at the very due instant comes first (met at the due instant is met), unless the timers
        themselves have been there before (T16).
        """
        while due := [
            (at, p, step)
            for p in self.running()
            for at, step in p.ladder
            if at < now or (at == now and (timers or p.due != now))
        ]:
            at, promise, step = min(due, key=lambda one: one[0])
            self._fire(at, promise, step)
            self.reckon()

    def _fire(self, at: datetime, promise: Promise, step: Step) -> None:
        promise.fired[step.name] = at
        by = promise.due if step.warns else None
        self.fired.append(Fired((promise.name, promise.cycle), step.name, at, by))
        if step.kind == "due":
            promise.breached_at = promise.due
        if (promise.name, step.name) == ("resolve", "review"):
            self.propose(at)
        if (promise.name, step.name) == ("accept", "breach"):  # silence is acceptance
            self.finish(promise, "met", at)
            leg = self.lead_leg()
            assert leg is not None, "a clock of a leg ends with its leg"
            leg.state, self.stage = "accepted", "handling"
        if (promise.name, step.name) == ("pause_cap", "breach"):  # T6: a pause ends at its cap by itself
            self.resume(at, "resolve", "opinion")
            self.finish(promise, "met", at)
            self.stage = "handling"

    def reckon(self) -> None:
        for promise in self.running():
            promise.reckon(self.rules.steps(self.flow, promise.name), self.deciding(promise))

    def deciding(self, promise: Promise) -> bool:
        """T7: whether a request that was asked in time and is undecided keeps this clock from turning red."""
        return promise.breached_at is None and any(promise.name in self.delays(kind) for kind in self.requests)

    def delays(self, kind: str) -> list[str]:
        approval = self.rules.flows[self.flow]["approvals"].get(kind) or {}
        return list(approval.get("delays", []))

    # --- clocks

    def start(
        self, name: str, now: datetime, about: str | None = None, leg: Leg | None = None, amount: Amount | None = None
    ) -> None:
        """Begin a clock; the enterprise's have the round as their cycle (T3)."""
        rule = self.rules.clock(self.flow, name)
        family = rule["family"]
        again = family == "enterprise" and self.round > 1
        how = rule.get(self.cycle, CYCLES[self.cycle]) if again else "restart"
        amount = amount or budget_of(rule, "whole" if how == "restart" else "rework")
        cycle = self.round if family == "enterprise" else 1 + sum(p.name == name for p in self.promises)
        anchor = leg.dispatched_at if leg else now
        if rule.get("anchor") == "received_at" and not again:
            anchor = self.received_at
        promise = Promise(name, cycle, family, anchor, amount, self.rules.days, leg.name if leg else about)
        promise.first_due = self.rules.days.due(anchor, promise.amount, [])
        last = [p for p in self.promises if p.name == name and not p.open]
        if how == "continue" and last:
            self._continue(promise, last[-1], now)
        self.promises.append(promise)

    def _continue(self, promise: Promise, last: Promise, now: datetime) -> None:
        """T3: the next cycle goes on where the last one ended; the span between is shown as closed."""
        assert last.ended_at is not None
        promise.anchor, promise.amount, promise.added = last.anchor, last.amount, last.added
        promise.first_due, promise.fired, promise.breached_at = last.first_due, dict(last.fired), last.breached_at
        promise.stops = [*deepcopy(last.stops), Stop("closed", last.ended_at, now)]
        promise.escalates_from = now if last.breached_at else None

    def start_once_a_round(self, name: str, now: datetime) -> None:
        if not any(p.name == name and p.cycle == self.round for p in self.promises):
            self.start(name, now)

    def start_for_legs(self, name: str, role: str, now: datetime) -> None:
        """T4: each leg has clocks of its own."""
        for leg in self.legs:
            if leg.open and leg.role == role and not any(p.name == name and p.about == leg.name for p in self.promises):
                self.start(name, now, leg=leg)

    def meet(self, now: datetime, *names: str, about: str | None = None) -> None:
        for promise in self.running(*names):
            if about is None or promise.about == about:
                if promise.breached_at is None and promise.due < now and not self.deciding(promise):
                    self._breached_at_birth(promise)
                self.finish(promise, "met", now)

    def cancel(self, now: datetime, *names: str, about: str | None = None) -> None:
        for promise in self.running(*names):
            if about is None or promise.about == about:
                self.finish(promise, "cancelled", now)

    def finish(self, promise: Promise, how: str, at: datetime) -> None:
        """It ends, and with it a pause that was still open: its due time for ever is what the ledger gives (T2)."""
        promise.end(how, at)
        promise.recount()

    def _breached_at_birth(self, promise: Promise) -> None:
        """Late before any timer could look, as it ends in the very act that made it so."""
        promise.breached_at = promise.fired["breach"] = promise.due
        self.fired.append(Fired((promise.name, promise.cycle), "breach", promise.due, None, behind=True))

    def resume(self, now: datetime, *names: str) -> None:
        for promise in self.running(*names):
            if promise.stopped == "paused":
                promise.go_on(now)
                promise.recount()

    def withdraw_requests(self, now: datetime) -> None:
        """Requests that no longer matter; the time of waiting for them is not charged to the unit (T7)."""
        for kind, request in list(self.requests.items()):
            del self.requests[kind]
            self.cancel(now, f"{kind}_decision")
            self.excuse(request, now)

    def excuse(self, request: Request, now: datetime) -> None:
        for promise in self.running():
            if promise.name in self.delays(request.kind):
                promise.excuse(request.asked, now)

    # --- a promise made anew (T8, T11)

    def bind(
        self,
        promise: Promise,
        amount: Amount,
        anchor: datetime,
        now: datetime,
        days: Days,
        overtaken: list[Request] | None = None,
    ) -> None:
        """Count by another budget or anchor, with every stop of the ledger kept; what happened before stays a fact.

        What is asked and undecided keeps it from turning red, but not for a due time before it was asked (T7).
        `overtaken`: requests that the new policy does not know; the time of waiting for them is excused.
        """
        ran_until = min([now, *(s.start for s in promise.stops if s.end is None)])
        asked = [
            r.asked for r in self.requests.values() if self.deciding(promise) and promise.name in self.delays(r.kind)
        ]
        if amount.measure != promise.amount.measure:
            promise.added = 0  # units are types: days granted do not turn into hours
        promise.amount, promise.anchor, promise.days = amount, anchor, days
        for request in overtaken or []:
            promise.excuse(request.asked, now)
        steps = self.rules.steps(self.flow, promise.name)
        promise.recount()
        promise.first_due = days.due(anchor, amount, promise.pauses())
        passed = promise.due < min([ran_until, *asked])
        late = passed and promise.breached_at is None
        left = [(promise.at(step), step) for step in steps if step.name not in promise.fired]
        for at, step in left:
            if (step.warns and at <= ran_until) or (late and step.kind == "due"):
                promise.fired[step.name] = at
                self.fired.append(Fired((promise.name, promise.cycle), step.name, at, None, behind=True))
        if late:
            promise.breached_at = now
        if late or (passed and any(step.kind == "after" and at <= ran_until for at, step in left)):
            promise.escalates_from = now  # escalation from now on, no burst of old steps

    def count_anew(self, now: datetime) -> bool:
        """T9: the open clocks by the newest calendar; what its due time and steps leave alone is only written to it."""
        self.catch_up(now)
        older = [p for p in self.running() if p.days is not self.rules.days]
        for promise in older:
            due, first = promise.due, min((at for at, _ in promise.ladder), default=None)
            old, promise.days = promise.days, self.rules.days
            promise.reckon(self.rules.steps(self.flow, promise.name), self.deciding(promise))
            fires = min((at for at, _ in promise.ladder), default=None)
            if promise.due != due or (fires is not None and fires != first and fires <= now):
                promise.days = old
                self.bind(promise, promise.amount, promise.anchor, now, self.rules.days)
        self.reckon()
        return bool(older)

    # --- the ticket

    def propose(self, now: datetime) -> None:
        """Put it on the docket, unless it is there already."""
        if self.review() is None:
            self.reviews.append(Review(len(self.reviews)))
            self.start("review_screen", now)

    def may_close(self) -> bool:
        return not any(task.mandatory and task.open for task in self.tasks)

    def close(self, now: datetime, outcome: str | None = None) -> None:
        """Nothing of a closed ticket stays open."""
        self.outcome = outcome or self.outcome
        self.withdraw_requests(now)
        for task in self.tasks:
            if task.open:
                task.state = "waived"
        review = self.review()
        if review is not None:
            review.state = "completed" if review.state == "decided" else "withdrawn"
        self.cancel(now)
        for leg in self.legs:
            leg.open = False
        self.stage, self.closed_at = "closed", now
