"""Versions of calendars: which open clocks they count, how far their re-projection is, who depends on them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from service.db.session import Tx

OPEN = "c.state NOT IN ('met', 'breached_met', 'cancelled')"
COUNTED_BY = f"""{OPEN} AND ((c.calendar_key = $1 AND c.calendar_version < $2)
  OR (c.calendar_key = $3 AND EXISTS (SELECT 1 FROM tickets d WHERE d.id = c.ticket_id AND d.district = ANY($4))))"""  # noqa: S608
"""Open clocks that version $2 of calendar $1 is to count: older versions' and, in its districts $4, those of its base $3."""
Scope = tuple[str, int, str | None, Sequence[str]]
"""What COUNTED_BY takes: key, version, base (None: it stands by itself), districts."""

AFFECTED = f"""
    -- open clocks that a version would count; the whole ledger only where there is one
    SELECT c.id, c.ticket_id, t.number, c.name, c.measure, c.budget, c.due_at, c.provisional,
           (extract(epoch FROM c.anchor) * 1000000)::bigint AS anchor_us,
           (extract(epoch FROM c.due_at) * 1000000)::bigint AS due_us,
           CASE WHEN c.segments <> '[]' OR c.extensions <> '[]' THEN to_json(c)::text END AS whole
    FROM clocks c JOIN tickets t ON t.id = c.ticket_id
    WHERE {COUNTED_BY}
"""  # noqa: S608


async def affected(tx: Tx, scope: Scope, page: int = 20_000) -> AsyncIterator[list[Any]]:
    """Rows of AFFECTED in pages, from one cursor: bounded memory for any number of clocks."""
    cursor = await tx.connection.cursor(AFFECTED, *scope)
    while rows := await cursor.fetch(page):
        yield rows


async def tickets_to_recount(tx: Tx, scope: Scope, after: str, limit: int, but: Sequence[str]) -> list[str]:
    """The next tickets after an id: one walk along the key of the clocks, which needs no index of its own."""
    return [
        row["ticket_id"]
        for row in await tx.rows(
            f"""SELECT DISTINCT c.ticket_id FROM clocks c
                WHERE {COUNTED_BY} AND c.ticket_id > $5 AND c.ticket_id <> ALL($7::uuid[])
                ORDER BY c.ticket_id LIMIT $6""",  # noqa: S608
            *scope, after, limit, list(but),
        )
    ]  # fmt: skip


async def count_affected(tx: Tx, scope: Scope) -> int:
    return int(await tx.value(f"SELECT count(*) FROM clocks c WHERE {COUNTED_BY}", *scope))  # noqa: S608


async def repin(tx: Tx, rows: Sequence[tuple[str, str, int, bool, datetime | None]]) -> None:
    """Write (id, calendar key, version, provisional, next_fire_at) of clocks that nothing moved; under the tickets' locks."""
    if not rows:
        return
    ids, keys, versions, provisional, fires = (list(column) for column in zip(*rows, strict=True))
    await tx.execute(
        """UPDATE clocks c SET calendar_key = r.key, calendar_version = r.version, provisional = r.provisional,
             next_fire_at = CASE WHEN c.attempts > 0 THEN c.next_fire_at ELSE r.fires END
           FROM unnest($1::uuid[], $2::text[], $3::int[], $4::bool[], $5::timestamptz[])
             AS r (id, key, version, provisional, fires)
           WHERE c.id = r.id""",
        ids, keys, versions, provisional, fires,
    )  # fmt: skip


async def begin(tx: Tx, key: str, version: int, total: int, by: str, reason: str) -> None:
    """A version is to be projected onto open clocks; one still running for an older version of the key is overtaken."""
    await tx.execute(
        "UPDATE calendar_projections SET state = 'done', finished_at = $2 WHERE key = $1 AND state = 'running'",
        key, tx.now,
    )  # fmt: skip
    await tx.execute(
        """INSERT INTO calendar_projections (key, version, state, total, reason, by, started_at)
           VALUES ($1, $2, 'running', $3, $4, $5, $6)""",
        key, version, total, reason, by, tx.now,
    )  # fmt: skip


async def running(tx: Tx) -> list[Any]:
    return await tx.rows("SELECT * FROM calendar_projections WHERE state = 'running' ORDER BY started_at")


async def advance(tx: Tx, key: str, version: int, done: int, moved: int) -> None:
    await tx.execute(
        "UPDATE calendar_projections SET done = done + $3, moved = moved + $4 WHERE key = $1 AND version = $2",
        key, version, done, moved,
    )  # fmt: skip


async def finish(tx: Tx, key: str, version: int) -> None:
    await tx.execute(
        "UPDATE calendar_projections SET state = 'done', finished_at = $3 WHERE key = $1 AND version = $2",
        key, version, tx.now,
    )  # fmt: skip


async def projection(tx: Tx, key: str, version: int) -> Any:
    return await tx.row("SELECT * FROM calendar_projections WHERE key = $1 AND version = $2", key, version)


async def open_clocks(tx: Tx, key: str) -> int:
    return int(await tx.value(f"SELECT count(*) FROM clocks c WHERE c.calendar_key = $1 AND {OPEN}", key))  # noqa: S608


async def provisional(tx: Tx, calendar: str | None, after: tuple[datetime, str] | None, limit: int) -> list[Any]:
    """Open clocks whose due time a notice not yet published may move, nearest due first."""
    at, last = after or (None, None)
    return await tx.rows(
        f"""SELECT c.id, c.ticket_id, t.number, c.name, c.department, c.measure, c.due_at, c.state, c.calendar_key,
                   c.calendar_version
            FROM clocks c JOIN tickets t ON t.id = c.ticket_id
            WHERE c.provisional AND {OPEN} AND ($1::text IS NULL OR c.calendar_key = $1)
              AND ($2::timestamptz IS NULL OR (c.due_at, c.id) > ($2, $3::uuid))
            ORDER BY c.due_at, c.id LIMIT $4""",  # noqa: S608
        calendar, at, last, limit,
    )  # fmt: skip
