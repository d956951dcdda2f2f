"""The enterprise's own view: how its request stands, by a link that needs no login and tells nothing of what goes on inside.

The token is the link's id, sealed with the service's key: it cannot be guessed or made, says nothing by itself, and is kept
nowhere. The link ends by itself, or when somebody takes it back.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from datetime import timedelta
from typing import Any

from pydantic_core import to_json

from service.core import workflow
from service.core.errors import Forbidden, Invalid, NotFound
from service.core.model import SYSTEM, Actor, Phase, Role, Ticket
from service.db import progress as stored
from service.db import tickets
from service.db.session import Tx
from service.db.tickets import Stored
from service.usecases import views
from service.usecases.answers import Answer, Call, once
from service.usecases.house import House
from service.usecases.tickets import decide_and_save

CONTEXT = "progress-link"
GONE = "This link is not valid, or no longer. / 链接无效或已过期。"


async def link(house: House, actor: Actor, ref: str, days: int | None, call: Call) -> Answer:
    """A new link; that it was made, and until when it holds, stands in the ticket's history."""
    rules = house.rules.desk.progress
    if days is not None and days > rules.longest_days:
        raise Invalid.field("/days", f"expected at most {rules.longest_days}")

    async def work(tx: Tx) -> Answer:
        link_id = house.new_id()
        expires_at = tx.now + timedelta(days=days or rules.days)
        data = {"link": link_id, "expires_at": expires_at.isoformat()}
        _, after = await decide_and_save(house, tx, ref, lambda t, env: _noted(t, actor, "progress.linked", data, env))
        await stored.add(tx, link_id, after.id, expires_at)
        token = _token(house, link_id)
        told = {"token": token, "path": f"/v1/progress/{token}", "expires_at": views.local(expires_at, house.zone)}
        return Answer(201, to_json(told), {"Location": told["path"] or ""})

    return await once(house, actor, call, work)


def _noted(ticket: Ticket, actor: Actor, type_: str, data: dict[str, Any], env: Any) -> Any:
    if actor.role is Role.HANDLER and not any(a.department in actor.departments for a in ticket.assignments):
        raise Forbidden("A link is made by a department that handles the ticket.")
    return workflow.note(ticket, type_, data, env)


async def revoke(house: House, actor: Actor, ref: str) -> int:
    """Take back every link of a ticket; how many still held."""
    async with house.db.transaction(actor) as tx:
        _, after = await decide_and_save(house, tx, ref, lambda t, env: _noted(t, actor, "progress.revoked", {}, env))
        return await stored.revoke(tx, after.id)


def _token(house: House, link_id: str) -> str:
    sealed = house.vault.seal_bytes(uuid.UUID(link_id).bytes, CONTEXT)
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def _opened(house: House, token: str) -> str:
    try:
        sealed = base64.urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        return str(uuid.UUID(bytes=house.vault.open_bytes(sealed, CONTEXT)))
    except (ValueError, binascii.Error):
        raise NotFound(GONE) from None


async def show(house: House, token: str) -> dict[str, Any]:
    """What the enterprise sees. Raises NotFound for any token that does not hold, whatever the reason."""
    link_id = _opened(house, token)
    async with house.db.transaction(SYSTEM, readonly=True, snapshot=True) as tx:
        found = await stored.valid(tx, link_id)
        if found is None:
            raise NotFound(GONE)
        own, last = found["ticket_id"], await stored.survivor(tx, found["ticket_id"])
        loaded = await tickets.load(tx, list({own, last}))
        flow = await house.rules_of(tx, loaded[last].ticket)
        titles = {name: clock.title for name, clock in flow.clocks.items()}
    shown = _shown(house, loaded[own], loaded[last].ticket, titles)
    return {**shown, "expires_at": views.local(found["expires_at"], house.zone)}


def _shown(house: House, own: Stored, t: Ticket, titles: Any) -> dict[str, Any]:
    """`own`: the ticket of the link. `t`: the one that is worked on, another where it was merged."""
    rules, confidential = house.rules.desk.progress, own.row["content"].get("confidential", False)
    phase = rules.stages.get(t.phase)
    answered = t.phase in rules.answered_in
    return {
        "number": own.ticket.number,
        "title": None if confidential else own.row["title"],
        "received_at": views.local(own.ticket.received_at, house.zone),
        "stage": phase.zh if phase else None,
        "stage_en": phase.en if phase else None,
        "closed": t.phase is Phase.CLOSED,
        "round": t.round,
        "handled_together": own.ticket.id != t.id,
        "contact": _contact(house, t),
        "next": _next(house, t, titles),
        "public_reply": t.facts.get("reply", {}).get("public_reply") if answered else None,
        "outcome": t.outcome if answered and t.phase is Phase.CLOSED else None,
        "parts": [part["number"] for part in own.ticket.facts.get("parts", ())],
    }


def _contact(house: House, t: Ticket) -> dict[str, Any]:
    """Whom to ask: who stands for the unit in departments.yaml, never who sits at the desk; else the hotline."""
    unit = house.rules.departments.get(t.lead or "") if t.open else None
    named = (unit or {}).get("contact") or {}
    return {
        "department": unit["title"]["zh"] if unit else None,
        "department_en": unit["title"]["en"] if unit else None,
        "name": named.get("name"),
        "phone": named.get("phone") or house.rules.desk.progress.phone,
    }


def _next(house: House, t: Ticket, titles: Any) -> dict[str, Any] | None:
    """The next promise to the enterprise that is not kept yet; a paused one has no date."""
    promised = [c for c in t.clocks if c.open and c.family == "enterprise" and c.state in views.COUNTING]
    clock = min(promised, key=lambda c: c.due_at, default=None)
    if clock is None:
        return None
    title = titles[clock.name]
    day = (clock.due_at.astimezone(house.zone) - timedelta(microseconds=1)).date()
    return {"what": title["zh"], "what_en": title["en"], "by": day.isoformat()}
