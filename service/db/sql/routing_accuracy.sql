-- First dispatch by week, rule and unit. $1, $2: from, until (excluded); $3: instant up to which rulings count; $4: time zone.
-- A dispatch was wrong if a return by the unit was approved, or another unit took the lead in the first round.
SELECT date_trunc('week', t.created_at AT TIME ZONE $4)::date AS week,
       t.facts -> 'routing' ->> 'rule' AS rule,
       t.facts -> 'routing' ->> 'lead' AS lead,
       count(*) AS tickets,
       count(*) FILTER (WHERE r.returned) AS returned,
       count(*) FILTER (WHERE r.returned OR r.moved) AS wrong
FROM tickets t
CROSS JOIN LATERAL (
  SELECT EXISTS (SELECT 1 FROM approvals a
                 WHERE a.ticket_id = t.id AND a.kind = 'return' AND a.state = 'approved' AND a.decided_at < $3
                   AND a.department = t.facts -> 'routing' ->> 'lead') AS returned,
         EXISTS (SELECT 1 FROM assignments l
                 WHERE l.ticket_id = t.id AND l.role = 'lead' AND l.round = 1 AND l.dispatched_at < $3
                   AND l.department <> t.facts -> 'routing' ->> 'lead') AS moved) r
WHERE t.created_at >= $1 AND t.created_at < $2 AND t.facts ? 'routing'
GROUP BY 1, 2, 3
ORDER BY 1, 2 NULLS FIRST, 3 NULLS FIRST
