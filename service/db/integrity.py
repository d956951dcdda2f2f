"""What the integrity check reads besides whole tickets. Reads only, without locks, by index."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from service.db.session import Tx

HEARTBEAT = timedelta(seconds=60)

EVENTS = """
    -- every event of these tickets as it was hashed, in order
    SELECT id, ticket_id, seq, type, occurred_at, recorded_at, actor, data, prev, hash
    FROM events WHERE ticket_id = ANY($1::uuid[]) ORDER BY ticket_id, seq
"""
FIRINGS = """
    -- firings of these tickets' clocks, by the clocks: a firing that names another ticket is found too
    SELECT c.ticket_id AS owner, f.clock_id, f.rung, f.ticket_id, f.due_at, f.fired_at, f.outcome
    FROM clocks c JOIN firings f ON f.clock_id = c.id WHERE c.ticket_id = ANY($1::uuid[])
"""
ASIDE = """
    -- clocks whose timer failed: next_fire_at is the time of the next try, or NULL when it was given up
    SELECT id, ticket_id, dead_at IS NOT NULL OR next_fire_at IS NULL AS dead
    FROM clocks WHERE ticket_id = ANY($1::uuid[]) AND (attempts > 0 OR crashes > 0 OR dead_at IS NOT NULL)
"""
TOLD = """
    -- the events that these tickets' messages name
    SELECT o.ticket_id, array(SELECT n ->> 'id' FROM jsonb_array_elements(o.body -> 'events') n) AS events
    FROM outbox o WHERE o.ticket_id = ANY($1::uuid[]) AND o.topic = 'ticket'
"""
REVEALS = """
    -- what the audit knows of reveals of these tickets' contacts
    SELECT ticket_id, actor ->> 'subject' AS subject, coalesce(data ->> 'reason', '') AS reason
    FROM audit WHERE ticket_id = ANY($1::uuid[]) AND action = 'contact.revealed'
"""
AGENDA = """
    -- these tickets' matters on the agendas of meetings, by the ticket and by the review: one that names another is found
    SELECT r.ticket_id AS owner, i.meeting_id, i.review_id, i.state, i.decision, i.decided_at, m.state AS meeting_state
    FROM reviews r JOIN agenda_items i ON i.review_id = r.id JOIN meetings m ON m.id = i.meeting_id
    WHERE r.ticket_id = ANY($1::uuid[])
"""
PUMP = """
    -- whether a pump is at work: one that was heard of lately and is not held back by its clock gate. Where no pump has
    -- ever written itself down nothing is known, and overdue timers count
    SELECT count(*) = 0 OR bool_or(held IS NULL AND heartbeat_at > clock_timestamp() - $1::interval) FROM pump_runs
"""
KNOWN_SUBJECTS = """
    SELECT subject FROM people UNION SELECT id FROM clients
"""
LOST_ANSWERS = """
    -- answers of one client that name a ticket which is not there (the answers themselves are encrypted)
    SELECT i.key, i.headers ->> 'Location' AS location, count(*) OVER () AS lost
    FROM idempotency i
    LEFT JOIN tickets t ON t.id = CASE WHEN i.headers ->> 'Location' ~ '^/v1/tickets/[0-9a-f-]{36}$'
                                       THEN substr(i.headers ->> 'Location', 13)::uuid END
    WHERE i.client = $1 AND i.route = $2 AND i.status BETWEEN 200 AND 299 AND t.id IS NULL
    LIMIT $3
"""
UNIQUE = """
    -- unique keys that are enforced, by table and columns
    SELECT c.relname AS table_name,
           array(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY k(attnum, place)
                 JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY k.place) AS columns
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    WHERE i.indisunique AND i.indisvalid AND i.indpred IS NULL AND c.relnamespace = 'public'::regnamespace
"""
TRIGGERS = """
    -- triggers that are there and switched on, by table and name
    SELECT c.relname AS table_name, t.tgname AS name
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND c.relnamespace = 'public'::regnamespace
"""
TEXTS = """
    -- tickets that a search would miss, or show to others than may see them
    SELECT t.number, x.ticket_id IS NULL AS missing FROM tickets t LEFT JOIN ticket_texts x ON x.ticket_id = t.id
    WHERE t.id <= $1 AND (x.ticket_id IS NULL OR x.visible_to <> t.visible_to)
"""
QUEUED = """
    -- tickets that stand in the queue and should not, that are missing there, or stand there otherwise than they are
    SELECT coalesce(t.id, q.ticket_id) AS id, coalesce(t.number, q.ticket_id::text) AS number
    FROM (SELECT * FROM tickets WHERE phase <> 'closed' AND id <= $1) t
    FULL JOIN (SELECT * FROM open_tickets WHERE ticket_id <= $1) q ON q.ticket_id = t.id
    WHERE t.id IS NULL OR q.ticket_id IS NULL OR q.due <> coalesce(t.next_due_at, 'infinity')
       OR q.visible_to <> t.visible_to OR q.phase <> t.phase OR q.urgency <> t.urgency OR q.domain <> t.domain
       OR q.matter IS DISTINCT FROM t.matter
       OR q.departments <> ARRAY(SELECT a.department FROM assignments a
                                 WHERE a.ticket_id = t.id AND a.ended_at IS NULL ORDER BY a.id)
"""
FORCED = """
    -- tables that show a department its own rows only
    SELECT relname AS table_name FROM pg_class
    WHERE relkind = 'r' AND relrowsecurity AND relforcerowsecurity AND relnamespace = 'public'::regnamespace
"""


async def last_ticket(tx: Tx) -> str | None:
    """The id of the newest ticket."""
    return await tx.value("SELECT id FROM tickets ORDER BY id DESC LIMIT 1")  # type: ignore[no-any-return]


async def page(tx: Tx, after: str, upto: str, limit: int) -> list[str]:
    """Ids of tickets in their order."""
    rows = await tx.rows("SELECT id FROM tickets WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3", after, upto, limit)
    return [r["id"] for r in rows]


async def pump_at_work(tx: Tx) -> bool:
    return bool(await tx.value(PUMP, HEARTBEAT))


async def known_subjects(tx: Tx) -> list[str]:
    return [row["subject"] for row in await tx.rows(KNOWN_SUBJECTS)]


async def answers(tx: Tx, client: str, route: str, limit: int) -> tuple[int, int, list[Any]]:
    """Kept 2xx answers of one client on one route: how many, how many without their ticket, the first of those."""
    # a client's answers are visible to that client only (row-level security): be each in turn
    await tx.execute("SELECT set_config('jieban.client', $1, true)", client)
    kept = await tx.value(
        "SELECT count(*) FROM idempotency WHERE client = $1 AND route = $2 AND status BETWEEN 200 AND 299",
        client, route,
    )  # fmt: skip
    lost = await tx.rows(LOST_ANSWERS, client, route, limit) if kept else []
    return kept, lost[0]["lost"] if lost else 0, lost


async def constraints(tx: Tx) -> tuple[set[tuple[str, ...]], set[tuple[str, str]], set[str]]:
    """(table, *columns) of each unique key, (table, name) of each live trigger, tables with forced row security."""
    unique = {(r["table_name"], *r["columns"]) for r in await tx.rows(UNIQUE)}
    triggers = {(r["table_name"], r["name"]) for r in await tx.rows(TRIGGERS)}
    return unique, triggers, {r["table_name"] for r in await tx.rows(FORCED)}


BESIDE = """
    -- acts of supervision and exemptions whose history does not tell of them as they stand, and events of none
    WITH told AS (
        SELECT e.ticket_id, e.type, coalesce(e.data ->> 'supervision', e.data ->> 'exemption') AS subject FROM events e
        WHERE split_part(e.type, '.', 1) IN ('supervision', 'exemption')),
    due AS (
        SELECT s.ticket_id, s.id::text AS subject, unnest(ARRAY['supervision.issued',
               CASE WHEN s.answered_at IS NOT NULL THEN 'supervision.answered' END,
               CASE WHEN s.state = 'lifted' THEN 'supervision.lifted' END]) AS type FROM supervisions s
        UNION ALL
        SELECT x.ticket_id, x.id::text, unnest(ARRAY[
               -- a third party's decision on a dispute leaves a rating out without anybody asking for it
               CASE WHEN x.decided_at IS DISTINCT FROM x.requested_at THEN 'exemption.requested' END,
               CASE WHEN x.decided_at <> x.requested_at THEN CASE x.state WHEN 'denied' THEN 'exemption.denied'
                                                                     ELSE 'exemption.approved' END END,
               CASE WHEN x.state = 'revoked' THEN 'exemption.revoked' END]) FROM exemptions x)
    SELECT t.number, coalesce(d.type, e.type) AS type, e.type IS NULL AS untold
    FROM (SELECT * FROM due WHERE type IS NOT NULL) d
    FULL JOIN told e ON e.ticket_id = d.ticket_id AND e.subject = d.subject AND e.type = d.type
    JOIN tickets t ON t.id = coalesce(d.ticket_id, e.ticket_id)
    WHERE d.type IS NULL OR e.type IS NULL
    ORDER BY 1, 2
"""
HOW_MANY_BESIDE = "SELECT (SELECT count(*) FROM supervisions) + (SELECT count(*) FROM exemptions)"
