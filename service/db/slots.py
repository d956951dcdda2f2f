"""Periodic work: inserting the slot is the claim, so that each is done once however many workers run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from service.db.session import Tx

KEEP = timedelta(days=35)


async def newest(tx: Tx, name: str) -> datetime | None:
    """The newest slot that was ever claimed."""
    return await tx.value("SELECT max(slot) FROM cron_slots WHERE name = $1", name)  # type: ignore[no-any-return]


async def abandoned(tx: Tx, name: str) -> list[datetime]:
    """Slots that were begun and whose worker is gone."""
    rows = await tx.rows(
        """SELECT slot FROM cron_slots s WHERE name = $1 AND finished_at IS NULL
             AND NOT EXISTS (SELECT 1 FROM pump_runs p WHERE p.worker = s.worker) ORDER BY slot""",
        name,
    )
    return [row["slot"] for row in rows]


CLAIM = """
    -- mine if nobody began it, or if who began it is gone without having finished
    INSERT INTO cron_slots AS s (name, slot, worker, started_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (name, slot) DO UPDATE SET worker = excluded.worker, started_at = excluded.started_at
    WHERE s.finished_at IS NULL AND NOT EXISTS (SELECT 1 FROM pump_runs p WHERE p.worker = s.worker)
    RETURNING true
"""


async def claim(tx: Tx, name: str, slot: datetime, worker: str) -> bool:
    return bool(await tx.value(CLAIM, name, slot, worker, tx.now))


async def finish(tx: Tx, name: str, slot: datetime, result: Mapping[str, Any]) -> None:
    """Done, with what came of it. Slots long past are forgotten."""
    await tx.execute(
        "UPDATE cron_slots SET finished_at = $3, result = $4 WHERE name = $1 AND slot = $2",
        name, slot, tx.now, dict(result),
    )  # fmt: skip
    await tx.execute("DELETE FROM cron_slots WHERE name = $1 AND slot < $2", name, slot - KEEP)


async def last_result(tx: Tx, name: str) -> Mapping[str, Any] | None:
    """What came of the newest slot that was finished; None before the first."""
    return await tx.value(  # type: ignore[no-any-return]
        "SELECT result FROM cron_slots WHERE name = $1 AND finished_at IS NOT NULL ORDER BY slot DESC LIMIT 1", name
    )
