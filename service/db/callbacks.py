"""Which enterprises are to be called back, and about which tickets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from service.db.session import Tx
from service.db.tickets import not_recused

FIRMS = f"""
    -- enterprises with tickets that wait for their callback, nearest limit first
    -- $1: without those that were tried in vain on this day
    SELECT e.id, e.name, w.due_at FROM (
        SELECT t.enterprise_id, coalesce(min(t.next_due_at), 'infinity') AS due_at FROM tickets t
        WHERE t.phase = 'callback' AND t.stage = 'callback' AND {not_recused("t")}
          AND ($1::text IS NULL OR t.facts ->> 'attempted_on' IS DISTINCT FROM $1)
        GROUP BY t.enterprise_id) w
    JOIN enterprises e ON e.id = w.enterprise_id
    WHERE $2::timestamptz IS NULL OR (w.due_at, e.id) > ($2, $3::uuid)
    ORDER BY w.due_at, e.id LIMIT $4
"""  # noqa: S608


async def firms(tx: Tx, untried_on: str | None, after: tuple[datetime, str] | None, limit: int) -> list[Any]:
    at, last = after or (None, None)
    return await tx.rows(FIRMS, untried_on, at, last, limit)


async def waiting(tx: Tx, enterprise_ids: Sequence[str]) -> list[Any]:
    """Every ticket of these enterprises that waits for its callback, nearest limit first."""
    return await tx.rows(
        f"""SELECT t.id, t.number, t.title, t.round, t.version, t.lead, t.enterprise_id, t.next_due_at AS due_at,
                  (t.counters ->> 'callback_attempts')::int AS attempts, t.facts ->> 'attempted_on' AS attempted_on,
                  t.contact_masked, t.facts -> 'reply' ->> 'public_reply' AS public_reply
           FROM tickets t
           WHERE t.phase = 'callback' AND t.stage = 'callback' AND t.enterprise_id = ANY ($1::uuid[])
             AND {not_recused("t")}
           ORDER BY t.next_due_at NULLS LAST, t.id""",  # noqa: S608
        list(enterprise_ids),
    )


async def enterprises(tx: Tx, ticket_ids: Sequence[str]) -> list[str]:
    """The enterprises of these tickets, each once."""
    rows = await tx.rows("SELECT DISTINCT enterprise_id FROM tickets WHERE id = ANY ($1::uuid[])", list(ticket_ids))
    return [row["enterprise_id"] for row in rows]
