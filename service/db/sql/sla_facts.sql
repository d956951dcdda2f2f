-- sla_facts: one row for every thing that the figures of the SLA report count, with its part in each of them.
--
-- A thing is what was promised or done: a limit, a dispatch, a reply, a callback, a ticket. `figures` names the figures
-- that may count it, `hits` says for each in the same order: true = in the numerator, false = in the denominator only,
-- NULL = not counted. Figures are added up from these rows and their tickets are listed from these rows, so that a list
-- cannot disagree with its figure. The words of each definition stand in service/core/rates.py.
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
asked AS (SELECT part, figures FROM parts WHERE $5::text IS NULL OR $5 = ANY (figures)),
known AS MATERIALIZED (
    -- every ticket once, without its texts; an exempt one leaves both sides of each rate, not the volumes
    SELECT t.id, t.number, t.domain, t.district, t.lead, t.round, t.outcome, t.received_at, t.closed_at,
           t.enterprise_id, t.matter, t.counters ? 'exempt' AS exempt
    FROM tickets t
    WHERE t.received_at < $3::timestamptz
),
limits AS NOT MATERIALIZED (
    SELECT c.*, c.due_at - interval '1 microsecond' AS at, c.state = 'met' AND c.ended_at <= c.due_at AS met
    FROM clocks c
    WHERE c.due_at > $1::timestamptz AND c.due_at <= $2::timestamptz AND c.due_at < $3
      AND (c.state NOT IN ('paused', 'cancelled') OR c.breached_at IS NOT NULL)
      AND (c.state <> 'running' OR c.ticket_id NOT IN (
            SELECT p.ticket_id FROM approvals p WHERE p.state = 'pending' AND p.kind IN ('extension', 'pause')))
),
things AS (
    -- sign-in limits of the leads' assignments; a silent acceptance is a late one
    SELECT 'sign' AS part, l.ticket_id, l.id::text AS subject, a.round, l.at, l.department,
           ARRAY[l.met AND NOT a.auto_accepted] AS hits
    FROM limits l
    JOIN assignments a ON a.id = l.assignment_id AND a.role = 'lead'
    WHERE l.name = 'accept' AND 'sign' IN (SELECT part FROM asked)
)
SELECT 1
