"""What people do with tickets: look, act, ask why, reveal a contact."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic_core import to_json

from service.core import clocks, confidence, hints, workflow
from service.core.access import require
from service.core.definitions import Workflow
from service.core.draft import Env
from service.core.errors import Forbidden, Invalid, JiebanError, NotFound, Stale
from service.core.model import Actor, Clock, Decision, Role, Ticket
from service.core.repeats import EXPLAIN
from service.db import audit, procedure, queries, saving, tickets
from service.db.session import Tx
from service.db.tickets import Stored
from service.usecases import confidential, contacts, finding, on_duty, repeats, views
from service.usecases.answers import Answer, Call, once
from service.usecases.house import House
from service.usecases.intake import etag

ABSENT = "There is no such ticket, or it is not yours to see."


async def get(house: House, actor: Actor, ref: str) -> Answer:
    async with house.db.transaction(actor, readonly=True) as tx:
        stored, _ = await _find(house, tx, ref)
        shown = house.show(stored.ticket, stored.row, tx.now, actor)
    if shown["confidential"]:
        await confidential.viewed(house, actor, stored.ticket.id, "ticket", shown["masked"])
    return Answer(200, to_json(shown), {"ETag": etag(stored.ticket)})


async def act(
    house: House, actor: Actor, ref: str, action: str, form: Mapping[str, Any], call: Call, if_match: str | None
) -> Answer:
    """Carry out one action of the ticket's workflow; answers the ticket as it is then."""

    async def work(tx: Tx) -> Answer:
        stored, after = await decide_and_save(
            house, tx, ref, lambda ticket, env: workflow.act(ticket, action, form, env), if_match=if_match
        )
        if action == "dispatch" and after.urgency == "emergency" and after.lead is not None:
            await on_duty.tell(house, tx, after.id, [after.lead], "emergency")
        if action == EXPLAIN:
            await repeats.check_explained(tx, after.id, form)
        if not stored.row["content"].get("confidential"):
            await finding.heard(tx, after.id, action, form)
        shown = house.show(after, stored.row, tx.now, tx.actor)
        if (told := await contacts.count(house, tx, stored, action, form)) is not None:
            shown["notices"] = [told]
        return Answer(200, to_json(shown), {"ETag": etag(after)})

    return await once(house, actor, call, work)


async def act_on_many(
    house: House, actor: Actor, refs: Sequence[str], action: str, form: Mapping[str, Any], call: Call
) -> list[dict[str, Any]]:
    """The same action on many tickets, each in its own transaction; a result for each."""
    results: list[dict[str, Any]] = []
    for ref in refs:
        own = Call(f"{call.route}#{ref}", call.key, call.digest)
        try:
            answer = await act(house, actor, ref, action, form, own, None)
            results.append({"id": ref, "status": answer.status})
        except JiebanError as error:
            problem = {"type": f"/problems/{error.slug}", "title": error.title, "detail": error.detail, **error.extra}
            if isinstance(error, Invalid):
                problem["errors"] = [{"pointer": e.pointer, "detail": e.detail} for e in error.errors]
            results.append({"id": ref, "problem": problem})
    return results


Deciding = Callable[[Ticket, Env], Decision]


async def change(
    house: House, tx: Tx, ref: str, decide: Deciding, *, if_match: str | None = None, status: int = 200
) -> Answer:
    """Lock, load, decide, save: the one way in which a ticket changes by hand."""
    stored, after = await decide_and_save(house, tx, ref, decide, if_match=if_match)
    return Answer(status, to_json(house.show(after, stored.row, tx.now, tx.actor)), {"ETag": etag(after)})


async def decide_and_save(
    house: House, tx: Tx, ref: str, decide: Deciding, *, if_match: str | None = None
) -> tuple[Stored, Ticket]:
    ticket_id = await tickets.lock(tx, ref)
    if ticket_id is None:
        raise NotFound(ABSENT)
    # the lock may have taken a while: what happens now happens after whatever happened meanwhile
    tx = replace(tx, now=await tx.value(f"SELECT {house.db.now_sql}"))
    stored = (await tickets.load(tx, [ticket_id]))[ticket_id]
    if if_match is not None and if_match not in {"*", etag(stored.ticket)}:
        raise Stale(
            f"If-Match names another version, the ticket is at {etag(stored.ticket)}; read it again.",
            current=etag(stored.ticket),
        )
    ticket = stored.ticket
    flow = await house.rules_of(tx, ticket)
    decision = decide(ticket, house.env(tx, flow, ticket.district))
    [after] = await saving.save(tx, [decision], house.new_id)
    for exemption in decision.exemptions:
        await procedure.put(tx, exemption)
    return stored, after


async def possible_actions(house: House, actor: Actor, ref: str) -> dict[str, Any]:
    """What this caller may do now, each with its title and the JSON Schema of its form."""
    async with house.db.transaction(actor, readonly=True) as tx:
        stored, flow = await _find(house, tx, ref)
        env = house.env(tx, flow, stored.ticket.district)
        actions = workflow.possible_actions(stored.ticket, env)
        steps = hints.next_steps(stored.ticket, actions, flow, actor.departments)
        week = await contacts.of_week(house, tx, stored.row["enterprise_id"])
        items = [{"name": a.name, "title": a.title["zh"], "title_en": a.title["en"], "form": a.form} for a in actions]
        return {"stage": stored.ticket.stage, "phase": stored.ticket.phase, "items": items,
                "next": [_step(step, house, tx.now) for step in steps], "enterprise_contacts": week}  # fmt: skip


def _step(step: hints.Step, house: House, now: datetime) -> dict[str, Any]:
    """One next step: what to do, which promise it keeps, and until when."""
    title = house.definition_of(step.clock).title
    return {
        "action": step.action.name,
        "title": step.action.title["zh"],
        "title_en": step.action.title["en"],
        "clock": step.clock.name,
        "clock_title": title["zh"],
        "clock_title_en": title["en"],
        "due_at": views.local(step.clock.due_at, house.zone),
        "overdue": step.clock.due_at < now,
    }


async def explanation(house: House, actor: Actor, ref: str, clock_id: str) -> dict[str, Any]:
    """Why a clock is due when it is (T20)."""
    async with house.db.transaction(actor, readonly=True) as tx:
        stored, _ = await _find(house, tx, ref)
        clock = next((c for c in stored.ticket.clocks if c.id == clock_id), None)
        if clock is None:
            raise NotFound("This ticket has no such clock.")
        told = clocks.explain(clock, house.calendar_of(clock), house.definition_of(clock).times)
        told["policy"] = _policy_of(clock, stored.ticket)
        told["changes"] = [views.relocated(change, house.zone) for change in told["changes"]]
        fired = await queries.firings(tx, clock_id)
        for rung in told["rungs"]:
            rung |= fired.get(rung["name"], {})
        localised: dict[str, Any] = views.localised(told, house.zone)
        return localised


def _policy_of(clock: Clock, ticket: Ticket) -> dict[str, Any]:
    """The policy a clock was last bound to; which rule chose it, and what was tried before, is known of the ticket's own."""
    told = {"workflow": clock.workflow_key, "version": clock.workflow_version, "clock": clock.name}
    chosen = ticket.facts.get("policy") or {}
    same = (chosen.get("workflow") or {}).get("key") == clock.workflow_key
    tried = [{"workflow": t["workflow"], "rule": t["rule"]} for t in chosen.get("tried", ())] if same else []
    return {**told, "rule": chosen.get("rule") if same else None, "tried": tried}


async def history(house: House, actor: Actor, ref: str, after: int, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """Events of one ticket after a sequence number; whether there are more."""
    async with house.db.transaction(actor, readonly=True) as tx:
        ticket_id = await tickets.resolve(tx, ref)
        if ticket_id is None:
            raise NotFound(ABSENT)
        rows = await queries.events_of(tx, ticket_id, after, limit + 1)
        stored = (await tickets.load(tx, [ticket_id]))[ticket_id]
    level = confidence.WHOLE
    if stored.row["content"].get("confidential"):
        level = confidence.sees(actor, stored.ticket)
        await confidential.viewed(house, actor, ticket_id, "history", [] if level == confidence.WHOLE else ["data"])
    items = [views.localised(confidence.told(row, level), house.zone) for row in rows[:limit]]
    return items, len(rows) > limit


async def reveal_contact(house: House, actor: Actor, ref: str, reason: str) -> dict[str, Any]:
    """The whole contact, for a reason; who looked and why is an event of the ticket and an entry of the audit."""
    require(actor, "contact:reveal")
    if not reason.strip():
        raise Invalid.field("/reason", "expected why the contact is needed")
    async with house.db.transaction(actor) as tx:
        stored, _ = await decide_and_save(house, tx, ref, lambda t, env: _note_reveal(t, reason, env))
        if stored.row["content"].get("confidential") and confidence.sees(actor, stored.ticket) != confidence.WHOLE:
            raise Forbidden("The contact of a confidential ticket is revealed to the person it was assigned to.")
        sealed = stored.row["contact"]
        await audit.write(tx, house.new_id(), "contact.revealed", stored.ticket.id, {"reason": reason})
        if sealed is None:
            return {"contact": None}
        return {"contact": house.vault.open(bytes(sealed), f"contact/{stored.ticket.id}")}


def _note_reveal(ticket: Ticket, reason: str, env: Env) -> Decision:
    """A handler reveals for a leg of his or her own unit only: being asked for an opinion is not enough."""
    actor = env.actor
    handles = any(a.department in actor.departments for a in ticket.assignments if a.open or not ticket.open)
    if actor.role is Role.HANDLER and not handles:
        raise Forbidden("A contact is revealed to a department that handles the ticket.")
    return workflow.note(ticket, "contact.revealed", {"reason": reason}, env)


async def _find(house: House, tx: Tx, ref: str) -> tuple[Stored, Workflow]:
    ticket_id = await tickets.resolve(tx, ref)
    loaded = await tickets.load(tx, [ticket_id]) if ticket_id else {}
    if ticket_id is None or ticket_id not in loaded:
        raise NotFound(ABSENT)
    stored = loaded[ticket_id]
    flow = await house.rules_of(tx, stored.ticket)
    return stored, flow
