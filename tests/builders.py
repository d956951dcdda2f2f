"""Tickets, clocks and environments for the tests of the core: the real calendar, the shipped workflows, counted ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from service.core import clocks, measures, review, workflow
from service.core.calendar import Budget, Calendar, Measure
from service.core.definitions import ActionDef, Workflow, compile_workflow
from service.core.docket import Docket, parse_docket
from service.core.draft import Env, RouteTo
from service.core.errors import JiebanError
from service.core.model import (
    SYSTEM,
    Actor,
    Approval,
    Assignment,
    Clock,
    ClockState,
    Decision,
    Event,
    Firing,
    Notice,
    Phase,
    Review,
    Role,
    Ticket,
    evolve,
)
from service.core.policies import Policies
from service.usecases.folders import Folder, read_folder

WORKFLOWS = Path(__file__).resolve().parents[1] / "workflows"
SHANGHAI = ZoneInfo("Asia/Shanghai")

HOTLINE = Actor("hotline-1", Role.HOTLINE)
DISPATCHER = Actor("dispatcher-1", Role.DISPATCHER)
SUPERVISOR = Actor("supervisor-1", Role.SUPERVISOR)
REVIEWER = Actor("reviewer-1", Role.REVIEWER)
AUDITOR = Actor("auditor-1", Role.AUDITOR)


def handler(*departments: str, who: str = "") -> Actor:
    return Actor(who or f"handler-{departments[0]}", Role.HANDLER, departments)


def ordinary_monday(now: datetime) -> datetime:
    """The next Monday at 09:30 (in the zone of `now`), in a week of ordinary working days."""
    monday = (now + timedelta(days=7 - now.weekday())).replace(hour=9, minute=30, second=0, microsecond=0)
    if monday.year != now.year or monday.month in {1, 2, 4, 5, 6, 9, 10}:  # holidays would shift limits
        monday = monday.replace(month=11, day=1, year=monday.year + (monday.month > 10))
        monday += timedelta(days=(7 - monday.weekday()) % 7)
    return monday


def at(text: str) -> datetime:
    """An instant by the wall clock of Jinan: `2026-09-18 10:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=SHANGHAI)


@cache
def folder() -> Folder:
    """The shipped workflows folder."""
    return read_folder(WORKFLOWS)


@cache
def flow(key: str) -> Workflow:
    return compile_workflow(folder().workflows[key])


def renamed(plain: Any, names: Mapping[str, str]) -> Any:
    """Plain data of a workflow in which stages and clocks have other names; phases are the kernel's and keep theirs."""
    if isinstance(plain, Mapping):
        return {names.get(k, k): v if k == "phase" else renamed(v, names) for k, v in plain.items()}
    if isinstance(plain, list):
        return [renamed(v, names) for v in plain]
    if isinstance(plain, str):
        for old, new in names.items():
            plain = new if plain == old else plain.replace(f"clocks.{old}.", f"clocks.{new}.")
    return plain


@cache
def calendar() -> Calendar:
    return Calendar.compile(folder().calendars["cn-jinan"])


@cache
def closing_calendar() -> Calendar:
    """The same city, but a day ends when the office closes."""
    return Calendar.compile({**folder().calendars["cn-jinan"], "day_end": "office_close"})


@cache
def departments() -> frozenset[str]:
    return frozenset(d["code"] for d in folder().departments["departments"])


@cache
def matters() -> frozenset[str]:
    return frozenset(m["code"] for m in folder().matters["matters"])


@cache
def docket() -> Docket:
    return parse_docket(folder().docket)


@cache
def policies() -> Policies:
    """The shipped workflows and calendar, each in its first version."""
    return Policies({key: flow(key) for key in folder().workflows}, {calendar().key: calendar()})


def ids() -> Callable[[], str]:
    """Ids that sort in the order in which they were made."""
    numbers = count(1)
    return lambda: f"id-{next(numbers):06d}"


def a_clock(measure: Measure | str, budget: str | int, anchor: str | datetime, **changes: Any) -> Clock:
    """A running clock with its projection. `rungs` and `on` (a calendar) may be given."""
    rungs, on = changes.pop("rungs", ()), changes.pop("on", None) or calendar()
    parsed = Budget.parse(measure, budget)
    start = at(anchor) if isinstance(anchor, str) else anchor
    due_at = on.add(start, parsed)
    clock = Clock(
        id="id-clock", ticket_id="id-ticket", assignment_id=None, name="resolve", cycle=1, family="enterprise",
        measure=parsed.measure, budget=parsed.amount, anchor_name="received_at", anchor=start,
        calendar_key=on.key, calendar_version=on.version, state=ClockState.RUNNING, due_at=due_at,
        original_due_at=due_at, **changes,
    )  # fmt: skip
    return clocks.project(clock, rungs, on)


def a_ticket(flow: Workflow, received: datetime, created: datetime, new_id: Callable[[], str]) -> Ticket:
    """A ticket without children, as intake hands it to its workflow."""
    domain = next(iter(sorted(flow.domains)), "consultation")
    return Ticket(
        id=new_id(), number="QY202609180000001", workflow_key=flow.key, workflow_version=flow.version, stage="",
        phase=Phase.INTAKE, round=1, domain=domain, matter=None, urgency="normal", district="370102",
        received_at=received, created_at=created, updated_at=created, version=0,
    )  # fmt: skip


@dataclass
class Case:
    """One ticket and all that happened to it. Time is set with `on`, people act with `act`, timers with `pump`."""

    flow: Workflow
    now: datetime
    ticket: Ticket
    new_id: Callable[[], str]
    calendar: Calendar
    events: list[Event] = field(default_factory=list)
    firings: list[Firing] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    calendars: Mapping[tuple[str, int], Calendar] = field(default_factory=dict)
    policies: Policies | None = None

    @classmethod
    def opened(
        cls,
        key: str = "project_landing",
        received: str = "2026-09-14 10:00",
        *,
        lead: str | None = "tax",
        co_handlers: Iterable[str] = (),
        created: str | None = None,
        on: Calendar | None = None,
    ) -> Case:
        new_id, definition = ids(), flow(key)
        now = at(created or received)
        case = cls(definition, now, a_ticket(definition, at(received), now, new_id), new_id, on or calendar())
        case.policies = policies()
        case.take(workflow.open_ticket(case.ticket, RouteTo(lead, tuple(co_handlers), "a_rule"), case.env(HOTLINE), {}))
        return case

    def env(self, actor: Actor, *, punctual: bool = False) -> Env:
        bound = self.flow if self.ticket.workflow_key == self.flow.key else flow(self.ticket.workflow_key)
        return Env(
            bound, self.calendar, actor, self.now, self.new_id, departments(), punctual, self.calendars, matters(),
            self.policies, docket(),
        )  # fmt: skip

    def take(self, decision: Decision) -> Case:
        self.ticket = decision.after
        self.events += decision.events
        self.firings += decision.firings
        self.notices += decision.notices
        return self

    def on(self, when: str | datetime) -> Case:
        """It is now this time; nothing happens by itself."""
        self.now = at(when) if isinstance(when, str) else when
        return self

    def act(self, actor: Actor, action: str, **form: Any) -> Case:
        return self.take(workflow.act(self.ticket, action, form, self.env(actor)))

    def pump(self, when: str | datetime | None = None) -> Case:
        """The timers are looked at, once, at `when`."""
        if when is not None:
            self.on(when)
        return self.take(workflow.fire_due(self.ticket, self.env(SYSTEM)))

    def pump_on_time(self, until: datetime, delay: Any = None) -> Case:
        """Each timer fires at its instant (or `delay` after it) before `until`; people come first at equal times."""
        while (first := self.next_fire_at()) is not None:
            fires = first if delay is None else first + delay
            if max(fires, self.now) >= until:
                break
            self.pump(max(fires, self.now))
        return self

    def next_fire_at(self) -> datetime | None:
        return min((c.next_fire_at for c in self.ticket.clocks if c.next_fire_at is not None), default=None)

    def decide(self, kind: str, approve: bool, by: Actor = DISPATCHER, reason: str = "r") -> Case:
        approval = self.approval(kind)
        return self.take(workflow.decide_approval(self.ticket, approval.id, approve, reason, self.env(by)))

    def propose(self, by: Actor = DISPATCHER, **form: Any) -> Case:
        return self.take(review.propose(self.ticket, {"reason": "needs several units", **form}, self.env(by)))

    def review(self, by: Actor, action: str, **form: Any) -> Case:
        return self.take(review.act(self.ticket, self.last_review().id, action, form, self.env(by)))

    def settled(self) -> Case:
        """The gates that every approval needs are passed."""
        for gate in ("competence", "confidentiality", "recusal"):
            self.review(REVIEWER, "pass_gate", gate=gate)
        return self

    def resolve(self, **form: Any) -> Case:
        """Decided in writing, with what must be settled before."""
        return self.settled().review(REVIEWER, "decide", **{"text": "t", **form})

    def strike_off(self, n: int = 0, **form: Any) -> Case:
        return self.measure(REVIEWER, "strike_off", n, **{"enterprise_opinion": "satisfied", **form})

    def measure(self, by: Actor, action: str, n: int = 0, **form: Any) -> Case:
        task = self.ticket.measures[n]
        return self.take(measures.act(self.ticket, task.id, action, form, self.env(by)))

    def possible(self, actor: Actor) -> set[str]:
        return {a.name for a in workflow.possible_actions(self.ticket, self.env(actor))}

    def refused(self, actor: Actor, action: str, **form: Any) -> JiebanError:
        """The error with which an action is refused; the ticket stays as it is."""
        try:
            workflow.act(self.ticket, action, form, self.env(actor))
        except JiebanError as error:
            return error
        raise AssertionError(f"{action} was not refused")

    def approval(self, kind: str) -> Approval:
        return [a for a in self.ticket.approvals if a.kind == kind][-1]

    def last_review(self) -> Review:
        return self.ticket.reviews[-1]

    def clock(self, name: str, cycle: int | None = None) -> Clock:
        """The newest clock of this name (of this cycle)."""
        return [c for c in self.ticket.clocks if c.name == name and cycle in {None, c.cycle}][-1]

    def leg(self, department: str) -> Assignment:
        return [a for a in self.ticket.assignments if a.department == department][-1]

    def explain(self, name: str) -> dict[str, Any]:
        return clocks.explain(self.clock(name), self.calendar, self.flow.clocks[name].times)

    def fired(self, name: str) -> list[tuple[str, datetime, str]]:
        own = {c.id for c in self.ticket.clocks if c.name == name}
        return [(f.rung, f.due_at, f.outcome) for f in self.firings if f.clock_id in own]

    def types(self) -> list[str]:
        return [e.type for e in self.events]


LEAD = handler("tax")
REPLY = {"public_reply": "您好，已办理。"}
SOLVED = {"solved": "yes", "satisfaction": "satisfied"}
BAD = {"solved": "no", "satisfaction": "dissatisfied"}
EXTENSION = {"ground": "funds_or_season", "days": 3, "reason": "an expert is needed"}
PAUSE = {"kind": "waiting_enterprise", "reason": "papers are missing"}
RETURN = {"ground": "not_our_duty", "reason": "another bureau's duty"}


def handled(key: str = "project_landing", received: str = "2026-09-14 10:00", **how: Any) -> Case:
    """A ticket that its lead has accepted within the same hour."""
    case = Case.opened(key, received, **how)
    return case.act(LEAD, "accept")


# --- random histories --------------------------------------------------------------------------------------------

RARE = frozenset(
    {
        "comment",
        "withdraw",
        "assign",
        "escalate",
        "add_co_handler",
        "log_contact",
        "submit_plan",
        "reclassify",
        "rebind",
    }
)
UNITS = ("tax", "finance", "water")
PEOPLE = (
    HOTLINE, DISPATCHER, SUPERVISOR, REVIEWER, *(handler(unit) for unit in UNITS), handler("tax", "finance", who="both")
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One thing that somebody tries. `kind`: action, approval, review, measure or propose."""

    now: datetime
    actor: Actor
    kind: str
    name: str
    form: Mapping[str, Any]

    def carry_out(self, case: Case) -> JiebanError | None:
        """What it was refused with, if it was."""
        case.on(self.now)
        try:
            if self.kind == "action":
                case.act(self.actor, self.name, **self.form)
            elif self.kind == "approval":
                case.decide(self.name, bool(self.form["approve"]), self.actor)
            elif self.kind == "review":
                if not any(r.open for r in case.ticket.reviews):
                    case.pump()  # a proposal made by a timer is known only once the timer has fired
                if self.name == "decide":
                    case.settled()
                case.review(self.actor, self.name, **self.form)
            elif self.kind == "propose":
                case.propose(self.actor, **self.form)
            else:
                case.measure(self.actor, self.name, int(self.form["n"]), **self.form["form"])
        except JiebanError as error:
            return error
        return None


def a_form(action: ActionDef, rng: Random, today: date = date(2026, 6, 1)) -> dict[str, Any]:
    """A form that the action's schema takes."""
    if action.name == "record_callback":
        if rng.random() < 0.3:
            return {"reached": False}
        return {
            "solved": rng.choice(["yes", "partly", "no"]),
            "satisfaction": rng.choice(["satisfied", "dissatisfied"]),
        }
    required = action.form.get("required", [])
    fields = action.form.get("properties", {})
    form = {n: _value(schema, rng, today) for n, schema in fields.items() if n in required or rng.random() < 0.3}
    told = {"request_pause": {"evidence": "e"}, "sign_off": {"reason": "r"}}.get(action.name, {})
    return {**form, **told}


def _value(schema: Mapping[str, Any], rng: Random, today: date) -> Any:
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if schema["type"] == "integer":
        return rng.randint(schema["minimum"], schema["maximum"])
    if schema["type"] == "boolean":
        return rng.random() < 0.8
    if schema["type"] == "array":
        return rng.sample(UNITS, rng.randint(0, 2))
    if schema.get("format") == "date":
        return (today + timedelta(days=rng.randint(1, 60))).isoformat()
    return rng.choice(UNITS) if schema.get("x-kind") == "department" else "text"


def a_gap(rng: Random) -> timedelta:
    kind = rng.random()
    if kind < 0.35:
        return timedelta(minutes=rng.randint(0, 180))
    if kind < 0.7:
        return timedelta(hours=rng.randint(1, 30))
    if kind < 0.96:
        return timedelta(days=rng.randint(1, 9), minutes=rng.randint(0, 600))
    return timedelta(days=rng.randint(15, 40))


def a_step(case: Case, rng: Random) -> Step:
    """Something that may well be possible now; `case` has been pumped up to its time."""
    for _ in range(20):
        kind = rng.random()
        pending = [a for a in case.ticket.approvals if a.state == "pending"]
        docket = case.ticket.open_review()
        tasks = [n for n, m in enumerate(case.ticket.measures) if m.open]
        if kind < 0.25 and pending:
            approval = rng.choice(pending)
            return Step(case.now, DISPATCHER, "approval", approval.kind, {"approve": rng.random() < 0.6})
        if kind < 0.35 and docket is not None:
            return _review_step(case, docket, rng)
        if kind < 0.6 and tasks:
            return _measure_step(case, rng.choice(tasks), rng)
        actor = rng.choice(PEOPLE)
        actions = [a for a in workflow.possible_actions(case.ticket, case.env(actor)) if a.name not in workflow.JOINING]
        useful = [a for a in actions if a.name not in RARE or rng.random() < 0.05]
        if useful:
            action = rng.choice(useful)
            return Step(case.now, actor, "action", action.name, a_form(action, rng, case.calendar.local_date(case.now)))
    return Step(case.now, DISPATCHER, "action", "comment", {"text": "nothing to do"})


def _review_step(case: Case, docket: Review, rng: Random) -> Step:
    now = case.now + timedelta(microseconds=1)
    if docket.state == "proposed":
        form: dict[str, Any] = {"decision": rng.choice(["accept", "accept", "accept", "refuse"]), "tier": 1}
        return Step(now, REVIEWER, "review", "screen", form)
    asked = [o.department for o in case.ticket.opinions if o.review_id == docket.id and o.position is None]
    choice = rng.random()
    if choice < 0.3:
        return Step(now, REVIEWER, "review", "request_opinions", {"departments": rng.sample(UNITS, 2)})
    if choice < 0.6 and asked:
        return Step(now, handler(asked[0]), "review", "give_opinion", {"position": "agree"})
    if choice < 0.65:
        return Step(now, REVIEWER, "review", "withdraw", {"reason": "solved meanwhile"})
    decision = rng.choice(["approve", "approve", "postpone", "refuse"])
    form = {"decision": decision, "text": "decided"}
    if decision == "approve":
        due_on = (case.calendar.local_date(now) + timedelta(days=rng.randint(1, 20))).isoformat()
        form["measures"] = [
            {"title": f"measure {n}", "department": unit, "due_on": due_on, "mandatory": n == 0}
            for n, unit in enumerate(rng.sample(UNITS, rng.randint(0, 2)))
        ]
    return Step(now, REVIEWER, "review", "decide", form)


def _measure_step(case: Case, n: int, rng: Random) -> Step:
    task = case.ticket.measures[n]
    choice = rng.random()
    if choice < 0.3:
        return Step(
            case.now, handler(task.department), "measure", "submit_evidence", {"n": n, "form": {"evidence": "e"}}
        )
    if choice < 0.7:
        waive = {"waive": True, "reason": "no longer needed"} if task.state != "evidence" else {}
        waive = waive or {"enterprise_opinion": "satisfied"}
        return Step(case.now, REVIEWER, "measure", "strike_off", {"n": n, "form": waive})
    if choice < 0.85:
        return Step(case.now, handler(task.department), "measure", "report", {"n": n, "form": {"text": "t"}})
    due_on = (case.calendar.local_date(case.now) + timedelta(days=rng.randint(1, 20))).isoformat()
    return Step(case.now, REVIEWER, "measure", "reschedule", {"n": n, "form": {"due_on": due_on, "reason": "r"}})


def a_history(rng: Random, length: int = 14, watch: Callable[[Case], None] = lambda _: None) -> tuple[Case, list[Step]]:
    """A random life of a ticket whose timers fire at their very instants; what was tried, in order."""
    case, steps = random_opening(rng), []
    for _ in range(length):
        now = case.now + a_gap(rng)
        case.pump_on_time(now)
        case.on(now)
        step = a_step(case, rng)
        step.carry_out(case)
        steps.append(step)
        watch(case)
        if not case.ticket.open:
            break
    return case, steps


def random_opening(rng: Random) -> Case:
    """Consumes the same chance for the same seed, so that a history can be lived again."""
    key = rng.choice(["project_landing", "consultation", "complaint_report", "emergency"])
    received = at("2026-01-05 00:00") + timedelta(minutes=rng.randint(0, 700 * 24 * 60))
    co_handlers = ("finance",) if rng.random() < 0.3 else ()
    lead = "tax" if rng.random() < 0.85 else None
    text = received.strftime("%Y-%m-%d %H:%M")
    return Case.opened(key, text, lead=lead, co_handlers=co_handlers if lead else ())


def relive(seed_rng: Random, steps: Iterable[Step], delay: timedelta) -> Case:
    """The same opening and the same steps with a pump that is late."""
    case = random_opening(seed_rng)
    for step in steps:
        case.pump_on_time(step.now, delay)
        step.carry_out(case)
    return case


def told(case: Case) -> tuple[str, list[str]]:
    """Final state and history as text, with ids by order of appearance and without what lateness may change."""
    ticket = evolve(case.ticket, version=0, updated_at=case.ticket.created_at)
    names: dict[str, str] = {}

    def renamed(text: str) -> str:
        return re.sub(r"id-\d{6}", lambda m: names.setdefault(m.group(), f"#{len(names)}"), text)

    state = renamed(repr(ticket))
    hidden = {"fired_at", "outcome"}
    history = [
        renamed(repr((e.type, e.occurred_at, e.actor, {k: v for k, v in e.data.items() if k not in hidden})))
        for e in case.events
    ]
    return state, history
