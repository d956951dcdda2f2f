-- How many open matters stand in which state, by tier (NULL: not screened yet) and kind
SELECT r.tier, r.kind,
       CASE WHEN r.state = 'preparing' AND m.state = 'planned' THEN 'scheduled'
            WHEN r.state = 'decided' AND r.meeting_id IS NOT NULL AND r.issued_at IS NULL THEN 'minutes'
            WHEN r.state = 'decided' THEN 'executing'
            ELSE r.state END AS stage,
       count(*) AS matters
FROM reviews r LEFT JOIN meetings m ON m.id = r.meeting_id
WHERE r.state IN ('proposed', 'preparing', 'decided') AND ($1::int IS NULL OR r.tier = $1)
  AND ($2::text IS NULL OR r.kind = $2)
GROUP BY 1, 2, 3
