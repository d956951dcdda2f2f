"""Requests that somebody else decides: returns, extensions, pauses."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic_core import to_json

from service.core import workflow
from service.core.access import require
from service.core.errors import NotFound
from service.core.model import Actor, Approval
from service.db import queries
from service.db.session import Tx
from service.usecases import delegations, views
from service.usecases.answers import Answer, Call, once
from service.usecases.house import House
from service.usecases.tickets import decide_and_save


async def pending(
    house: House,
    actor: Actor,
    state: str | None,
    kind: str | None,
    after: tuple[datetime, str] | None,
    limit: int,
    on_behalf_of: str | None = None,
) -> tuple[list[dict[str, Any]], tuple[datetime, str] | None]:
    """Approvals, oldest request first, with the place to go on from; a deputy sees those of the absent approver."""
    if on_behalf_of is not None:
        actor = await delegations.acting(house, actor, on_behalf_of)
    require(actor, "approvals:read")
    async with house.db.transaction(actor, readonly=True) as tx:
        rows = await queries.approvals(tx, state, kind, after, limit + 1)
    shown = [views.approval(_approval(row), row["number"], house.zone) for row in rows[:limit]]
    last = (rows[limit - 1]["requested_at"], rows[limit - 1]["id"]) if len(rows) > limit else None
    return shown, last


async def decide(
    house: House,
    actor: Actor,
    approval_id: str,
    approve: bool,
    reason: str,
    call: Call,
    on_behalf_of: str | None = None,
) -> Answer:
    """Approve or deny, in one's own name or as the deputy of an approver who is absent."""
    if on_behalf_of is not None:
        actor = await delegations.acting(house, actor, on_behalf_of)
    require(actor, "approvals:decide")

    async def work(tx: Tx) -> Answer:
        ticket_id = await queries.ticket_of(tx, "approvals", approval_id)
        if ticket_id is None:
            raise NotFound("There is no such approval, or it is not yours to see.")
        _, after = await decide_and_save(
            house,
            tx,
            ticket_id,
            lambda t, env: workflow.decide_approval(t, approval_id, approve, reason, env, on_behalf_of),
        )
        decided = next(a for a in after.approvals if a.id == approval_id)
        return Answer(200, to_json(views.approval(decided, after.number, house.zone)))

    return await once(house, actor, call, work)


def _approval(row: Any) -> Approval:
    names = (
        "id", "ticket_id", "assignment_id", "kind", "state", "department", "requested_by", "requested_at", "form",
        "decided_by", "decided_at", "reason", "level",
    )  # fmt: skip
    return Approval(**{name: row[name] for name in names}, decisions=tuple(row["decisions"]))
