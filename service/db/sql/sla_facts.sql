-- sla_facts: one row for every thing that the figures of the SLA report count, with its share in each of them.
--
-- A thing is what was promised or done: a limit, a dispatch, a reply, a callback, a ticket. `part` is its kind, `hits`
-- says for each figure of that part (in the order of PARTS in service/db/reports.py): true = in the numerator,
-- false = in the denominator only, NULL = not counted. The figures are added up from these rows and their tickets are
-- listed from these rows, so that a list cannot disagree with its figure. The definitions in words stand in
-- service/core/rates.py. A ticket that was reworked in the period may have two limits: two rows, told apart by `subject`.
--
-- $1 start   $2 end (exclusive)   $3 as of   $4 departments to narrow to (NULL: all)   $5 the parts asked for
-- $6 the city's time zone, for months
--
-- A limit that ends at midnight belongs to the day before: such a row's `at` lies a microsecond before its limit, which
-- makes start < due_at <= end. A limit has fallen only when it lies before `as of`.
--
-- Two kinds of limits have not fallen although their instant lies behind us: that of a paused clock, and one for which an
-- extension or a pause was asked in time and is not decided yet (time rule T7). A clock that was cancelled counts only
-- if its limit had passed before: whoever never called the enterprise is not forgiven when the ticket closes.
WITH
known AS MATERIALIZED (
    -- every ticket once, without its texts: they are wide, and half of the parts look at them
    SELECT t.id, t.number, t.domain, t.district, t.lead, t.round, t.outcome, t.received_at, t.closed_at,
           t.enterprise_id, t.matter,
           coalesce(t.outcome, '') NOT IN ('withdrawn', 'merged', 'rejected', 'transferred') AS kept
    FROM tickets t
    WHERE t.received_at < $3::timestamptz
),
excused AS MATERIALIZED (
    -- left out of the assessment as of $3: by a decision that was taken before, and was not over by then
    SELECT e.ticket_id, e.scope, e.round
    FROM exemptions e
    WHERE e.state IN ('approved', 'revoked') AND e.decided_at < $3 AND e.expires_at > $3
      AND (e.revoked_at IS NULL OR e.revoked_at >= $3)
),
limits AS NOT MATERIALIZED (
    SELECT c.id, c.ticket_id, c.assignment_id, c.name, c.cycle, c.state, c.due_at, c.original_due_at, c.ended_at,
           c.held_at, c.department, c.extensions <> '[]' AS extended,
           c.due_at - interval '1 microsecond' AS at,
           c.state IN ('met', 'breached_met') AND c.ended_at < $3 AS done,
           c.state = 'met' AND c.ended_at <= c.due_at AS met
    FROM clocks c
    WHERE c.due_at > $1::timestamptz AND c.due_at <= $2::timestamptz AND c.due_at < $3
      AND (c.state NOT IN ('paused', 'cancelled') OR c.breached_at IS NOT NULL)
),
things AS (
    -- sign: on_time_sign_rate
    -- Only leads have this limit; a silent acceptance is a late one.
    SELECT 'sign' AS part, l.ticket_id, l.id::text AS subject, l.at, l.department,
           ARRAY[l.met AND (l.assignment_id IN (SELECT a.id FROM assignments a WHERE a.auto_accepted)) IS NOT TRUE] AS hits
    FROM limits l
    WHERE 'sign' = ANY ($5::text[]) AND l.name = 'accept'

    UNION ALL
    -- contact: response_rate
    -- Charged to the unit that led when the limit fell or, if earlier, when contact was made.
    SELECT 'contact', l.ticket_id, l.id::text, l.at, a.department, ARRAY[l.met]
    FROM limits l
    LEFT JOIN assignments a ON a.ticket_id = l.ticket_id AND a.role = 'lead'
         AND a.dispatched_at <= least(l.due_at, l.ended_at)
         AND (a.ended_at IS NULL OR a.ended_at > least(l.due_at, l.ended_at))
    WHERE 'contact' = ANY ($5) AND l.name = 'contact'

    UNION ALL
    -- resolution: on_time_completion_rate, on_time_after_extension_rate, late_completion_rate, completion_rate,
    -- overdue_rate, extension_rate, first_, second_, third_time_completion_rate, later_completion_rate
    -- One limit a round, charged to the unit that replied in that round, else to the last lead. A reply that waits for
    -- its audit is not done yet; submitted in time, it is not overdue either (T10).
    SELECT 'resolution', l.ticket_id, l.id::text, l.at, coalesce(r.department, k.lead),
           ARRAY[l.met,
                 l.met AND l.extended AND l.ended_at > l.original_due_at,
                 l.done AND NOT l.met,
                 l.done,
                 NOT l.done AND NOT (l.state = 'held' AND l.held_at <= l.due_at),
                 l.extended,
                 CASE WHEN l.cycle = 1 THEN s.closed AND k.round = 1 END,
                 CASE WHEN l.cycle = 1 THEN s.closed AND k.round = 2 END,
                 CASE WHEN l.cycle = 1 THEN s.closed AND k.round = 3 END,
                 CASE WHEN l.cycle = 1 THEN s.closed AND k.round > 3 END]
    FROM limits l
    JOIN known k ON k.id = l.ticket_id
    LEFT JOIN rounds r ON r.ticket_id = l.ticket_id AND r.number = l.cycle
    CROSS JOIN LATERAL (SELECT
        k.closed_at IS NOT NULL AND k.closed_at < $3 AND k.kept AS closed) s
    WHERE 'resolution' = ANY ($5) AND l.name = 'resolve'
      AND (l.state <> 'cancelled' OR k.kept)
      AND (l.state <> 'running' OR l.ticket_id NOT IN (
            SELECT p.ticket_id FROM approvals p WHERE p.state = 'pending'
              AND p.kind IN ('extension', 'pause', 'planned', 'termination')))

    UNION ALL
    -- callback: resolution_rate, partly_solved_rate, satisfaction_rate, unreachable_rate
    -- The last callback of each round; one that reached nobody counts when the ticket was closed over it. A third round
    -- that went to review after its callback has not ended: the callback's time is kept as a fact of the ticket.
    SELECT 'callback', r.ticket_id, r.ticket_id || '/' || r.number, r.at, coalesce(r.department, k.lead),
           ARRAY[CASE WHEN r.solved IS NOT NULL THEN r.solved = 'yes' END,
                 CASE WHEN r.solved IS NOT NULL THEN r.solved = 'partly' END,
                 r.satisfaction IN ('very_satisfied', 'satisfied', 'basically_satisfied'),
                 r.solved IS NULL]
    FROM (
        SELECT o.*, coalesce(o.ended_at, CASE WHEN o.solved IS NOT NULL THEN (
            SELECT (t.facts -> 'callback' ->> 'at')::timestamptz FROM tickets t WHERE t.id = o.ticket_id) END) AS at
        FROM rounds o
        OFFSET 0) r  -- OFFSET 0: `at` is worked out once, not once for each comparison
    JOIN known k ON k.id = r.ticket_id AND (r.solved IS NOT NULL OR (k.outcome = 'unrated' AND k.round = r.number))
    WHERE 'callback' = ANY ($5) AND r.at >= $1 AND r.at < $2 AND r.at < $3

    UNION ALL
    -- dispatch: return_rate
    SELECT 'dispatch', a.ticket_id, a.id::text, a.dispatched_at, a.department,
           ARRAY[a.id IN (
               SELECT p.assignment_id FROM approvals p
               WHERE p.kind = 'return' AND p.requested_at < $3 AND p.assignment_id IS NOT NULL)]
    FROM assignments a
    WHERE 'dispatch' = ANY ($5) AND a.role = 'lead'
      AND a.dispatched_at >= $1 AND a.dispatched_at < $2 AND a.dispatched_at < $3

    UNION ALL
    -- return: invalid_return_rate
    SELECT 'return', p.ticket_id, p.id::text, p.requested_at, p.department, ARRAY[p.state = 'denied']
    FROM approvals p
    WHERE 'return' = ANY ($5) AND p.kind = 'return' AND p.state IN ('approved', 'denied')
      AND p.requested_at >= $1 AND p.requested_at < $2 AND p.decided_at < $3

    UNION ALL
    -- reply: audit_failure_rate
    -- An audit begins when a reply is submitted; an accepted reply ended a resolve clock at that very instant (T10), any
    -- other was sent back. An audit is due after it began, so the index finds it.
    SELECT 'reply', c.ticket_id, c.id::text, c.anchor, a.department, ARRAY[m.id IS NULL]
    FROM clocks c
    LEFT JOIN assignments a ON a.ticket_id = c.ticket_id AND a.role = 'lead'
         AND a.dispatched_at <= c.anchor AND (a.ended_at IS NULL OR a.ended_at > c.anchor)
    LEFT JOIN clocks m ON m.ticket_id = c.ticket_id AND m.name = 'resolve' AND m.ended_at = c.anchor
    WHERE 'reply' = ANY ($5) AND c.name = 'audit' AND c.state IN ('met', 'breached_met')
      AND c.due_at > $1 AND c.anchor >= $1 AND c.anchor < $2 AND c.ended_at < $3

    UNION ALL
    -- ending: rework_rate, repeat_rate
    SELECT 'ending', k.id, k.id::text, k.closed_at, k.lead,
           ARRAY[k.round > 1,
                 k.id IN (
                     SELECT o.id FROM known o
                     JOIN known n ON n.enterprise_id = o.enterprise_id AND n.matter = o.matter
                          AND n.received_at > o.closed_at AND n.received_at <= o.closed_at + interval '30 days')]
    FROM known k
    WHERE 'ending' = ANY ($5) AND k.kept
      AND k.closed_at >= $1 AND k.closed_at < $2 AND k.closed_at < $3

    UNION ALL
    -- closing: closed, completed, withdrawn, merged, not_accepted
    SELECT 'closing', k.id, k.id::text, k.closed_at, k.lead,
           ARRAY[true, nullif(k.kept, false), nullif(k.outcome = 'withdrawn', false), nullif(k.outcome = 'merged', false),
                 nullif(coalesce(k.outcome IN ('rejected', 'transferred'), false), false)]
    FROM known k
    WHERE 'closing' = ANY ($5) AND k.closed_at >= $1 AND k.closed_at < $2 AND k.closed_at < $3

    UNION ALL
    -- arrival: review_rate, new
    SELECT 'arrival', k.id, k.id::text, k.received_at, k.lead,
           ARRAY[k.id IN (SELECT v.ticket_id FROM reviews v
                          WHERE v.kind = 'enterprise_problem' AND v.proposed_at < $3),
                 true]
    FROM known k
    WHERE 'arrival' = ANY ($5) AND k.received_at >= $1 AND k.received_at < $2

    UNION ALL
    -- start: carried_over
    SELECT 'start', k.id, k.id::text, $1, k.lead, ARRAY[true]
    FROM known k
    WHERE 'start' = ANY ($5) AND k.received_at < $1 AND (k.closed_at IS NULL OR k.closed_at >= $1)

    UNION ALL
    -- end: open_at_end
    SELECT 'end', k.id, k.id::text, least($2, $3) - interval '1 microsecond', k.lead, ARRAY[true]
    FROM known k
    WHERE 'end' = ANY ($5) AND k.received_at < $2 AND (k.closed_at IS NULL OR k.closed_at >= least($2, $3))
)
SELECT x.part, x.ticket_id, x.subject, x.at, x.department, x.hits,
       x.ticket_id IN (SELECT e.ticket_id FROM excused e WHERE e.scope = 'ticket')
           OR (x.part = 'callback' AND x.subject IN (
                   SELECT e.ticket_id || '/' || e.round FROM excused e WHERE e.scope = 'rating')) AS exempt,
       to_char(x.at AT TIME ZONE $6::text, 'YYYY-MM') AS month,
       to_char(x.at AT TIME ZONE $6::text, 'IYYY-"W"IW') AS week,
       CASE WHEN t.received_at < $1 THEN 'carried_over' ELSE 'new' END AS origin,
       t.number, t.domain, t.district, t.received_at
FROM things x
LEFT JOIN known t ON t.id = x.ticket_id
WHERE $4::text[] IS NULL OR x.department = ANY ($4)
