"""A running ticket moves to another version of its workflow, or to another workflow: only by an explicit act (P7).

A stage is mapped to a stage of the same phase, because what hangs on a ticket (legs, a held reply, a pause) goes with the
phase. Each open clock goes on under the name it is mapped to, counted again from its own anchor with its whole ledger
(`rebinding`): what was breached stays breached, what fired does not fire again. Decided requests and ended clocks keep
the version they were made under.

`migrate` gives the ticket as it would be, so a dry run is a migration that nobody saves. `undo` puts the promises back
as they were; what the migration made a fact (a breach, a clock that it ended) it cannot take back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from service.core import invariants
from service.core.budgets import Budget
from service.core.calendar import Measure
from service.core.definitions import Workflow
from service.core.draft import Draft, Env
from service.core.effects import end_clocks
from service.core.errors import FieldError
from service.core.exploring import telling_clocks
from service.core.model import Clock, Decision, Extension, Phase, Ticket, evolve
from service.core.rebinding import Promise, bind, by_policy
from service.core.workflow import catch_up

KERNEL = frozenset(
    {
        "pause_cap",
        "planned_until",
        "review_screen",
        "review_opinion",
        "review_decision",
        "review_measure",
        "review_minutes",
        "review_reply",
    }
)
"""Clocks that the engine itself asks for by name: they keep it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What moves where. `stages`, `clocks`: names that change, old -> new; a clock mapped to None ends. The rest keep theirs."""

    id: str
    source: Workflow
    target: Workflow
    stages: Mapping[str, str]
    clocks: Mapping[str, str | None]
    reason: str
    promises: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
    """The enterprise's clocks on which the proofs of source and target rest; asked where a clock is to end."""

    def stage(self, name: str) -> str:
        return self.stages.get(name, name)

    def clock(self, name: str) -> str | None:
        return self.clocks.get(name, name)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a ticket cannot be moved. `code`: closed, stage, clock, name_taken, four_eyes, approval, promise,
    unheld, acted_on or ended."""

    code: str
    name: str
    zh: str
    en: str

    def text(self) -> str:
        return f"{self.en} {self.zh}"


@dataclass(frozen=True, slots=True)
class Shift:
    """A due time that moves. `name`: the clock's name afterwards."""

    clock_id: str
    name: str
    before: datetime
    after: datetime


@dataclass(frozen=True, slots=True)
class Moved:
    """A ticket as it would be, and what changed. `kept`: JSON-able, what `undo` is to be given."""

    decision: Decision
    stage_before: str
    stage_after: str
    shifts: tuple[Shift, ...]
    breached: tuple[str, ...]
    ended: tuple[str, ...]
    kept: Mapping[str, Any]


def planned(
    id_: str,
    source: Workflow,
    target: Workflow,
    stages: Mapping[str, str],
    clocks: Mapping[str, str | None],
    reason: str,
) -> Plan:
    """A plan that is to be carried out."""
    promises = (
        (_promises(source), _promises(target)) if None in clocks.values() else (frozenset[str](), frozenset[str]())
    )
    return Plan(id_, source, target, stages, clocks, reason, promises)


def _promises(flow: Workflow) -> frozenset[str]:
    return frozenset(name for name in telling_clocks(flow) if flow.clocks[name].family == "enterprise")


def check(plan: Plan) -> list[FieldError]:
    """What is wrong with the plan itself, whatever the tickets are."""
    wrong = []
    for old, new in plan.stages.items():
        where = f"/stage_mapping/{old}"
        if old not in plan.source.stages:
            wrong.append(FieldError(where, f"there is no such stage; there are: {', '.join(plan.source.stages)}"))
        elif new not in plan.target.stages:
            wrong.append(FieldError(where, f"no stage to move to; there are: {', '.join(plan.target.stages)}"))
        elif plan.source.phase(old) is Phase.CLOSED:
            wrong.append(FieldError(where, "closed tickets are not moved"))
        elif plan.source.phase(old) is not plan.target.phase(new):
            phases = f"{plan.source.phase(old)}, {new!r} is of {plan.target.phase(new)}"
            wrong.append(FieldError(where, f"expected a stage of the same phase; {old!r} is of {phases}"))
    needed = telling_clocks(plan.target) if None in plan.clocks.values() else frozenset[str]()
    for old, to in plan.clocks.items():
        where = f"/clock_mapping/{old}"
        if old not in plan.source.clocks:
            wrong.append(FieldError(where, f"there is no such clock; there are: {', '.join(plan.source.clocks)}"))
        elif to is not None and to not in plan.target.clocks:
            wrong.append(FieldError(where, f"no clock to go on as; there are: {', '.join(plan.target.clocks)}"))
        elif to is None and old in needed:
            wrong.append(
                FieldError(where, "the target's tickets are held or moved by it: it goes on, or as another clock")
            )
        elif to != old and not KERNEL.isdisjoint({old, to}):
            wrong.append(FieldError(where, f"the engine asks for it by name: {', '.join(sorted(KERNEL))} keep theirs"))
        elif to is not None and plan.source.clocks[old].family != plan.target.clocks[to].family:
            families = f"{plan.source.clocks[old].family}, {to!r} of {plan.target.clocks[to].family}"
            wrong.append(FieldError(where, f"expected a clock of the same family; {old!r} is of {families}"))
    return wrong


def migrate(ticket: Ticket, plan: Plan, env: Env) -> Moved | tuple[Obstacle, ...]:
    """The ticket moved, or why it cannot be. `env` has the source workflow and, as its actor, who ordered it.

    What has become due fires first, by the old rules. That the ticket is on the plan's source is the caller's check.
    """
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    stuck = tuple(_obstacles(draft.ticket, plan))
    if stuck:
        return stuck
    kept = {
        "stage": draft.ticket.stage,
        "policy": draft.ticket.facts.get("policy"),
        "clocks": {c.id: _terms(c) for c in draft.ticket.clocks if c.open},
    }
    names = {c.id: plan.clock(c.name) for c in draft.ticket.clocks if c.open}
    ending = [c for c in draft.ticket.clocks if names.get(c.id, "") is None]
    end_clocks(draft, ending, "migrated", cancelled=True)
    policy = _policy(draft.ticket, plan)
    return _move(draft, plan, "workflow.migrated", plan.stage(draft.ticket.stage), names, policy, kept, ending)


def undo(ticket: Ticket, plan: Plan, kept: Mapping[str, Any], stage: str, env: Env) -> Moved | tuple[Obstacle, ...]:
    """The ticket moved back to what it was. `plan`: from where it is now; `kept`: what `migrate` gave; `stage`: where it
    was put then. `env` has the workflow it is on now."""
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    terms: Mapping[str, Any] = kept["clocks"]
    if draft.ticket.stage != stage:
        zh, en = "迁移后工单已流转", f"Since then it has gone on from {stage!r} to {draft.ticket.stage!r}."
        return (Obstacle("acted_on", draft.ticket.stage, zh, en),)
    ended = [c.name for c in draft.ticket.clocks if c.id in terms and not c.open]
    if ended:
        zh, en = f"时限{ended[0]}已经结束", f"The clock {ended[0]!r} has ended; an ended clock does not run again."
        return (Obstacle("ended", ended[0], zh, en),)
    back = replace(plan, stages={stage: kept["stage"]})
    names: dict[str, str | None] = {
        c.id: terms[c.id]["name"] if c.id in terms else c.name for c in draft.ticket.clocks if c.open
    }
    stuck = tuple(_obstacles(draft.ticket, back, names))
    if stuck:
        return stuck
    return _move(draft, back, "workflow.migrated_back", kept["stage"], names, kept["policy"], kept, [])


def _obstacles(ticket: Ticket, plan: Plan, names: Mapping[str, str | None] | None = None) -> Iterator[Obstacle]:
    target, stage = plan.target, plan.stage(ticket.stage)
    if not ticket.open:
        yield Obstacle("closed", ticket.stage, "工单已办结", "The ticket is closed.")
    elif stage not in target.stages or target.phase(stage) is not ticket.phase:
        en = f"The stage {ticket.stage!r} has no stage of the same phase to go to; map it in stage_mapping."
        yield Obstacle("stage", ticket.stage, f"环节{ticket.stage}没有对应环节", en)
    for clock in [c for c in ticket.clocks if c.open]:
        name = names[clock.id] if names is not None else plan.clock(clock.name)
        if name is None:
            continue
        if name not in target.clocks or target.clocks[name].family != clock.family:
            en = f"The clock {clock.name!r} is running and the target has none such; map it in clock_mapping."
            yield Obstacle("clock", clock.name, f"运行中的时限{clock.name}没有对应时限", en)
        elif name != clock.name and clock.family == "enterprise" and _taken(ticket, name, clock.cycle):
            en = f"The clock {clock.name!r} cannot go on as {name!r}: the ticket has that one in the same round."
            yield Obstacle("name_taken", clock.name, f"时限{name}已存在", en)
    had, has = ({c.name for c in ticket.clocks if c.open} & plan.promises[0], plan.promises[1])
    if any(plan.clock(name) is None for name in had) and not {plan.clock(name) for name in had} & has:
        wanted = ", ".join(sorted(has))
        en = f"The promise to the enterprise would end, and nothing would hold the ticket later; map it to {wanted}."
        yield Obstacle("promise", wanted, f"对企业的承诺时限不能取消，须对应为{wanted}", en)
    known = {*plan.source.actions, *ticket.facts.get("actors", {})}
    if names is not None:
        # it goes back to where it was: what was done there is known, and where it is now nobody could do the rest
        known |= target.actions.keys()
    for action in target.actions.values():
        unknown = [name for name in action.not_by if name not in known] if stage in action.stages else []
        if unknown:
            en = f"{action.name!r} is not for who did {unknown[0]!r}, and who did that is not known of this ticket."
            yield Obstacle("four_eyes", action.name, f"无法确认{action.name}的回避对象", en)
    for approval in [a for a in ticket.approvals if a.state == "pending"]:
        if approval.kind not in target.approvals:
            en = f"A request of the kind {approval.kind!r} waits for its decision, and the target has no such kind."
            yield Obstacle("approval", approval.kind, f"待审批的{approval.kind}在目标流程中不存在", en)
            continue
        own = [c for c in ticket.clocks if c.open and c.subject_id == approval.id]
        wanted = target.approvals[approval.kind].clock
        if any((names[c.id] if names is not None else plan.clock(c.name)) != wanted for c in own):
            en = f"The decision on {approval.kind!r} has the clock {wanted!r} in the target; map it in clock_mapping."
            yield Obstacle("approval", approval.kind, f"待审批的{approval.kind}的时限没有对应", en)


def _taken(ticket: Ticket, name: str, cycle: int) -> bool:
    return any(c.name == name and c.cycle == cycle for c in ticket.clocks)


def _move(
    draft: Draft,
    plan: Plan,
    event: str,
    stage: str,
    names: Mapping[str, str | None],
    policy: Any,
    kept: Mapping[str, Any],
    ended: list[Clock],
) -> Moved | tuple[Obstacle, ...]:
    env, came_from, source = draft.env, draft.ticket.stage, plan.source
    assert env.policies is not None, "the house knows its calendars"
    calendar = env.policies.calendar_for(plan.target, draft.ticket.district)
    draft.env = replace(env, workflow=plan.target, calendar=calendar)
    draft.set(
        stage=stage,
        phase=plan.target.phase(stage),
        workflow_key=plan.target.key,
        workflow_version=plan.target.version,
    )
    draft.fact("policy", policy)
    undoing = event == "workflow.migrated_back"
    renamed, shifts, breached = [], [], []
    for clock in [c for c in draft.ticket.clocks if c.open]:
        before, name = source.clocks[clock.name], names[clock.id]
        assert name is not None, "those that end have ended"
        named = clock
        if name != clock.name:
            renamed.append({"clock_id": clock.id, "from": clock.name, "to": name})
            named = evolve(clock, name=name, cycle=_cycle(draft, clock, name))
        if undoing and clock.id in kept["clocks"]:
            promise = _promise_again(draft, kept["clocks"][clock.id], named, plan.reason)
        else:
            promise = replace(by_policy(draft, named, before, plan.reason), kind="undo" if undoing else "migration")
        bound = bind(draft, named, promise)
        if bound.due_at != clock.due_at:
            shifts.append(Shift(clock.id, name, clock.due_at, bound.due_at))
        if bound.breached_at is not None and clock.breached_at is None:
            breached.append(name)
    if not any(invariants.holds_the_ticket(c) for c in draft.ticket.clocks):
        en = "No clock would run afterwards, nor a pause that ends by itself."
        return (Obstacle("unheld", stage, "迁移后没有运行中的时限", en),)
    draft.event(
        event,
        migration=plan.id,
        before={"key": source.key, "version": source.version},
        after={"key": plan.target.key, "version": plan.target.version},
        renamed=renamed,
        reason=plan.reason,
        **{"from": came_from, "to": stage},
    )
    ended_names = tuple(c.name for c in ended)
    return Moved(draft.finish(), came_from, stage, tuple(shifts), tuple(breached), ended_names, kept)


def _cycle(draft: Draft, clock: Clock, name: str) -> int:
    """The enterprise's clocks count rounds; the others are numbered as they come."""
    if clock.family == "enterprise":
        return clock.cycle
    return 1 + max((c.cycle for c in draft.ticket.clocks if c.name == name), default=0)


def _policy(ticket: Ticket, plan: Plan) -> dict[str, Any]:
    """For the ticket's facts: within one workflow the rule that chose it still does, else the migration did."""
    workflow = {"key": plan.target.key, "version": plan.target.version}
    if plan.target.key == plan.source.key:
        return {"rule": None, "tried": [], **(ticket.facts.get("policy") or {}), "workflow": workflow}
    return {"workflow": workflow, "rule": f"migration: {plan.reason}", "tried": []}


def _terms(clock: Clock) -> dict[str, Any]:
    added = [{"amount": e.amount, "at": e.at.isoformat(), "by": e.by, "ground": e.ground} for e in clock.extensions]
    return {"name": clock.name, "measure": str(clock.measure), "budget": clock.budget, "extensions": added}


def _promise_again(draft: Draft, terms: Mapping[str, Any], clock: Clock, reason: str) -> Promise:
    added = tuple(
        Extension(e["amount"], datetime.fromisoformat(e["at"]), e["by"], e["ground"]) for e in terms["extensions"]
    )
    budget = Budget(Measure(terms["measure"]), terms["budget"])
    return Promise("undo", reason, draft.env.workflow, draft.env.calendar, budget, clock.anchor, added)
