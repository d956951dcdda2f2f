"""What ties tickets of one enterprise together: answers given before, answers owed to sources that were merged."""

from __future__ import annotations

from typing import Any

from service.db.session import Tx

UNANSWERED = """
    -- merged tickets whose survivor was answered (its reply approved), and which were not told of this round's answer;
    -- of a chain of mergers the last is the survivor
    WITH RECURSIVE merged AS (
        SELECT m.id, m.merged_into AS survivor, 1 AS steps FROM tickets m WHERE m.merged_into IS NOT NULL
        UNION ALL
        SELECT c.id, s.merged_into, c.steps + 1 FROM merged c JOIN tickets s ON s.id = c.survivor
        WHERE s.merged_into IS NOT NULL AND c.steps < 20)
    SELECT c.id, s.id AS survivor, s.number, s.outcome, s.round, s.facts -> 'reply' ->> 'public_reply' AS public_reply
    FROM merged c JOIN tickets s ON s.id = c.survivor
    WHERE s.merged_into IS NULL AND s.phase IN ('callback', 'closed') AND s.facts -> 'reply' ->> 'public_reply' IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM events e WHERE e.ticket_id = c.id AND e.type = 'ticket.answered'
                        AND (e.data ->> 'round')::int >= s.round)
    ORDER BY c.id LIMIT $1
"""
ANSWERED_BEFORE = """
    SELECT true FROM tickets t JOIN tickets o ON o.enterprise_id = t.enterprise_id AND o.id <> t.id
    WHERE t.id = $1 AND o.id = $2 AND o.phase = 'closed'
"""


async def unanswered(tx: Tx, limit: int) -> list[Any]:
    return await tx.rows(UNANSWERED, limit)


async def answered_before(tx: Tx, ticket_id: str, of: str) -> bool:
    """Whether `of` is another, closed ticket of the enterprise whose ticket this is."""
    return bool(await tx.value(ANSWERED_BEFORE, ticket_id, of))
