"""The register of firms: found by credit code or by a name they have or had, with who belongs to whom."""

from __future__ import annotations

from typing import Any

from service.db.session import Tx

BY_NAME = """(SELECT array_agg(id::text) FROM (
       SELECT e.id FROM enterprises e WHERE e.name_key = {name}
       UNION SELECT n.enterprise_id FROM enterprise_names n WHERE n.name_key = {name} LIMIT 2) named)"""
"""Firms that have a name or had it; two are enough to know that the name tells nothing."""
FIND = f"""
    -- a firm by its key, and firms by a name and by a former name
    SELECT e.id, e.name, e.name_key, e.uscc, {BY_NAME.format(name="$2::text")} AS by_name,
           {BY_NAME.format(name="$3::text")} AS by_former
    FROM (SELECT 1) one LEFT JOIN enterprises e ON e.match_key = $1
"""  # noqa: S608
LIST = """
    -- firms that somebody asks for, with how many requests they made; of confidential ones nothing, unless one may know
    SELECT e.id, e.name, e.uscc, e.kind, e.district, e.industry, e.tier, e.parent_id, count(t.id) AS tickets,
           count(t.id) FILTER (WHERE t.phase <> 'closed') AS open_tickets
    FROM enterprises e
    LEFT JOIN tickets t ON t.enterprise_id = e.id AND ($4 OR NOT coalesce((t.content ->> 'confidential')::boolean, false))
    WHERE ($1::text IS NULL OR e.name_key LIKE '%' || $1 || '%' OR EXISTS (
             SELECT 1 FROM enterprise_names n WHERE n.enterprise_id = e.id AND n.name_key LIKE '%' || $1 || '%'))
      AND ($2::text IS NULL OR e.uscc = $2) AND ($3::uuid IS NULL OR e.id > $3)
      AND e.match_key NOT LIKE 'anonymous:%'
    GROUP BY e.id HAVING $4 OR count(t.id) > 0 OR NOT EXISTS (SELECT 1 FROM tickets x WHERE x.enterprise_id = e.id)
    ORDER BY e.id LIMIT $5
"""


async def find(tx: Tx, match_key: str, name_key: str, former_key: str | None) -> Any:
    return await tx.row(FIND, match_key, name_key, former_key)


async def get(tx: Tx, enterprise_id: str) -> Any:
    return await tx.row("SELECT * FROM enterprises WHERE id = $1 AND match_key NOT LIKE 'anonymous:%'", enterprise_id)


async def add(tx: Tx, row: dict[str, Any]) -> None:
    names = ", ".join(row)
    values = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await tx.execute(f"INSERT INTO enterprises ({names}) VALUES ({values})", *row.values())  # noqa: S608


async def adopt(tx: Tx, enterprise_id: str, match_key: str, code: str) -> None:
    """A firm that was known by its name only has its credit code now."""
    await tx.execute(
        """UPDATE enterprises SET uscc = $3, match_key = $2,
             kind = CASE WHEN kind = 'unregistered' THEN NULL ELSE kind END
           WHERE id = $1""",
        enterprise_id, match_key, code,
    )  # fmt: skip


async def rename(tx: Tx, enterprise_id: str, name: str, name_key: str) -> None:
    """The name that it had goes into the history, from when it got it until now."""
    await tx.execute(
        """INSERT INTO enterprise_names (enterprise_id, until, name, name_key, since)
           SELECT e.id, $2, e.name, coalesce(e.name_key, e.name),
                  coalesce((SELECT max(n.until) FROM enterprise_names n WHERE n.enterprise_id = e.id), e.created_at)
           FROM enterprises e WHERE e.id = $1 ON CONFLICT DO NOTHING""",
        enterprise_id, tx.now,
    )  # fmt: skip
    await tx.execute("UPDATE enterprises SET name = $2, name_key = $3 WHERE id = $1", enterprise_id, name, name_key)


async def place(tx: Tx, enterprise_id: str, kind: str | None, parent_id: str | None) -> None:
    """What sort of firm it is and whom it belongs to, as far as that was said."""
    await tx.execute(
        """UPDATE enterprises SET kind = coalesce($2, kind), parent_id = coalesce($3, parent_id)
           WHERE id = $1 AND id IS DISTINCT FROM $3""",
        enterprise_id, kind, parent_id,
    )  # fmt: skip


async def add_group(tx: Tx, ticket_id: str, firms: list[tuple[str, str]]) -> None:
    """Further firms of a ticket: (id, name as given)."""
    await tx.execute(
        """INSERT INTO ticket_enterprises (ticket_id, enterprise_id, name)
           SELECT $1, * FROM unnest($2::uuid[], $3::text[]) ON CONFLICT DO NOTHING""",
        ticket_id, [i for i, _ in firms], [n for _, n in firms],
    )  # fmt: skip


async def listed(
    tx: Tx, name_key: str | None, uscc: str | None, after: str | None, confidential: bool, limit: int
) -> list[Any]:
    return await tx.rows(LIST, name_key, uscc, after, confidential, limit)


async def names_of(tx: Tx, enterprise_id: str) -> list[Any]:
    """The names it had, oldest first."""
    return await tx.rows(
        "SELECT name, since, until FROM enterprise_names WHERE enterprise_id = $1 ORDER BY until", enterprise_id
    )


async def relatives(tx: Tx, enterprise_id: str) -> list[Any]:
    """Parent first, then branches and subsidiaries: id, name, kind, `is` parent or child."""
    return await tx.rows(
        """SELECT p.id, p.name, p.kind, 'parent' AS is FROM enterprises e JOIN enterprises p ON p.id = e.parent_id
           WHERE e.id = $1
           UNION ALL
           (SELECT c.id, c.name, c.kind, 'child' FROM enterprises c WHERE c.parent_id = $1 ORDER BY c.id LIMIT 200)""",
        enterprise_id,
    )


async def tickets_of(tx: Tx, enterprise_id: str, confidential: bool, limit: int) -> list[Any]:
    """Its own and those of groups it is in, newest first: id, number, title, stage, phase, matter, created_at, as."""
    return await tx.rows(
        """SELECT t.id, t.number, t.title, t.stage, t.phase, t.domain, t.matter, t.outcome, t.created_at,
                  t.enterprise_id = $1 AS own
           FROM tickets t
           WHERE (t.enterprise_id = $1 OR t.id IN (SELECT g.ticket_id FROM ticket_enterprises g WHERE g.enterprise_id = $1))
             AND ($2 OR NOT coalesce((t.content ->> 'confidential')::boolean, false))
           ORDER BY t.id DESC LIMIT $3""",
        enterprise_id, confidential, limit,
    )  # fmt: skip
