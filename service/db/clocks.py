"""What is due: found by index without locks, taken by the ticket's row lock, skipped where somebody holds it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from service.db.session import Tx

DUE = """
    -- tickets with a due timer, the earliest first; no lock, so it never waits
    SELECT ticket_id, sum(count(*)) OVER () AS timers FROM (
        SELECT c.ticket_id, c.next_fire_at FROM clocks c
        WHERE c.next_fire_at <= $1
        ORDER BY c.next_fire_at LIMIT $2) due
    GROUP BY ticket_id ORDER BY min(next_fire_at)
"""


async def due_tickets(tx: Tx, now: datetime, limit: int) -> tuple[list[str], bool]:
    """Tickets of the `limit` timers due first at or before `now`, earliest first; whether there may be more."""
    rows = await tx.rows(DUE, now, limit)
    return [row["ticket_id"] for row in rows], bool(rows) and rows[0]["timers"] >= limit


async def lock_free(tx: Tx, ticket_ids: list[str], *, wait: bool = False) -> list[str]:
    """Lock those of `ticket_ids` that nobody holds (all of them, waiting, with `wait`); in id order, no deadlock."""
    mode = "FOR NO KEY UPDATE" if wait else "FOR NO KEY UPDATE SKIP LOCKED"
    sql = f"SELECT id FROM tickets WHERE id = ANY($1::uuid[]) ORDER BY id {mode}"  # noqa: S608
    return [row["id"] for row in await tx.rows(sql, ticket_ids)]


async def next_fire_at(tx: Tx) -> datetime | None:
    return await tx.value("SELECT min(next_fire_at) FROM clocks WHERE next_fire_at IS NOT NULL")  # type: ignore[no-any-return]


async def backlog(tx: Tx, now: datetime) -> Any:
    """How many timers are overdue, and the oldest one's due time."""
    return await tx.row("SELECT count(*) AS due, min(next_fire_at) AS oldest FROM clocks WHERE next_fire_at <= $1", now)


async def set_aside(tx: Tx, ticket_id: str, now: datetime, error: str, dead_after: int) -> int:
    """A ticket whose timers cannot be fired: try later with growing pauses, at last give up (the due time stays)."""
    return int(
        await tx.value(
            """WITH failed AS (
                 UPDATE clocks SET attempts = attempts + 1, last_error = left($3, 500),
                   next_fire_at = CASE WHEN attempts + 1 >= $4 THEN NULL
                     ELSE $2::timestamptz + make_interval(secs => least(power(2, attempts + 1), 900)) END
                 WHERE ticket_id = $1 AND next_fire_at <= $2 RETURNING attempts)
               SELECT coalesce(max(attempts), 0) FROM failed""",
            ticket_id, now, error, dead_after,
        )
    )  # fmt: skip


async def sandbox_offset(tx: Tx, offset_us: int) -> None:
    await tx.execute(
        """INSERT INTO sandbox_clock (id, offset_us) VALUES (1, $1)
           ON CONFLICT (id) DO UPDATE SET offset_us = excluded.offset_us""",
        offset_us,
    )


async def lock_sandbox(tx: Tx) -> int:
    """One mover of the test clock at a time; the offset as it is now."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtext('sandbox_clock'))")
    return int(await tx.value("SELECT coalesce((SELECT offset_us FROM sandbox_clock WHERE id = 1), 0)"))


async def latest_of(tx: Tx, ticket_ids: list[str], until: datetime) -> datetime:
    """The latest of the earliest due times of these tickets: up to there every due timer is among them."""
    return await tx.value(  # type: ignore[no-any-return]
        """SELECT max(first) FROM (SELECT min(next_fire_at) AS first FROM clocks
           WHERE ticket_id = ANY($1::uuid[]) AND next_fire_at <= $2 GROUP BY ticket_id) earliest""",
        ticket_ids, until,
    )  # fmt: skip
