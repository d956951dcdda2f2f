"""What a change of the rules would have done: recorded lives replayed under a draft workflow or calendar.

A `Record` keeps what people did and when, and how the ticket is stored; what timers did is left out. `live` lives it again
by the engine itself (`replay`): under the draft, or, as a check, by the very versions that it was recorded under. Because
a history does not depend on the punctuality of timers, that must come out as it is stored; where it does not, that is
reported (`Life.differences`).

What people did is kept as it was, to the second: the draft changes clocks, not people. An act that the draft does not allow
at that point is not carried out and is reported with its reason. If it had moved the ticket, what came after it means
nothing under the draft: the ticket is set aside and counted in no figure of either side.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

from service.core import joining, measures, recounting, review
from service.core.calendar import Calendar
from service.core.definitions import ActionDef, Workflow
from service.core.draft import Env, RouteTo
from service.core.errors import ActionNotPossible, Forbidden, JiebanError, NotFound
from service.core.model import ENDED, SYSTEM, Actor, Clock, Decision, Phase, Role, Ticket, evolve, value
from service.core.policies import Choice, Policies
from service.core.replay import Memory, Replay
from service.core.workflow import catch_up, check_allowed, decide_request, enter, perform

Version = tuple[str, int]
_DAY = timedelta(days=1)

REASONS: Mapping[str, Mapping[str, str]] = {
    "action": {"zh": "草案中没有该操作", "en": "the draft has no such action"},
    "stage": {"zh": "当时所在环节不允许该操作", "en": "not possible in the stage where the ticket would have been"},
    "role": {"zh": "草案不允许该角色操作", "en": "the draft does not let this role, or this person, do it"},
    "guard": {"zh": "不满足草案的条件", "en": "the draft's condition does not hold"},
    "request": {"zh": "没有待裁定的申请", "en": "there is no such request to decide"},
    "review": {"zh": "没有处于该步骤的议题", "en": "there is no review at this step"},
    "effect": {"zh": "草案的处理无法执行", "en": "what the draft does then cannot be done"},
    "joined": {"zh": "由他单拆出或并入过他单", "en": "it depends on another ticket: split off it, or took it over"},
    "event": {"zh": "历史中有不可重演的记录", "en": "its history holds what cannot be replayed"},
    "timer": {"zh": "草案的定时处理无法执行", "en": "a timer of the draft cannot fire"},
}
"""Why an act, or a ticket, is not comparable."""


# --- what is recorded ------------------------------------------------------------------------------------------------


@value
class Step:
    """One thing that somebody did. `kind`: act, approval, propose, review, issue, measure, merge, split or recount."""

    kind: str
    at: datetime
    actor: Actor
    name: str
    form: Mapping[str, Any]
    moved: bool = False
    """Whether it moved the ticket to another stage."""
    bound_to: Version | None = None
    """The workflow that it bound the ticket to, if it did (T8)."""


@value
class Kept:
    """One clock as it is stored: what a replay must find again."""

    name: str
    cycle: int
    state: str
    due_at: datetime
    breached_at: datetime | None
    fired: tuple[str, ...]
    family: str
    department: str | None

    @property
    def open(self) -> bool:
        return self.state not in ENDED


@value
class Leg:
    """A department had the ticket from `start` on, to `end` if that has come."""

    department: str
    start: datetime
    end: datetime | None


@value
class Record:
    """One ticket as it came in, what people did to it, and how it is stored now."""

    id: str
    number: str
    workflow: Version
    domain: str
    matter: str | None
    urgency: str
    district: str | None
    received_at: datetime
    created_at: datetime
    route: RouteTo
    answered: Mapping[str, Any] | None
    steps: tuple[Step, ...]
    last_at: datetime
    """When the last thing happened, and whether that was a timer."""
    last_was_timer: bool
    lead: str | None = None
    clocks: tuple[Kept, ...] = ()
    legs: tuple[Leg, ...] = ()
    cards: tuple[tuple[str, datetime], ...] = ()
    proposed: tuple[datetime, ...] = ()
    no_reply: bool = False
    not_replayable: str | None = None
    """Key of REASONS, if its history cannot be replayed by itself."""


# --- the rules it is lived by ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rules:
    """Every version that the records name, what is newest now, and the draft.

    `calendars_at`: which calendars were the newest from when on, oldest first.
    """

    workflow: Callable[[Version], Workflow]
    calendars: Mapping[Version, Calendar]
    calendars_at: Sequence[tuple[datetime, Mapping[str, Calendar]]]
    newest: Policies
    departments: frozenset[str]
    matters: frozenset[str]
    draft_workflow: Workflow | None = None
    draft_calendar: Calendar | None = None


class World:
    """How lives go on one side of the comparison: as recorded, or under the draft."""

    def __init__(self, rules: Rules, *, draft: bool) -> None:
        self._rules, self.as_recorded = rules, not draft
        self._flow = rules.draft_workflow if draft else None
        self._calendar = tried = rules.draft_calendar if draft else None
        self._newest = self._tried = rules.newest
        if self._flow is not None:
            self._tried = Policies({**rules.newest.flows, self._flow.key: self._flow}, rules.newest.calendars)
        self._fitting: dict[tuple[str, str, str | None], Workflow | None] = {}
        self._binding: dict[Version, frozenset[str]] = {}
        self._calendars = dict(rules.calendars)
        self._counting: dict[tuple[int, str, str | None], Calendar] = {}
        self._spans = [(at, Policies({}, known)) for at, known in rules.calendars_at]
        if tried is not None:
            self._spans = [(at, Policies({}, {**p.calendars, tried.key: tried})) for at, p in self._spans]
            self._calendars[tried.key, tried.version] = tried
        self._unlike = _unlike(tried, rules.calendars) if tried is not None else []

    def workflow(self, version: Version) -> Workflow:
        if self._flow is not None and version == (self._flow.key, self._flow.version):
            return self._flow
        return self._rules.workflow(version)

    def flow_for(self, recorded: Version, domain: str, urgency: str, lead: str | None) -> Workflow:
        """The recorded version, or the draft for its own; another where the draft begins or ceases to take such tickets."""
        if self._flow is None:
            return self._rules.workflow(recorded)
        key = (domain, urgency, lead)
        if key not in self._fitting:
            now, then = (_chosen(policies, *key) for policies in (self._newest, self._tried))
            same = now is not None and then is not None and now.key == then.key
            self._fitting[key] = None if same else then
        other, own = self._fitting[key], recorded[0] == self._flow.key
        if other is not None and (own or other is self._flow):
            return other
        return self._flow if own else self._rules.workflow(recorded)

    def touches(self, record: Record, as_of: datetime) -> bool:
        """Whether this ticket could fare otherwise than recorded, up to `as_of`."""
        if self._calendar is not None and self._meets(record, as_of):
            return True
        if self._flow is None:
            return False
        recorded = self._rules.workflow(record.workflow)
        if self.flow_for(record.workflow, record.domain, record.urgency, record.route.lead) is not recorded:
            return True
        return any(s.bound_to or s.name in self._binds(recorded) for s in record.steps)

    def _meets(self, record: Record, as_of: datetime) -> bool:
        """Whether a date that the draft counts differently lies between what the ticket was counted from and to.

        Nothing beyond the due time of a clock decides when it was due; what a timer does later it does by `as_of`.
        """
        if self._unlike is None:
            return True
        to = max([record.last_at, *(c.due_at for c in record.clocks)])
        if any(c.open for c in record.clocks):
            to = max(to, as_of)
        # a day more on both sides: the calendar's dates are local
        first = bisect_left(self._unlike, min(record.received_at, record.created_at).date() - _DAY)
        return first < len(self._unlike) and self._unlike[first] <= to.date() + _DAY

    def _binds(self, flow: Workflow) -> frozenset[str]:
        """Names of the actions that may bind a ticket to another workflow."""
        version = (flow.key, flow.version)
        if version not in self._binding:
            verbs = {"assign_lead", "reclassify", "rebind"}
            self._binding[version] = frozenset(
                name for name, action in flow.actions.items()
                if any(verb in verbs for branch in action.branches for verb, _ in branch.effects)
            )  # fmt: skip
        return self._binding[version]

    def counts_by_draft(self, calendar: str) -> bool:
        return self._calendar is not None and self._calendar.key == calendar

    def calendar(self, version: Version) -> Calendar:
        return self._calendars[version]

    def env(self, flow: Workflow, district: str | None, step: Step, bound: Version, new_id: Callable[[], str]) -> Env:
        """What a step may look at; `bound`: the version that the ticket was bound to after it."""
        spans, rules = self._spans, self._rules
        n = max(0, bisect_right(spans, step.at, key=lambda span: span[0]) - 1) if len(spans) > 1 else 0
        key = (n, flow.calendar, district)
        calendar = self._counting.get(key)
        if calendar is None:
            calendar = self._counting[key] = spans[n][1].calendar_for(flow, district)
        binds = step.kind == "approval" or step.name in self._binds(flow)
        policies = _Following({}, spans[n][1].calendars, self, bound) if binds else None
        # timers are taken as punctual: what their lateness changes is who was told, and nobody is told here
        return Env(
            flow, calendar, step.actor, step.at, new_id, rules.departments, True, self._calendars, rules.matters, policies
        )  # fmt: skip


def _unlike(tried: Calendar, known: Mapping[Version, Calendar]) -> list[date] | None:
    """The dates that a draft counts differently from any version of the same calendar; None: it may touch every ticket."""
    versions = [calendar for (key, _), calendar in known.items() if key == tried.key]
    if not versions or any((c.districts, c.extends) != (tried.districts, tried.extends) for c in versions):
        return None
    return sorted({day for calendar in versions for day in tried.dates_unlike(calendar)})


@dataclass(frozen=True, slots=True)
class _Following(Policies):
    """Policies that choose what was chosen then, or the draft."""

    world: World
    recorded: Version

    def choose(self, domain: str, urgency: str, lead: str | None) -> Choice:
        return Choice(self.world.flow_for(self.recorded, domain, urgency, lead), "as recorded, or the draft", ())


def _chosen(policies: Policies, domain: str, urgency: str, lead: str | None) -> Workflow | None:
    try:
        return policies.choose(domain, urgency, lead).flow
    except NotFound:
        return None


# --- living ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refusal:
    """An act that could not be carried out. `reason`: key of REASONS."""

    act: str
    at: datetime
    reason: str
    detail: str
    moved: bool


@dataclass(slots=True)
class Life:
    """How one ticket fared. `aside`: why it cannot be compared, None when it can."""

    ticket: Ticket
    cards: list[tuple[str, datetime]] = field(default_factory=list)
    proposed: list[datetime] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    aside: Refusal | None = None
    differences: list[str] = field(default_factory=list)
    """Where the life as recorded does not come out as it is stored."""


class _Refused(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def live(record: Record, world: World, memory: Memory, as_of: datetime, route: RouteTo | None = None) -> Life:
    """The whole life of a ticket up to `as_of`. `route`: another one than recorded; who acted for its lead acts for the new.

    Never raises for what the record or the draft holds: it is said in the Life.
    """
    living = _Living(record, world, memory, route or record.route)
    return living.live(as_of)


class _Living:
    def __init__(self, record: Record, world: World, memory: Memory, route: RouteTo) -> None:
        self.record, self.world, self.route = record, world, route
        numbers = count(1)
        self._new_id = lambda: f"{next(numbers):06d}"
        self._bound = record.workflow
        flow = world.flow_for(record.workflow, record.domain, record.urgency, route.lead)
        ticket = Ticket(
            id=record.id, number=record.number, workflow_key=flow.key, workflow_version=flow.version, stage="",
            phase=Phase.INTAKE, round=1, domain=record.domain, matter=record.matter, urgency=record.urgency,
            district=record.district, received_at=record.received_at, created_at=record.created_at,
            updated_at=record.created_at, version=0, facts={"no_reply": True} if record.no_reply else {},
        )  # fmt: skip
        self._opening = Step("open", record.created_at, _HOTLINE, "open", {}, moved=True)
        self.replay = Replay(ticket, self._env(flow, self._opening), memory)
        self.life = Life(self.replay.ticket)

    def live(self, as_of: datetime) -> Life:
        life, replay, record = self.life, self.replay, self.record
        whole = record.last_at <= as_of
        if record.not_replayable is not None:
            life.aside = Refusal("", record.created_at, record.not_replayable, "", True)
        elif self._try(self._opening, lambda: enter(replay, self.route, record.answered)):
            for step in record.steps:
                if step.at > as_of or not self._step(step):
                    break
            if life.aside is None and whole and record.last_was_timer:
                self._fire(record.last_at)
            if life.aside is None and whole and self.world.as_recorded:
                life.differences = _differences(record, replay)
            if life.aside is None:
                self._fire(as_of)
        life.ticket, life.cards, life.proposed = replay.ticket, replay.cards, replay.proposed
        return life

    def _env(self, flow: Workflow, step: Step) -> Env:
        return self.world.env(flow, self.record.district, step, self._bound, self._new_id)

    def _now(self, step: Step) -> None:
        ticket = self.replay.ticket
        self.replay.begin(self._env(self.world.workflow((ticket.workflow_key, ticket.workflow_version)), step))

    def _fire(self, until: datetime) -> bool:
        step = Step("timers", until, SYSTEM, "", {})
        self._now(step)
        return self._caught_up(step, timers=True)

    def _step(self, step: Step) -> bool:
        """Whether the life goes on."""
        if step.kind == "recount" and self.world.counts_by_draft(step.name):
            return True
        if step.bound_to is not None:
            self._bound = step.bound_to
        self._now(step)
        if not self._caught_up(step):
            return False
        return self._try(step, lambda: self._carry_out(step)) or not step.moved

    def _caught_up(self, step: Step, timers: bool = False) -> bool:
        try:
            catch_up(self.replay, step.at, timers=timers)
        except Exception as error:  # a draft may name what is not there: this ticket's fault alone
            self.life.aside = Refusal(step.name, step.at, "timer", _said(error), True)
            return False
        return True

    def _try(self, step: Step, work: Callable[[], None]) -> bool:
        mark = self.replay.mark()
        try:
            work()
        except _Refused as error:
            refusal = Refusal(step.name, step.at, error.reason, str(error), step.moved)
        except Exception as error:  # as above
            refusal = Refusal(step.name, step.at, "effect", _said(error), step.moved)
        else:
            return True
        self.replay.back_to(mark)
        self.life.refused.append(refusal)
        if step.moved:
            self.life.aside = refusal
        return False

    def _carry_out(self, step: Step) -> None:
        replay = self.replay
        ticket, env, form = replay.ticket, replay.env, step.form
        if step.kind == "act":
            replay.env = env = self._for_the_new_lead(env)
            action = self._allowed(step.name)
            self._do(lambda: perform(replay, action, form), "effect")
        elif step.kind == "approval":
            asked = next((a for a in ticket.approvals if a.kind == step.name and a.state == "pending"), None)
            if asked is None:
                raise _Refused("request", f"no {step.name} is asked for")
            self._do(lambda: decide_request(replay, asked.id, form["approve"], form["reason"]), "role")
        elif step.kind == "propose":
            self._take(lambda: review.propose(ticket, form, env), "review")
        elif step.kind == "review":
            answered = ticket.reviews[-1] if ticket.reviews and step.name == "reply" else None
            docket = ticket.open_review() or answered
            if docket is None:
                raise _Refused("review", "there is no open review")
            self._take(lambda: review.act(ticket, docket.id, step.name, form, env), "review")
        elif step.kind == "issue":
            decided = [r for r in ticket.reviews if r.state in {"decided", "completed"}]
            if not decided:
                raise _Refused("review", "nothing is decided")
            self._take(lambda: review.issued(ticket, decided[-1].id, step.name, env), "review")
        elif step.kind == "measure":
            if form["n"] >= len(ticket.measures):
                raise _Refused("review", "there is no such measure")
            task = ticket.measures[form["n"]]
            self._take(lambda: measures.act(ticket, task.id, step.name, form["form"], env), "review")
        elif step.kind == "merge":
            self._allowed(step.name)
            survivor = evolve(ticket, id="survivor", phase=Phase.HANDLING, clocks=())
            self._take(lambda: joining.merge(ticket, survivor, form, env, env)[0], "effect")
        elif step.kind == "split":
            self._allowed(step.name)
            self._take(lambda: joining.split(ticket, form, [], env)[0], "effect")
        else:
            decision, same = recounting.recount(ticket, self.world.calendar((step.name, form["version"])), "", env)
            replay.take(decision)
            for clock in same:
                replay.put("clocks", clock)

    def _take(self, decide: Callable[[], Decision], reason: str) -> None:
        self._do(lambda: self.replay.take(decide()), reason)

    def _do(self, work: Callable[[], None], reason: str) -> None:
        try:
            work()
        except JiebanError as error:
            raise _Refused(reason, error.detail) from None

    def _for_the_new_lead(self, env: Env) -> Env:
        """Who acted for the unit that another routing would not have sent it to acts for the one that it would."""
        old, new, actor = self.record.route.lead, self.route.lead, env.actor
        if old == new or new is None or actor.role is not Role.HANDLER or old not in actor.departments:
            return env
        if self.replay.ticket.leg_of(actor.departments) is not None:
            return env
        self.replay.actor = Actor(actor.subject, actor.role, (new,))
        return replace(env, actor=self.replay.actor)

    def _allowed(self, name: str) -> ActionDef:
        replay, actor = self.replay, self.replay.env.actor
        action = replay.env.workflow.actions.get(name)
        if action is None:
            raise _Refused("action", "")
        try:
            check_allowed(replay, action, name_others=False)
        except (Forbidden, ActionNotPossible) as error:
            stage = replay.ticket.stage
            if actor.role in action.roles and stage not in action.stages:
                raise _Refused("stage", stage) from None
            raise _Refused("role" if isinstance(error, Forbidden) else "guard", error.detail) from None
        return action


_HOTLINE = Actor("hotline", Role.HOTLINE)


def _said(error: Exception) -> str:
    return error.detail if isinstance(error, JiebanError) else f"{type(error).__name__}: {error}"


def _differences(record: Record, replay: Replay) -> list[str]:
    same = replay.cards == list(record.cards) and replay.proposed == list(record.proposed)
    if same and {_facts(c) for c in replay.ticket.clocks} == {_facts(c) for c in record.clocks}:
        return []
    lived = {(c.name, c.cycle): c for c in replay.ticket.clocks}
    kept = {(c.name, c.cycle): c for c in record.clocks}
    found = [f"{name}/{cycle} is not there" for name, cycle in sorted(lived.keys() ^ kept.keys())]
    for key in sorted(lived.keys() & kept.keys()):
        for what in ("state", "due_at", "breached_at", "fired"):
            ours, stored = getattr(lived[key], what), getattr(kept[key], what)
            if ours != stored:
                found.append(f"{key[0]}/{key[1]}: {what} is {_plain(ours)}, stored is {_plain(stored)}")
    for what, ours, stored in (
        ("cards", replay.cards, list(record.cards)),
        ("reviews", replay.proposed, list(record.proposed)),
    ):
        if ours != stored:
            found.append(f"{what}: {len(ours)}, stored are {len(stored)}, or at other times")
    return found


def _facts(clock: Clock | Kept) -> tuple[Any, ...]:
    return clock.name, clock.cycle, clock.state, clock.due_at, clock.breached_at, clock.fired


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return ",".join(value) if isinstance(value, tuple) else str(value)
