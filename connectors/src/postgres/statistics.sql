WITH RECURSIVE target AS (
    SELECT c.oid, c.relkind, c.relkind = 'r' AND c.relhassubclass AS inherited
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1::text AND c.relname = $2::text AND c.relkind IN ('r', 'p', 'm', 'f')),
family AS (
    SELECT oid FROM target
    UNION
    SELECT i.inhrelid FROM family JOIN pg_catalog.pg_inherits i ON i.inhparent = family.oid)
SELECT (SELECT pg_catalog.sum(m.reltuples::float8) FROM family JOIN pg_catalog.pg_class m ON m.oid = family.oid
        WHERE m.relkind <> 'p' AND (m.reltuples > 0 OR m.reltuples = 0 AND m.relpages > 0)),
       i.indisunique AND NOT target.inherited, i.columns
FROM target
LEFT JOIN LATERAL (
    SELECT i.indisunique, (
        SELECT pg_catalog.array_agg(a.attname::text ORDER BY k.place)
        FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        WHERE k.place <= i.indnkeyatts) AS columns
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
    JOIN pg_catalog.pg_am am ON am.oid = ic.relam
    WHERE i.indrelid = target.oid AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND am.amname IN ('btree', 'hash')
) i ON true
