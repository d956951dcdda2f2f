"""The callers' work: which enterprises are to be called, about which tickets at once, and what one call brought.

An enterprise is called once for all its tickets that wait (无事不扰), and a call that reached nobody counts once a day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import MAXYEAR, datetime
from typing import Any

from pydantic_core import to_json

from service.core import workflow
from service.core.access import require
from service.core.errors import Conflict, FieldError, Invalid, NotFound
from service.core.model import Actor
from service.db import callbacks, tickets
from service.db.session import Tx
from service.usecases import views
from service.usecases.answers import Answer, Call, once
from service.usecases.house import House
from service.usecases.tickets import ABSENT, decide_and_save


async def queue(
    house: House, actor: Actor, *, today: bool, after: tuple[datetime, str] | None, limit: int
) -> tuple[list[dict[str, Any]], tuple[str, str] | None]:
    """Enterprises to be called, the one with the nearest limit first. `today`: without those tried in vain today."""
    require(actor, "callbacks:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        day = tx.now.astimezone(house.zone).date().isoformat()
        firms = await callbacks.firms(tx, day if today else None, after, limit + 1)
        waiting = await callbacks.waiting(tx, [row["id"] for row in firms[:limit]])
    by_firm: dict[str, list[Any]] = {}
    for row in waiting:
        by_firm.setdefault(row["enterprise_id"], []).append(row)
    items = [
        {
            "enterprise": {"id": firm["id"], "name": firm["name"]},
            "due_at": views.local(_finite(firm["due_at"]), house.zone),
            "tickets": [_waiting(house, row, day) for row in by_firm.get(firm["id"], [])],
        }
        for firm in firms[:limit]
    ]
    if len(firms) <= limit:
        return items, None
    last = firms[limit - 1]
    due = _finite(last["due_at"])
    return items, (due.isoformat() if due else "infinity", last["id"])


def _finite(at: datetime) -> datetime | None:
    return None if at.year == MAXYEAR else at


def _waiting(house: House, row: Mapping[str, Any], day: str) -> dict[str, Any]:
    told = {name: row[name] for name in ("id", "number", "title", "round", "version")}
    told |= {
        "lead": row["lead"],
        "due_at": views.local(row["due_at"], house.zone),
        "attempts": row["attempts"] or 0,
        "attempted_today": row["attempted_on"] == day,
        "contact": row["contact_masked"],
        "public_reply": row["public_reply"],
    }
    return told


async def record(house: House, actor: Actor, form: Mapping[str, Any], call: Call) -> Answer:
    """One call to one enterprise about several tickets: all results are kept, or none is.

    `form`: `results`, each a ticket with its own result; `reached` false instead, for a call that reached nobody. Raises
    Invalid naming the ticket and the field, Conflict where the tickets are not of one enterprise.
    """
    require(actor, "callbacks:act")
    results: Sequence[Mapping[str, Any]] = form["results"]

    async def work(tx: Tx) -> Answer:
        ids = await _locked(tx, [r["ticket"] for r in results])
        firms = await callbacks.enterprises(tx, ids)
        if len(firms) > 1:
            raise Conflict("These tickets are not of one enterprise; a call is to one.", enterprises=len(firms))
        call_id = house.new_id()
        after = [
            await _one(house, tx, n, ids[n], form, result, call_id) for n, result in enumerate(results)
        ]  # under the locks that were taken in the order of ids
        return Answer(200, to_json({"call": call_id, "results": after}))

    return await once(house, actor, call, work)


async def _locked(tx: Tx, refs: Sequence[str]) -> list[str]:
    """The ids in the order given, each locked, in the order of ids: two calls never wait for each other."""
    found = [await tickets.resolve(tx, ref) for ref in refs]
    for n, ticket_id in enumerate(found):
        if ticket_id is None:
            raise Invalid("One ticket is not there.", [FieldError(f"/results/{n}/ticket", ABSENT)])
    ids = [one for one in found if one is not None]
    if len(set(ids)) < len(ids):
        raise Invalid.field("/results", "expected each ticket once")
    for ticket_id in sorted(ids):
        if await tickets.lock(tx, ticket_id) is None:
            raise NotFound(ABSENT)
    return ids


async def _one(
    house: House, tx: Tx, n: int, ticket_id: str, form: Mapping[str, Any], result: Mapping[str, Any], call_id: str
) -> dict[str, Any]:
    reached = form["reached"]
    given = {k: v for k, v in result.items() if k != "ticket" and v is not None}
    shared = {k: form[k] for k in ("rated_by", "rated_from") if form.get(k) is not None}
    asked = {**given, **shared, "call": call_id, "reached": reached}
    if not reached:
        asked = {"reached": False, "call": call_id, **{k: v for k, v in given.items() if k == "comment"}}
    try:
        _, after = await decide_and_save(
            house, tx, ticket_id, lambda ticket, env: workflow.act(ticket, "record_callback", asked, env)
        )
    except Invalid as error:
        raise Invalid(
            f"Result {n} is not as expected.", [FieldError(f"/results/{n}{e.pointer}", e.detail) for e in error.errors]
        ) from None
    except Conflict as error:
        raise Conflict(f"Ticket {result['ticket']}: {error.detail}", ticket=ticket_id) from None
    return {"id": after.id, "number": after.number, "stage": after.stage, "phase": after.phase, "round": after.round,
            "outcome": after.outcome}  # fmt: skip
