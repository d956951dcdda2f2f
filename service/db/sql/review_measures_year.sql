-- Measures due in the year, by kind of their matter. $1, $2: first and last day as ISO text; $3: today; $4: the zone
SELECT r.kind, count(*) AS due,
       count(*) FILTER (WHERE m.state = 'struck_off') AS struck_off,
       count(*) FILTER (WHERE m.state = 'waived') AS waived,
       count(*) FILTER (WHERE m.state = 'struck_off' AND m.on_time) AS on_time,
       count(*) FILTER (WHERE m.state = 'struck_off' AND NOT m.on_time) AS late,
       count(*) FILTER (WHERE m.state NOT IN ('struck_off', 'waived') AND m.due_on < $3) AS overdue,
       count(*) FILTER (WHERE m.opinion = 'satisfied') AS satisfied,
       count(*) FILTER (WHERE m.opinion IN ('dissatisfied', 'unsatisfied')) AS dissatisfied
FROM (SELECT m.review_id, m.state, m.due_on, m.enterprise_opinion ->> 'opinion' AS opinion,
             (m.struck_off_at AT TIME ZONE $4)::date::text <= m.due_on AS on_time
      FROM measures m WHERE m.due_on BETWEEN $1 AND $2) m
JOIN reviews r ON r.id = m.review_id
GROUP BY r.kind
