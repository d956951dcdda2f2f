"""Thematic studies (专题研究), and the clusters of like requests from which they are proposed."""

from __future__ import annotations

from typing import Any

from service.db.session import Tx

CLUSTERS = """
    -- matters asked about by several enterprises lately, in tickets still open or taken up in no study yet, most first
    SELECT t.matter, count(*) AS tickets, count(DISTINCT t.enterprise_id) AS enterprises,
           min(t.received_at) AS first_at, max(t.received_at) AS last_at,
           (array_agg(t.number ORDER BY t.received_at DESC))[1:20] AS numbers
    FROM tickets t
    WHERE t.matter IS NOT NULL AND t.phase <> 'closed' AND t.received_at >= $1::timestamptz - make_interval(days => $2::int)
      AND NOT EXISTS (SELECT 1 FROM reviews r WHERE r.ticket_id = t.id AND r.study_id IS NOT NULL)
    GROUP BY t.matter
    HAVING count(DISTINCT t.enterprise_id) >= $3
    ORDER BY count(*) DESC, t.matter
    LIMIT 100
"""


async def clusters(tx: Tx, days: int, enterprises: int) -> list[Any]:
    return await tx.rows(CLUSTERS, tx.now, days, enterprises)


async def cluster_size(tx: Tx, ref: str, days: int) -> int:
    """How many enterprises asked about this ticket's matter within these days; `ref`: its id or number."""
    return await tx.value(  # type: ignore[no-any-return]
        """SELECT count(DISTINCT other.enterprise_id) FROM tickets t JOIN tickets other ON other.matter = t.matter
           WHERE (t.id::text = $1 OR t.number = $1) AND other.received_at >= $2::timestamptz - make_interval(days => $3::int)""",
        ref, tx.now, days,
    )  # fmt: skip


async def insert(tx: Tx, study_id: str, theme: str, matter: str | None, reason: str) -> None:
    number = await tx.value("SELECT nextval('study_number')")
    await tx.execute(
        """INSERT INTO studies (id, number, theme, matter, reason, state, opened_by, opened_at)
           VALUES ($1, $2, $3, $4, $5, 'open', $6, $7)""",
        study_id, f"ZT{tx.now.year}{number:05d}", theme, matter, reason, tx.actor.subject, tx.now,
    )  # fmt: skip


async def get(tx: Tx, study_id: str, *, lock: bool = False) -> Any:
    return await tx.row(f"SELECT * FROM studies WHERE id = $1{' FOR NO KEY UPDATE' if lock else ''}", study_id)  # noqa: S608


async def close(tx: Tx, study_id: str, closing: str) -> None:
    await tx.execute(
        "UPDATE studies SET state = 'closed', closed_at = $2, closing = $3 WHERE id = $1", study_id, tx.now, closing
    )


async def listed(tx: Tx, state: str | None, after: str | None, limit: int) -> list[Any]:
    return await tx.rows(
        """SELECT * FROM studies WHERE ($1::text IS NULL OR state = $1) AND ($2::uuid IS NULL OR id > $2)
           ORDER BY id LIMIT $3""",
        state, after, limit,
    )  # fmt: skip


async def members(tx: Tx, study_ids: list[str]) -> list[Any]:
    """Reviews that joined, with their tickets."""
    return await tx.rows(
        """SELECT r.study_id, r.id, r.number, r.state, r.decision, r.meeting_id, t.id AS ticket_id,
                  t.number AS ticket_number, t.title, t.phase
           FROM reviews r JOIN tickets t ON t.id = r.ticket_id
           WHERE r.study_id = ANY($1::uuid[]) ORDER BY r.id""",
        study_ids,
    )  # fmt: skip
