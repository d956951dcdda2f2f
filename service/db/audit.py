"""Who looked at or changed what outside a ticket's own history. Append-only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.db.session import Tx


async def write(tx: Tx, entry_id: str, action: str, ticket_id: str | None, data: Mapping[str, Any]) -> None:
    actor = {"subject": tx.actor.subject, "role": str(tx.actor.role), "departments": list(tx.actor.departments)}
    await tx.execute(
        "INSERT INTO audit (id, at, actor, action, ticket_id, data) VALUES ($1, $2, $3, $4, $5, $6)",
        entry_id, tx.now, actor, action, ticket_id, dict(data),
    )  # fmt: skip


async def heads(tx: Tx, after: str, limit: int) -> list[Any]:
    """Tickets in the order of their ids, with the head of each history."""
    return await tx.rows(
        "SELECT id, number, last_seq, head_hash FROM tickets WHERE id > $1 ORDER BY id LIMIT $2", after, limit
    )


async def chain(tx: Tx, ticket_ids: list[str]) -> list[Any]:
    """Every event of these tickets as it was hashed, in order."""
    return await tx.rows(
        """SELECT ticket_id, seq, type, occurred_at, recorded_at, actor, data, prev, hash
           FROM events WHERE ticket_id = ANY($1::uuid[]) ORDER BY ticket_id, seq""",
        ticket_ids,
    )
