-- One row for each matter that something happened to in the year, with what happened. $1, $2: the year, half open; $3 now
SELECT r.id, r.kind, r.grounds, r.decision, r.state, t.id AS ticket_id, t.number AS ticket_number, r.number,
       r.proposed_at >= $1 AND r.proposed_at < $2 AS proposed,
       r.screened_at >= $1 AND r.screened_at < $2 AND r.state <> 'refused' AS accepted,
       r.screened_at >= $1 AND r.screened_at < $2 AND r.state = 'refused' AS refused,
       r.completed_at >= $1 AND r.completed_at < $2 AND r.state = 'withdrawn' AS withdrawn,
       r.decided_at >= $1 AND r.decided_at < $2 AS decided,
       r.completed_at >= $1 AND r.completed_at < $2 AND r.state = 'completed' AS executed,
       d.due_at IS NOT NULL AND coalesce(r.decided_at, $3) > d.due_at AS decided_late,
       coalesce(r.replied_at, $3) > p.due_at AS replied_late, r.replied_at IS NOT NULL AS replied,
       extract(epoch FROM r.decided_at - r.screened_at) / 86400 AS days_to_decide,
       extract(epoch FROM r.issued_at - r.decided_at) / 86400 AS days_to_minutes,
       r.returns
FROM reviews r JOIN tickets t ON t.id = r.ticket_id
LEFT JOIN LATERAL (SELECT max(c.due_at) AS due_at FROM clocks c
                   WHERE c.ticket_id = r.ticket_id AND c.name = 'review_decision') d ON true
LEFT JOIN LATERAL (SELECT max(c.due_at) AS due_at FROM clocks c
                   WHERE c.ticket_id = r.ticket_id AND c.name = 'review_reply') p ON true
WHERE (r.proposed_at >= $1 AND r.proposed_at < $2) OR (r.screened_at >= $1 AND r.screened_at < $2)
   OR (r.decided_at >= $1 AND r.decided_at < $2) OR (r.completed_at >= $1 AND r.completed_at < $2)
