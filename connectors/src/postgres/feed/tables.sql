SELECT c.oid, c.relkind::text, c.relpersistence::text, c.relhassubclass, c.relreplident::text,
       pg_catalog.pg_has_role(c.relowner, 'USAGE'),
       coalesce((SELECT pg_catalog.array_agg(ka.attname::text)
                 FROM pg_catalog.pg_index i
                 CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
                 JOIN pg_catalog.pg_attribute ka ON ka.attrelid = c.oid AND ka.attnum = k.attnum
                 WHERE i.indrelid = c.oid AND k.place <= i.indnkeyatts
                   AND CASE c.relreplident WHEN 'd' THEN i.indisprimary AND i.indimmediate WHEN 'i' THEN i.indisreplident ELSE false END), '{}'),
       a.attname::text, a.atttypid, a.atttypmod, a.attgenerated::text,
       pg_catalog.concat(a.attnum, ':', a.xmin),
       pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT'),
       (SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_cast ca
        WHERE ca.castsource = a.atttypid AND ca.casttarget = 'pg_catalog.text'::pg_catalog.regtype
          AND ca.castmethod = 'f' AND ca.castfunc >= 16384)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = $1::text AND c.relname = $2::text
ORDER BY a.attnum
