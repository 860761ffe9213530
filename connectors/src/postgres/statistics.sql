WITH RECURSIVE target AS (
    SELECT c.oid, c.relkind, c.relkind = 'r' AND c.relhassubclass AS inherited
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1::text AND c.relname = $2::text AND c.relkind IN ('r', 'p', 'm', 'f')),
family AS (
    SELECT oid FROM target
    UNION
    SELECT i.inhrelid FROM family JOIN pg_catalog.pg_inherits i ON i.inhparent = family.oid)
-- As Postgres's own planner: as many rows a page as when the table was looked at last, or as its types let expect, and as many pages as there are.
SELECT (SELECT pg_catalog.sum(CASE
            WHEN m.relkind = 'f' THEN NULLIF(GREATEST(m.reltuples, 0), 0)::float8
            WHEN m.relpages > 0 THEN m.reltuples::float8 / m.relpages * size.pages
            -- Before PostgreSQL 14 nothing tells an empty table from one that was never looked at.
            WHEN (m.reltuples < 0 OR pg_catalog.current_setting('server_version_num')::int4 < 140000)
                AND m.oid = (SELECT oid FROM target) AND NOT m.relhassubclass THEN size.rows * GREATEST(size.pages, 10)
            ELSE size.rows * size.pages END)
        FROM family JOIN pg_catalog.pg_class m ON m.oid = family.oid
        CROSS JOIN LATERAL (
            SELECT pg_catalog.pg_relation_size(m.oid) / page.bytes AS pages,
                GREATEST(1, (page.bytes - 24) / (28 + coalesce(pg_catalog.sum(CASE WHEN a.attlen > 0 THEN a.attlen ELSE 32 END), 0)))::float8 AS rows
            FROM (SELECT pg_catalog.current_setting('block_size')::int8 AS bytes) page
            LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = m.oid AND a.attnum > 0 AND NOT a.attisdropped
            GROUP BY page.bytes) size
        WHERE m.relkind <> 'p'),
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
