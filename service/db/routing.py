"""How first dispatches turned out, and the proposals for the catalogue that rulings lead to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from service.db.session import Tx

ACCURACY = (Path(__file__).parent / "sql" / "routing_accuracy.sql").read_text(encoding="utf-8")
PROPOSAL = "SELECT p.*, t.number FROM routing_proposals p JOIN tickets t ON t.id = p.ticket_id"


async def accuracy(tx: Tx, start: datetime, end: datetime, as_of: datetime, zone: str) -> list[Any]:
    """Week, rule, unit (None: the dispatcher), tickets, returned, wrong."""
    return await tx.rows(ACCURACY, start, end, as_of, zone)


async def ruling(tx: Tx, ticket_id: str) -> Any:
    """Where the ticket went first, who leads now, its words, and whether a return was approved."""
    return await tx.row(
        """SELECT t.id, t.number, t.title, t.description, t.domain, t.matter, t.district, t.urgency, t.lead,
                  t.facts -> 'routing' AS routing,
                  EXISTS (SELECT 1 FROM approvals a
                          WHERE a.ticket_id = t.id AND a.kind = 'return' AND a.state = 'approved') AS returned,
                  EXISTS (SELECT 1 FROM routing_proposals p
                          WHERE p.ticket_id = t.id AND p.state = 'open') AS proposed
           FROM tickets t WHERE t.id = $1""",
        ticket_id,
    )


async def insert(tx: Tx, row: Mapping[str, Any]) -> None:
    await tx.execute(
        """INSERT INTO routing_proposals (id, ticket_id, state, routed_by, routed_version, was_lead, lead, matter, words,
                                          reason, proposed_by, proposed_at)
           SELECT r.id, r.ticket_id, r.state, r.routed_by, r.routed_version, r.was_lead, r.lead, r.matter, r.words,
                  r.reason, r.proposed_by, $2
           FROM jsonb_populate_record(NULL::routing_proposals, $1) r""",
        row, tx.now,
    )  # fmt: skip


async def listed(tx: Tx, state: str | None, after: str | None, limit: int) -> list[Any]:
    """Proposals, newest first."""
    return await tx.rows(
        f"""{PROPOSAL} WHERE ($1::text IS NULL OR p.state = $1) AND ($2::uuid IS NULL OR p.id < $2)
            ORDER BY p.id DESC LIMIT $3""",
        state, after, limit,
    )  # fmt: skip


async def locked(tx: Tx, proposal_id: str) -> Any:
    """One proposal, held until the transaction ends; None when there is none."""
    return await tx.row(f"{PROPOSAL} WHERE p.id = $1 FOR UPDATE OF p", proposal_id)


async def decide(tx: Tx, proposal_id: str, state: str, by: str, reason: str, version: int | None) -> None:
    await tx.execute(
        """UPDATE routing_proposals SET state = $2, decided_by = $3, decided_at = $4, decision_reason = $5,
             published_version = $6 WHERE id = $1""",
        proposal_id, state, by, tx.now, reason, version,
    )  # fmt: skip
