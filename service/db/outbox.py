"""The outbox: claimed with a lease, told outside, then marked; a zombie's mark hits no row.

Order per ticket: a row is not claimed while an earlier one of the same ticket is pending. Never read by "id > last":
sequences commit out of order.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from service.db.session import Tx

CLAIM = """
    WITH ready AS MATERIALIZED (
        SELECT o.id FROM outbox o
        WHERE o.state = 'pending' AND o.next_at <= $1 AND (o.lease_until IS NULL OR o.lease_until < $1)
          AND NOT EXISTS (SELECT 1 FROM outbox e
                          WHERE e.ticket_id = o.ticket_id AND e.state = 'pending' AND e.id < o.id)
        ORDER BY o.next_at, o.id LIMIT $2 FOR UPDATE SKIP LOCKED)
    UPDATE outbox o SET lease_until = $3
    FROM ready WHERE o.id = ready.id
    RETURNING o.id, o.ticket_id, o.topic, o.body, o.attempts, o.created_at, o.lease_until
"""


async def claim(tx: Tx, now: datetime, limit: int, lease: timedelta) -> list[Any]:
    return await tx.rows(CLAIM, now, limit, now + lease)


async def done(tx: Tx, row_id: str, lease: datetime, now: datetime) -> None:
    """Delivered. A worker whose lease ran out marks nothing: the row is another's by now."""
    await tx.execute(
        "UPDATE outbox SET state = 'done', done_at = $3, lease_until = NULL, attempts = attempts + 1"
        " WHERE id = $1 AND state = 'pending' AND lease_until = $2",
        row_id, lease, now,
    )  # fmt: skip


async def failed(tx: Tx, row_id: str, lease: datetime, next_at: datetime | None, error: str) -> None:
    """Try again at `next_at`; None: give up, visibly."""
    await tx.execute(
        """UPDATE outbox SET state = CASE WHEN $2::timestamptz IS NULL THEN 'dead' ELSE 'pending' END,
             next_at = coalesce($2, next_at), lease_until = NULL, last_error = left($3, 500),
             attempts = attempts + 1
           WHERE id = $1 AND state = 'pending' AND lease_until = $4""",
        row_id, next_at, error, lease,
    )  # fmt: skip


async def finish_all(tx: Tx, now: datetime, limit: int) -> int:
    """Nobody listens: mark what is pending as done, nothing was to be told."""
    return int(
        await tx.value(
            """WITH ready AS MATERIALIZED (
                 SELECT id FROM outbox WHERE state = 'pending' ORDER BY next_at, id LIMIT $2 FOR UPDATE SKIP LOCKED),
               marked AS (UPDATE outbox o SET state = 'done', done_at = $1 FROM ready
                          WHERE o.id = ready.id RETURNING 1)
               SELECT count(*) FROM marked""",
            now, limit,
        )
    )  # fmt: skip


async def pending(tx: Tx) -> Any:
    return await tx.row("SELECT count(*) AS rows, min(created_at) AS oldest FROM outbox WHERE state = 'pending'")
