"""Attachments: a row before the first byte, so that whatever was begun is known, and is cleared away if nobody ends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from service.db.session import Tx

_SHOWN = "id, ticket_id, name, media_type, size, sha256, audience, uploaded_by, department, created_at, stored_at"


async def begin(tx: Tx, row: Mapping[str, Any]) -> None:
    await tx.execute(
        """INSERT INTO attachments (id, ticket_id, name, media_type, size, audience, state, uploaded_by, department, created_at)
           VALUES ($1, $2, $3, $4, 0, $5, 'receiving', $6, $7, $8)""",
        row["id"], row["ticket_id"], row["name"], row["media_type"], row["audience"], tx.actor.subject,
        tx.actor.department, tx.now,
    )  # fmt: skip


async def count(tx: Tx, ticket_id: str) -> int:
    """All of a ticket's, whether or not the actor may see them."""
    return int(await tx.value("SELECT count(*) FROM attachments WHERE ticket_id = $1", ticket_id))


async def finish(tx: Tx, attachment_id: str, size: int, sha256: bytes) -> Any:
    """The row as it is shown; None if it was cleared away meanwhile."""
    return await tx.row(
        f"""UPDATE attachments SET state = 'stored', size = $2, sha256 = $3, stored_at = $4
            WHERE id = $1 AND state = 'receiving' RETURNING {_SHOWN}""",  # noqa: S608
        attachment_id, size, sha256, tx.now,
    )  # fmt: skip


async def of_ticket(tx: Tx, ticket_id: str) -> list[Any]:
    return await tx.rows(
        f"SELECT {_SHOWN} FROM attachments WHERE ticket_id = $1 AND state = 'stored' ORDER BY id",  # noqa: S608
        ticket_id,
    )


async def find(tx: Tx, attachment_id: str) -> Any:
    return await tx.row(
        f"SELECT {_SHOWN} FROM attachments WHERE id = $1 AND state = 'stored'",  # noqa: S608
        attachment_id,
    )


async def unfinished(tx: Tx, before: datetime, limit: int) -> list[str]:
    rows = await tx.rows(
        "SELECT id FROM attachments WHERE state = 'receiving' AND created_at < $1 ORDER BY created_at LIMIT $2",
        before, limit,
    )  # fmt: skip
    return [row["id"] for row in rows]


async def forget(tx: Tx, ids: Sequence[str]) -> list[str]:
    """Delete rows that were never finished; their ids. One that was finished meanwhile stays."""
    rows = await tx.rows(
        "DELETE FROM attachments WHERE id = ANY($1::uuid[]) AND state = 'receiving' RETURNING id", list(ids)
    )
    return [row["id"] for row in rows]
