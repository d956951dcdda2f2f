"""Two tickets become one, or one becomes several (time rule T11). Who may, and from which stages, the workflow says.

Merged: the clocks of the merged ticket end as `merged`, and it is closed with a pointer; the survivor's promises to the
enterprise take the earliest anchor and the stricter of both budgets. Its source still gets its own answer: the pointer leads
to the reply.

Split: each part is a ticket of its own, with the whole's anchor and pauses unless the workflow says `split: restart`;
its first event says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.core import clocks
from service.core.calendar import Budget
from service.core.definitions import ActionDef
from service.core.draft import Draft, Env, RouteTo
from service.core.effects import run
from service.core.errors import Conflict, Invalid, NotFound
from service.core.model import Clock, Decision, Notice, Segment, Ticket, evolve
from service.core.rebinding import Promise, bind
from service.core.workflow import catch_up, check_allowed, check_form, opened


def merge(
    merged: Ticket, survivor: Ticket, form: Mapping[str, Any], env: Env, survivor_env: Env
) -> tuple[Decision, Decision]:
    """(merged, survivor) as they are decided. Raises Invalid, Conflict, and what an action raises."""
    if merged.id == survivor.id:
        raise Invalid.field("/into", "expected another ticket than this one")
    draft, action = _begin(merged, "merge", form, env)
    target = Draft(survivor, survivor_env)
    catch_up(target, survivor_env.now)
    if not target.ticket.open:
        raise Conflict(f"Ticket {survivor.number} is closed; merge into an open one.", ticket=survivor.number)
    for leg in target.ticket.assignments:
        if leg.open:
            draft.check_not_recused(leg.department)  # what this ticket says of a unit must not come to it by the other
    came_from, ending = draft.ticket.stage, [c for c in draft.ticket.clocks if c.open]
    for clock in ending:
        draft.put_clock(clocks.end(clock, draft.now, "merged", cancelled=True))
        draft.changed("cancelled", clock.name)
    run(draft, action.branches[0])
    draft.set(merged_into=survivor.id)
    target.set(recused=tuple(dict.fromkeys((*target.ticket.recused, *draft.ticket.recused))))
    draft.event(
        "ticket.merge",
        form=dict(form),
        into={"id": survivor.id, "number": survivor.number},
        **{"from": came_from, "to": draft.ticket.stage},
    )
    for clock in ending:
        _take_over(target, clock, merged.number)
    target.event("ticket.absorbed", merged={"id": merged.id, "number": merged.number}, reason=form["reason"])
    if target.ticket.lead:
        target.notices.append(Notice(f"department:{target.ticket.lead}", "absorbed"))
    return draft.finish(), target.finish()


def _begin(ticket: Ticket, name: str, form: Mapping[str, Any], env: Env) -> tuple[Draft, ActionDef]:
    draft = Draft(ticket, env)
    catch_up(draft, env.now)
    action = env.workflow.actions.get(name)
    if action is None:
        raise NotFound(f"This workflow has no action {name!r}; GET /v1/tickets/{ticket.id}/actions lists them.")
    check_allowed(draft, action)
    check_form(action, form, env)
    draft.form = form
    draft.fact("actors", {**draft.ticket.facts.get("actors", {}), name: env.actor.subject})
    return draft, action


def _take_over(target: Draft, other: Clock, number: str) -> None:
    """The earliest anchor, and of both budgets the one that is due first counted from there."""
    if other.family != "enterprise":
        return
    for clock in target.open_clocks(other.name):
        anchor, calendar = min(clock.anchor, other.anchor), target.env.calendar_of(clock)
        budgets = [Budget(c.measure, c.budget) for c in (clock, other)]
        terms = [(clocks.due(_on(clock, b, anchor), calendar), n, b) for n, b in enumerate(budgets)]
        promise = Promise(
            "merge", f"merged with {number}", target.env.workflow, calendar, min(terms)[2], anchor
        )  # of equals the survivor's own
        bind(target, clock, promise)


def _on(clock: Clock, budget: Budget, anchor: Any) -> Clock:
    kept = clock.extensions if budget.measure is clock.measure else ()
    return evolve(clock, measure=budget.measure, budget=budget.amount, anchor=anchor, extensions=kept)


@dataclass(frozen=True, slots=True)
class Part:
    """One part to be split off: its ticket without children, where it goes, and the rules that it lives by."""

    ticket: Ticket
    route: RouteTo
    env: Env


def check_split(ticket: Ticket, form: Mapping[str, Any], env: Env) -> None:
    """Raise what `split` would, before the parts are made."""
    _begin(ticket, "split", form, env)


def split(ticket: Ticket, form: Mapping[str, Any], parts: Sequence[Part], env: Env) -> list[Decision]:
    """The whole's decision first, then that of each part, in their order."""
    draft, action = _begin(ticket, "split", form, env)
    came_from = draft.ticket.stage
    run(draft, action.branches[0])
    named = [{"id": p.ticket.id, "number": p.ticket.number, "title": form["parts"][n]["title"]}
             for n, p in enumerate(parts)]  # fmt: skip
    draft.fact("parts", [*draft.ticket.facts.get("parts", []), *named])
    draft.event("ticket.split", parts=named, reason=form["reason"], **{"from": came_from, "to": draft.ticket.stage})
    return [draft.finish(), *(_split_off(draft.ticket, part) for part in parts)]


def _split_off(whole: Ticket, part: Part) -> Decision:
    """It begins now; then, unless its policy restarts it, its promises are bound to the whole's anchor and pauses."""
    draft = opened(evolve(part.ticket, received_at=part.env.now), part.route, part.env)
    if part.route.lead is not None:
        draft.check_not_recused(part.route.lead)
    draft.set(received_at=part.ticket.received_at)
    how = part.env.workflow.split
    draft.event(
        "ticket.opened",
        rule=part.route.rule,
        lead=part.route.lead,
        co_handlers=list(part.route.co_handlers),
        split={"of": {"id": whole.id, "number": whole.number}, "clocks": how},
    )
    definitions = part.env.workflow.clocks
    for clock in draft.ticket.clocks:
        source = [c for c in whole.clocks if c.name == clock.name and definitions[clock.name].anchor == "received_at"]
        if how == "inherit" and source:
            shared = evolve(clock, segments=tuple(s for s in map(_closed_pause, source[-1].segments) if s))
            terms = Budget(clock.measure, clock.budget)
            reason = f"split off {whole.number}"
            bind(
                draft, shared, Promise("split", reason, part.env.workflow, part.env.calendar, terms, source[-1].anchor)
            )
    return draft.finish()


def _closed_pause(segment: Segment) -> Segment | None:
    """A pause of the whole that is over is one of the part too; a reply's hold was the whole's alone."""
    return segment if segment.end is not None and segment.kind != clocks.HELD else None
