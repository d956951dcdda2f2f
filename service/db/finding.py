"""Queue and search, under row-level security and fast at a million tickets: every statement's cost is bounded.

A search that finds few tickets gets all of them from the index of terms, through a function that PostgreSQL may use the
index in (see migration 0010). One that finds many is met by walking the list in its own order, where the next page is
near. A queue is read from the open legs of its departments, or from the index of due times where these are too many.
Statements are made of the filters that are given, so that the planner sees what is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from service.core.queue import Filter
from service.core.words import Wanted
from service.db.session import Tx

MOST_FOUND = 3_000
"""So many tickets are taken from the index of terms; of a search that finds more, some stand on every page."""
STEPS = 20_000
"""So many tickets are looked at by one walk."""
MOST_LEGS = 3_000
LAST = "ffffffff-ffff-ffff-ffff-ffffffffffff"
_DUE = "coalesce(t.next_due_at, 'infinity'::timestamptz)"
_SAYS = (
    "EXISTS (SELECT 1 FROM ticket_texts x WHERE x.ticket_id = t.id AND x.terms @> {terms}::int4[]"
    " AND NOT EXISTS (SELECT 1 FROM unnest({words}::text[]) w WHERE strpos(x.folded, w) = 0))"
)


class _Args:
    """Parameters of a statement, by their places."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def __call__(self, value: Any) -> str:
        self.values.append(value)
        return f"${len(self.values)}"


async def plan_afresh(tx: Tx) -> None:
    """Each statement of this transaction is planned for its own parameters: a common word is no rare one."""
    await tx.execute("SET LOCAL plan_cache_mode = force_custom_plan")


async def found(tx: Tx, wanted: Wanted, most: int = MOST_FOUND) -> list[str] | None:
    """Ids of what the actor may see of all that matches, in no order; None where it is more than `most`."""
    if not wanted.terms:
        return None
    rows = await tx.rows(
        "SELECT jieban_found($1, $2, $3) AS id", list(wanted.terms), list(wanted.words), most + 1
    )  # fmt: skip
    return [row["id"] for row in rows] if len(rows) <= most else None


# --- the queue -----------------------------------------------------------------------------------------------------------


async def queue(
    tx: Tx, departments: Sequence[str] | None, f: Filter, wanted: Wanted | None,
    after: tuple[datetime, str] | None, limit: int,
) -> list[Any]:  # fmt: skip
    """Open tickets of these departments (None: all), nearest due first; one without a due time comes last."""
    ids = await found(tx, wanted) if wanted else None
    args = _Args()
    source, where = await _open(tx, departments, f, ids, args)
    where += _narrowed(f, args)
    if wanted and ids is None:
        where.append(_SAYS.format(terms=args(list(wanted.terms)), words=args(list(wanted.words))))
    if after is not None:
        where.append(f"({_DUE}, t.id) > ({args(after[0])}::timestamptz, {args(after[1])}::uuid)")
    return await tx.rows(
        f"""SELECT t.id, t.number, t.title, t.stage, t.phase, t.domain, t.matter, t.urgency, t.district, t.lead, t.round,
                   t.next_due_at, t.received_at, t.version, t.workflow_key, t.workflow_version, t.facts -> 'cards' AS cards,
                   t.content -> 'enterprise' ->> 'name' AS enterprise
            FROM {source} WHERE {" AND ".join(where)} ORDER BY {_DUE}, t.id LIMIT {args(limit)}""",  # noqa: S608
        *args.values,
    )


LEGS = """
    SELECT ticket_id, department, role, assignee FROM assignments WHERE ticket_id = ANY($1::uuid[]) AND ended_at IS NULL
"""


async def open_legs(tx: Tx, ids: Sequence[str]) -> dict[str, list[Any]]:
    """The open legs of these tickets."""
    legs: dict[str, list[Any]] = {}
    for row in await tx.rows(LEGS, list(ids)):
        legs.setdefault(row["ticket_id"], []).append(row)
    return legs


async def _open(
    tx: Tx, departments: Sequence[str] | None, f: Filter, ids: list[str] | None, args: _Args
) -> tuple[str, list[str]]:
    """Where open tickets are read from, and what must hold of them."""
    where = ["t.phase <> 'closed'"]
    own = ["a.ended_at IS NULL"]
    if departments is not None:
        own.append(f"a.department = ANY({args(list(departments))}::text[])")
    if f.assignee is not None:
        own.append(f"a.assignee = {args(f.assignee)}")
    legs = f"SELECT a.ticket_id FROM assignments a WHERE {' AND '.join(own)}"  # noqa: S608
    if ids is not None:
        where.append(f"t.id = ANY({args(ids)}::uuid[])")
    elif f.assignee is not None or (departments is not None and await _few(tx, departments)):
        # materialized: the legs are few, and under a policy the planner cannot know it
        return f"(SELECT DISTINCT ticket_id FROM ({legs}) l OFFSET 0) l JOIN tickets t ON t.id = l.ticket_id", where  # noqa: S608
    if len(own) > 1:
        where.append(f"EXISTS ({legs} AND a.ticket_id = t.id)")
    return "tickets t", where


async def _few(tx: Tx, departments: Sequence[str]) -> bool:
    """Whether these departments have few enough open legs to read each of their tickets."""
    legs = await tx.value(
        """SELECT count(*) FROM (SELECT 1 FROM assignments WHERE department = ANY($1::text[]) AND ended_at IS NULL
                                 LIMIT $2) few""",
        list(departments), MOST_LEGS + 1,
    )  # fmt: skip
    return bool(legs <= MOST_LEGS)


def _narrowed(f: Filter, args: _Args) -> list[str]:
    where = []
    for column in ("phase", "matter", "urgency", "domain"):
        value = getattr(f, column)
        if value is not None:
            where.append(f"t.{column} = {args(value)}")
    if f.due_before is not None:
        where.append(f"{_DUE} < {args(f.due_before)}::timestamptz")
    if f.card is not None:
        where.append(f"t.facts -> 'cards' @> {args([{'level': f.card}])}::jsonb")
    return where


async def counts(
    tx: Tx, departments: Sequence[str] | None, f: Filter, wanted: Wanted | None, me: str, now: datetime, days: Any
) -> list[Any]:
    """Open tickets by phase: how many, overdue, due before each of two instants, with cards, mine, of nobody."""
    ids = await found(tx, wanted, 50_000) if wanted else None
    args = _Args()
    source, where = await _open(tx, departments, f, ids, args)
    where += _narrowed(f, args)
    if wanted and ids is None:
        where.append(_SAYS.format(terms=args(list(wanted.terms)), words=args(list(wanted.words))))
    today, tomorrow = days
    unit = f"a.department = ANY({args(list(departments))}::text[])" if departments is not None else "true"
    mine = "EXISTS (SELECT 1 FROM assignments a WHERE a.ticket_id = t.id AND a.ended_at IS NULL AND {})"
    return await tx.rows(
        f"""SELECT t.phase, count(*) AS tickets,
                   count(*) FILTER (WHERE t.next_due_at < {args(now)}) AS overdue,
                   count(*) FILTER (WHERE t.next_due_at >= {args(now)} AND t.next_due_at < {args(today)}) AS due_today,
                   count(*) FILTER (WHERE t.next_due_at >= {args(today)} AND t.next_due_at < {args(tomorrow)})
                     AS due_next_working_day,
                   count(*) FILTER (WHERE t.facts -> 'cards' @> '[{{"level": "yellow"}}]') AS yellow,
                   count(*) FILTER (WHERE t.facts -> 'cards' @> '[{{"level": "red"}}]') AS red,
                   count(*) FILTER (WHERE t.urgency <> 'normal') AS urgent,
                   count(*) FILTER (WHERE {mine.format(f"a.assignee = {args(me)}")}) AS mine,
                   count(*) FILTER (WHERE {mine.format(f"a.assignee IS NULL AND {unit}")}) AS unassigned
            FROM {source} WHERE {" AND ".join(where)} GROUP BY t.phase""",  # noqa: S608
        *args.values,
    )


# --- all tickets ---------------------------------------------------------------------------------------------------------

_LISTED = """
    SELECT t.id, t.number, t.title, t.stage, t.phase, t.domain, t.lead, t.outcome, t.created_at, t.closed_at,
           t.source_system, t.source_reference, t.next_due_at, t.version{more}
    FROM tickets t
"""


async def tickets(
    tx: Tx, filters: dict[str, str | None], wanted: Wanted | None, after: str | None, limit: int
) -> tuple[list[Any], str | None]:
    """Tickets, newest first. `filters`: column -> value. Gives the rows, and the id after which more may stand."""
    if wanted is None:
        rows = await _listed(tx, filters, None, after, limit + 1)
        return rows[:limit], rows[limit - 1]["id"] if len(rows) > limit else None
    ids = await found(tx, wanted)
    if ids is not None:
        below = sorted((i for i in ids if after is None or i < after), reverse=True)
        rows = await _listed(tx, filters, below, None, limit + 1, wanted)
        return rows[:limit], rows[limit - 1]["id"] if len(rows) > limit else None
    return await _walked(tx, filters, wanted, after, limit)


async def _walked(
    tx: Tx, filters: dict[str, str | None], wanted: Wanted, after: str | None, limit: int
) -> tuple[list[Any], str | None]:
    """One walk from the newest down: mostly a few hundred steps; where what is wanted is old, a page may stay short."""
    steps, rows, at = min(STEPS, max(limit * 20, 1000)), list[Any](), after or LAST
    taken = 0
    while taken < STEPS:
        seen = await tx.row(
            """SELECT count(*) AS steps, min(ticket_id::text) AS last, array_agg(ticket_id) FILTER (WHERE found) AS ids
               FROM jieban_walked($1, $2, $3::uuid, $4)""",
            list(wanted.terms), list(wanted.words), at, steps,
        )  # fmt: skip
        if not seen["steps"]:
            return rows, None
        rows += await _listed(tx, filters, seen["ids"] or [], None, limit + 1 - len(rows), wanted)
        if len(rows) > limit:
            return rows[:limit], rows[limit - 1]["id"]
        if seen["steps"] < steps:
            return rows, None
        at, taken, steps = seen["last"], taken + steps, min(STEPS, steps * 4)
    return rows, at


async def _listed(
    tx: Tx, filters: dict[str, str | None], ids: list[str] | None, after: str | None, limit: int,
    wanted: Wanted | None = None,
) -> list[Any]:  # fmt: skip
    if ids is not None and not ids:
        return []
    args = _Args()
    where = [f"t.{column} = {args(value)}" for column, value in filters.items() if value is not None]
    if ids is not None:
        where.append(f"t.id = ANY({args(ids)}::uuid[])")
    if after is not None:
        where.append(f"t.id < {args(after)}::uuid")
    sql = _LISTED.format(more=", t.description" if wanted else "")
    sql += f"WHERE {' AND '.join(where)} " if where else ""
    return await tx.rows(f"{sql}ORDER BY t.id DESC LIMIT {args(limit)}", *args.values)


# --- the same enterprise before -------------------------------------------------------------------------------------------


async def texts_of(tx: Tx, enterprise_id: str, since: datetime, but: str | None, limit: int) -> list[Any]:
    """The newest tickets of one enterprise since then, with the terms they are found by."""
    return await tx.rows(
        """SELECT t.id, t.number, t.matter, t.domain, t.phase, t.outcome, t.created_at, t.closed_at, t.lead, t.stage,
                  t.merged_into, t.split_from, t.facts -> 'reply' ->> 'public_reply' AS public_reply, x.terms
           FROM ticket_texts x JOIN tickets t ON t.id = x.ticket_id
           WHERE x.enterprise_id = $1::uuid AND ($3::uuid IS NULL OR x.ticket_id <> $3::uuid) AND t.created_at >= $2
           ORDER BY x.ticket_id DESC LIMIT $4""",
        enterprise_id, since, but, limit,
    )  # fmt: skip


async def text_of(tx: Tx, ticket_id: str) -> Any:
    return await tx.row("SELECT enterprise_id, folded, terms FROM ticket_texts WHERE ticket_id = $1", ticket_id)


async def add_text(tx: Tx, ticket_id: str, folded: str, terms: Sequence[int]) -> None:
    """What was said since makes a ticket findable too."""
    await tx.execute(
        """UPDATE ticket_texts SET folded = left(folded || ' ' || $2, 40000),
             terms = ARRAY(SELECT unnest(terms) UNION SELECT unnest($3::int4[])) WHERE ticket_id = $1""",
        ticket_id, folded, list(terms),
    )  # fmt: skip


MISSING = """
    -- tickets that were taken in before there were texts to be searched
    SELECT t.* FROM tickets t WHERE NOT EXISTS (SELECT 1 FROM ticket_texts x WHERE x.ticket_id = t.id)
    ORDER BY t.id LIMIT $1
"""


async def insert_texts(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    await tx.connection.executemany(
        """INSERT INTO ticket_texts (ticket_id, enterprise_id, visible_to, folded, terms) VALUES ($1, $2, $3, $4, $5)
           ON CONFLICT DO NOTHING""",
        [(r["ticket_id"], r["enterprise_id"], r["visible_to"], r["folded"], sorted(r["terms"])) for r in rows],
    )


async def without_text(tx: Tx, limit: int) -> list[Any]:
    return await tx.rows(MISSING, limit)
