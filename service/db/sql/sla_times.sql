-- sla_times: the spans that the handling times of the report are made of, as arrays of epoch microseconds.
--
-- In braces, put in by service/db/reports.py: the statement sla_facts (of its part `closing` hits[2] says completed) and
-- the columns that the report is grouped by. Each ticket has a number `n`. Rows with `sign` 0 hold gross spans (received to
-- closed); with 1 the spans of its resolve clocks, round by round; with -1 the pauses inside those, united and clipped,
-- which the caller takes away. Working time is worked out by the caller, with the calendar each clock was counted by.
-- A held reply that was sent back is no pause (time rule T10).
WITH
completed AS MATERIALIZED (
    SELECT row_number() OVER ()::int AS n, {fact_keys}, f.ticket_id, f.received_at, f.at
    FROM ({facts}) f
    WHERE f.hits[2]
),
rounds_spent AS MATERIALIZED (
    -- a clock that went on after a reopening has the time before it in the cycle before
    SELECT d.n, {ticket_keys}, c.calendar_key, c.calendar_version, c.ended_at,
           greatest(c.anchor, (SELECT max((s ->> 'end')::timestamptz) FROM jsonb_array_elements(c.segments) s
                               WHERE s ->> 'kind' = 'closed')) AS anchor,
           CASE WHEN jsonb_path_exists(c.segments, '$[*] ? (@.kind != "held")') THEN c.segments END AS segments
    FROM completed d
    JOIN clocks c ON c.ticket_id = d.ticket_id
    WHERE c.name = 'resolve' AND c.state IN ('met', 'breached_met') AND c.ended_at > c.anchor
),
spans AS (
    SELECT n, {keys}, 0 AS sign, NULL AS calendar_key, NULL::int AS calendar_version, received_at AS since, at AS until
    FROM completed
    UNION ALL
    SELECT n, {keys}, 1, calendar_key, calendar_version, anchor, ended_at
    FROM rounds_spent
    UNION ALL
    SELECT n, {keys}, -1, calendar_key, calendar_version, lower(p.pause), upper(p.pause)
    FROM rounds_spent r
    CROSS JOIN LATERAL (
        SELECT unnest(range_agg(tstzrange(greatest(s.start, r.anchor), least(coalesce(s."end", s.until), r.ended_at))))
        FROM jsonb_to_recordset(r.segments) s (kind text, start timestamptz, "end" timestamptz, until timestamptz)
        WHERE s.kind <> 'held' AND greatest(s.start, r.anchor) < least(coalesce(s."end", s.until), r.ended_at)
        ) p (pause)
    WHERE r.segments IS NOT NULL
)
SELECT {keys}, sign, calendar_key, calendar_version, array_agg(n) AS n,
       array_agg(round(date_part('epoch', since) * 1000000)::bigint) AS since,
       array_agg(round(date_part('epoch', until) * 1000000)::bigint) AS until
FROM spans
GROUP BY {keys}, sign, calendar_key, calendar_version
