"""Notices: for people to read, and gathered into digests for whoever tells them outside."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from service.core.access import require
from service.core.model import SYSTEM, Actor, Role
from service.db import notices
from service.usecases import views
from service.usecases.house import House


async def mine(house: House, actor: Actor, after: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
    """What the caller was told: by role, or for a handler by department; newest first."""
    require(actor, "notices:read")
    units = [f"department:{code}" for code in actor.departments] if actor.role is Role.HANDLER else [str(actor.role)]
    recipients = [*units, f"person:{actor.subject}"]  # a person by name is told while on duty
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await notices.of(tx, recipients, after, limit + 1)
    items = [_shown(row, house) for row in rows[:limit]]
    return items, rows[limit - 1]["id"] if len(rows) > limit else None


def _shown(row: Any, house: House) -> dict[str, Any]:
    told = {name: row[name] for name in ("id", "recipient", "kind", "about", "due_at", "created_at")}
    told["ticket"] = {"id": row["ticket_id"], "number": row["number"]}
    localised: dict[str, Any] = views.localised(told, house.zone)
    return localised


async def digest(house: House, slot: datetime) -> dict[str, Any]:
    """Everything that waits, in one message per recipient; `slot` is the minute. How many digests were made."""
    async with house.db.transaction(SYSTEM) as tx:
        recipients = await notices.waiting(tx)
        made = await notices.gather(tx, recipients, slot, house.new_id) if recipients else 0
    return {"digests": made}
