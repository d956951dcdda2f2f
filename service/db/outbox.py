"""What leaves the house: events of tickets (the outbox) and digests of notices, by the same rules.

A row is claimed with a lease, told outside, then marked; a zombie's mark hits no row. Order per subject (a ticket, a
recipient): a row is not claimed while an earlier one of the same subject is pending. Never read by "id > last":
sequences commit out of order.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from service.db.session import Tx


@dataclass(frozen=True, slots=True)
class Queue:
    """A table of messages; `subject` is the column within which they keep their order."""

    table: str
    subject: str


OUTBOX = Queue("outbox", "ticket_id")
DIGESTS = Queue("digests", "recipient")


async def claim(tx: Tx, now: datetime, limit: int, lease: timedelta, queue: Queue = OUTBOX) -> list[Any]:
    """Up to `limit` rows that are ours until the lease ends: id, subject, body, attempts, created_at, lease_until."""
    return await tx.rows(
        f"""WITH ready AS MATERIALIZED (
              SELECT o.id FROM {queue.table} o
              WHERE o.state = 'pending' AND o.next_at <= $1 AND (o.lease_until IS NULL OR o.lease_until < $1)
                AND NOT EXISTS (SELECT 1 FROM {queue.table} e
                                WHERE e.{queue.subject} = o.{queue.subject} AND e.state = 'pending' AND e.id < o.id)
              ORDER BY o.next_at, o.id LIMIT $2 FOR UPDATE SKIP LOCKED)
            UPDATE {queue.table} o SET lease_until = $3
            FROM ready WHERE o.id = ready.id
            RETURNING o.id, o.{queue.subject} AS subject, o.body, o.attempts, o.created_at, o.lease_until""",  # noqa: S608
        now, limit, now + lease,
    )  # fmt: skip


async def done(tx: Tx, row_id: str, lease: datetime, now: datetime, queue: Queue = OUTBOX) -> None:
    """Delivered. A worker whose lease ran out marks nothing: the row is another's by now."""
    await tx.execute(
        f"UPDATE {queue.table} SET state = 'done', done_at = $3, lease_until = NULL, attempts = attempts + 1"  # noqa: S608
        " WHERE id = $1 AND state = 'pending' AND lease_until = $2",
        row_id, lease, now,
    )  # fmt: skip


async def failed(
    tx: Tx, row_id: str, lease: datetime, next_at: datetime | None, error: str, queue: Queue = OUTBOX
) -> None:
    """Try again at `next_at`; None: give up, visibly."""
    await tx.execute(
        f"""UPDATE {queue.table} SET state = CASE WHEN $2::timestamptz IS NULL THEN 'dead' ELSE 'pending' END,
             next_at = coalesce($2, next_at), lease_until = NULL, last_error = left($3, 500),
             attempts = attempts + 1
           WHERE id = $1 AND state = 'pending' AND lease_until = $4""",  # noqa: S608
        row_id, next_at, error, lease,
    )  # fmt: skip


async def finish_all(tx: Tx, now: datetime, limit: int, queue: Queue = OUTBOX) -> int:
    """Nobody listens: mark what is pending as done, nothing was to be told."""
    return int(
        await tx.value(
            f"""WITH ready AS MATERIALIZED (
                 SELECT id FROM {queue.table} WHERE state = 'pending'
                 ORDER BY next_at, id LIMIT $2 FOR UPDATE SKIP LOCKED),
               marked AS (UPDATE {queue.table} o SET state = 'done', done_at = $1 FROM ready
                          WHERE o.id = ready.id RETURNING 1)
               SELECT count(*) FROM marked""",  # noqa: S608
            now, limit,
        )
    )  # fmt: skip


async def pending(tx: Tx, queue: Queue = OUTBOX) -> Any:
    """How many `rows` wait, and since when (`oldest`)."""
    sql = f"SELECT count(*) AS rows, min(created_at) AS oldest FROM {queue.table} WHERE state = 'pending'"  # noqa: S608
    return await tx.row(sql)
