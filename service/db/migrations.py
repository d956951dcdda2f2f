"""Running tickets on their way to another workflow version: what was ordered, and how far each ticket is.

A ticket's row says `pending` until the very transaction that moves it, so whoever dies in between has moved it whole or
not at all. (The schema's own migrations are alembic's: `migrate`.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from service.db.session import Tx

ON = "workflow_key = $1 AND workflow_version = $2 AND phase <> 'closed'"


async def running_tickets(tx: Tx) -> dict[tuple[str, int], int]:
    """How many open tickets live by each version."""
    rows = await tx.rows(
        """SELECT workflow_key, workflow_version, count(*) AS n FROM tickets WHERE phase <> 'closed'
           GROUP BY workflow_key, workflow_version"""
    )
    return {(r["workflow_key"], r["workflow_version"]): r["n"] for r in rows}


async def tickets_on(tx: Tx, key: str, version: int, after: str, limit: int) -> list[str]:
    """Open tickets on a version, in the order of their ids."""
    sql = f"SELECT id FROM tickets WHERE {ON} AND id > $3 ORDER BY id LIMIT $4"  # noqa: S608
    rows = await tx.rows(sql, key, version, after, limit)
    return [r["id"] for r in rows]


async def begin(tx: Tx, row: Mapping[str, Any]) -> None:
    """Write the order down. Raises Collision (at the end of the block) if one runs from the same version."""
    names = ", ".join(row)
    places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await tx.execute(f"INSERT INTO workflow_migrations ({names}) VALUES ({places})", *row.values())  # noqa: S608


async def enlist(tx: Tx, migration: Any, created_before: datetime) -> int:
    """Every open ticket on the source that came in before an instant and is not on the list; how many were added."""
    return int(
        await tx.value(
            f"""WITH added AS (
                  INSERT INTO workflow_migration_tickets (migration_id, ticket_id, state)
                  SELECT $3::uuid, id, 'pending' FROM tickets t WHERE {ON} AND created_at <= $4
                    AND NOT EXISTS (SELECT 1 FROM workflow_migration_tickets m
                                    WHERE m.migration_id = $3::uuid AND m.ticket_id = t.id)
                  ON CONFLICT DO NOTHING RETURNING 1)
                SELECT count(*) FROM added""",  # noqa: S608
            migration["from_key"], migration["from_version"], migration["id"], created_before,
        )
    )  # fmt: skip


async def find(tx: Tx, migration_id: str, *, lock: bool = False) -> Any:
    """One order; None when there is none. `lock`: wait for the batches at hand, and let no further one begin."""
    sql = "SELECT * FROM workflow_migrations WHERE id = $1"
    return await tx.row(f"{sql} FOR UPDATE" if lock else sql, migration_id)


async def unfinished_from(tx: Tx, key: str, version: int) -> str | None:
    """The order under way from a version."""
    return await tx.value(  # type: ignore[no-any-return]
        """SELECT id FROM workflow_migrations WHERE from_key = $1 AND from_version = $2
           AND state IN ('running', 'undoing')""",
        key, version,
    )  # fmt: skip


async def listed(tx: Tx, key: str | None, after: str | None, limit: int) -> list[Any]:
    """Orders, the newest first."""
    return await tx.rows(
        """SELECT * FROM workflow_migrations
           WHERE ($1::text IS NULL OR from_key = $1) AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3""",
        key, after, limit,
    )  # fmt: skip


async def unfinished(tx: Tx) -> list[Any]:
    """Orders under way, oldest first, held so that nobody undoes or ends one while a batch of it is at hand."""
    return await tx.rows(
        "SELECT * FROM workflow_migrations WHERE state IN ('running', 'undoing') ORDER BY started_at, id FOR SHARE"
    )


async def claim(tx: Tx, migration_id: str, state: str, limit: int) -> list[Any]:
    """The next tickets in a state that no other worker has at hand, locked."""
    return await tx.rows(
        """SELECT * FROM workflow_migration_tickets WHERE migration_id = $1 AND state = $2
           ORDER BY ticket_id LIMIT $3 FOR UPDATE SKIP LOCKED""",
        migration_id, state, limit,
    )  # fmt: skip


async def mark(tx: Tx, migration_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """What became of tickets at hand: ticket_id, state, reason, and of those moved stages, last event and what undo needs."""
    await tx.execute(
        """UPDATE workflow_migration_tickets m SET state = r.state, reason = r.reason, at = $3,
             stage_before = coalesce(r.stage_before, m.stage_before), stage_after = coalesce(r.stage_after, m.stage_after),
             seq = coalesce(r.seq, m.seq), kept = coalesce(r.kept, m.kept)
           FROM jsonb_to_recordset($2) AS r (ticket_id uuid, state text, reason text, stage_before text,
             stage_after text, seq integer, kept jsonb)
           WHERE m.migration_id = $1 AND m.ticket_id = r.ticket_id""",
        migration_id, list(rows), tx.now,
    )  # fmt: skip


async def turn(tx: Tx, migration_id: str, before: str, after: str, reason: str = "") -> int:
    """All tickets in one state go to another; how many."""
    return int(
        await tx.value(
            """WITH turned AS (UPDATE workflow_migration_tickets SET state = $3, reason = $4
                               WHERE migration_id = $1 AND state = $2 RETURNING 1) SELECT count(*) FROM turned""",
            migration_id, before, after, reason,
        )
    )  # fmt: skip


async def set_state(tx: Tx, migration_id: str, **columns: Any) -> None:
    sets = ", ".join(f"{name} = ${n}" for n, name in enumerate(columns, 2))
    await tx.execute(f"UPDATE workflow_migrations SET {sets} WHERE id = $1", migration_id, *columns.values())  # noqa: S608


async def lock_to_finish(tx: Tx, migration_id: str) -> Any:
    """The order, if nobody else is at it and nothing of it waits; else None."""
    return await tx.row(
        """SELECT * FROM workflow_migrations m WHERE id = $1 AND state IN ('running', 'undoing')
             AND NOT EXISTS (SELECT 1 FROM workflow_migration_tickets t WHERE t.migration_id = m.id
                             AND t.state = CASE m.state WHEN 'running' THEN 'pending' ELSE 'undoing' END)
           FOR UPDATE SKIP LOCKED""",
        migration_id,
    )


async def counts(tx: Tx, ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """How many tickets of each order are in each state."""
    rows = await tx.rows(
        """SELECT migration_id, state, count(*) AS n FROM workflow_migration_tickets
           WHERE migration_id = ANY($1::uuid[]) GROUP BY 1, 2""",
        list(ids),
    )
    out: dict[str, dict[str, int]] = {i: {} for i in ids}
    for row in rows:
        out[row["migration_id"]][row["state"]] = row["n"]
    return out


async def reasons(tx: Tx, migration_id: str) -> list[Any]:
    """Why tickets stayed, each reason with how many and the number of one of them."""
    return await tx.rows(
        """SELECT m.state, m.reason, count(*)::int AS tickets, min(t.number) AS example
           FROM workflow_migration_tickets m JOIN tickets t ON t.id = m.ticket_id
           WHERE m.migration_id = $1 AND m.state IN ('failed', 'skipped', 'kept')
           GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 50""",
        migration_id,
    )


async def tickets_of(tx: Tx, migration_id: str, state: str | None, after: str | None, limit: int) -> list[Any]:
    """Tickets of an order in the order of their ids."""
    return await tx.rows(
        """SELECT m.ticket_id, t.number, m.state, m.reason, m.stage_before, m.stage_after, m.at
           FROM workflow_migration_tickets m JOIN tickets t ON t.id = m.ticket_id
           WHERE m.migration_id = $1 AND ($2::text IS NULL OR m.state = $2)
             AND ($3::uuid IS NULL OR m.ticket_id > $3) ORDER BY m.ticket_id LIMIT $4""",
        migration_id, state, after, limit,
    )  # fmt: skip


async def acted_on(tx: Tx, migration_id: str, ticket_ids: Sequence[str]) -> set[str]:
    """Those of the tickets with an event by a person after the one that moved them."""
    rows = await tx.rows(
        """SELECT DISTINCT m.ticket_id FROM workflow_migration_tickets m
           JOIN events e ON e.ticket_id = m.ticket_id AND e.seq > m.seq AND e.actor ->> 'role' <> 'system'
           WHERE m.migration_id = $1 AND m.ticket_id = ANY($2::uuid[])""",
        migration_id, list(ticket_ids),
    )  # fmt: skip
    return {r["ticket_id"] for r in rows}
