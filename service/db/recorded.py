"""Recorded histories for a what-if: as few columns as a replay needs, from one cursor, in the order of their receipt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from service.db.session import Tx

_CHOSEN = """
    FROM tickets t
    WHERE t.received_at >= $1 AND t.received_at < $2
      AND ($3::text IS NULL OR t.id IN (SELECT a.ticket_id FROM assignments a WHERE a.department = $3))
"""

EXTENT = f"""
    -- how many tickets a what-if is about, and when anything of them was last changed
    SELECT count(*) AS tickets, max(t.updated_at) AS last_at {_CHOSEN}
"""

RECORDS = f"""
    -- what a replay needs: who did what and when, and how the clocks stand; of the timers' events only a ticket's last
    SELECT t.id, t.number, t.workflow_key, t.workflow_version, t.domain, t.matter, t.urgency, t.district, t.received_at,
      t.created_at, t.closed_at, t.outcome, t.lead, (t.facts -> 'cards')::text AS cards,
      (SELECT json_agg(json_build_array(e.type, e.occurred_at, e.actor, e.data) ORDER BY e.seq) FROM events e
       WHERE e.ticket_id = t.id AND (e.type <> ALL($4) OR e.seq = t.last_seq))::text AS events,
      (SELECT json_agg(json_build_array(c.name, c.cycle, c.state, c.due_at, c.breached_at, c.fired, c.family, c.department))
       FROM clocks c WHERE c.ticket_id = t.id)::text AS clocks,
      (SELECT json_agg(json_build_array(a.department, a.dispatched_at, a.ended_at) ORDER BY a.id) FROM assignments a
       WHERE a.ticket_id = t.id)::text AS legs,
      (SELECT json_agg(r.proposed_at ORDER BY r.id) FROM reviews r WHERE r.ticket_id = t.id)::text AS proposed,
      (SELECT json_agg(m ORDER BY m.id) FROM (
         SELECT id, review_id, department, due_on, mandatory FROM measures WHERE ticket_id = t.id) m)::text AS measures
      {{texts}}
    FROM (SELECT t.* {_CHOSEN} ORDER BY t.received_at, t.id OFFSET 0) t
"""  # noqa: S608
_TEXTS = """, t.title, t.description, t.content ->> 'matter' AS asked_matter,
      (t.content -> 'enterprise')::text AS enterprise"""

DEFINITIONS = """
    -- every version of the rules that a recorded ticket may name
    SELECT kind, key, version, body, published_at FROM definitions WHERE kind IN ('workflow', 'calendar')
    ORDER BY published_at, kind, key, version
"""


async def extent(tx: Tx, start: datetime, end: datetime, department: str | None) -> tuple[int, datetime | None]:
    """How many tickets were received from `start` on, before `end`; when anything of them was last changed."""
    row = await tx.row(EXTENT, start, end, department)
    return row["tickets"], row["last_at"]


async def records(
    tx: Tx, start: datetime, end: datetime, department: str | None, but: Sequence[str], *, texts: bool, page: int
) -> AsyncIterator[list[dict[str, Any]]]:
    """Pages of rows, JSON not yet parsed; `but`: types of events that are left out. Memory is bounded by the page."""
    sql = RECORDS.replace("{texts}", _TEXTS if texts else "")
    cursor = await tx.connection.cursor(sql, start, end, department, list(but))
    while rows := await cursor.fetch(page):
        yield [dict(row) for row in rows]


async def definitions(tx: Tx) -> list[Any]:
    """Every version of workflows and calendars, oldest first."""
    return await tx.rows(DEFINITIONS)
