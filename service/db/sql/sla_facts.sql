-- sla_facts: one row for every thing that the figures of the SLA report count, with its part in each of them.
--
-- A thing is what was promised or done: a limit, a dispatch, a reply, a callback, a ticket. `hits` says for each figure
-- that may count it, in the order of `parts`: true = in the numerator, false = in the denominator only, NULL = not
-- counted. Figures are added up from these rows and their tickets are listed from these rows, so that a list cannot
-- disagree with its figure. The words of each definition stand in service/core/rates.py.
--
-- A ticket that was reworked in the period may have two limits and then stands in two rows, told apart by `subject`.
--
-- $1 start   $2 end (exclusive)   $3 as of   $4 departments to narrow to (NULL: all)   $5 one figure only (NULL: all)
--
-- A limit that ends at midnight belongs to the day before: such a row's `at` lies a microsecond before its limit, which
-- makes start < due_at <= end. A limit has fallen only when it lies before `as of`.
--
-- Two kinds of limits have not fallen although their instant lies behind us: that of a paused clock, and one for which an
-- extension or a pause was asked in time and is not decided yet (time rule T7). A clock that was cancelled counts only
-- if its limit had passed before: whoever never called the enterprise is not forgiven when the ticket closes.
WITH
parts (part, figures) AS (VALUES
    ('sign', ARRAY['on_time_sign_rate']),
    ('contact', ARRAY['response_rate']),
    ('resolution', ARRAY['on_time_completion_rate', 'on_time_after_extension_rate', 'late_completion_rate',
        'completion_rate', 'overdue_rate', 'extension_rate', 'first_time_completion_rate',
        'second_time_completion_rate', 'third_time_completion_rate', 'later_completion_rate']),
    ('callback', ARRAY['resolution_rate', 'partly_solved_rate', 'satisfaction_rate', 'unreachable_rate']),
    ('dispatch', ARRAY['return_rate']),
    ('return', ARRAY['invalid_return_rate']),
    ('reply', ARRAY['audit_failure_rate']),
    ('closing', ARRAY['rework_rate', 'repeat_rate', 'closed', 'completed', 'withdrawn']),
    ('arrival', ARRAY['review_rate', 'new']),
    ('start', ARRAY['carried_over']),
    ('end', ARRAY['open_at_end'])
),
asked AS (SELECT part FROM parts WHERE $5::text IS NULL OR $5 = ANY (figures)),
known AS MATERIALIZED (
    -- every ticket once, without its texts; read once for all parts
    SELECT t.id, t.number, t.domain, t.district, t.lead, t.round, t.outcome, t.received_at, t.closed_at,
           t.enterprise_id, t.matter, t.counters ? 'exempt' AS exempt
    FROM tickets t
    WHERE t.received_at < $3::timestamptz
),
limits AS NOT MATERIALIZED (
    SELECT c.id, c.ticket_id, c.assignment_id, c.name, c.cycle, c.state, c.due_at, c.original_due_at, c.ended_at,
           c.held_at, c.department, c.extensions <> '[]' AS extended,
           c.due_at - interval '1 microsecond' AS at,
           c.state = 'met' AND c.ended_at <= c.due_at AND c.ended_at < $3 AS met
    FROM clocks c
    WHERE c.due_at > $1::timestamptz AND c.due_at <= $2::timestamptz AND c.due_at < $3
      AND (c.state NOT IN ('paused', 'cancelled') OR c.breached_at IS NOT NULL)
),
things AS (
    -- sign-in limits, which only leads have; a silent acceptance is a late one
    SELECT 'sign' AS part, k.id AS ticket_id, k.number, l.id::text AS subject, k.round, l.at,
           l.department, k.domain, k.district, k.received_at, k.exempt,
           ARRAY[l.met AND l.assignment_id NOT IN (SELECT a.id FROM assignments a WHERE a.auto_accepted)] AS hits
    FROM limits l
    JOIN known k ON k.id = l.ticket_id
    WHERE 'sign' IN (SELECT part FROM asked) AND l.name = 'accept'

    UNION ALL
    -- first contact: charged to the unit that led when the limit fell or, if earlier, when contact was made
    SELECT 'contact', k.id, k.number, l.id::text, l.cycle, l.at,
           a.department, k.domain, k.district, k.received_at, k.exempt,
           ARRAY[l.met]
    FROM limits l
    JOIN known k ON k.id = l.ticket_id
    LEFT JOIN assignments a ON a.ticket_id = l.ticket_id AND a.role = 'lead'
         AND a.dispatched_at <= least(l.due_at, l.ended_at)
         AND (a.ended_at IS NULL OR a.ended_at > least(l.due_at, l.ended_at))
    WHERE 'contact' IN (SELECT part FROM asked) AND l.name = 'contact'

    UNION ALL
    -- resolution: one limit a round, charged to the unit that replied in that round, else to the last lead.
    -- A reply that waits for its audit is not done yet; submitted in time, it is not overdue either (T10).
    SELECT 'resolution', k.id, k.number, l.id::text, l.cycle, l.at,
           coalesce(r.department, k.lead), k.domain, k.district, k.received_at, k.exempt,
           ARRAY[l.met,
                 l.met AND l.extended AND l.ended_at > l.original_due_at,
                 s.done AND NOT l.met,
                 s.done,
                 NOT s.done AND NOT (l.state = 'held' AND l.held_at <= l.due_at),
                 l.extended,
                 CASE WHEN l.cycle = 1 THEN s.closed AND k.round = 1 END,
                 CASE WHEN l.cycle = 1 THEN s.closed AND k.round = 2 END,
                 CASE WHEN l.cycle = 1 THEN s.closed AND k.round = 3 END,
                 CASE WHEN l.cycle = 1 THEN s.closed AND k.round > 3 END]
    FROM limits l
    JOIN known k ON k.id = l.ticket_id
    LEFT JOIN rounds r ON r.ticket_id = l.ticket_id AND r.number = l.cycle
    CROSS JOIN LATERAL (SELECT
        l.state IN ('met', 'breached_met') AND l.ended_at < $3 AS done,
        k.closed_at IS NOT NULL AND k.closed_at < $3 AND k.outcome IS DISTINCT FROM 'withdrawn' AS closed) s
    WHERE 'resolution' IN (SELECT part FROM asked) AND l.name = 'resolve'
      AND (l.state <> 'cancelled' OR k.outcome IS DISTINCT FROM 'withdrawn')
      AND (l.state <> 'running' OR l.ticket_id NOT IN (
            SELECT p.ticket_id FROM approvals p WHERE p.state = 'pending' AND p.kind IN ('extension', 'pause')))

    UNION ALL
    -- callbacks: the last one of each round; one that reached nobody counts when the ticket was closed over it.
    -- A third round that went to review after its callback has not ended: the callback's time is kept as a fact.
    SELECT 'callback', k.id, k.number, k.id || '/' || r.number, r.number, r.at,
           coalesce(r.department, k.lead), k.domain, k.district, k.received_at, k.exempt,
           ARRAY[CASE WHEN r.solved IS NOT NULL THEN r.solved = 'yes' END,
                 CASE WHEN r.solved IS NOT NULL THEN r.solved = 'partly' END,
                 r.satisfaction IN ('very_satisfied', 'satisfied', 'basically_satisfied'),
                 r.solved IS NULL]
    FROM (
        SELECT o.*, coalesce(o.ended_at, CASE WHEN o.solved IS NOT NULL THEN (
            SELECT (t.facts -> 'callback' ->> 'at')::timestamptz FROM tickets t WHERE t.id = o.ticket_id) END) AS at
        FROM rounds o
        OFFSET 0) r
    JOIN known k ON k.id = r.ticket_id AND (r.solved IS NOT NULL OR (k.outcome = 'unrated' AND k.round = r.number))
    WHERE 'callback' IN (SELECT part FROM asked) AND r.at >= $1 AND r.at < $2 AND r.at < $3

    UNION ALL
    -- dispatches to a lead, and whether that unit asked to send it back
    SELECT 'dispatch', k.id, k.number, a.id::text, a.round, a.dispatched_at,
           a.department, k.domain, k.district, k.received_at, k.exempt,
           ARRAY[a.id IN (
               SELECT p.assignment_id FROM approvals p
               WHERE p.kind = 'return' AND p.requested_at < $3 AND p.assignment_id IS NOT NULL)]
    FROM assignments a
    JOIN known k ON k.id = a.ticket_id
    WHERE 'dispatch' IN (SELECT part FROM asked) AND a.role = 'lead'
      AND a.dispatched_at >= $1 AND a.dispatched_at < $2 AND a.dispatched_at < $3

    UNION ALL
    -- returns that were ruled on
    SELECT 'return', k.id, k.number, p.id::text, k.round, p.requested_at,
           p.department, k.domain, k.district, k.received_at, k.exempt,
           ARRAY[p.state = 'denied']
    FROM approvals p
    JOIN known k ON k.id = p.ticket_id
    WHERE 'return' IN (SELECT part FROM asked) AND p.kind = 'return' AND p.state IN ('approved', 'denied')
      AND p.requested_at >= $1 AND p.requested_at < $2 AND p.decided_at < $3

    UNION ALL
    -- replies that were audited: an audit begins when a reply is submitted; an accepted reply ended a resolve clock at
    -- that very instant (T10), any other was sent back. An audit is due after it began, so the index finds it.
    SELECT 'reply', k.id, k.number, c.id::text, k.round, c.anchor,
           a.department, k.domain, k.district, k.received_at, k.exempt,
           ARRAY[m.id IS NULL]
    FROM clocks c
    JOIN known k ON k.id = c.ticket_id
    LEFT JOIN assignments a ON a.ticket_id = c.ticket_id AND a.role = 'lead'
         AND a.dispatched_at <= c.anchor AND (a.ended_at IS NULL OR a.ended_at > c.anchor)
    LEFT JOIN clocks m ON m.ticket_id = c.ticket_id AND m.name = 'resolve' AND m.ended_at = c.anchor
    WHERE 'reply' IN (SELECT part FROM asked) AND c.name = 'audit' AND c.state IN ('met', 'breached_met')
      AND c.due_at > $1 AND c.anchor >= $1 AND c.anchor < $2 AND c.ended_at < $3

    UNION ALL
    SELECT 'closing', k.id, k.number, k.id::text, k.round, k.closed_at,
           k.lead, k.domain, k.district, k.received_at, k.exempt,
           ARRAY[CASE WHEN k.outcome IS DISTINCT FROM 'withdrawn' THEN k.round > 1 END,
                 CASE WHEN k.outcome IS DISTINCT FROM 'withdrawn' THEN k.id IN (
                     SELECT o.id FROM known o
                     JOIN known n ON n.enterprise_id = o.enterprise_id AND n.matter = o.matter
                          AND n.received_at > o.closed_at AND n.received_at <= o.closed_at + interval '30 days') END,
                 true,
                 CASE WHEN k.outcome IS DISTINCT FROM 'withdrawn' THEN true END,
                 CASE WHEN k.outcome = 'withdrawn' THEN true END]
    FROM known k
    WHERE 'closing' IN (SELECT part FROM asked) AND k.closed_at >= $1 AND k.closed_at < $2 AND k.closed_at < $3

    UNION ALL
    SELECT 'arrival', k.id, k.number, k.id::text, k.round, k.received_at,
           k.lead, k.domain, k.district, k.received_at, k.exempt,
           ARRAY[k.id IN (SELECT v.ticket_id FROM reviews v
                          WHERE v.kind = 'enterprise_problem' AND v.proposed_at < $3),
                 true]
    FROM known k
    WHERE 'arrival' IN (SELECT part FROM asked) AND k.received_at >= $1 AND k.received_at < $2

    UNION ALL
    SELECT 'start', k.id, k.number, k.id::text, k.round, $1,
           k.lead, k.domain, k.district, k.received_at, k.exempt,
           ARRAY[true]
    FROM known k
    WHERE 'start' IN (SELECT part FROM asked)
      AND k.received_at < $1 AND (k.closed_at IS NULL OR k.closed_at >= $1)

    UNION ALL
    SELECT 'end', k.id, k.number, k.id::text, k.round, least($2, $3) - interval '1 microsecond',
           k.lead, k.domain, k.district, k.received_at, k.exempt,
           ARRAY[true]
    FROM known k
    WHERE 'end' IN (SELECT part FROM asked)
      AND k.received_at < $2 AND (k.closed_at IS NULL OR k.closed_at >= least($2, $3))
)
SELECT * FROM things WHERE ($4::text[] IS NULL OR department = ANY ($4))
