"""Which pumps run and what each has in hand: the evidence of who died over what.

Times here are the database's own (`clock_timestamp()`), never a sandbox's. Losing one of these writes in a crash of the
server loses a suspicion, no effect; so they do not wait for the disk.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from service.db.session import Tx

STALE = timedelta(seconds=15)
DEAD_AFTER_CRASHES = 3


_LIGHTLY = "WITH lightly AS (SELECT set_config('synchronous_commit', 'off', true))"


async def register(tx: Tx, worker: str, held: str | None) -> None:
    await tx.execute(
        """INSERT INTO pump_runs (worker, started_at, heartbeat_at, held)
           VALUES ($1, clock_timestamp(), clock_timestamp(), $2)
           ON CONFLICT (worker) DO UPDATE SET heartbeat_at = excluded.heartbeat_at""",
        worker, held,
    )  # fmt: skip


async def beat(tx: Tx, worker: str, skew: timedelta) -> Any:
    """Still here. The row's `held` as it is now; None when somebody took the run for dead and removed it."""
    return await tx.row(
        f"""{_LIGHTLY} UPDATE pump_runs SET heartbeat_at = clock_timestamp(), skew_us = $2
            FROM lightly WHERE worker = $1 RETURNING held""",  # noqa: S608
        worker, skew // timedelta(microseconds=1),
    )  # fmt: skip


async def hold(tx: Tx, worker: str, ticket_ids: list[str]) -> None:
    """These tickets are in hand from now on, and no others."""
    sql = f"{_LIGHTLY} UPDATE pump_runs SET batch = $2::uuid[] FROM lightly WHERE worker = $1"  # noqa: S608
    await tx.execute(sql, worker, ticket_ids)


async def gate(tx: Tx, worker: str, held: str | None) -> None:
    await tx.execute("UPDATE pump_runs SET held = $2 WHERE worker = $1", worker, held)


async def release(tx: Tx) -> list[Any]:
    """Open every gate that is held: each pump sees it at its next look."""
    return await tx.rows(
        """WITH was AS (SELECT worker, held FROM pump_runs WHERE held IS NOT NULL FOR UPDATE)
           UPDATE pump_runs p SET held = NULL FROM was WHERE was.worker = p.worker RETURNING p.worker, was.held"""
    )


async def leave(tx: Tx, worker: str) -> None:
    await tx.execute("DELETE FROM pump_runs WHERE worker = $1", worker)


TAKE_OVER = """
    -- runs not heard of any more are removed by exactly one of us, and what they had in hand is marked. That a batch of
    -- many was in hand is no proof against any one ticket of it: it makes each a suspect, to be fired alone (1). Dying
    -- over one alone is proof, and counts
    WITH gone AS (
        DELETE FROM pump_runs WHERE worker IN (
            SELECT worker FROM pump_runs WHERE heartbeat_at < clock_timestamp() - $2::interval AND worker <> $1
            FOR UPDATE SKIP LOCKED)
        RETURNING worker, batch),
    named AS MATERIALIZED (
        SELECT ticket_id, bool_or(cardinality(batch) = 1) AS alone FROM gone, unnest(batch) AS ticket_id GROUP BY 1),
    locked AS MATERIALIZED (
        SELECT t.id, n.alone FROM named n JOIN tickets t ON t.id = n.ticket_id
        ORDER BY t.id FOR NO KEY UPDATE OF t SKIP LOCKED),
    counted AS MATERIALIZED (
        SELECT c.id, CASE WHEN l.alone THEN c.crashes + 1 ELSE greatest(c.crashes, 1) END AS crashes
        FROM clocks c JOIN locked l ON l.id = c.ticket_id WHERE c.next_fire_at <= $3),
    marked AS (
        UPDATE clocks c SET crashes = n.crashes,
            dead_at = CASE WHEN n.crashes >= $4 THEN $3::timestamptz END,
            next_fire_at = CASE WHEN n.crashes < $4 THEN c.next_fire_at END,
            last_error = CASE WHEN n.crashes >= $4 THEN 'workers died over it ' || n.crashes || ' times' ELSE c.last_error END
        FROM counted n WHERE n.id = c.id RETURNING c.dead_at)
    SELECT (SELECT array_agg(worker) FROM gone) AS workers, (SELECT count(*) FROM marked) AS suspects,
           (SELECT count(*) FROM marked WHERE dead_at IS NOT NULL) AS dead
"""


async def take_over(tx: Tx, worker: str) -> Any:
    """Remove runs whose heart stopped. `workers` (None: there were none), `suspects` and `dead` timers."""
    return await tx.row(TAKE_OVER, worker, STALE, tx.now, DEAD_AFTER_CRASHES)


async def seen(tx: Tx) -> list[Any]:
    """Every pump that is known, with the age of its last beat in seconds."""
    return await tx.rows(
        """SELECT worker, started_at, held, skew_us, cardinality(batch) AS in_hand,
                  extract(epoch FROM clock_timestamp() - heartbeat_at)::float8 AS age_seconds
           FROM pump_runs ORDER BY worker"""
    )
