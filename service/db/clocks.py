"""What is due: found by index without locks, taken by the ticket's row lock, skipped where somebody holds it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from service.db.session import Tx
from service.db.tables import ASIDE

DUE = """
    -- tickets with a due timer, the earliest first; no lock, so it never waits
    SELECT ticket_id, sum(count(*)) OVER () AS timers FROM (
        SELECT c.ticket_id, c.next_fire_at FROM clocks c
        WHERE c.next_fire_at <= $1
        ORDER BY c.next_fire_at LIMIT $2) due
    GROUP BY ticket_id ORDER BY min(next_fire_at)
"""


CLAIM = """
    -- the tickets with the oldest due timers that nobody holds, locked: it never waits. It looks at no more timers than it
    -- must to find enough (`due` is read as it is needed, one ticket after the other). Timers that failed before, or over
    -- which a worker died, are left to SUSPECT
    WITH due AS MATERIALIZED (
        SELECT ticket_id, next_fire_at FROM clocks
        WHERE next_fire_at <= $1 AND attempts = 0 AND crashes = 0
        ORDER BY next_fire_at LIMIT $3)
    SELECT t.id, d.next_fire_at AS due_at, (SELECT next_fire_at FROM due LIMIT 1) AS oldest,
      clock_timestamp() - $4::timestamptz AS later
    FROM due d, LATERAL (SELECT id FROM tickets WHERE id = d.ticket_id FOR NO KEY UPDATE SKIP LOCKED) t
    WHERE $5::interval IS NULL OR d.next_fire_at <= (SELECT next_fire_at FROM due LIMIT 1) + $5
    LIMIT $2
"""
LOOK_AHEAD = 10
"""How many timers are looked at, at most, for each ticket that may be taken: more than the other workers have in hand."""
SUSPECT = f"""
    -- the ticket of the timer that has waited longest among those set aside, locked
    WITH due AS MATERIALIZED (
        SELECT ticket_id, next_fire_at FROM clocks WHERE {ASIDE} AND next_fire_at <= $1
        ORDER BY next_fire_at LIMIT 20)
    SELECT t.id FROM due d JOIN tickets t ON t.id = d.ticket_id
    ORDER BY d.next_fire_at LIMIT 1 FOR NO KEY UPDATE OF t SKIP LOCKED
"""  # noqa: S608


async def moment(tx: Tx, now_sql: str) -> Any:
    """The database's own clock as `database`, and the transaction's time as `now` (the same but in a sandbox)."""
    return await tx.row(f"SELECT clock_timestamp() AS database, {now_sql} AS now")


async def claim(tx: Tx, now: datetime, limit: int, database: datetime, window: timedelta | None) -> list[Any]:
    """Lock up to `limit` tickets with timers due, oldest first; none that is due more than `window` after the oldest.

    Each once, with its `id`, the `due_at` of its oldest timer, the `oldest` of all that are due, whoever holds it, and how
    much `later` than the reading `database` it was locked.
    """
    rows = await tx.rows(CLAIM, now, limit, limit * LOOK_AHEAD, database, window)
    return list({row["id"]: row for row in reversed(rows)}.values())[::-1]  # a ticket stands there for each timer


async def oldest_due(tx: Tx, now: datetime) -> Any:
    """The `ticket` of the oldest due timer, and whether a living pump has it `in_hand`; None when nothing is due."""
    return await tx.row(
        """SELECT c.ticket_id AS ticket, c.ticket_id IN (
             SELECT unnest(batch) FROM pump_runs WHERE heartbeat_at > clock_timestamp() - interval '15 seconds') AS in_hand
           FROM clocks c WHERE next_fire_at <= $1 AND attempts = 0 AND crashes = 0 ORDER BY next_fire_at LIMIT 1""",
        now,
    )


async def claim_suspect(tx: Tx, now: datetime) -> str | None:
    """Lock one ticket whose due timer failed before or was in hand when a worker died."""
    return await tx.value(SUSPECT, now)  # type: ignore[no-any-return]


async def due_tickets(tx: Tx, now: datetime, limit: int) -> tuple[list[str], bool]:
    """Tickets of the `limit` timers due first at or before `now`, earliest first; whether there may be more."""
    rows = await tx.rows(DUE, now, limit)
    return [row["ticket_id"] for row in rows], bool(rows) and rows[0]["timers"] >= limit


async def lock_free(tx: Tx, ticket_ids: list[str], *, wait: bool = False) -> list[str]:
    """Lock those of `ticket_ids` that nobody holds (all of them, waiting, with `wait`); in id order, no deadlock."""
    mode = "FOR NO KEY UPDATE" if wait else "FOR NO KEY UPDATE SKIP LOCKED"
    sql = f"SELECT id FROM tickets WHERE id = ANY($1::uuid[]) ORDER BY id {mode}"  # noqa: S608
    return [row["id"] for row in await tx.rows(sql, ticket_ids)]


async def next_fire_at(tx: Tx) -> datetime | None:
    return await tx.value("SELECT min(next_fire_at) FROM clocks WHERE next_fire_at IS NOT NULL")  # type: ignore[no-any-return]


BACKLOG = f"""
    SELECT due.*, aside.*, dead.* FROM
      (SELECT count(*) AS due, min(next_fire_at) AS oldest FROM clocks
       WHERE next_fire_at <= $1 AND attempts = 0 AND crashes = 0) due,
      (SELECT count(*) AS aside FROM clocks WHERE {ASIDE}) aside,
      (SELECT count(*) AS dead FROM clocks WHERE dead_at IS NOT NULL) dead
"""  # noqa: S608


async def backlog(tx: Tx, now: datetime) -> Any:
    """How many timers are `due` and since when (`oldest`), and how many are set `aside` or `dead`."""
    return await tx.row(BACKLOG, now)


async def set_aside(tx: Tx, ticket_id: str, now: datetime, error: str, dead_after: int) -> int:
    """A ticket whose timers cannot be fired: try later with growing pauses, at last give up (the due time stays)."""
    return int(
        await tx.value(
            """WITH failed AS (
                 UPDATE clocks SET attempts = attempts + 1, last_error = left($3, 500),
                   dead_at = CASE WHEN attempts + 1 >= $4 THEN $2::timestamptz END,
                   next_fire_at = CASE WHEN attempts + 1 >= $4 THEN NULL
                     ELSE $2::timestamptz + make_interval(secs => least(power(2, attempts + 1), 900)) END
                 WHERE ticket_id = $1 AND next_fire_at <= $2 RETURNING attempts)
               SELECT coalesce(max(attempts), 0) FROM failed""",
            ticket_id, now, error, dead_after,
        )
    )  # fmt: skip


STATES = {
    "due": ("next_fire_at", "next_fire_at <= $1 AND attempts = 0 AND crashes = 0"),
    "aside": ("next_fire_at", f"$1::timestamptz IS NOT NULL AND {ASIDE}"),
    "dead": ("dead_at", "$1::timestamptz IS NOT NULL AND dead_at IS NOT NULL"),
}
"""State of a timer -> the column it is listed by, and its condition."""


async def listed(tx: Tx, state: str, now: datetime, after: tuple[datetime, str] | None, limit: int) -> list[Any]:
    """Timers that are due, set aside or dead, the longest in that state first; `place` is what they are ordered by."""
    column, condition = STATES[state]
    at, last = after or (None, None)
    return await tx.rows(
        f"""SELECT c.id, c.ticket_id, t.number, c.name, c.cycle, c.department, c.state, c.due_at, c.next_fire_at,
                   c.attempts, c.crashes, c.last_error, c.dead_at, c.{column} AS place
            FROM clocks c JOIN tickets t ON t.id = c.ticket_id
            WHERE {condition} AND ($2::timestamptz IS NULL OR (c.{column}, c.id) > ($2, $3::uuid))
            ORDER BY c.{column}, c.id LIMIT $4""",  # noqa: S608
        now, at, last, limit,
    )  # fmt: skip


async def of_timer(tx: Tx, clock_id: str) -> Any:
    """The ticket of a clock and what stands against its timer; None when there is no such clock."""
    return await tx.row("SELECT ticket_id, attempts, crashes, last_error, dead_at FROM clocks WHERE id = $1", clock_id)


async def rearm(tx: Tx, clock_id: str, next_fire_at: datetime | None) -> None:
    """Nothing stands against the timer any more."""
    await tx.execute(
        """UPDATE clocks SET next_fire_at = $2, attempts = 0, crashes = 0, last_error = NULL, dead_at = NULL
           WHERE id = $1""",
        clock_id, next_fire_at,
    )  # fmt: skip


async def sandbox_offset(tx: Tx, offset_us: int) -> None:
    await tx.execute(
        """INSERT INTO sandbox_clock (id, offset_us) VALUES (1, $1)
           ON CONFLICT (id) DO UPDATE SET offset_us = excluded.offset_us""",
        offset_us,
    )


async def lock_sandbox(tx: Tx) -> int:
    """One mover of the test clock at a time; the offset as it is now."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtext('sandbox_clock'))")
    return int(await tx.value("SELECT coalesce((SELECT offset_us FROM sandbox_clock WHERE id = 1), 0)"))


async def latest_of(tx: Tx, ticket_ids: list[str], until: datetime) -> datetime:
    """The latest of the earliest due times of these tickets: up to there every due timer is among them."""
    return await tx.value(  # type: ignore[no-any-return]
        """SELECT max(first) FROM (SELECT min(next_fire_at) AS first FROM clocks
           WHERE ticket_id = ANY($1::uuid[]) AND next_fire_at <= $2 GROUP BY ticket_id) earliest""",
        ticket_ids, until,
    )  # fmt: skip
