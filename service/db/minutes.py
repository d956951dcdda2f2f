"""Minutes and their versions, numbers without gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from service.db.session import Tx

COLUMNS = """m.id, m.meeting_id, m.state, m.corrects, m.series, m.year, m.serial, m.number, m.departments, m.version,
             m.sha256, m.created_at, m.updated_at, m.signed_at, m.issued_at"""


async def of_meeting(tx: Tx, meeting_id: str) -> list[Any]:
    """Every document about a meeting that the actor may see, oldest first."""
    return await tx.rows(
        f"SELECT {COLUMNS} FROM minutes m WHERE m.meeting_id = $1 ORDER BY m.created_at, m.id",  # noqa: S608
        meeting_id,
    )


async def versions(tx: Tx, minutes_id: str) -> list[Any]:
    """What each step wrote, oldest first."""
    return await tx.rows(
        """SELECT minutes_id, version, step, body, by, at, prev, sha256 FROM minutes_versions
           WHERE minutes_id = $1 ORDER BY version""",
        minutes_id,
    )


async def insert(tx: Tx, row: Mapping[str, Any]) -> None:
    await tx.execute(
        """INSERT INTO minutes (id, meeting_id, state, corrects, series, departments, version, sha256, created_at,
                                updated_at)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)""",
        row["id"], row["meeting_id"], row["state"], row["corrects"], row["series"], row["departments"],
        row["version"], row["sha256"], tx.now,
    )  # fmt: skip


async def advance(tx: Tx, row: Mapping[str, Any]) -> None:
    """The document after a further step."""
    await tx.execute(
        """UPDATE minutes SET state = $2::text, departments = $3, version = $4, sha256 = $5, updated_at = $6,
             signed_at = coalesce(signed_at, CASE WHEN $2 = 'signed' THEN $6::timestamptz END), year = $7, serial = $8,
             number = $9, issued_at = CASE WHEN $2 = 'issued' THEN $6::timestamptz END
           WHERE id = $1""",
        row["id"], row["state"], row["departments"], row["version"], row["sha256"], tx.now, row["year"],
        row["serial"], row["number"],
    )  # fmt: skip


async def insert_version(tx: Tx, row: Mapping[str, Any]) -> None:
    await tx.execute(
        """INSERT INTO minutes_versions (minutes_id, version, step, body, by, at, prev, sha256)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8)""",
        row["minutes_id"], row["version"], row["step"], row["body"], row["by"], row["at"], row["prev"],
        row["sha256"],
    )  # fmt: skip


async def next_number(tx: Tx, series: str, year: int) -> tuple[int, str]:
    """The next serial of a series and the hash of the document before it; held until the transaction ends.

    Whoever asks at the same time waits: a number that is given back by a rollback is given again.
    """
    row = await tx.row(
        """INSERT INTO minutes_series AS s (series, year, last) VALUES ($1, $2, 1)
           ON CONFLICT (series, year) DO UPDATE SET last = s.last + 1 RETURNING last, sha256""",
        series, year,
    )  # fmt: skip
    return row["last"], row["sha256"]


async def remember_number(tx: Tx, series: str, year: int, sha256: str) -> None:
    await tx.execute("UPDATE minutes_series SET sha256 = $3 WHERE series = $1 AND year = $2", series, year, sha256)


# --- for the check ---------------------------------------------------------------------------------------------------


async def page(tx: Tx, after: str, limit: int) -> list[Any]:
    """Documents in the order of their ids."""
    return await tx.rows(
        f"SELECT {COLUMNS} FROM minutes m WHERE m.id > $1 ORDER BY m.id LIMIT $2",  # noqa: S608
        after, limit,
    )  # fmt: skip


async def versions_of(tx: Tx, ids: Sequence[str]) -> list[Any]:
    return await tx.rows(
        """SELECT minutes_id, version, step, body, by, at, prev, sha256 FROM minutes_versions
           WHERE minutes_id = ANY($1::uuid[]) ORDER BY minutes_id, version""",
        list(ids),
    )


async def series(tx: Tx) -> list[Any]:
    """What was issued, by series and year in the order of the serials, with the hash that each says it follows.

    A last row of each series has `serial` NULL and holds what the counter says.
    """
    return await tx.rows(
        """SELECT m.series, m.year, m.serial, m.number, m.sha256, v.body ->> 'follows' AS follows
           FROM minutes m JOIN minutes_versions v ON v.minutes_id = m.id AND v.version = m.version
           WHERE m.state = 'issued'
           UNION ALL SELECT series, year, NULL, last::text, sha256, NULL FROM minutes_series
           ORDER BY 1, 2, 3 NULLS LAST"""
    )


async def due_at(tx: Tx, meeting_id: str) -> datetime | None:
    """Until when the minutes are to be issued: the first due of the matters that the meeting decided, by their clocks."""
    return await tx.value(  # type: ignore[no-any-return]
        """SELECT min(c.due_at) FROM agenda_items i
           JOIN clocks c ON c.ticket_id = i.ticket_id AND c.subject_id = i.review_id AND c.name = 'review_minutes'
           WHERE i.meeting_id = $1 AND i.state = 'decided'""",
        meeting_id,
    )


async def told(tx: Tx) -> list[Any]:
    """Issued documents with each matter that they decided: the hash in the ticket's history, and the one that is stored."""
    return await tx.rows(
        """SELECT m.number, e.data ->> 'sha256' AS told, m.sha256
           FROM minutes m JOIN agenda_items i ON i.meeting_id = m.meeting_id AND i.state = 'decided'
           LEFT JOIN events e ON e.ticket_id = i.ticket_id AND e.data ->> 'document' = m.id::text
                             AND e.type IN ('review.minutes_issued', 'review.minutes_corrected')
           WHERE m.state = 'issued'"""
    )
