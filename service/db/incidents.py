"""Sudden clusters: the same matter from many firms within hours."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from service.db.session import Tx

CLUSTERS = """
    -- matters with requests of many firms lately: each firm counts once, those of a group too
    WITH lately AS (
        SELECT t.id, t.matter, t.enterprise_id, t.created_at FROM tickets t
        WHERE t.created_at >= $1 AND t.matter IS NOT NULL
          AND coalesce(t.outcome, '') NOT IN ('merged', 'withdrawn', 'rejected')),
    firms AS (
        SELECT matter, enterprise_id FROM lately
        UNION SELECT l.matter, g.enterprise_id FROM lately l JOIN ticket_enterprises g ON g.ticket_id = l.id)
    SELECT l.matter, count(*) AS tickets, min(l.created_at) AS first_at, max(l.created_at) AS last_at,
           max(l.id::text) AS newest, (SELECT count(*) FROM firms f WHERE f.matter = l.matter) AS firms
    FROM lately l GROUP BY l.matter
    HAVING (SELECT count(*) FROM firms f WHERE f.matter = l.matter) >= $2
"""


async def clusters(tx: Tx, hours: int, firms: int) -> list[Any]:
    return await tx.rows(CLUSTERS, tx.now - timedelta(hours=hours), firms)


async def open_ones(tx: Tx) -> dict[str, Any]:
    """Open incidents by matter."""
    rows = await tx.rows("SELECT * FROM incidents WHERE state = 'open' FOR UPDATE")
    return {row["matter"]: row for row in rows}


async def begin(tx: Tx, incident_id: str, found: Any) -> bool:
    """False: another worker began it at this very moment."""
    return bool(
        await tx.value(
            """INSERT INTO incidents (id, matter, firms, tickets, first_at, last_at, noticed_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING true""",
            incident_id, found["matter"], found["firms"], found["tickets"], found["first_at"], found["last_at"], tx.now,
        )
    )  # fmt: skip


async def grow(tx: Tx, incident_id: str, found: Any, noticed: bool) -> None:
    await tx.execute(
        """UPDATE incidents SET firms = greatest(firms, $2), tickets = greatest(tickets, $3), last_at = $4,
             noticed_at = CASE WHEN $5 THEN $6 ELSE noticed_at END WHERE id = $1""",
        incident_id, found["firms"], found["tickets"], found["last_at"], noticed, tx.now,
    )  # fmt: skip


async def end(tx: Tx, incident_id: str) -> None:
    await tx.execute("UPDATE incidents SET state = 'ended', ended_at = $2 WHERE id = $1", incident_id, tx.now)


async def listed(tx: Tx, state: str | None, after: str | None, limit: int) -> list[Any]:
    """Newest first."""
    return await tx.rows(
        """SELECT * FROM incidents WHERE ($1::text IS NULL OR state = $1) AND ($2::uuid IS NULL OR id < $2)
           ORDER BY id DESC LIMIT $3""",
        state, after, limit,
    )  # fmt: skip


async def get(tx: Tx, incident_id: str) -> Any:
    return await tx.row("SELECT * FROM incidents WHERE id = $1", incident_id)


async def tickets_of(tx: Tx, row: Any, limit: int) -> list[Any]:
    """The tickets of an incident: those of its matter from its first until it ended."""
    return await tx.rows(
        """SELECT id, number, stage, phase, lead, district, created_at FROM tickets
           WHERE matter = $1 AND created_at >= $2 AND ($3::timestamptz IS NULL OR created_at <= $3)
           ORDER BY id LIMIT $4""",
        row["matter"], row["first_at"], row["ended_at"], limit,
    )  # fmt: skip
