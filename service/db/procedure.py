"""Rows beside a ticket that its procedure leaves: acts of supervision, exemptions, and deputies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from service.core.model import Exemption
from service.core.supervision import Supervision
from service.db.session import Tx
from service.db.tickets import not_recused

TABLES: Mapping[type[Any], str] = {Exemption: "exemptions", Supervision: "supervisions"}


async def put(tx: Tx, row: Exemption | Supervision) -> None:
    """Add or replace by id."""
    names = [f.name for f in fields(row)]
    places = ", ".join(f"${n}" for n in range(1, len(names) + 1))
    changes = ", ".join(f"{name} = excluded.{name}" for name in names if name not in {"id", "ticket_id"})
    sql = f"""INSERT INTO {TABLES[type(row)]} ({", ".join(names)}) VALUES ({places})
              ON CONFLICT (id) DO UPDATE SET {changes}"""  # noqa: S608
    await tx.execute(sql, *(getattr(row, name) for name in names))


async def get(tx: Tx, kind: type[Any], row_id: str) -> Any:
    """One row as its value, None when it is absent or not visible."""
    row = await tx.row(f"SELECT * FROM {TABLES[kind]} WHERE id = $1", row_id)  # noqa: S608
    return None if row is None else _value(kind, row)


async def of_ticket(tx: Tx, kind: type[Any], ticket_id: str) -> list[Any]:
    """A ticket's rows, oldest first."""
    rows = await tx.rows(f"SELECT * FROM {TABLES[kind]} WHERE ticket_id = $1 ORDER BY id", ticket_id)  # noqa: S608
    return [_value(kind, row) for row in rows]


async def listed(
    tx: Tx, kind: type[Any], filters: Mapping[str, str | None], after: tuple[datetime, str] | None, limit: int
) -> list[tuple[Any, str]]:
    """Rows with their ticket's number, newest first. `filters`: column -> value (None: any)."""
    at = {Exemption: "requested_at", Supervision: "issued_at"}[kind]
    assert set(filters) <= {f.name for f in fields(kind)}, "columns of the value"
    wanted = "".join(f" AND (${n}::text IS NULL OR r.{name} = ${n})" for n, name in enumerate(filters, 4))
    since, last = after or (None, None)
    sql = f"""SELECT r.*, t.number AS ticket_number FROM {TABLES[kind]} r JOIN tickets t ON t.id = r.ticket_id
              WHERE ($1::timestamptz IS NULL OR (r.{at}, r.id) < ($1, $2::uuid)) AND {not_recused("t")} {wanted}
              ORDER BY r.{at} DESC, r.id DESC LIMIT $3"""  # noqa: S608
    rows = await tx.rows(sql, since, last, limit, *filters.values())
    return [(_value(kind, row), row["ticket_number"]) for row in rows]


def _value(kind: type[Any], row: Mapping[str, Any]) -> Any:
    return kind(**{f.name: row[f.name] for f in fields(kind)})


# --- the weekly sweep --------------------------------------------------------------------------------------------------


async def swept(tx: Tx, since: datetime) -> list[str]:
    """Open tickets in their third round or later that no sweep has put under supervision since."""
    rows = await tx.rows(
        """SELECT t.id FROM tickets t WHERE t.phase <> 'closed' AND t.round >= 3 AND t.id NOT IN (
             SELECT s.ticket_id FROM supervisions s WHERE s.kind = 'sweep' AND s.issued_at >= $1)
           ORDER BY t.id""",
        since,
    )
    return [row["id"] for row in rows]


# --- deputies ------------------------------------------------------------------------------------------------------------

DELEGATION = (
    "id", "delegator", "deputy", "role", "departments", "starts_at", "ends_at", "reason", "made_by", "made_at", "revoked_by",
    "revoked_at",
)  # fmt: skip


async def delegate(tx: Tx, row: Mapping[str, Any]) -> None:
    names = [name for name in DELEGATION if name in row]
    places = ", ".join(f"${n}" for n in range(1, len(names) + 1))
    await tx.execute(
        f"INSERT INTO delegations ({', '.join(names)}) VALUES ({places})",  # noqa: S608
        *(row[name] for name in names),
    )


async def delegation(tx: Tx, row_id: str) -> Any:
    return await tx.row("SELECT * FROM delegations WHERE id = $1 FOR UPDATE", row_id)


async def end_delegation(tx: Tx, row_id: str) -> None:
    await tx.execute(
        "UPDATE delegations SET revoked_by = $2, revoked_at = $3 WHERE id = $1", row_id, tx.actor.subject, tx.now
    )


async def in_force(tx: Tx, delegator: str, deputy: str) -> Any:
    """The delegation by which the deputy acts for the delegator now, if any."""
    return await tx.row(
        """SELECT * FROM delegations WHERE delegator = $1 AND deputy = $2 AND starts_at <= $3 AND ends_at > $3
             AND revoked_at IS NULL ORDER BY ends_at DESC, id LIMIT 1""",
        delegator, deputy, tx.now,
    )  # fmt: skip


async def delegations(tx: Tx, party: str | None, active: bool | None, after: str | None, limit: int) -> Sequence[Any]:
    """Newest first; `party`: delegator or deputy (None: everybody's)."""
    return await tx.rows(
        """SELECT * FROM delegations d
           WHERE ($1::text IS NULL OR $1 IN (d.delegator, d.deputy))
             AND ($2::boolean IS NULL OR (d.starts_at <= $3 AND d.ends_at > $3 AND d.revoked_at IS NULL) = $2)
             AND ($4::uuid IS NULL OR d.id < $4)
           ORDER BY d.id DESC LIMIT $5""",
        party, active, tx.now, after, limit,
    )  # fmt: skip
