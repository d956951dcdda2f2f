"""Versions of what a source said of a ticket, and what the hotline reconciles a day by."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from service.db.session import Tx


async def versions(tx: Tx, ticket_id: str) -> list[Any]:
    """Every version that came after the first post, by its sequence number, without its content."""
    return await tx.rows(
        """SELECT sequence, content_sha256, applied, why_not, reason, by, received_at FROM source_versions
           WHERE ticket_id = $1 ORDER BY sequence""",
        ticket_id,
    )


async def add(tx: Tx, row: Mapping[str, Any]) -> None:
    names = ", ".join(row)
    values = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await tx.execute(f"INSERT INTO source_versions ({names}) VALUES ({values})", *row.values())  # noqa: S608


async def rewrite(tx: Tx, ticket_id: str, columns: Mapping[str, Any]) -> None:
    """What intake wrote of a ticket, as it should read now. The ticket's row is locked by the caller."""
    sets = ", ".join(f"{name} = ${n}" for n, name in enumerate(columns, 2))
    await tx.execute(f"UPDATE tickets SET {sets} WHERE id = $1", ticket_id, *columns.values())  # noqa: S608


DAY = """
    -- what a source posted of one day, by its references; parts of a call were split off here and are not its own
    SELECT t.id, t.source_reference, t.number, t.stage, t.phase, t.outcome, t.received_at, t.merged_into,
           e.type AS last_type, e.seq AS last_seq, e.recorded_at AS last_at
    FROM tickets t
    LEFT JOIN events e ON e.ticket_id = t.id AND e.seq = t.last_seq
    WHERE t.source_system = $1 AND t.received_at >= $2 AND t.received_at < $3 AND t.split_from IS NULL
      AND ($4::text IS NULL OR t.source_reference COLLATE "C" > $4)
    ORDER BY t.source_reference COLLATE "C" LIMIT $5
"""


async def day(tx: Tx, system: str, start: datetime, end: datetime, after: str | None, limit: int) -> list[Any]:
    return await tx.rows(DAY, system, start, end, after, limit)


async def digest(tx: Tx, system: str, start: datetime, end: datetime) -> Any:
    """`count` of the references of a day, and `digest`: SHA-256 in hex of them, sorted by bytes, each with a newline."""
    return await tx.row(
        """SELECT count(*) AS count,
                  encode(sha256(convert_to(coalesce(string_agg(source_reference || E'\\n', ''
                         ORDER BY source_reference COLLATE "C"), ''), 'UTF8')), 'hex') AS digest
           FROM tickets WHERE source_system = $1 AND received_at >= $2 AND received_at < $3 AND split_from IS NULL""",
        system, start, end,
    )  # fmt: skip
