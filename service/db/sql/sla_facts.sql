-- sla_facts: one row for every thing that a figure of the SLA report counts.
--
-- A row is one of the figure's denominator; `hit` says whether it is one of its numerator as well (plain counts have
-- hits only). Figures are counted from these rows and their tickets are listed from these rows, so a list cannot
-- disagree with its figure. The words of each definition stand in service/core/rates.py.
--
-- A thing is what was promised or done: a limit, an assignment, a reply, a callback. A ticket that was reworked in the
-- period has two limits and stands in two rows, told apart by `subject` and `round`.
--
-- $1 start   $2 end (exclusive)   $3 as of   $4 departments to narrow to (NULL: all)   $5 one figure only (NULL: all)
-- $5 is asked in every part, so that a list of one figure does not read what it does not need.
--
-- A limit that ends at midnight belongs to the day before: such a row's `at` lies a microsecond before its limit, which
-- makes start < due_at <= end. Nothing later than `as of` counts, and a limit has fallen only when it lies before it.
--
-- What has not fallen, though its instant lies behind us: the limit of a paused clock, and one for which an extension or
-- a pause was asked in time and is not decided yet (time rule T7). A clock that was cancelled counts only if its limit
-- had passed before: whoever never called the enterprise is not forgiven when the ticket closes.
WITH
limits AS (
    -- the limits that fell in the period, with what became of them
    SELECT c.id, c.ticket_id, c.assignment_id, c.name, c.cycle, c.due_at, c.original_due_at,
           c.state, c.breached_at, c.ended_at, c.held_at, c.department,
           c.extensions <> '[]' AS extended,
           c.state = 'met' AND c.ended_at <= c.due_at AS met
    FROM clocks c
    WHERE c.name IN ('accept', 'contact', 'resolve')
      AND c.due_at > $1::timestamptz AND c.due_at <= $2::timestamptz AND c.due_at < $3::timestamptz
      AND (c.state NOT IN ('paused', 'cancelled') OR c.breached_at IS NOT NULL)
      AND NOT (c.state = 'running' AND EXISTS (
            SELECT 1 FROM approvals p
            WHERE p.ticket_id = c.ticket_id AND p.state = 'pending' AND p.kind IN ('extension', 'pause')
              AND p.requested_at <= c.due_at))
),
leads AS (
    -- who led a ticket, from when to when: up to the next lead, also while nobody did
    SELECT a.ticket_id, a.department, a.dispatched_at AS since,
           lead(a.dispatched_at, 1, 'infinity') OVER (PARTITION BY a.ticket_id ORDER BY a.dispatched_at, a.id) AS until
    FROM assignments a
    WHERE a.role = 'lead'
)
SELECT 1
