"""decide(): what a command does to a ticket, by the rules of its own workflow version. The deep module.

A command is first preceded by everything that has become due before it (`catch_up`), so history is the same whether
the pump was on time or three days late. Then the action's stage, role, guard and form are checked, the first branch
whose condition holds is taken, and its effects are carried out one by one on a `Draft`. Nothing here waits, reads a
clock, makes an id or knows of a database: `Env` brings `now`, the calendar, the definition and a source of ids.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from service.core import clocks
from service.core.definitions import ActionDef, ApprovalDef
from service.core.draft import Draft, Env, RouteTo
from service.core.effects import HANDLERS, NOTHING_NEWER, end_clocks, run
from service.core.errors import ActionNotPossible, Conflict, FieldError, Forbidden, Invalid, NotFound
from service.core.model import SYSTEM, Approval, Clock, Decision, Firing, Role, Round, Ticket, evolve
from service.core.rebinding import another

MAX_RUNGS_AT_ONCE = 1000
JOINING = frozenset({"merge", "split"})
"""Actions that concern more than one ticket (`joining`)."""
_FIELD_NAME = re.compile(r"(?!.*[0-9]{5})[A-Za-z_][A-Za-z0-9_.-]{0,39}", re.ASCII)


# --- commands ----------------------------------------------------------------------------------------------------


def open_ticket(
    ticket: Ticket, route: RouteTo, env: Env, data: Mapping[str, Any], answered: Mapping[str, Any] | None = None
) -> Decision:
    """A new ticket enters its workflow. `ticket` comes without children; `data` goes into the first event.

    `answered`: the reply that was given at the first call already; the ticket is born closed with a true ledger (T13).
    """
    draft = opened(ticket, route, env, answered)
    told = {"rule": route.rule, "lead": route.lead, "co_handlers": list(route.co_handlers), **data}
    draft.event("ticket.opened", **told, **({"answered": True} if answered is not None else {}))
    draft.events.insert(0, draft.events.pop())  # whatever it brought with it comes after it
    return draft.finish()


def opened(ticket: Ticket, route: RouteTo, env: Env, answered: Mapping[str, Any] | None = None) -> Draft:
    """The draft of a new ticket in its first stage; its history does not say so yet."""
    draft = Draft(ticket, env)
    enter(draft, route, answered)
    return draft


def enter(draft: Draft, route: RouteTo, answered: Mapping[str, Any] | None = None) -> None:
    """Put a ticket without children into the first stage of its workflow."""
    flow = draft.env.workflow
    draft.route = route
    draft.put("rounds", Round(draft.ticket.id, 1, draft.ticket.received_at))
    if answered is not None:
        if "answered" not in flow.opened:
            raise Conflict(f"The workflow {flow.key} takes no request that was answered at once.")
        draft.form, draft.met_because = answered, "answered when it was taken"
        run(draft, flow.opened["answered"])
        return
    run(draft, flow.opened["routed" if route.lead else "unrouted"])


def act(ticket: Ticket, action: str, form: Mapping[str, Any], env: Env) -> Decision:
    """A person's action with its form.

    Raises ActionNotPossible (stage, guard), Forbidden (role, four eyes), Invalid (form), NotFound (no such action).
    """
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    definition = env.workflow.actions.get(action)
    if definition is None:
        raise NotFound(f"This workflow has no action {action!r}; GET /v1/tickets/{ticket.id}/actions lists them.")
    check_allowed(draft, definition)
    if action in JOINING:
        raise Conflict(f"{action!r} concerns several tickets: do it to one ticket at a time.")
    check_form(definition, form, env)
    perform(draft, definition, form)
    return draft.finish()


def perform(draft: Draft, action: ActionDef, form: Mapping[str, Any]) -> None:
    """Carry out an action that was found to be allowed, with a form that was found to be right."""
    draft.form = form
    branch = next((b for b in action.branches if draft.holds(b.when)), None)
    if branch is None:
        raise _not_possible(draft, f"No branch of {action.name!r} fits this form now.")
    came_from = draft.ticket.stage
    draft.fact("actors", {**draft.ticket.facts.get("actors", {}), action.name: draft.env.actor.subject})
    run(draft, branch)
    draft.event(f"ticket.{action.name}", form=dict(form), **{"from": came_from, "to": draft.ticket.stage})


def fire_due(ticket: Ticket, env: Env, until: datetime | None = None) -> Decision:
    """Everything that is due on this ticket up to `until` (default: `env.now`, when it fires), in order, each once."""
    draft = Draft(ticket, env)
    catch_up(draft, until or env.now, timers=True)
    return draft.finish()


def rearmed(ticket: Ticket, clock_id: str, env: Env) -> Clock:
    """The clock with `due_at` and `next_fire_at` projected anew from its ledger."""
    draft = Draft(ticket, env)
    draft.put_clock(next(c for c in ticket.clocks if c.id == clock_id))
    return next(c for c in draft.ticket.clocks if c.id == clock_id)


def note(ticket: Ticket, type_: str, data: Mapping[str, Any], env: Env) -> Decision:
    """Put something that happened beside the workflow into the ticket's history."""
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    draft.event(type_, **data)
    return draft.finish()


def decide_approval(
    ticket: Ticket, approval_id: str, approve: bool, reason: str, env: Env, on_behalf_of: str | None = None
) -> Decision:
    """One level of a return, extension or pause is decided by somebody who may.

    Never by who asked or who decided a level before (four eyes); a handler decides for his or her own unit only. The last
    level needed, or a denial at any, ends the request. `on_behalf_of`: the absent approver for whom the actor, a deputy,
    decides; four eyes look at both.
    """
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    decide_request(draft, approval_id, approve, reason, on_behalf_of)
    return draft.finish()


def decide_request(draft: Draft, approval_id: str, approve: bool, reason: str, on_behalf_of: str | None = None) -> None:
    """As `decide_approval`, on a draft on which everything due has fired."""
    env = draft.env
    approval = next((a for a in draft.ticket.approvals if a.id == approval_id), None)
    if approval is None:
        raise NotFound("There is no such approval.")
    definition = env.workflow.approvals.get(approval.kind)
    level = definition.levels[min(approval.level, len(definition.levels)) - 1] if definition else None
    if level is not None and env.actor.role not in level.roles:
        raise Forbidden(f"This is decided by: {', '.join(sorted(level.roles))}.")
    if definition is None or approval.state != "pending":
        raise Conflict(f"This request is {approval.state} already.", state=approval.state)
    if env.actor.role is Role.HANDLER and approval.department not in env.actor.departments:
        raise Forbidden("A department decides the requests of its own people only.")
    deciding = {env.actor.subject, on_behalf_of}
    if approval.requested_by in deciding:
        raise Forbidden("Nobody decides his or her own request.")
    if any(deciding & {said["by"], said.get("on_behalf_of", said["by"])} for said in approval.decisions):
        raise Forbidden("Each level is decided by another person.")
    if (
        approve
        and draft.ticket.counters.get("red_cards", 0)
        and any(v == "extend" for v, _ in definition.approve.effects)
    ):
        raise Conflict("No extension is granted after a red card / 红牌后不予延期")
    said = {"level": approval.level, "by": env.actor.subject, "at": env.now.isoformat(), "reason": reason}
    told = {"on_behalf_of": on_behalf_of} if on_behalf_of else {}
    said |= told
    approval = evolve(approval, decisions=(*approval.decisions, {**said, "approve": approve}))
    draft.form = approval.form
    higher = next_level(draft, definition, approval) if approve else None
    if higher is not None:
        _passed_on(draft, evolve(approval, level=higher), definition, told)
        return
    state = "approved" if approve else "denied"
    approval = evolve(approval, state=state, decided_by=env.actor.subject, decided_at=env.now, reason=reason)
    came_from = draft.ticket.stage
    draft.approval = approval
    draft.leg = next((a for a in draft.ticket.assignments if a.id == approval.assignment_id), None)
    draft.put("approvals", approval)
    end_clocks(draft, [c for c in draft.open_clocks(definition.clock) if c.subject_id == approval.id], "decided")
    run(draft, definition.approve if approve else definition.deny)
    for name in definition.delays:
        for clock in draft.open_clocks(name):
            draft.put_clock(clock)
    draft.event(
        f"approval.{state}",
        approval=approval.id,
        kind=approval.kind,
        reason=reason,
        **told,
        **{"from": came_from, "to": draft.ticket.stage},
    )


def next_level(draft: Draft, definition: ApprovalDef, approval: Approval) -> int | None:
    """The next level above the approval's own that this request, the form of the draft, needs; None: its own is the last."""
    above = enumerate(definition.levels[approval.level :], approval.level + 1)
    return next((n for n, level in above if draft.holds(level.when)), None)


def _passed_on(draft: Draft, approval: Approval, definition: ApprovalDef, told: Mapping[str, str]) -> None:
    """A level said yes: the next one decides, within the clock anew. The request stays undecided (T7)."""
    end_clocks(draft, [c for c in draft.open_clocks(definition.clock) if c.subject_id == approval.id], "decided")
    draft.approval = approval
    draft.put("approvals", approval)
    HANDLERS["start"](draft, definition.clock)
    draft.event("approval.passed", approval=approval.id, kind=approval.kind, level=approval.level, **told)


def possible_actions(ticket: Ticket, env: Env) -> list[ActionDef]:
    """What this actor may do now; the ticket is looked at as it stands once everything due has fired."""
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    return _possible(draft)


def catch_up(draft: Draft, until: datetime, *, timers: bool = False) -> None:
    """Fire every rung due up to `until`, in order of its instant; each takes effect at that instant.

    What a person does at exactly the due instant comes before the breach (met at the due instant is met), unless the
    timers themselves have been there first.
    """
    actor = draft.actor
    for _ in range(MAX_RUNGS_AT_ONCE):
        due = [
            c
            for c in draft.ticket.clocks
            if c.next_fire_at is not None
            and (c.next_fire_at < until or (c.next_fire_at == until and (timers or c.due_at != until)))
        ]
        if not due:
            break
        clock = min(due, key=lambda c: (c.next_fire_at, c.due_at, c.id))
        draft.actor = SYSTEM
        if not draft.pass_by(due, until):
            _fire(draft, clock, draft.env.now)
    draft.now, draft.actor, draft.quiet, draft.clock, draft.leg = draft.env.now, actor, False, None, None


def _fire(draft: Draft, clock: Clock, now: datetime) -> None:
    definition = draft.env.workflow.clocks[clock.name]
    upcoming = draft.upcoming(clock)
    assert upcoming is not None, "a clock with a next_fire_at has a rung to fire"
    name, at = upcoming
    rung = definition.rungs[name]
    draft.now = at
    fired_at = at if draft.env.punctual else now
    # T17: a warning overtaken by its own breach while nobody fired it is recorded, not sent
    overtaken = rung.time.kind in {"share", "before"} and clock.due_at <= fired_at
    clock = evolve(clock, fired=(*clock.fired, name))
    if name == "breach":
        clock = clocks.breach(clock)
    clock = draft.armed(clock)
    draft.put("clocks", clock)
    outcome = "superseded" if overtaken else "fired"
    draft.firings.append(Firing(clock.id, name, at, fired_at, outcome))
    draft.leg = next((a for a in draft.ticket.assignments if a.id == clock.assignment_id), None)
    draft.quiet = overtaken
    draft.clock = clock
    if draft.holds(rung.when):
        run(draft, rung)
    draft.fired(clock, name, outcome, fired_at)


# --- checks ------------------------------------------------------------------------------------------------------


def _possible(draft: Draft) -> list[ActionDef]:
    out = []
    for action in draft.env.workflow.actions.values():
        try:
            check_allowed(draft, action, name_others=False)
        except (ActionNotPossible, Forbidden):
            continue
        out.append(action)
    return out


def check_allowed(draft: Draft, action: ActionDef, name_others: bool = True) -> None:
    """Raise Forbidden or ActionNotPossible unless the actor may do this now; finds the leg that he or she acts for."""
    ticket, actor = draft.ticket, draft.env.actor
    if actor.role not in action.roles:
        raise Forbidden(f"{action.name!r} is done by: {', '.join(sorted(action.roles))}; you are {actor.role}.")
    draft.leg = ticket.leg_of(actor.departments)
    if actor.role is Role.HANDLER and draft.leg is None:
        raise Forbidden(f"{action.name!r} is done by a department that handles this ticket.")
    if ticket.stage not in action.stages:
        raise _not_possible(draft, f"{action.name!r} is not possible in stage {ticket.stage!r}.", name_others)
    if actor.subject in [ticket.facts.get("actors", {}).get(name) for name in action.not_by]:
        raise Forbidden("Four eyes: this cannot be done by the person whose work it judges.")
    if not draft.holds(action.guard):
        message = action.guard_message or {"en": f"The condition of {action.name!r} does not hold.", "zh": "条件不满足"}
        raise _not_possible(draft, f"{message['en']} / {message['zh']}", name_others)
    if action.renews and _bound_to_newest(draft):
        raise _not_possible(draft, NOTHING_NEWER, name_others)


def _bound_to_newest(draft: Draft) -> bool:
    try:
        return another(draft, newest=True) is None
    except NotFound:  # no policy fits any more: the act itself says so
        return False


def _not_possible(draft: Draft, detail: str, name_others: bool = True) -> ActionNotPossible:
    names = [a.name for a in _possible(draft)] if name_others else []
    return ActionNotPossible(detail, stage=draft.ticket.stage, phase=draft.ticket.phase, actions=names)


def check_form(action: ActionDef, form: Mapping[str, Any], env: Env) -> None:
    """Raise Invalid, naming each field that is not as the action's schema expects."""
    errors: list[FieldError] = []
    departments = env.departments
    for found in sorted(action.validator.iter_errors(dict(form)), key=lambda e: list(map(str, e.absolute_path))):
        errors += [e for e in _field_errors(found) if e not in errors]
    for field, schema in action.form.get("properties", {}).items():
        value, wanted = form.get(field), "expected the code of a department; GET /v1/departments lists them"
        if schema.get("x-kind") == "department" and isinstance(value, str) and value not in departments:
            errors.append(FieldError(f"/{field}", wanted))
        if schema.get("x-kind") == "matter" and isinstance(value, str) and value not in env.matters:
            errors.append(FieldError(f"/{field}", "expected the code of a matter; GET /v1/matters lists them"))
        if schema.get("x-kind") == "day_ahead" and isinstance(value, str):
            errors += _day_ahead(field, value, int(schema.get("x-within-days", 365)), env)
        if schema.get("items", {}).get("x-kind") == "department" and isinstance(value, list):
            codes = [(n, code) for n, code in enumerate(value) if isinstance(code, str)]
            errors += [FieldError(f"/{field}/{n}", wanted) for n, code in codes if code not in departments]
    if errors:
        raise Invalid(f"The form of {action.name!r} is not as expected.", errors)


def _day_ahead(field: str, value: str, within: int, env: Env) -> list[FieldError]:
    """A day after today, and not further off than `within` days."""
    try:
        ahead = (date.fromisoformat(value) - env.calendar.local_date(env.now)).days
    except ValueError:
        return []  # the schema says what is wrong with it
    if 1 <= ahead <= within:
        return []
    return [FieldError(f"/{field}", f"expected a day from tomorrow on, at most {within} days ahead")]


def _field_errors(error: Any) -> list[FieldError]:
    """Where, and what was expected; never what was sent: forms may hold personal data."""
    rule, value = error.validator, error.validator_value
    pointer = "".join(f"/{p}" for p in error.absolute_path)
    if rule == "required":
        missing = [name for name in value if name not in error.instance]
        return [FieldError(f"{pointer}/{name}", "expected: this field is required") for name in missing]
    if rule == "additionalProperties":
        fields = error.schema.get("properties", {})
        told = f"unknown field; the fields of this form are: {', '.join(fields) or 'none'}"
        # the client's own words: a name that may be data is not repeated
        unknown = [
            name if _FIELD_NAME.fullmatch(name) else "(unnamed)" for name in error.instance if name not in fields
        ]
        return [FieldError(f"{pointer}/{name}", told) for name in unknown]
    if rule == "enum":
        return [FieldError(pointer, f"expected one of: {', '.join(map(str, value))}")]
    plain = not isinstance(value, (dict, list))
    return [FieldError(pointer, f"expected {rule} {value}" if plain else f"does not satisfy {rule}")]
