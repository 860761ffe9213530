SELECT n.nspname::text, c.relname::text, c.relkind::text, c.relhassubclass,
       pg_catalog.obj_description(c.oid, 'pg_class'),
       CASE WHEN c.relkind IN ('r', 'p', 'f', 'm') AND (c.reltuples > 0 OR c.reltuples = 0 AND c.relpages > 0)
            THEN c.reltuples::float8 END,
       k.columns,
       a.attname::text, a.attnotnull, pg_catalog.format_type(a.atttypid, a.atttypmod), pg_catalog.col_description(c.oid, a.attnum),
       t.oid, t.typname::text, t.typtype::text, coalesce(d.modifier, a.atttypmod),
       e.oid, e.typname::text, e.typtype::text, coalesce(ed.modifier, d.modifier, a.atttypmod),
       CASE WHEN co.collprovider = 'd' THEN pg_catalog.concat('default (', db.datcollate, ')')
            WHEN cn.nspname = 'pg_catalog' THEN co.collname::text
            ELSE pg_catalog.concat(cn.nspname, '.', co.collname) END,
       coalesce(co.collisdeterministic, true),
       pg_catalog.current_setting('server_encoding'),
       c.oid, n.xmin::text, c.xmin::text, a.attnum, a.xmin::text,
       CASE WHEN c.relkind = 'r' AND NOT c.relhassubclass AND am.amname = 'heap'
                 AND pg_catalog.current_setting('server_version_num')::int4 >= 140000 THEN c.relpages END,
       k.leading
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
JOIN pg_catalog.pg_database db ON db.datname = pg_catalog.current_database()
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')
LEFT JOIN LATERAL (
    WITH RECURSIVE chain AS (
        SELECT b.typbasetype AS base, b.typtypmod AS modifier FROM pg_catalog.pg_type b WHERE b.oid = a.atttypid AND b.typtype = 'd'
        UNION ALL
        SELECT b.typbasetype, b.typtypmod FROM chain JOIN pg_catalog.pg_type b ON b.oid = chain.base AND b.typtype = 'd')
    SELECT chain.base, chain.modifier FROM chain JOIN pg_catalog.pg_type b ON b.oid = chain.base AND b.typtype <> 'd'
) d ON true
LEFT JOIN pg_catalog.pg_type t ON t.oid = coalesce(d.base, a.atttypid)
LEFT JOIN pg_catalog.pg_type ea ON ea.oid = t.typelem AND ea.typarray = t.oid
LEFT JOIN LATERAL (
    WITH RECURSIVE chain AS (
        SELECT b.typbasetype AS base, b.typtypmod AS modifier FROM pg_catalog.pg_type b WHERE b.oid = ea.oid AND b.typtype = 'd'
        UNION ALL
        SELECT b.typbasetype, b.typtypmod FROM chain JOIN pg_catalog.pg_type b ON b.oid = chain.base AND b.typtype = 'd')
    SELECT chain.base, chain.modifier FROM chain JOIN pg_catalog.pg_type b ON b.oid = chain.base AND b.typtype <> 'd'
) ed ON true
LEFT JOIN pg_catalog.pg_type e ON e.oid = coalesce(ed.base, ea.oid)
LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation
LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
LEFT JOIN LATERAL (
    SELECT pg_catalog.array_agg(ka.attname::text ORDER BY ki.place)
               FILTER (WHERE i.indisprimary AND ki.place <= i.indnkeyatts) AS columns,
           pg_catalog.array_agg(ki.attnum) FILTER (WHERE ki.place = 1 AND i.indpred IS NULL AND iam.amname IN ('btree', 'hash')) AS leading
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
    JOIN pg_catalog.pg_am iam ON iam.oid = ic.relam
    CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS ki (attnum, place)
    LEFT JOIN pg_catalog.pg_attribute ka ON ka.attrelid = c.oid AND ka.attnum = ki.attnum
    WHERE i.indrelid = c.oid AND i.indisvalid
) k ON true
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
  AND pg_catalog.has_any_column_privilege(c.oid, 'SELECT')
