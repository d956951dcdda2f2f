"""Notices: read by those they are for, and gathered into digests, one message per recipient and minute at most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from service.db.session import Tx
from service.db.tickets import not_recused

LISTED = 100
"""How many tickets a digest names; `more` says how many it does not."""
DIGEST = """
    -- one statement, so that what is marked is what is counted
    WITH chosen(recipient, id) AS (SELECT * FROM unnest($1::text[], $2::uuid[])),
    told AS (
        UPDATE notices n SET digest_id = c.id FROM chosen c
        WHERE n.digest_id IS NULL AND n.recipient = c.recipient
        RETURNING n.recipient, n.id, n.ticket_id, n.kind, n.about, n.due_at),
    ticket AS (
        SELECT recipient, ticket_id, min(id::text) AS first, count(*) AS notices, array_agg(DISTINCT kind) AS kinds,
               array_remove(array_agg(DISTINCT about), NULL) AS about, min(due_at) AS due_at
        FROM told GROUP BY recipient, ticket_id),
    ranked AS (
        SELECT k.*, row_number() OVER (PARTITION BY recipient ORDER BY due_at, first) AS place FROM ticket k),
    body AS (
        SELECT r.recipient, sum(r.notices) AS count, greatest(count(*) - $4, 0) AS more,
               jsonb_agg(jsonb_build_object('id', r.ticket_id, 'number', t.number, 'kinds', r.kinds, 'about', r.about)
                         ORDER BY r.place) FILTER (WHERE r.place <= $4) AS tickets
        FROM ranked r JOIN tickets t ON t.id = r.ticket_id GROUP BY r.recipient)
    INSERT INTO digests (id, recipient, slot, body, next_at, created_at)
    SELECT c.id, b.recipient, $3,
           jsonb_build_object('count', b.count, 'tickets', b.tickets, 'more', b.more), $5, $5
    FROM body b JOIN chosen c ON c.recipient = b.recipient
    RETURNING 1
"""


async def waiting(tx: Tx) -> list[str]:
    """Recipients with notices that are in no digest yet."""
    rows = await tx.rows("SELECT DISTINCT recipient FROM notices WHERE digest_id IS NULL ORDER BY recipient")
    return [row["recipient"] for row in rows]


async def gather(tx: Tx, recipients: Sequence[str], slot: datetime, new_id: Callable[[], str]) -> int:
    """Put all that these recipients wait for into one digest each; how many digests."""
    ids = [new_id() for _ in recipients]
    return len(await tx.rows(DIGEST, list(recipients), ids, slot, LISTED, tx.now))


async def of(tx: Tx, recipients: Sequence[str], after: str | None, limit: int) -> list[Any]:
    """Notices of these recipients, newest first."""
    return await tx.rows(
        f"""SELECT n.id, n.recipient, n.kind, n.about, n.due_at, n.created_at, n.ticket_id, t.number
           FROM notices n JOIN tickets t ON t.id = n.ticket_id
           WHERE n.recipient = ANY($1::text[]) AND ($2::uuid IS NULL OR n.id < $2) AND {not_recused("t")}
           ORDER BY n.id DESC LIMIT $3""",  # noqa: S608
        list(recipients), after, limit,
    )  # fmt: skip


async def backlog(tx: Tx) -> int:
    """How many notices are in no digest yet."""
    return int(await tx.value("SELECT count(*) FROM notices WHERE digest_id IS NULL"))
