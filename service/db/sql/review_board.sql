-- The docket by stage: every open matter with when its stage began and what is due next; per stage the `$3` that are due
-- first, each with how many there are. $1 now, $2 tier or NULL, $3 per stage, $4 kind or NULL
WITH due AS (
    SELECT c.ticket_id, min(c.due_at) AS due_at, count(*) FILTER (WHERE c.due_at < $1) AS late,
           (array_agg(c.name ORDER BY c.due_at))[1] AS clock
    FROM clocks c
    WHERE c.name IN ('review_screen', 'review_opinion', 'review_decision', 'review_minutes', 'review_reply',
                     'review_measure')
      AND c.state IN ('running', 'breached_running')
    GROUP BY c.ticket_id
), docket AS (
    SELECT r.id, r.ticket_id, r.number, r.kind, r.tier, r.state, r.proposed_at, r.meeting_id, m.held_at,
           CASE WHEN r.state = 'preparing' AND m.state = 'planned' THEN 'scheduled'
                WHEN r.state = 'decided' AND r.meeting_id IS NOT NULL AND r.issued_at IS NULL THEN 'minutes'
                WHEN r.state = 'decided' THEN 'executing'
                ELSE r.state END AS stage,
           CASE WHEN r.state = 'proposed' THEN coalesce(r.supplemented_at, r.returned_at, r.proposed_at)
                WHEN r.state = 'preparing' THEN coalesce(r.screened_at, r.proposed_at)
                ELSE coalesce(r.issued_at, r.decided_at) END AS since
    FROM reviews r LEFT JOIN meetings m ON m.id = r.meeting_id
    WHERE r.state IN ('proposed', 'preparing', 'decided') AND ($2::int IS NULL OR r.tier = $2)
      AND ($4::text IS NULL OR r.kind = $4)
), ranked AS (
    SELECT d.*, due.due_at, due.clock, coalesce(due.late, 0) AS late,
           row_number() OVER (PARTITION BY d.stage
                              ORDER BY least(due.due_at, CASE WHEN d.stage = 'scheduled' THEN d.held_at END) NULLS LAST,
                                       d.id) AS place,
           count(*) OVER (PARTITION BY d.stage) AS of_stage,
           count(*) FILTER (WHERE coalesce(due.late, 0) > 0) OVER (PARTITION BY d.stage) AS late_of_stage
    FROM docket d LEFT JOIN due ON due.ticket_id = d.ticket_id
)
SELECT k.id, k.ticket_id, k.number, k.kind, k.tier, k.stage, k.since, k.proposed_at, k.due_at, k.clock, k.late, k.held_at,
       k.meeting_id, k.of_stage, k.late_of_stage, t.title, t.lead, t.matter, t.number AS ticket_number,
       t.content -> 'enterprise' ->> 'name' AS enterprise
FROM ranked k JOIN tickets t ON t.id = k.ticket_id
WHERE k.place <= $3 AND NOT 'person:' || current_setting('jieban.client', true) = ANY(t.recused)
ORDER BY k.stage, k.place
