"""Units over time: what became of them, and who is on duty when their offices are closed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from service.db.session import Tx


async def changes(tx: Tx) -> list[Any]:
    """Every change, oldest first: code, kind, successor, title."""
    return await tx.rows("SELECT code, kind, successor, title FROM department_changes ORDER BY at, id")


async def lock(tx: Tx) -> None:
    """One change at a time, until the transaction ends."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtext('jieban.units'))")


async def add_change(tx: Tx, row: dict[str, Any]) -> None:
    names = ", ".join(f'"{n}"' for n in row)
    values = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await tx.execute(f"INSERT INTO department_changes ({names}) VALUES ({values})", *row.values())  # noqa: S608


async def changes_of(tx: Tx, code: str) -> list[Any]:
    """The changes of one unit with their progress, newest first."""
    return await tx.rows("SELECT * FROM department_changes WHERE code = $1 ORDER BY at DESC, id DESC", code)


async def running(tx: Tx) -> Any:
    """The oldest change whose tickets are still on their way; None: there is none."""
    return await tx.row("SELECT * FROM department_changes WHERE state = 'running' ORDER BY at, id LIMIT 1")


OPEN = """
    SELECT t.id FROM tickets t
    WHERE t.phase <> 'closed' AND NOT (t.id = ANY($2::uuid[])) AND (
      t.lead = $1
      OR t.id IN (SELECT a.ticket_id FROM assignments a WHERE a.department = $1 AND a.ended_at IS NULL)
      OR t.id IN (SELECT m.ticket_id FROM measures m WHERE m.department = $1 AND m.state NOT IN ('struck_off', 'waived'))
      OR t.id IN (SELECT o.ticket_id FROM opinions o JOIN reviews r ON r.id = o.review_id
                  WHERE o.department = $1 AND o.given_at IS NULL AND r.state IN ('proposed', 'preparing', 'decided')))
"""
"""Open tickets that a unit still has a part in."""


async def open_of(tx: Tx, code: str, without: list[str], limit: int) -> list[str]:
    return [r["id"] for r in await tx.rows(f"{OPEN} ORDER BY t.id LIMIT $3", code, without, limit)]


async def count_open(tx: Tx, code: str) -> int:
    return int(await tx.value(f"SELECT count(*) FROM ({OPEN}) o", code, []))  # noqa: S608


async def progress(tx: Tx, change_id: str, done: int, failed: dict[str, str]) -> None:
    await tx.execute(
        "UPDATE department_changes SET done = done + $2, failed = failed || $3 WHERE id = $1", change_id, done, failed
    )


async def finish(tx: Tx, change_id: str) -> None:
    await tx.execute("UPDATE department_changes SET state = 'done', finished_at = $2 WHERE id = $1", change_id, tx.now)


async def retire(tx: Tx, code: str, active: bool, title: dict[str, Any] | None) -> None:
    """The table of units as reports join it."""
    await tx.execute(
        "UPDATE departments SET active = $2, title = coalesce($3, title) WHERE code = $1", code, active, title
    )


# --- duty rosters ------------------------------------------------------------------------------------------------------


async def add_duty(tx: Tx, row: dict[str, Any]) -> None:
    names = ", ".join(row)
    values = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await tx.execute(f"INSERT INTO duties ({names}) VALUES ({values})", *row.values())  # noqa: S608


async def duties(
    tx: Tx, department: str | None, start: datetime | None, end: datetime | None, after: str | None, limit: int
) -> list[Any]:
    """Duties that touch a span, by id."""
    return await tx.rows(
        """SELECT * FROM duties WHERE ($1::text IS NULL OR department = $1) AND ($2::timestamptz IS NULL OR until > $2)
             AND ($3::timestamptz IS NULL OR since < $3) AND ($4::uuid IS NULL OR id > $4)
           ORDER BY id LIMIT $5""",
        department, start, end, after, limit,
    )  # fmt: skip


async def duty(tx: Tx, duty_id: str) -> Any:
    return await tx.row("SELECT * FROM duties WHERE id = $1", duty_id)


async def remove_duty(tx: Tx, duty_id: str) -> bool:
    return bool(await tx.value("DELETE FROM duties WHERE id = $1 RETURNING true", duty_id))


async def on_duty(tx: Tx, departments: list[str], at: datetime) -> list[Any]:
    """Who is on duty for these units at an instant: subject, department. For a unit without anybody: the city's."""
    return await tx.rows(
        """WITH on_duty AS (SELECT department, subject FROM duties
                            WHERE department = ANY($1::text[] || '{city}') AND since <= $2 AND until > $2)
           SELECT department, subject FROM on_duty WHERE department <> 'city'
           UNION
           SELECT department, subject FROM on_duty WHERE department = 'city' AND (
             cardinality($1::text[]) = 0 OR EXISTS (SELECT 1 FROM unnest($1::text[]) u
                                                    WHERE u NOT IN (SELECT department FROM on_duty)))
           ORDER BY 1, 2""",
        departments, at,
    )  # fmt: skip


async def notify(tx: Tx, new_ids: list[str], ticket_id: str, recipients: list[str], kind: str) -> None:
    await tx.execute(
        """INSERT INTO notices (id, ticket_id, recipient, kind, created_at)
           SELECT i, $2, r, $4, $5 FROM unnest($1::uuid[], $3::text[]) n(i, r)""",
        new_ids, ticket_id, recipients, kind, tx.now,
    )  # fmt: skip


async def in_hand(tx: Tx, subject: str, department: str | None, limit: int) -> list[str]:
    """Open tickets that are assigned to one person."""
    rows = await tx.rows(
        """SELECT DISTINCT a.ticket_id FROM assignments a JOIN tickets t ON t.id = a.ticket_id
           WHERE a.assignee = $1 AND a.ended_at IS NULL AND t.phase <> 'closed'
             AND ($2::text IS NULL OR a.department = $2) ORDER BY 1 LIMIT $3""",
        subject, department, limit,
    )  # fmt: skip
    return [row["ticket_id"] for row in rows]
