-- Its own limits: the latest due time of each clock of the docket that it had.
-- One row for each matter that something happened to in the year, with what happened. $1, $2: the year, half open; $3 now
SELECT r.id, r.kind, r.grounds, r.decision, r.state, t.id AS ticket_id, t.number AS ticket_number, r.number,
       r.proposed_at >= $1 AND r.proposed_at < $2 AS proposed,
       r.screened_at >= $1 AND r.screened_at < $2 AND r.state <> 'refused' AS accepted,
       r.screened_at >= $1 AND r.screened_at < $2 AND r.state = 'refused' AS refused,
       r.completed_at >= $1 AND r.completed_at < $2 AND r.state = 'withdrawn' AS withdrawn,
       r.decided_at >= $1 AND r.decided_at < $2 AS decided,
       r.completed_at >= $1 AND r.completed_at < $2 AND r.state = 'completed' AS executed,
       d.decision IS NOT NULL AND coalesce(r.decided_at, $3) > d.decision AS decided_late,
       coalesce(r.replied_at, $3) > d.reply AS replied_late, r.replied_at IS NOT NULL AS replied,
       extract(epoch FROM r.decided_at - r.screened_at) / 86400 AS days_to_decide,
       extract(epoch FROM r.issued_at - r.decided_at) / 86400 AS days_to_minutes,
       r.returns
FROM reviews r JOIN tickets t ON t.id = r.ticket_id
LEFT JOIN (SELECT c.ticket_id, max(c.due_at) FILTER (WHERE c.name = 'review_decision') AS decision,
                  max(c.due_at) FILTER (WHERE c.name = 'review_reply') AS reply
           FROM clocks c WHERE c.name IN ('review_decision', 'review_reply') GROUP BY c.ticket_id) d
       ON d.ticket_id = r.ticket_id
WHERE (r.proposed_at >= $1 AND r.proposed_at < $2) OR (r.screened_at >= $1 AND r.screened_at < $2)
   OR (r.decided_at >= $1 AND r.decided_at < $2) OR (r.completed_at >= $1 AND r.completed_at < $2)
