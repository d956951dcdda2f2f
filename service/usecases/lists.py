"""Lists: the queue, and tickets by creation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from service.core.access import scope_of
from service.core.errors import Forbidden
from service.core.model import Actor
from service.db import queries
from service.usecases import views
from service.usecases.house import House


async def queue(
    house: House,
    actor: Actor,
    *,
    department: str | None,
    phase: str | None,
    assignee: str | None,
    due_before: datetime | None,
    text: str | None,
    after: tuple[datetime, str] | None,
    limit: int,
) -> tuple[list[dict[str, Any]], tuple[str, str] | None]:
    """Open tickets of the caller's departments, nearest due first; the last row's place when there are more."""
    scope = scope_of(actor)
    if department is not None:
        if scope is not None and department not in scope:
            raise Forbidden("This is the queue of another department.")
        scope = (department,)
    assignee = actor.subject if assignee == "me" else assignee
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await queries.queue(tx, scope, phase, assignee, due_before, text, after, limit + 1)
        items = [await _row(house, tx, row) for row in rows[:limit]]
    last = None
    if len(rows) > limit:
        row = rows[limit - 1]
        last = (row["next_due_at"].isoformat() if row["next_due_at"] else "infinity", row["id"])
    return items, last


async def _row(house: House, tx: Any, row: Any) -> dict[str, Any]:
    flow = await house.workflow(tx, row["workflow_key"], row["workflow_version"])
    legs = json.loads(row["legs"]) if row["legs"] else []
    lead = next((leg for leg in legs if leg["role"] == "lead"), None)
    title = flow.stages[row["stage"]][1]
    kept = (
        "id", "number", "title", "enterprise", "domain", "matter", "urgency", "district", "stage", "phase", "round",
        "version",
    )  # fmt: skip
    return {
        **{k: row[k] for k in kept},
        "stage_title": title["zh"],
        "lead": {"department": row["lead"], "assignee": lead["assignee"] if lead else None} if row["lead"] else None,
        "co_handlers": [leg["department"] for leg in legs if leg["role"] == "co_handler"],
        "due_at": views.local(row["next_due_at"], house.zone),
        "overdue": row["next_due_at"] is not None and row["next_due_at"] < tx.now,
        "received_at": views.local(row["received_at"], house.zone),
    }


async def tickets(
    house: House, actor: Actor, filters: Sequence[str | None], after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await queries.tickets(tx, *filters, after=after, limit=limit + 1)
    items = [views.localised(dict(row), house.zone) for row in rows[:limit]]
    return items, rows[limit - 1]["id"] if len(rows) > limit else None
