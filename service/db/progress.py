"""Links by which an enterprise sees how its request stands."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from service.db.session import Tx


async def add(tx: Tx, link_id: str, ticket_id: str, expires_at: datetime) -> None:
    await tx.execute(
        "INSERT INTO progress_links (id, ticket_id, created_by, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)",
        link_id, ticket_id, tx.actor.subject, tx.now, expires_at,
    )  # fmt: skip


async def revoke(tx: Tx, ticket_id: str) -> int:
    """End every link of a ticket that still holds; how many."""
    rows = await tx.rows(
        """UPDATE progress_links SET revoked_at = $2 WHERE ticket_id = $1 AND revoked_at IS NULL AND expires_at > $2
           RETURNING id""",
        ticket_id, tx.now,
    )  # fmt: skip
    return len(rows)


async def valid(tx: Tx, link_id: str) -> Any:
    """Ticket and end of a link that holds now."""
    return await tx.row(
        "SELECT ticket_id, expires_at FROM progress_links WHERE id = $1 AND revoked_at IS NULL AND expires_at > $2",
        link_id, tx.now,
    )  # fmt: skip


async def survivor(tx: Tx, ticket_id: str) -> str:
    """The ticket that this one was merged into, through any number of mergers; itself if it was not."""
    return str(
        await tx.value(
            """WITH RECURSIVE chain AS (
                 SELECT id, merged_into, 0 AS steps FROM tickets WHERE id = $1
                 UNION ALL
                 SELECT t.id, t.merged_into, c.steps + 1 FROM chain c JOIN tickets t ON t.id = c.merged_into WHERE steps < 20)
               SELECT id FROM chain ORDER BY steps DESC LIMIT 1""",
            ticket_id,
        )
    )
