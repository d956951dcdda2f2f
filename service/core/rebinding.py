"""A promise made anew: another policy (T8), another version of the calendar (T9), two tickets become one (T11).

The clock is counted again from its own anchor, with every segment and extension of its ledger. What happened before stays
a fact: a breach is not cured, a rung that fired does not fire again (it is marked where it would not have fired now).
Where the new due time has passed already, that is `breached_on_rebind`, dated at the moment of the change, with both due
times in the history: before that moment no such promise had been made. The steps that lie behind are recorded as superseded, one
notice is sent, and the ladder goes on from the moment of the change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from service.core import clocks
from service.core.calendar import Budget, Calendar, Measure
from service.core.definitions import ClockDef, Workflow
from service.core.draft import Draft
from service.core.errors import Conflict
from service.core.model import Approval, Clock, ClockState, Extension, Firing, Notice, evolve
from service.core.policies import Choice


@dataclass(frozen=True, slots=True)
class Promise:
    """What a clock is to be bound to. `kind`: policy, calendar, merge, split, migration or undo."""

    kind: str
    reason: str
    flow: Workflow
    calendar: Calendar
    budget: Budget
    anchor: datetime
    extensions: tuple[Extension, ...] | None = None
    """What was added by decisions; None: what the clock has, where its measure stays."""


def rebind(draft: Draft, reason: str, *, newest: bool = False, must: bool = True) -> bool:
    """Bind the ticket to the policy that fits it now; whether anything changed.

    The same workflow keeps its version unless `newest`. One that lacks a stage or a clock which the ticket may stand on
    is refused (Conflict) if it `must` fit, else passed over: moving between unlike workflows takes a mapping of stages.
    """
    choice = another(draft, newest=newest)
    if choice is None:
        return False
    env, ticket = draft.env, draft.ticket
    flow, old = choice.flow, env.workflow
    missing = sorted(({*old.stages} - {*flow.stages}) | ({*old.clocks} - {*flow.clocks}))
    if missing:
        if must:
            raise Conflict(
                f"The workflow {flow.key} lacks what this ticket's has: {', '.join(missing)}.", workflow=flow.key
            )
        return False
    assert env.policies is not None, "they made the choice"
    draft.env = replace(env, workflow=flow, calendar=env.policies.calendar_for(flow, ticket.district))
    overtaken = _withdraw_unknown(draft, old)
    draft.set(workflow_key=flow.key, workflow_version=flow.version)
    draft.fact("policy", choice.told())
    for clock in [c for c in draft.ticket.clocks if c.open]:
        promise = by_policy(draft, clock, old.clocks[clock.name], reason)
        waits = [a for a in overtaken if clock.name in old.approvals[a.kind].delays]
        bind(draft, _excused(clock, promise, waits, draft.now), promise)
    draft.event(
        "ticket.rebound",
        before={"key": old.key, "version": old.version},
        after={"key": flow.key, "version": flow.version},
        reason=reason,
        rule=choice.rule,
    )
    return True


def another(draft: Draft, *, newest: bool) -> Choice | None:
    """The policy that fits the ticket now, if it is not the one that it is bound to. Raises NotFound where none fits."""
    if draft.env.policies is None:
        return None
    ticket, bound = draft.ticket, draft.env.workflow
    choice = draft.env.policies.choose(ticket.domain, ticket.urgency, ticket.lead)
    same = choice.flow.key == bound.key and not (newest and choice.flow.version != bound.version)
    return None if same else choice


def _withdraw_unknown(draft: Draft, old: Workflow) -> list[Approval]:
    """Pending requests of a kind that the new policy does not know (an emergency is not extended) are overtaken."""
    overtaken = []
    for approval in draft.ticket.approvals:
        if approval.state == "pending" and approval.kind not in draft.env.workflow.approvals:
            overtaken.append(approval)
            draft.put("approvals", replace(approval, state="withdrawn", decided_at=draft.now, reason="overtaken"))
            for clock in draft.open_clocks(old.approvals[approval.kind].clock):
                if clock.subject_id == approval.id:
                    draft.put_clock(clocks.end(clock, draft.now, "overtaken", cancelled=True))
                    draft.changed("cancelled", clock.name)
    return overtaken


def _excused(clock: Clock, promise: Promise, waits: list[Approval], now: datetime) -> Clock:
    """T7: the time of waiting for a decision that never came does not turn the clock red under its new promise."""
    for approval in waits if clock.breached_at is None else []:
        terms = _bound(clock, promise)
        terms = evolve(terms, due_at=clocks.due(terms, promise.calendar))
        excused = clocks.excuse_decision(terms, promise.calendar, approval.requested_at, now)
        clock = evolve(clock, segments=excused.segments)
    return clock


def by_policy(draft: Draft, clock: Clock, before: ClockDef, reason: str) -> Promise:
    """The budget of the draft's workflow in the place of that of `before`, which the clock was started by.

    A budget that a decision set (a pause's cap, a measure's date) is no policy and stays.
    """
    flow = draft.env.workflow
    after, budget = flow.clocks[clock.name], Budget(clock.measure, clock.budget)
    # a cycle that goes on with the one before it has what that one had: the whole budget, or that of rework (T3)
    began = clock.cycle - sum(s.kind == clocks.CLOSED for s in clock.segments)
    if before.budget == before.rework == budget:
        budget = budget_of(after, began)
    elif budget in (before.budget, before.rework):
        budget = after.budget if budget == before.budget else after.rework
    return Promise("policy", reason, flow, draft.env.calendar, budget, clock.anchor)


def budget_of(definition: ClockDef, cycle: int) -> Budget:
    """The budget of a cycle: the rework budget is for the enterprise's clocks of later rounds."""
    return definition.rework if definition.family == "enterprise" and cycle > 1 else definition.budget


def bind(draft: Draft, clock: Clock, promise: Promise) -> Clock:
    """Count an open clock by another promise, tell what changed; gives the clock as it is then."""
    before = clock
    clock = _bound(clock, promise)
    due_at = clocks.due(clock, promise.calendar)
    times = promise.flow.clocks[clock.name].times
    stopped = _stops_at(before, draft.now)
    over = due_at < min([stopped, *_undecided_since(before, draft)])
    late = over and before.breached_at is None
    clock = evolve(clock, due_at=due_at, original_due_at=clocks.due(evolve(clock, extensions=()), promise.calendar))
    rungs = [(n, clocks.rung_at(clock, t, promise.calendar), t.kind) for n, t in times]
    passed = [(n, at) for n, at, kind in rungs if n not in clock.fired and _lies_behind(kind, at, stopped, late)]
    unearned = [n for n, at, _ in rungs if n in clock.fired and at > stopped]
    if late:
        state = ClockState.BREACHED_RUNNING if clock.state is ClockState.RUNNING else clock.state
        clock = evolve(clock, state=state, breached_at=draft.now, escalates_from=draft.now)
    elif over and any(kind == "after" and at <= stopped and n not in clock.fired for n, at, kind in rungs):
        clock = evolve(clock, escalates_from=draft.now)  # red already: no burst of steps that lie before the change
    clock = evolve(clock, fired=(*clock.fired, *(name for name, _ in passed)))
    told: dict[str, Any] = {
        "kind": promise.kind,
        "at": draft.now.isoformat(),
        "by": draft.actor.subject,
        "reason": promise.reason,
        "before": promised(before),
        "after": promised(clock),
        "would_not_have_fired": unearned,
    }
    if told["before"] != told["after"] or passed or late:
        clock = evolve(clock, changes=(*clock.changes, told))
    draft.put_clock(clock)
    draft.firings += [Firing(clock.id, name, at, draft.now, "superseded") for name, at in passed]
    if told["before"]["due_at"] != told["after"]["due_at"] or passed or late:
        superseded = [{"rung": name, "due_at": at.isoformat()} for name, at in passed]
        kind = "clock.breached_on_rebind" if late else "clock.rebound"
        draft.event(kind, clock=clock.name, clock_id=clock.id, superseded=superseded, **told)
        owner = clock.department or draft.ticket.lead
        if owner:
            draft.notices.append(Notice(f"department:{owner}", kind.partition(".")[2], clock.name, clock.due_at))
    return clock


def _bound(clock: Clock, promise: Promise) -> Clock:
    """The clock with the new promise's terms. Units are types: an extension in another measure does not carry over."""
    kept = promise.extensions
    if kept is None:
        kept = clock.extensions if promise.budget.measure is clock.measure else ()
    return evolve(
        clock,
        measure=promise.budget.measure,
        budget=promise.budget.amount,
        anchor=promise.anchor,
        extensions=kept,
        workflow_key=promise.flow.key,
        workflow_version=promise.flow.version,
        calendar_key=promise.calendar.key,
        calendar_version=promise.calendar.version,
    )


def _stops_at(clock: Clock, now: datetime) -> datetime:
    """Up to when the clock has run: a hold or an open pause stopped it earlier than now."""
    if clock.state is ClockState.HELD and clock.held_at is not None:
        return clock.held_at
    return min([now, *(s.start for s in clock.segments if s.end is None)])


def _undecided_since(clock: Clock, draft: Draft) -> list[datetime]:
    """T7: what was asked and is not decided keeps the clock from turning red, but not for a due time before that."""
    if not draft.deciding(clock):
        return []
    return [a.requested_at for a in draft.ticket.approvals if draft.delays(a, clock)]


def _lies_behind(kind: str, at: datetime, stopped: datetime, late: bool) -> bool:
    """Warnings whose time has passed, and the breach itself when it is late; the ladder after it goes on from now."""
    return at <= stopped if kind in {"share", "before"} else late and kind == "due"


def promised(clock: Clock) -> Mapping[str, Any]:
    """A clock's terms and due time, JSON-able."""
    return {
        "workflow": {"key": clock.workflow_key, "version": clock.workflow_version},
        "calendar": {"key": clock.calendar_key, "version": clock.calendar_version},
        "measure": str(clock.measure),
        "budget": _amount(clock.measure, clock.budget),
        "extensions": len(clock.extensions),
        "anchor": clock.anchor.isoformat(),
        "due_at": clock.due_at.isoformat(),
    }


def _amount(measure: Measure, amount: int) -> str:
    return Budget(measure, amount).text()
