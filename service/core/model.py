"""The words of the field as frozen values (terms: domain glossary; phases and stages: workflow files).

Everything here is plain data: no I/O, no clock, no ids are made here. Instants are aware datetimes in UTC.
Amounts of clocks are integers: microseconds for the hour measures, whole days for the day measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar, dataclass_transform

from service.core.calendar import Measure

V = TypeVar("V")
_NEW, _SET = object.__new__, object.__setattr__


@dataclass_transform(frozen_default=True)
def value(cls: type[V]) -> type[V]:
    """A dataclass that is frozen for the type checker, which CI runs, but not at run time.

    Being frozen there costs a call for each field of each new object, four times the time to make it. `Clock` and `Ticket`
    are frozen at run time too: what is promised to an enterprise is not changed by mistake.
    """
    return dataclass(unsafe_hash=True)(cls)


def evolve(value: V, **changes: Any) -> V:
    """`dataclasses.replace` for `Ticket`, `Clock` and each `value`, ten times as fast: a copy. They check nothing.

    An intake makes some twenty of these copies, a what-if millions.
    """
    made = _NEW(value.__class__)
    _SET(made, "__dict__", value.__dict__ | changes)
    return made


class Role(StrEnum):
    """What a principal may be. `system` is the pump acting for the rules themselves; no token carries it."""

    HOTLINE = "hotline"
    HANDLER = "handler"
    DISPATCHER = "dispatcher"
    SUPERVISOR = "supervisor"
    REVIEWER = "reviewer"
    AUDITOR = "auditor"
    ADMIN = "admin"
    SYSTEM = "system"


class Phase(StrEnum):
    """The kernel's own classes of stages, the same for every workflow, so that reports need not know workflows."""

    INTAKE = "intake"
    DISPATCH = "dispatch"
    ACCEPTANCE = "acceptance"
    HANDLING = "handling"
    WAITING = "waiting"
    AUDIT = "audit"
    CALLBACK = "callback"
    REVIEW = "review"
    CLOSED = "closed"


class ClockState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    HELD = "held"
    MET = "met"
    BREACHED_RUNNING = "breached_running"
    BREACHED_MET = "breached_met"
    CANCELLED = "cancelled"


ENDED = frozenset({ClockState.MET, ClockState.BREACHED_MET, ClockState.CANCELLED})


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts. `departments` are the codes of the units he or she works for; empty for city-wide roles."""

    subject: str
    role: Role
    departments: tuple[str, ...] = ()

    @property
    def department(self) -> str | None:
        return self.departments[0] if self.departments else None


SYSTEM = Actor("system", Role.SYSTEM)


@value
class Segment:
    """A span in which a clock did not run. `kind`: paused kinds, `held`, `awaiting_decision` or `closed`.

    `until` is the cap at which a pause ends by itself; `end` is None while the span is open.
    """

    kind: str
    start: datetime
    end: datetime | None = None
    until: datetime | None = None
    reason: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Extension:
    """Budget added by a decision. `amount` is in the clock's own measure."""

    amount: int
    at: datetime
    by: str
    ground: str = ""


@dataclass(frozen=True)
class Clock:
    """One SLA promise: a budget, an anchor and a ledger. `due_at` and `next_fire_at` are projections of these."""

    id: str
    ticket_id: str
    assignment_id: str | None
    name: str
    cycle: int
    family: str
    measure: Measure
    budget: int
    anchor_name: str
    anchor: datetime
    calendar_key: str
    calendar_version: int
    state: ClockState
    due_at: datetime
    original_due_at: datetime
    segments: tuple[Segment, ...] = ()
    extensions: tuple[Extension, ...] = ()
    fired: tuple[str, ...] = ()
    provisional: bool = False
    breached_at: datetime | None = None
    held_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: str = ""
    next_fire_at: datetime | None = None
    department: str | None = None
    subject_id: str | None = None
    """The approval, opinion or measure this clock belongs to, when it is not the ticket's or a leg's own."""
    workflow_key: str = ""
    workflow_version: int = 0
    """The policy version that this clock was last bound to (T2)."""
    changes: tuple[Mapping[str, Any], ...] = ()
    """How the promise was made anew (T8, T9, T11), oldest first: kind, at, by, reason, before, after. JSON-able."""
    escalates_from: datetime | None = None
    """Set when the promise was made anew after its new due time: rungs after the due time count from here."""

    @property
    def open(self) -> bool:
        return self.state not in ENDED


_AT_FIRST = {f.name: f.default for f in fields(Clock) if f.default is not MISSING} | {"state": ClockState.RUNNING}


def new_clock(
    *, id: str, ticket_id: str, assignment_id: str | None, name: str, cycle: int, family: str, measure: Measure, budget: int,
    anchor_name: str, anchor: datetime, calendar_key: str, calendar_version: int, due_at: datetime, department: str | None,
    subject_id: str | None, workflow_key: str, workflow_version: int,
) -> Clock:  # fmt: skip
    """A clock that has just begun to run: an instance, made faster (an intake makes ten, a what-if hundreds of thousands)."""
    made = _NEW(Clock)
    terms = {
        "id": id, "ticket_id": ticket_id, "assignment_id": assignment_id, "name": name, "cycle": cycle, "family": family,
        "measure": measure, "budget": budget, "anchor_name": anchor_name, "anchor": anchor, "calendar_key": calendar_key,
        "calendar_version": calendar_version, "due_at": due_at, "original_due_at": due_at, "department": department,
        "subject_id": subject_id, "workflow_key": workflow_key, "workflow_version": workflow_version,
    }  # fmt: skip
    _SET(made, "__dict__", _AT_FIRST | terms)
    return made


@value
class Assignment:
    """One department's leg of a ticket. `role`: lead or co_handler. `state`: pending, accepted, submitted, ended."""

    id: str
    ticket_id: str
    department: str
    role: str
    state: str
    round: int
    dispatched_at: datetime
    accepted_at: datetime | None = None
    auto_accepted: bool = False
    submitted_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: str = ""
    assignee: str | None = None

    @property
    def open(self) -> bool:
        return self.ended_at is None


@value
class Round:
    """One round of handling (办理轮次) with its callback's result; identified by ticket and number."""

    ticket_id: str
    number: int
    started_at: datetime
    submitted_at: datetime | None = None
    ended_at: datetime | None = None
    solved: str | None = None
    satisfaction: str | None = None
    department: str | None = None

    @property
    def id(self) -> str:
        return f"{self.ticket_id}/{self.number}"


@value
class Approval:
    """A request that someone else must decide. `state`: pending, approved, denied, withdrawn.

    `level` is the one that decides now (from 1); `decisions` what each level before it and the last one said: level, by,
    at, reason. JSON-able.
    """

    id: str
    ticket_id: str
    assignment_id: str | None
    kind: str
    state: str
    department: str | None
    requested_by: str
    requested_at: datetime
    form: Mapping[str, Any]
    decided_by: str | None = None
    decided_at: datetime | None = None
    reason: str = ""
    level: int = 1
    decisions: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Opinion:
    """A unit's written opinion for a review. `position`: None while asked, then agree, disagree or condition."""

    id: str
    ticket_id: str
    review_id: str
    department: str
    asked_at: datetime
    position: str | None = None
    text: str = ""
    legal_basis: str = ""
    given_at: datetime | None = None
    given_by: str | None = None


@dataclass(frozen=True, slots=True)
class MeasureTask:
    """A task that a resolution creates (议定事项). `state`: open, reported, evidence, struck_off, waived.

    `resource`: the quota or money that it commits (资源要素), None for work. `favour`: what it gives to this one enterprise
    (fair competition). `enterprise_opinion`: asked at the strike-off, {opinion, text, at, by}. JSON-able.
    """

    id: str
    ticket_id: str
    review_id: str
    title: str
    department: str
    due_on: str
    mandatory: bool
    state: str
    progress: tuple[Mapping[str, Any], ...] = ()
    evidence: str = ""
    struck_off_at: datetime | None = None
    struck_off_by: str | None = None
    reason: str = ""
    co_units: tuple[str, ...] = ()
    deliverable: str = ""
    evidence_type: str = ""
    resource: str | None = None
    quantity: str = ""
    favour: str | None = None
    created_at: datetime | None = None
    enterprise_opinion: Mapping[str, Any] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        return self.state not in {"struck_off", "waived"}


@dataclass(frozen=True, slots=True)
class Review:
    """One matter on the docket of one matter, one discussion (一事一议).

    `state`: proposed, preparing, decided, completed, refused, withdrawn. `kind`: enterprise_problem or
    investment_project; the two never mix in reports. The mappings are JSON-able:

    `history`   snapshot at the proposal: rounds, returns, extensions, contacts, breaches
    `gates`     gate -> {result: requested|passed|failed|waived, ground, legal_basis, by, at, ...}
    `votes`     {for, against, abstain: codes of units}; empty where the chair summed up
    `dissents`  {department, text, from: opinion|meeting}
    `recused`   {subject, name, department, reason}
    """

    id: str
    ticket_id: str
    number: str
    kind: str
    state: str
    grounds: tuple[str, ...]
    summary: str
    proposed_by: str
    proposed_at: datetime
    tier: int | None = None
    clock_effect: str = "runs"
    screened_by: str | None = None
    screened_at: datetime | None = None
    screen_reason: str = ""
    decision: str | None = None
    decision_text: str = ""
    enterprise_extract: str = ""
    dissent: str = ""
    decided_by: str | None = None
    decided_at: datetime | None = None
    completed_at: datetime | None = None
    asked: str = ""
    tried: str = ""
    options: tuple[str, ...] = ()
    signed_by: str = ""
    """Who stands for it: the head of a department that signed, or the enterprise's steward that agreed."""
    history: Mapping[str, Any] = field(default_factory=dict)
    returns: int = 0
    """How often the screening sent the proposal back for more work."""
    returned_at: datetime | None = None
    supplemented_at: datetime | None = None
    study_id: str | None = None
    meeting_id: str | None = None
    """The meeting on whose agenda it stands, or that decided it; None: decided in writing."""
    major: bool = False
    confidentiality: str = "internal"
    gates: Mapping[str, Any] = field(default_factory=dict)
    conditions: str = ""
    votes: Mapping[str, Any] = field(default_factory=dict)
    dissents: tuple[Mapping[str, Any], ...] = ()
    recused: tuple[Mapping[str, Any], ...] = ()
    postponed_to: str | None = None
    referred_to: str | None = None
    issued_at: datetime | None = None
    """When its minutes were issued: from here the reply to the enterprise is due."""
    reply: str = ""
    replied_at: datetime | None = None
    replied_by: str | None = None

    @property
    def open(self) -> bool:
        return self.state in {"proposed", "preparing", "decided"}


@dataclass(frozen=True)
class Ticket:
    """The aggregate that one row lock protects: the ticket's own state with everything that hangs on it."""

    id: str
    number: str
    workflow_key: str
    workflow_version: int
    stage: str
    phase: Phase
    round: int
    domain: str
    matter: str | None
    urgency: str
    district: str | None
    received_at: datetime
    created_at: datetime
    updated_at: datetime
    version: int
    lead: str | None = None
    outcome: str | None = None
    closed_at: datetime | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What actions recorded for people: plan, public_reply, callback result, cards. JSON-able."""
    visible_to: tuple[str, ...] = ()
    recused: tuple[str, ...] = ()
    """Who neither sees nor handles it: `unit:CODE` (the one complained of, say), `person:SUBJECT`."""
    last_seq: int = 0
    head_hash: str = ""
    merged_into: str | None = None
    split_from: str | None = None
    rounds: tuple[Round, ...] = ()
    assignments: tuple[Assignment, ...] = ()
    clocks: tuple[Clock, ...] = ()
    approvals: tuple[Approval, ...] = ()
    reviews: tuple[Review, ...] = ()
    opinions: tuple[Opinion, ...] = ()
    measures: tuple[MeasureTask, ...] = ()

    @property
    def open(self) -> bool:
        return self.phase is not Phase.CLOSED

    @property
    def reply(self) -> str:
        """`none` where the enterprise asked not to be contacted, else `wanted`."""
        return "none" if self.facts.get("no_reply") else "wanted"

    def leg_of(self, departments: tuple[str, ...]) -> Assignment | None:
        """The open assignment of one of these departments; the lead's first."""
        legs = [a for a in self.assignments if a.open and a.department in departments]
        return min(legs, key=lambda a: a.role != "lead", default=None)

    def lead_leg(self) -> Assignment | None:
        return next((a for a in self.assignments if a.open and a.role == "lead"), None)

    def current_round(self) -> Round | None:
        return next((r for r in self.rounds if r.number == self.round), None)

    def open_review(self) -> Review | None:
        return next((r for r in self.reviews if r.open), None)


@dataclass(frozen=True, slots=True)
class Exemption:
    """What the assessment leaves out (免考). `scope`: the whole ticket, or the rating of one round (评星复议).

    `state`: pending, approved, denied, revoked. Beside the ticket, not a part of it: it changes nothing that happened.
    """

    id: str
    ticket_id: str
    scope: str
    round: int | None
    code: str
    reason: str
    evidence: str
    department: str | None
    state: str
    requested_by: str
    requested_at: datetime
    expires_at: datetime
    decided_by: str | None = None
    decided_at: datetime | None = None
    decision_reason: str = ""
    revoked_by: str | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a ticket's history. `occurred_at` is when it took effect (a timer's due instant)."""

    type: str
    occurred_at: datetime
    actor: Actor
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Firing:
    """The claim of one rung of one clock: unique by (clock_id, rung). `outcome`: fired or superseded."""

    clock_id: str
    rung: str
    due_at: datetime
    fired_at: datetime
    outcome: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Somebody should look at the ticket: `to` is a role or `department:<code>`, `about` the clock that says so."""

    to: str
    kind: str
    about: str | None = None
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a command leads to: the ticket as it will be, and what is appended beside it."""

    before: Ticket
    after: Ticket
    events: tuple[Event, ...]
    firings: tuple[Firing, ...] = ()
    notices: tuple[Notice, ...] = ()
    exemptions: tuple[Exemption, ...] = ()
