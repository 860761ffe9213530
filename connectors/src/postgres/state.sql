SELECT pg_catalog.concat_ws(' ', n.xmin, c.oid, c.xmin, x.columns),
       pg_catalog.concat_ws(',', nullif(n.xmax::text, '0'), nullif(c.xmax::text, '0'), x.later),
       pg_catalog.txid_current_snapshot()::text
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT pg_catalog.string_agg(pg_catalog.concat(a.attnum, ':', a.xmin), ',' ORDER BY a.attnum) AS columns,
           pg_catalog.string_agg(nullif(a.xmax::text, '0'), ',') AS later
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')) x
WHERE c.oid =
