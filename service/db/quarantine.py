"""Codes of the hotline that are not ours: which tickets wait for what they mean, and what they were found to mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.db.session import Tx


async def enter(tx: Tx, ticket_id: str, system: str, codes: Mapping[str, str]) -> None:
    """`codes`: field (matter, district) -> the code as it came."""
    for field, code in codes.items():
        await tx.execute(
            """INSERT INTO quarantine (ticket_id, field, source_system, code, since) VALUES ($1, $2, $3, $4, $5)
               ON CONFLICT (ticket_id, field) DO UPDATE SET code = excluded.code, state = 'open', since = excluded.since""",
            ticket_id, field, system, code, tx.now,
        )  # fmt: skip


async def listed(tx: Tx, state: str, after: str | None, limit: int) -> list[Any]:
    """Tickets with such a code, oldest first; one that was closed meanwhile needs nobody any more."""
    return await tx.rows(
        """SELECT q.ticket_id, t.number, q.field, q.source_system, q.code, q.state, q.since, q.fixed_at, q.fixed_by,
                  q.means, t.phase, t.stage, t.lead, t.next_due_at AS due_at,
                  t.facts -> 'routing' ->> 'suggested' AS suggested_lead
           FROM quarantine q JOIN tickets t ON t.id = q.ticket_id
           WHERE q.state = $1 AND (q.state = 'fixed' OR t.phase <> 'closed')
             AND ($2::uuid IS NULL OR q.ticket_id > $2)
           ORDER BY q.ticket_id, q.field LIMIT $3""",
        state, after, limit,
    )  # fmt: skip


async def of(tx: Tx, ticket_id: str) -> list[Any]:
    """Open entries of one ticket: field, source_system, code."""
    return await tx.rows(
        "SELECT field, source_system, code FROM quarantine WHERE ticket_id = $1 AND state = 'open'", ticket_id
    )


async def alike(tx: Tx, system: str, field: str, code: str) -> list[str]:
    """Other tickets that wait for the meaning of the same code."""
    rows = await tx.rows(
        """SELECT q.ticket_id FROM quarantine q JOIN tickets t ON t.id = q.ticket_id
           WHERE q.state = 'open' AND q.source_system = $1 AND q.field = $2 AND q.code = $3 AND t.phase <> 'closed'
           ORDER BY q.ticket_id LIMIT 1000""",
        system, field, code,
    )  # fmt: skip
    return [r["ticket_id"] for r in rows]


async def fixed(tx: Tx, ticket_id: str, field: str, means: str) -> None:
    await tx.execute(
        """UPDATE quarantine SET state = 'fixed', fixed_at = $4, fixed_by = $5, means = $3
           WHERE ticket_id = $1 AND field = $2 AND state = 'open'""",
        ticket_id, field, means, tx.now, tx.actor.subject,
    )  # fmt: skip


async def remember(tx: Tx, system: str, field: str, code: str, means: str) -> None:
    """From now on this code of this source is known to mean that."""
    await tx.execute(
        """INSERT INTO code_mappings (source_system, field, code, means, by, at) VALUES ($1, $2, $3, $4, $5, $6)
           ON CONFLICT (source_system, field, code) DO UPDATE SET means = excluded.means, by = excluded.by, at = excluded.at""",
        system, field, code, means, tx.actor.subject, tx.now,
    )  # fmt: skip


async def mappings(tx: Tx) -> dict[tuple[str, str, str], str]:
    """(source system, field, code) -> our code."""
    rows = await tx.rows("SELECT source_system, field, code, means FROM code_mappings")
    return {(r["source_system"], r["field"], r["code"]): r["means"] for r in rows}
