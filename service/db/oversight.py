"""What supervisors look at: breaches, ages, loads, what is due and what went round too often. Open tickets are as of now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from service.db.reports import Scope
from service.db.session import Tx
from service.db.tickets import not_recused

EXCUSED = """
    SELECT e.ticket_id FROM exemptions e
    WHERE e.scope = 'ticket' AND e.state = 'approved' AND e.expires_at > {now}
"""
TITLE = "CASE WHEN (t.content ->> 'confidential')::boolean THEN '（保密）' ELSE t.title END"
"""In lists nobody sees what a confidential ticket says."""
CHARGED = """
    -- whose lateness it is: an assignment's own unit, for the enterprise's clocks the unit that led when it fell due,
    -- and for a duty of the centre nobody's but the centre's
    coalesce(c.department, CASE WHEN c.family = 'enterprise' THEN coalesce((
        SELECT a.department FROM assignments a
        WHERE a.ticket_id = c.ticket_id AND a.role = 'lead' AND a.dispatched_at <= c.breached_at
        ORDER BY a.dispatched_at DESC LIMIT 1), t.lead) END)
"""
BREACHES = f"""
    SELECT c.id, c.ticket_id, t.number, {TITLE} AS title, t.domain, t.phase, c.name, c.cycle, c.family, c.state, c.due_at,
           c.breached_at, c.ended_at, {CHARGED} AS department,
           c.ticket_id IN ({EXCUSED.format(now="$3")}) AS exempt
    FROM clocks c JOIN tickets t ON t.id = c.ticket_id
    WHERE c.breached_at >= $1 AND c.breached_at < $2 AND c.breached_at < $3
"""  # noqa: S608
"""$1 from, $2 until (excluded), $3 as of."""
_WANTED = """
    WHERE ($4::text[] IS NULL OR b.department = ANY ($4)) AND ($5::text IS NULL OR b.department = $5)
      AND ($6::text IS NULL OR b.name = $6) AND ($7::text IS NULL OR b.domain = $7)
      AND ($8::boolean IS NULL OR (b.ended_at IS NULL) = $8)
"""


async def breaches(
    tx: Tx, scope: Scope, filters: Sequence[Any], after: tuple[datetime, str] | None, limit: int
) -> list[Any]:
    """Broken promises, newest first. `filters`: department, clock, domain, whether it still runs (None: any)."""
    at, last = after or (None, None)
    sql = f"""SELECT * FROM ({BREACHES} AND {not_recused("t")}) b {_WANTED}
              AND ($9::timestamptz IS NULL OR (b.breached_at, b.id) < ($9, $10::uuid))
              ORDER BY b.breached_at DESC, b.id DESC LIMIT $11"""  # noqa: S608
    return await tx.rows(sql, scope.start, scope.end, scope.as_of, scope.departments, *filters, at, last, limit)


async def breach_counts(tx: Tx, scope: Scope, filters: Sequence[Any]) -> list[Any]:
    """By department and clock: how many, how many of them still run, and how many an exemption keeps out."""
    sql = f"""SELECT b.department, b.name, count(*) FILTER (WHERE NOT b.exempt) AS breaches,
                     count(*) FILTER (WHERE NOT b.exempt AND b.ended_at IS NULL) AS running,
                     count(*) FILTER (WHERE b.exempt) AS excluded
              FROM ({BREACHES}) b {_WANTED} GROUP BY 1, 2 ORDER BY 3 DESC, 1 NULLS LAST, 2"""  # noqa: S608
    return await tx.rows(sql, scope.start, scope.end, scope.as_of, scope.departments, *filters)


OPEN = f"""
    -- open tickets with their age in days, and whether the promise to the enterprise is broken
    SELECT t.id, t.number, {TITLE} AS title, t.lead AS department, t.domain, t.phase, t.district, t.round, t.received_at,
           t.next_due_at, extract(epoch FROM $1::timestamptz - t.received_at) / 86400 AS age_days,
           t.id IN (SELECT c.ticket_id FROM clocks c WHERE c.name = 'resolve' AND c.state = 'breached_running') AS overdue,
           t.phase = 'waiting' AS paused
    FROM tickets t
    WHERE t.phase <> 'closed' AND ($2::text[] IS NULL OR t.lead = ANY ($2))
"""  # noqa: S608
AGE_KEYS = ("department", "domain", "phase", "district")


async def aging(tx: Tx, departments: Sequence[str] | None, group_by: str, edges: Sequence[int]) -> list[Any]:
    """Open tickets by one key and bucket of age: bucket n holds ages from edges[n-1] (included) to edges[n]."""
    assert group_by in AGE_KEYS, "checked where it comes in"
    sql = f"""SELECT o.{group_by} AS key, width_bucket(o.age_days, $3::numeric[]) AS bucket, count(*) AS tickets,
                     count(*) FILTER (WHERE o.overdue) AS overdue, count(*) FILTER (WHERE o.paused) AS paused,
                     max(o.age_days)::float8 AS oldest_days
              FROM ({OPEN}) o GROUP BY 1, 2 ORDER BY 1 NULLS LAST, 2"""  # noqa: S608
    return await tx.rows(sql, tx.now, departments, list(edges))


async def aged(
    tx: Tx, departments: Sequence[str] | None, filters: Mapping[str, str | None], ages: tuple[int | None, int | None],
    after: tuple[datetime, str] | None, limit: int,
) -> list[Any]:  # fmt: skip
    """Open tickets of an age, oldest first; `filters` by AGE_KEYS."""
    assert set(filters) <= set(AGE_KEYS)
    at, last = after or (None, None)
    wanted = "".join(f" AND o.{name} IS NOT DISTINCT FROM ${n}::text" for n, name in enumerate(filters, 8))
    sql = f"""SELECT * FROM ({OPEN} AND {not_recused("t")}) o
              WHERE ($3::int IS NULL OR o.age_days >= $3) AND ($4::int IS NULL OR o.age_days < $4)
                AND ($5::timestamptz IS NULL OR (o.received_at, o.id) > ($5, $6::uuid)) {wanted}
              ORDER BY o.received_at, o.id LIMIT $7"""  # noqa: S608
    return await tx.rows(sql, tx.now, departments, *ages, at, last, limit, *filters.values())


WORKLOAD = """
    -- $1 now, $2 departments, $3 end of today, $4 end of the next working day, $5 from, $6 until
    SELECT a.department,
           count(*) FILTER (WHERE a.ended_at IS NULL AND a.role = 'lead') AS leading,
           count(*) FILTER (WHERE a.ended_at IS NULL AND a.role = 'co_handler') AS helping,
           count(*) FILTER (WHERE a.ended_at IS NULL AND a.state = 'pending' AND a.role = 'lead') AS unsigned,
           count(*) FILTER (WHERE a.ended_at IS NULL AND t.phase = 'waiting') AS paused,
           count(*) FILTER (WHERE d.overdue) AS overdue,
           count(*) FILTER (WHERE d.due_at >= $1 AND d.due_at <= $3) AS due_today,
           count(*) FILTER (WHERE d.due_at > $3 AND d.due_at <= $4) AS due_next_working_day,
           count(*) FILTER (WHERE a.dispatched_at >= $5 AND a.dispatched_at < $6) AS received,
           count(*) FILTER (WHERE a.submitted_at >= $5 AND a.submitted_at < $6) AS replied,
           count(*) FILTER (WHERE t.round > 1 AND a.ended_at IS NULL AND a.role = 'lead') AS reworking
    FROM assignments a JOIN tickets t ON t.id = a.ticket_id
    LEFT JOIN LATERAL (
        SELECT min(c.due_at) AS due_at, bool_or(c.state = 'breached_running') AS overdue FROM clocks c
        WHERE c.ticket_id = a.ticket_id AND c.state IN ('running', 'breached_running')
          AND (c.assignment_id = a.id OR (a.role = 'lead' AND c.family = 'enterprise'))) d ON a.ended_at IS NULL
    WHERE (a.ended_at IS NULL OR a.dispatched_at >= $5 OR a.submitted_at >= $5)
      AND ($2::text[] IS NULL OR a.department = ANY ($2))
    GROUP BY a.department ORDER BY a.department
"""
PEOPLE = """
    SELECT a.department, a.assignee, count(*) AS tickets FROM assignments a
    WHERE a.ended_at IS NULL AND ($1::text[] IS NULL OR a.department = ANY ($1))
    GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2 NULLS LAST
"""


async def workload(tx: Tx, scope: Scope, today: datetime, tomorrow: datetime) -> tuple[list[Any], list[Any]]:
    """By department, and by department and person."""
    units = await tx.rows(WORKLOAD, tx.now, scope.departments, today, tomorrow, scope.start, scope.end)
    return units, await tx.rows(PEOPLE, scope.departments)


LISTS: Mapping[str, str] = {
    "due_today": "t.next_due_at >= $1 AND t.next_due_at <= $3",
    "due_next_working_day": "t.next_due_at > $3 AND t.next_due_at <= $4",
    "red": """EXISTS (
        SELECT 1 FROM jsonb_array_elements(t.facts -> 'cards') card WHERE card ->> 'level' = 'red')""",
    "unsigned": """t.phase = 'acceptance' AND EXISTS (
        SELECT 1 FROM assignments a WHERE a.ticket_id = t.id AND a.role = 'lead' AND a.state = 'pending'
          AND a.ended_at IS NULL)""",
    "return_loops": "(t.counters ->> 'return_requests')::int >= 2",
    "unreachable": "t.phase = 'callback' AND (t.counters ->> 'callback_attempts')::int >= 1",
    "reworked_twice": "t.round >= 3",
    "returns_denied": "(t.counters ->> 'returns_denied')::int >= 1",
    "planned_past_date": """EXISTS (
        SELECT 1 FROM clocks c WHERE c.ticket_id = t.id AND c.name = 'planned_until' AND c.breached_at IS NOT NULL)""",
}
"""What is looked at every day and every week; $1 now, $3 end of today, $4 end of the next working day."""
_LISTED = """
    FROM tickets t
    WHERE t.phase <> 'closed' AND {condition} AND ($2::text[] IS NULL OR t.lead = ANY ($2))
      AND $1::timestamptz < $3::timestamptz AND $3 < $4::timestamptz  -- said here: a list that needs none has them too
"""


async def list_counts(tx: Tx, departments: Sequence[str] | None, today: datetime, tomorrow: datetime) -> dict[str, int]:
    counts = ", ".join(f"count(*) FILTER (WHERE {c}) AS {name}" for name, c in LISTS.items())
    sql = f"SELECT {counts} {_LISTED.format(condition='true')}"
    return dict(await tx.row(sql, tx.now, departments, today, tomorrow))


async def listed(
    tx: Tx, name: str, departments: Sequence[str] | None, today: datetime, tomorrow: datetime,
    after: tuple[datetime, str] | None, limit: int,
) -> list[Any]:  # fmt: skip
    """One of LISTS, nearest due first."""
    at, last = after or (None, None)
    sql = f"""SELECT t.id, t.number, {TITLE} AS title, t.domain, t.phase, t.lead AS department, t.round, t.next_due_at,
                     t.received_at, t.counters
              {_LISTED.format(condition=LISTS[name])} AND {not_recused("t")}
                AND ($5::timestamptz IS NULL OR (coalesce(t.next_due_at, 'infinity'), t.id) > ($5, $6::uuid))
              ORDER BY coalesce(t.next_due_at, 'infinity'), t.id LIMIT $7"""
    return await tx.rows(sql, tx.now, departments, today, tomorrow, at, last, limit)
