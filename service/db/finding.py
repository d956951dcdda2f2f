"""Queue and search, under row-level security and fast at a million tickets: every statement's cost is bounded.

The queue is read from a narrow table of the open tickets. A search looks first where the next page is near if the word is
common: among the next in the list's own order. What that does not fill is rare, and its tickets are all taken from the
index of terms, through a function that PostgreSQL may use the index in (see migration 0010). Statements are made of the
filters that are given, so that the planner sees what is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from service.core.queue import Filter
from service.core.words import OPEN, Wanted
from service.db.session import Tx
from service.db.tickets import not_recused

MOST_FOUND = 3_000
"""So many tickets are taken from the index of terms; of a search that finds more, some stand on every page."""
FEW = 10
"""With fewer hits than this near by, a word is rare enough to ask the index: its lists are short, and so is what it finds."""
NEAR = 4_000
"""So many tickets are looked at first (about 2 µs each)."""
STEPS = 20_000
"""So many where the word turned out to be common; a page may stay short, and goes on."""
NEAR_IN_QUEUE, STEPS_IN_QUEUE = 1_500, 4_000
"""The same of the queue, where each look costs a look-up (about 8 µs)."""
LAST = "ffffffff-ffff-ffff-ffff-ffffffffffff"
# a subquery for a value, not EXISTS: that could be hashed, which reads every ticket that says a common word
_SAYS = (
    "(SELECT x.terms @> {terms}::int4[] AND NOT EXISTS (SELECT 1 FROM unnest({words}::text[]) w WHERE strpos(x.folded, w) = 0)"
    " FROM ticket_texts x WHERE x.ticket_id = q.ticket_id)"
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


async def found(tx: Tx, wanted: Wanted, most: int, among: Sequence[int] = ()) -> list[str] | None:
    """Ids of what the actor may see of all that matches, in no order; None where more than `most` have its terms.

    `among`: further terms that must be there.
    """
    if not wanted.terms:
        return None
    terms = [*wanted.terms, *among]
    rows = await tx.rows("SELECT * FROM jieban_found($1, $2, $3)", terms, list(wanted.words), most + 1)
    return [row["ticket_id"] for row in rows if row["found"]] if len(rows) <= most else None


# --- the queue -----------------------------------------------------------------------------------------------------------


Place = tuple[datetime, str]


async def queue(
    tx: Tx, departments: Sequence[str] | None, f: Filter, wanted: Wanted | None, after: Place | None, limit: int
) -> tuple[list[Any], Place | None]:
    """Open tickets of these departments (None: all), nearest due first, one without a due time last; and the place after
    which more may stand."""
    if wanted is None:
        return await _page(tx, departments, f, after, limit)
    hits, last = await _near(tx, departments, f, wanted, after, NEAR_IN_QUEUE)
    if len(hits) <= limit and last is not None:
        ids = await found(tx, wanted, MOST_FOUND, (OPEN,)) if len(hits) < FEW else None
        if ids is not None:
            return await _page(tx, departments, f, after, limit, ids)
        more, last = await _near(tx, departments, f, wanted, last, STEPS_IN_QUEUE)
        hits += more
    if len(hits) > limit:
        last = hits[limit - 1]
    rows = {row["id"]: row for row in await _rows(tx, [ticket_id for _, ticket_id in hits[:limit]])}
    return [rows[ticket_id] for _, ticket_id in hits[:limit] if ticket_id in rows], last


async def _near(
    tx: Tx, departments: Sequence[str] | None, f: Filter, wanted: Wanted, after: Place | None, steps: int
) -> tuple[list[Place], Place | None]:
    """Which of the next `steps` of the queue say what is wanted, and where that ended (None: nothing comes after)."""
    args = _Args()
    listed = _listed_open(departments, f, after, args)
    says = _SAYS.format(terms=args(list(wanted.terms)), words=args(list(wanted.words)))
    rows = await tx.rows(
        f"SELECT q.due, q.ticket_id, {says} AS says FROM ({listed} LIMIT {args(steps)}) q ORDER BY q.due, q.ticket_id",  # noqa: S608
        *args.values,
    )
    last = (rows[-1]["due"], rows[-1]["ticket_id"]) if len(rows) == steps else None
    return [(row["due"], row["ticket_id"]) for row in rows if row["says"]], last


async def _page(
    tx: Tx, departments: Sequence[str] | None, f: Filter, after: Place | None, limit: int, ids: list[str] | None = None
) -> tuple[list[Any], Place | None]:
    args = _Args()
    listed = _listed_open(departments, f, after, args, ids)
    places = [(r["due"], r["ticket_id"]) for r in await tx.rows(f"{listed} LIMIT {args(limit + 1)}", *args.values)]
    rows = {row["id"]: row for row in await _rows(tx, [ticket_id for _, ticket_id in places[:limit]])}
    return [rows[i] for _, i in places[:limit] if i in rows], places[limit - 1] if len(places) > limit else None


def _listed_open(
    departments: Sequence[str] | None, f: Filter, after: Place | None, args: _Args, ids: list[str] | None = None
) -> str:
    where = _narrowed(departments, f, args)
    if ids is not None:
        where.append(f"q.ticket_id = ANY({args(ids)}::uuid[])")
    if after is not None:
        where.append(f"(q.due, q.ticket_id) > ({args(after[0])}::timestamptz, {args(after[1])}::uuid)")
    return f"SELECT q.due, q.ticket_id FROM open_tickets q WHERE {' AND '.join(where)} ORDER BY q.due, q.ticket_id"  # noqa: S608


async def _rows(tx: Tx, ids: Sequence[str]) -> list[Any]:
    return await tx.rows(
        f"""SELECT t.id, t.number, t.title, t.stage, t.phase, t.domain, t.matter, t.urgency, t.district, t.lead, t.round,
                  t.next_due_at, t.received_at, t.version, t.workflow_key, t.workflow_version, t.facts -> 'cards' AS cards,
                  t.content -> 'enterprise' ->> 'name' AS enterprise,
                  coalesce((t.content ->> 'confidential')::boolean, false) AS confidential
           FROM tickets t WHERE t.id = ANY($1::uuid[])
             AND {not_recused("t")}""",  # noqa: S608
        list(ids),
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


def _narrowed(departments: Sequence[str] | None, f: Filter, args: _Args) -> list[str]:
    """What must hold of a row of open_tickets."""
    where = ["true"]
    if departments is not None:
        where.append(f"q.departments && {args(list(departments))}::text[]")
    if f.assignee is not None:
        hands = [f.assignee] if departments is None else [f"{unit} {f.assignee}" for unit in departments]
        where.append(f"q.hands && {args(hands)}::text[]")
    for column in ("phase", "matter", "urgency", "domain"):
        value = getattr(f, column)
        if value is not None:
            where.append(f"q.{column} = {args(value)}")
    if f.due_before is not None:
        where.append(f"q.due < {args(f.due_before)}::timestamptz")
    if f.card is not None:
        where.append(f"q.cards @> {args([f.card])}::text[]")
    return where


async def counts(
    tx: Tx,
    departments: Sequence[str] | None,
    f: Filter,
    wanted: Wanted | None,
    me: str,
    days: tuple[datetime, datetime],
) -> list[Any]:
    """Open tickets by phase: how many, overdue, due until each of two instants, with cards, mine, of nobody."""
    args = _Args()
    where = _narrowed(departments, f, args)
    if wanted is not None:
        ids = await found(tx, wanted, MOST_FOUND, (OPEN,))
        where.append(
            _SAYS.format(terms=args(list(wanted.terms)), words=args(list(wanted.words)))
            if ids is None
            else f"q.ticket_id = ANY({args(ids)}::uuid[])"
        )
    now, today, tomorrow = args(tx.now), args(days[0]), args(days[1])
    mine = [me] if departments is None else [f"{unit} {me}" for unit in departments]
    nobody = [""] if departments is None else [f"{unit} " for unit in departments]
    return await tx.rows(
        f"""SELECT q.phase, count(*) AS tickets,
                   count(*) FILTER (WHERE q.due < {now}) AS overdue,
                   count(*) FILTER (WHERE q.due >= {now} AND q.due < {today}) AS due_today,
                   count(*) FILTER (WHERE q.due >= {today} AND q.due < {tomorrow}) AS due_next_working_day,
                   count(*) FILTER (WHERE q.cards @> '{{yellow}}') AS yellow,
                   count(*) FILTER (WHERE q.cards @> '{{red}}') AS red,
                   count(*) FILTER (WHERE q.urgency <> 'normal') AS urgent,
                   count(*) FILTER (WHERE q.hands && {args(mine)}::text[]) AS mine,
                   count(*) FILTER (WHERE q.hands && {args(nobody)}::text[]) AS unassigned
            FROM open_tickets q WHERE {" AND ".join(where)} GROUP BY q.phase""",  # noqa: S608
        *args.values,
    )


# --- all tickets ---------------------------------------------------------------------------------------------------------

_LISTED = """
    SELECT t.id, t.number, t.title, t.stage, t.phase, t.domain, t.lead, t.outcome, t.created_at, t.closed_at,
           t.source_system, t.source_reference, t.next_due_at, t.version,
           coalesce((t.content ->> 'confidential')::boolean, false) AS confidential{more}
    FROM tickets t
"""


async def tickets(
    tx: Tx, filters: dict[str, str | None], wanted: Wanted | None, after: str | None, limit: int
) -> tuple[list[Any], str | None]:
    """Tickets, newest first. `filters`: column -> value. Gives the rows, and the id after which more may stand."""
    if wanted is None:
        rows = await _listed(tx, filters, None, after, limit + 1)
        return rows[:limit], rows[limit - 1]["id"] if len(rows) > limit else None
    near, last = await _walked(tx, filters, wanted, after, limit, NEAR)
    if len(near) == limit or last is None:
        return near, last
    ids = await found(tx, wanted, MOST_FOUND) if len(near) < FEW else None
    if ids is not None:
        below = sorted((i for i in ids if after is None or i < after), reverse=True)
        rows = await _listed(tx, filters, below, None, limit + 1, wanted)
        return rows[:limit], rows[limit - 1]["id"] if len(rows) > limit else None
    # common, and yet not near: with other filters, or long ago. Such a page may stay short
    more, last = await _walked(tx, filters, wanted, last, limit - len(near), STEPS)
    return near + more, last


async def _walked(
    tx: Tx, filters: dict[str, str | None], wanted: Wanted, after: str | None, limit: int, steps: int
) -> tuple[list[Any], str | None]:
    """What is found among the next `steps` tickets, and the id after which more may stand (None: that was all)."""
    seen = await tx.row(
        """SELECT count(*) AS steps, min(ticket_id::text) AS last, array_agg(ticket_id) FILTER (WHERE found) AS ids
           FROM jieban_walked($1, $2, $3::uuid, $4)""",
        list(wanted.terms), list(wanted.words), after or LAST, steps,
    )  # fmt: skip
    rows = await _listed(tx, filters, seen["ids"] or [], None, limit + 1, wanted)
    if len(rows) > limit:
        return rows[:limit], rows[limit - 1]["id"]
    return rows, seen["last"] if seen["steps"] == steps else None


async def _listed(
    tx: Tx, filters: dict[str, str | None], ids: list[str] | None, after: str | None, limit: int,
    wanted: Wanted | None = None,
) -> list[Any]:  # fmt: skip
    if ids is not None and not ids:
        return []
    args = _Args()
    where = [f"t.{column} = {args(value)}" for column, value in filters.items() if value is not None]
    # a department is kept out by the policy; here also persons of city-wide roles who are recused
    where.append(not_recused("t"))
    if ids is not None:
        where.append(f"t.id = ANY({args(ids)}::uuid[])")
    if after is not None:
        where.append(f"t.id < {args(after)}::uuid")
    sql = _LISTED.format(more=", t.description" if wanted else "")
    sql += f"WHERE {' AND '.join(where)} "
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


REPAIR = """
    -- open tickets as the queue should show them; the same as migration 0010 fills it
    INSERT INTO open_tickets (ticket_id, due, visible_to, departments, hands, phase, matter, urgency, domain, cards)
    SELECT t.id, coalesce(t.next_due_at, 'infinity'), t.visible_to,
           ARRAY(SELECT a.department FROM assignments a WHERE a.ticket_id = t.id AND a.ended_at IS NULL ORDER BY a.id),
           ARRAY(SELECT h FROM assignments a,
                   unnest(ARRAY[coalesce(a.assignee, ''), a.department || ' ' || coalesce(a.assignee, '')])
                     WITH ORDINALITY u (h, n)
                 WHERE a.ticket_id = t.id AND a.ended_at IS NULL ORDER BY a.id, n),
           t.phase, t.matter, t.urgency, t.domain,
           ARRAY(SELECT c ->> 'level' FROM jsonb_array_elements(
             CASE WHEN jsonb_typeof(t.facts -> 'cards') = 'array' THEN t.facts -> 'cards' ELSE '[]' END) c)
    FROM tickets t WHERE t.id = ANY($1::uuid[]) AND t.phase <> 'closed'
    ON CONFLICT (ticket_id) DO UPDATE SET due = excluded.due, visible_to = excluded.visible_to,
      departments = excluded.departments, hands = excluded.hands, phase = excluded.phase, matter = excluded.matter,
      urgency = excluded.urgency, domain = excluded.domain, cards = excluded.cards
"""


async def repair_queue(tx: Tx, ids: Sequence[str]) -> None:
    """Show these tickets in the queue as they are; under their locks."""
    await tx.execute(
        """DELETE FROM open_tickets q WHERE q.ticket_id = ANY($1::uuid[])
             AND NOT EXISTS (SELECT 1 FROM tickets t WHERE t.id = q.ticket_id AND t.phase <> 'closed')""",
        list(ids),
    )
    await tx.execute(REPAIR, list(ids))


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


async def replace_text(tx: Tx, ticket_id: str, folded: str, terms: Sequence[int], enterprise_id: str) -> None:
    """What a ticket is found by, after its source corrected it."""
    await tx.execute(
        """UPDATE ticket_texts SET folded = $2, terms = $3, enterprise_id = $4 WHERE ticket_id = $1""",
        ticket_id, folded, list(terms), enterprise_id,
    )  # fmt: skip
