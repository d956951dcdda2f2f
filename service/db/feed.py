"""The feed of events: every message of the outbox has a place in one order that readers follow without missing any.

Transactions commit out of order, so a place is not given when a message is written but afterwards, by one at a time: who
numbers holds a lock until its commit, sees only what is committed, and goes on from the last number. A reader that has
read up to a number therefore never finds another below it. Of one ticket the messages keep their order: each was
committed under the ticket's row lock, so whoever sees a later one sees the earlier ones too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.db.session import Tx

NUMBERED_AT_ONCE = 20_000
SCANNED = 5000
"""How many messages one page looks through at most, whether or not they are of the types asked for."""
NUMBER = """
    -- committed messages without a place, after the last one: in the order of their time, and of each ticket in its own
    WITH waiting AS MATERIALIZED (
        SELECT id, ticket_id, created_at, (body -> 'events' -> 0 ->> 'seq')::int AS seq FROM outbox
        WHERE position IS NULL),
    placed AS (
        SELECT id, row_number() OVER (ORDER BY at, ticket_id, seq) AS place
        FROM (SELECT *, max(created_at) OVER (PARTITION BY ticket_id ORDER BY seq) AS at FROM waiting) w),
    numbered AS (
        UPDATE outbox o SET position = p.place + (SELECT coalesce(max(position), 0) FROM outbox)
        FROM placed p WHERE o.id = p.id AND p.place <= $1
        RETURNING 1)
    SELECT count(*) FROM numbered
"""
READ = """
    -- messages from a place on (that one included), with what the hotline knows their tickets by
    SELECT o.position, o.ticket_id, o.body, t.source_system, t.source_reference
    FROM outbox o JOIN tickets t ON t.id = o.ticket_id
    WHERE o.position BETWEEN $1 AND $1 + $4
      AND ($2::text[] IS NULL OR EXISTS (SELECT 1 FROM jsonb_array_elements(o.body -> 'events') e
                                         WHERE e ->> 'type' LIKE ANY($2)))
    ORDER BY o.position LIMIT $3
"""


async def number(tx: Tx, *, wait: bool = True) -> int:
    """Give places to what has none yet; how many (0 also when another is just doing it and we do not `wait`)."""
    # nothing to do is the usual case, and costs one look at a small index
    if not await tx.value("SELECT EXISTS (SELECT 1 FROM outbox WHERE position IS NULL)"):
        return 0
    if wait:
        await tx.execute("SELECT pg_advisory_xact_lock(hashtext('jieban.feed'))")
    elif not await tx.value("SELECT pg_try_advisory_xact_lock(hashtext('jieban.feed'))"):
        return 0
    return int(await tx.value(NUMBER, NUMBERED_AT_ONCE))


async def last(tx: Tx) -> int:
    """The last place given."""
    return int(await tx.value("SELECT coalesce(max(position), 0) FROM outbox"))


async def read(tx: Tx, start: int, types: Sequence[str] | None, limit: int) -> list[Any]:
    """Up to `limit` messages at or after place `start`, of a bounded stretch. `types`: LIKE patterns, None for all."""
    return await tx.rows(READ, start, list(types) if types is not None else None, limit, SCANNED)
