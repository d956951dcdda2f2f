"""Lists for people: queue, tickets, events, approvals, docket, measures. Keyset paging, stable while rows change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from service.db.session import Tx

QUEUE = """
    -- open tickets of the caller's departments, nearest due first; a paused one without a due time comes last
    SELECT t.id, t.number, t.title, t.stage, t.phase, t.domain, t.matter, t.urgency, t.district, t.lead, t.round,
           t.next_due_at, t.received_at, t.version, t.workflow_key, t.workflow_version,
           t.content -> 'enterprise' ->> 'name' AS enterprise,
           (SELECT json_agg(json_build_object('department', a.department, 'role', a.role, 'assignee', a.assignee))
            FROM assignments a WHERE a.ticket_id = t.id AND a.ended_at IS NULL) AS legs
    FROM tickets t
    WHERE t.phase <> 'closed' AND NOT 'person:' || current_setting('jieban.client', true) = ANY(t.recused)
      AND ($1::text[] IS NULL OR EXISTS (
            SELECT 1 FROM assignments a
            WHERE a.ticket_id = t.id AND a.ended_at IS NULL AND a.department = ANY($1)
              AND ($3::text IS NULL OR a.assignee = $3)))
      AND ($2::text IS NULL OR t.phase = $2)
      AND ($3::text IS NULL OR EXISTS (
            SELECT 1 FROM assignments a WHERE a.ticket_id = t.id AND a.ended_at IS NULL AND a.assignee = $3))
      AND ($4::timestamptz IS NULL OR t.next_due_at < $4)
      AND ($5::text IS NULL OR strpos(lower(t.title || ' ' || t.description || ' ' || t.number), lower($5)) > 0)
      AND ($6::timestamptz IS NULL OR (coalesce(t.next_due_at, 'infinity'), t.id) > ($6, $7::uuid))
    ORDER BY coalesce(t.next_due_at, 'infinity'), t.id
    LIMIT $8
"""


async def queue(
    tx: Tx,
    departments: Sequence[str] | None,
    phase: str | None,
    assignee: str | None,
    due_before: datetime | None,
    text: str | None,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[Any]:
    at, last = after or (None, None)
    listed = list(departments) if departments is not None else None
    return await tx.rows(QUEUE, listed, phase, assignee, due_before, text, at, last, limit)


TICKETS = """
    -- tickets by creation, newest first, for look-ups and reconciliation
    SELECT t.id, t.number, t.title, t.stage, t.phase, t.domain, t.lead, t.outcome, t.created_at, t.closed_at,
           t.source_system, t.source_reference, t.next_due_at, t.version
    FROM tickets t
    WHERE NOT 'person:' || current_setting('jieban.client', true) = ANY(t.recused)
      AND ($1::text IS NULL OR t.phase = $1) AND ($2::text IS NULL OR t.domain = $2)
      AND ($3::text IS NULL OR t.lead = $3)
      AND ($4::text IS NULL OR t.source_system = $4) AND ($5::text IS NULL OR t.source_reference = $5)
      AND ($6::uuid IS NULL OR t.id < $6)
    ORDER BY t.id DESC
    LIMIT $7
"""


async def tickets(tx: Tx, *filters: str | None, after: str | None, limit: int) -> list[Any]:
    """`filters`: phase, domain, lead, source system, source reference."""
    return await tx.rows(TICKETS, *filters, after, limit)


async def events_of(tx: Tx, ticket_id: str, after: int, limit: int) -> list[Any]:
    return await tx.rows(
        """SELECT id, seq, type, occurred_at, recorded_at, actor, data, prev, hash FROM events
           WHERE ticket_id = $1 AND seq > $2 ORDER BY seq LIMIT $3""",
        ticket_id, after, limit,
    )  # fmt: skip


async def firings(tx: Tx, clock_id: str) -> dict[str, dict[str, Any]]:
    """What fired of one clock, by rung: when it was due, when it fired, and whether it was superseded."""
    rows = await tx.rows("SELECT rung, due_at, fired_at, outcome FROM firings WHERE clock_id = $1", clock_id)
    return {r["rung"]: {"due_at": r["due_at"], "fired_at": r["fired_at"], "outcome": r["outcome"]} for r in rows}


async def approvals(
    tx: Tx, state: str | None, kind: str | None, after: tuple[datetime, str] | None, limit: int
) -> list[Any]:
    """Requests to be decided, oldest first."""
    at, last = after or (None, None)
    return await tx.rows(
        """SELECT a.*, t.number FROM approvals a JOIN tickets t ON t.id = a.ticket_id
           WHERE ($1::text IS NULL OR a.state = $1) AND ($2::text IS NULL OR a.kind = $2)
             AND ($3::timestamptz IS NULL OR (a.requested_at, a.id) > ($3, $4::uuid))
           ORDER BY a.requested_at, a.id LIMIT $5""",
        state, kind, at, last, limit,
    )  # fmt: skip


async def ticket_of(tx: Tx, table: str, row_id: str) -> str | None:
    """The ticket that an approval, review or measure belongs to, if the actor may see it."""
    assert table in {"approvals", "reviews", "measures"}
    return await tx.value(f"SELECT ticket_id FROM {table} WHERE id = $1", row_id)  # type: ignore[no-any-return]  # noqa: S608


async def docket(
    tx: Tx, state: str | None, kind: str | None, after: tuple[datetime, str] | None, limit: int
) -> list[Any]:
    """Tickets with reviews, oldest proposal first: (review id, ticket id, proposed_at)."""
    at, last = after or (None, None)
    return await tx.rows(
        """SELECT r.id, r.ticket_id, r.proposed_at FROM reviews r
           WHERE ($1::text IS NULL OR r.state = $1) AND ($2::text IS NULL OR r.kind = $2)
             AND ($3::timestamptz IS NULL OR (r.proposed_at, r.id) > ($3, $4::uuid))
           ORDER BY r.proposed_at, r.id LIMIT $5""",
        state, kind, at, last, limit,
    )  # fmt: skip


async def measures(tx: Tx, department: str | None, state: str | None, after: str | None, limit: int) -> list[Any]:
    return await tx.rows(
        """SELECT m.id, m.ticket_id FROM measures m
           WHERE ($1::text IS NULL OR m.department = $1) AND ($2::text IS NULL OR m.state = $2)
             AND ($3::uuid IS NULL OR m.id > $3)
           ORDER BY m.id LIMIT $4""",
        department, state, after, limit,
    )  # fmt: skip
