"""Lists for people: events, approvals, docket, measures (queue, tickets: `finding`). Keyset paging, stable while rows change."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from service.db.session import Tx
from service.db.tickets import not_recused


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
        f"""SELECT a.*, t.number FROM approvals a JOIN tickets t ON t.id = a.ticket_id
           WHERE {not_recused("t")} AND ($1::text IS NULL OR a.state = $1) AND ($2::text IS NULL OR a.kind = $2)
             AND ($3::timestamptz IS NULL OR (a.requested_at, a.id) > ($3, $4::uuid))
           ORDER BY a.requested_at, a.id LIMIT $5""",  # noqa: S608
        state, kind, at, last, limit,
    )  # fmt: skip


async def ticket_of(tx: Tx, table: str, row_id: str) -> str | None:
    """The ticket that an approval, review or measure belongs to, if the actor may see it."""
    assert table in {"approvals", "reviews", "measures"}
    return await tx.value(  # type: ignore[no-any-return]
        f"""SELECT t.id FROM {table} JOIN tickets t ON t.id = {table}.ticket_id
            WHERE {table}.id = $1 AND {not_recused("t")}""",  # noqa: S608
        row_id,
    )


async def docket(
    tx: Tx, state: str | None, kind: str | None, after: tuple[datetime, str] | None, limit: int
) -> list[Any]:
    """Tickets with reviews, oldest proposal first: (review id, ticket id, proposed_at)."""
    at, last = after or (None, None)
    return await tx.rows(
        f"""SELECT r.id, r.ticket_id, r.proposed_at FROM reviews r JOIN tickets t ON t.id = r.ticket_id
           WHERE {not_recused("t")} AND ($1::text IS NULL OR r.state = $1) AND ($2::text IS NULL OR r.kind = $2)
             AND ($3::timestamptz IS NULL OR (r.proposed_at, r.id) > ($3, $4::uuid))
           ORDER BY r.proposed_at, r.id LIMIT $5""",  # noqa: S608
        state, kind, at, last, limit,
    )  # fmt: skip


async def measures(tx: Tx, department: str | None, state: str | None, after: str | None, limit: int) -> list[Any]:
    return await tx.rows(
        f"""SELECT m.id, m.ticket_id FROM measures m JOIN tickets t ON t.id = m.ticket_id
           WHERE {not_recused("t")} AND ($1::text IS NULL OR m.department = $1) AND ($2::text IS NULL OR m.state = $2)
             AND ($3::uuid IS NULL OR m.id > $3)
           ORDER BY m.id LIMIT $4""",  # noqa: S608
        department, state, after, limit,
    )  # fmt: skip
