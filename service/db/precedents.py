"""Precedents and their index; the proposals that they lead to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from service.db.session import Tx

INSERT = """
    INSERT INTO precedents (id, minutes_id, review_id, ticket_id, number, kind, matter, subject, asked, decision, text,
                            conditions, legal_grounds, departments, issued_on, valid_until)
    SELECT r.id, r.minutes_id, r.review_id, r.ticket_id, r.number, r.kind, r.matter, r.subject, r.asked, r.decision,
           r.text, r.conditions, r.legal_grounds, r.departments, r.issued_on, r.valid_until
    FROM jsonb_populate_recordset(NULL::precedents, $1) r
"""
SEARCH = """
    -- the rarer a pair of characters is among all precedents, the more it says (inverse document frequency); the rarest
    -- are looked up first and no more than some thousand entries are read, however long the question and the register are
    WITH size AS (SELECT greatest(count(*), 1)::float AS all_of_them FROM precedents),
    asked AS (
        SELECT g.gram, ln(1 + z.all_of_them / greatest(n.known, 1)) AS weight,
               sum(n.known) OVER (ORDER BY n.known, g.gram) - n.known AS read_before
        FROM unnest($1::text[]) g(gram) CROSS JOIN size z
        CROSS JOIN LATERAL (SELECT count(*) AS known FROM precedent_grams p WHERE p.gram = g.gram) n
    ),
    scored AS (
        SELECT p.precedent_id AS id, sum(a.weight) AS score
        FROM asked a JOIN precedent_grams p ON p.gram = a.gram WHERE a.read_before < 4000 GROUP BY p.precedent_id
    )
    SELECT p.*, s.score / (SELECT sum(weight) FROM asked) AS likeness
    FROM scored s JOIN precedents p ON p.id = s.id
    WHERE ($2::text IS NULL OR p.matter = $2) AND ($3::text IS NULL OR {grounds})
      AND ($4::text IS NULL OR (p.state = 'valid' AND (p.valid_until IS NULL OR p.valid_until >= $4)))
      AND ($5::text IS NULL OR p.decision = $5)
    ORDER BY s.score DESC, p.issued_on DESC, p.id DESC LIMIT $6 OFFSET $7
"""
LISTED = """
    SELECT p.*, NULL::float AS likeness FROM precedents p
    WHERE ($1::text IS NULL OR p.matter = $1) AND ($2::text IS NULL OR {grounds})
      AND ($3::text IS NULL OR (p.state = 'valid' AND (p.valid_until IS NULL OR p.valid_until >= $3)))
      AND ($4::text IS NULL OR p.decision = $4)
    ORDER BY p.issued_on DESC, p.id DESC LIMIT $5 OFFSET $6
"""
GROUNDS = "EXISTS (SELECT 1 FROM unnest(p.legal_grounds) g WHERE strpos(g, {asked}) > 0)"


async def insert(tx: Tx, rows: Sequence[Mapping[str, Any]], grams: Mapping[str, Sequence[str]]) -> None:
    """`grams`: precedent -> its pairs of characters."""
    await tx.execute(INSERT, list(rows))
    pairs = [(gram, precedent) for precedent, own in grams.items() for gram in own]
    await tx.execute(
        "INSERT INTO precedent_grams (gram, precedent_id) SELECT * FROM unnest($1::text[], $2::uuid[])",
        [gram for gram, _ in pairs], [precedent for _, precedent in pairs],
    )  # fmt: skip


async def supersede(tx: Tx, reviews: Sequence[str], minutes_id: str, reason: str) -> None:
    """What earlier documents said of these matters is no precedent any more."""
    await tx.execute(
        """UPDATE precedents SET state = 'superseded', reason = $3, changed_by = $4, changed_at = $5
           WHERE review_id = ANY($1::uuid[]) AND minutes_id <> $2 AND state = 'valid'""",
        list(reviews), minutes_id, reason, tx.actor.subject, tx.now,
    )  # fmt: skip


async def search(
    tx: Tx,
    grams: Sequence[str],
    *,
    matter: str | None,
    ground: str | None,
    valid_on: date | None,
    decision: str | None,
    limit: int,
    offset: int,
) -> list[Any]:
    """Precedents by likeness to the grams, the most alike first; without grams the newest first."""
    day = valid_on.isoformat() if valid_on else None
    if grams:
        sql = SEARCH.format(grounds=GROUNDS.format(asked="$3"))
        return await tx.rows(sql, list(grams), matter, ground, day, decision, limit, offset)
    sql = LISTED.format(grounds=GROUNDS.format(asked="$2"))
    return await tx.rows(sql, matter, ground, day, decision, limit, offset)


async def get(tx: Tx, precedent_id: str, *, lock: bool = False) -> Any:
    held = " FOR UPDATE" if lock else ""
    return await tx.row(f"SELECT p.*, NULL::float AS likeness FROM precedents p WHERE p.id = $1{held}", precedent_id)  # noqa: S608


async def change(tx: Tx, precedent_id: str, state: str, valid_until: str | None, reason: str) -> None:
    await tx.execute(
        """UPDATE precedents SET state = $2, valid_until = $3, reason = $4, changed_by = $5, changed_at = $6
           WHERE id = $1""",
        precedent_id, state, valid_until, reason, tx.actor.subject, tx.now,
    )  # fmt: skip


# --- proposals -------------------------------------------------------------------------------------------------------

PROPOSAL = """SELECT q.*, p.number AS precedent_number, p.subject FROM precedent_proposals q
              JOIN precedents p ON p.id = q.precedent_id"""


async def propose(tx: Tx, row: Mapping[str, Any]) -> None:
    await tx.execute(
        """INSERT INTO precedent_proposals (id, precedent_id, kind, target, text, proposed_by, proposed_at)
           VALUES ($1, $2, $3, $4, $5, $6, $7)""",
        row["id"], row["precedent_id"], row["kind"], row["target"], row["text"], tx.actor.subject, tx.now,
    )  # fmt: skip


async def proposals(tx: Tx, state: str | None, after: str | None, limit: int) -> list[Any]:
    """Newest first."""
    return await tx.rows(
        f"""{PROPOSAL} WHERE ($1::text IS NULL OR q.state = $1) AND ($2::uuid IS NULL OR q.id < $2)
            ORDER BY q.id DESC LIMIT $3""",
        state, after, limit,
    )  # fmt: skip


async def proposal(tx: Tx, proposal_id: str) -> Any:
    """One, held until the transaction ends."""
    return await tx.row(f"{PROPOSAL} WHERE q.id = $1 FOR UPDATE OF q", proposal_id)


async def decide(tx: Tx, proposal_id: str, state: str, reason: str) -> None:
    await tx.execute(
        """UPDATE precedent_proposals SET state = $2, decided_by = $3, decided_at = $4, decision_reason = $5
           WHERE id = $1""",
        proposal_id, state, tx.actor.subject, tx.now, reason,
    )  # fmt: skip
