"""Asks a Headwater server what BI tools ask when they look around: DBeaver, Metabase, Grafana, Superset, Power BI (Npgsql).

Usage: introspection_client.py HOST:PORT

The questions have the constructs that the tools' own have (their public sources say which); each says what its answer must
hold. The server has the services orders (orders, lines), customers and the materialized view reports.totals, without users;
sql-tests/tests/flight starts it. Ends with status 0 when every check passed.
"""

import sys

import psycopg
import sqlalchemy

# Npgsql loads every type when it connects, in one text of several statements, and reads the answers as text.
NPGSQL = """
SELECT version();

SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull, t.elemtypoid
FROM (
    -- Arrays are told by how they are received.
    SELECT typ.oid, typ.typnamespace, typ.typname, typ.typtype, typ.typrelid, typ.typnotnull, typ.relkind,
        elemtyp.oid AS elemtypoid, elemtyp.typname AS elemtypname, elemcls.relkind AS elemrelkind,
        CASE WHEN elemproc.proname='array_recv' THEN 'a' ELSE elemtyp.typtype END AS elemtyptype
    FROM (
        SELECT typ.oid, typnamespace, typname, typrelid, typnotnull, relkind, typelem AS elemoid,
            CASE WHEN proc.proname='array_recv' THEN 'a' ELSE typ.typtype END AS typtype,
            CASE WHEN proc.proname='array_recv' THEN typ.typelem
                 WHEN typ.typtype='r' THEN rngsubtype
                 WHEN typ.typtype='m' THEN (SELECT rngtypid FROM pg_range WHERE rngmultitypid = typ.oid)
                 WHEN typ.typtype='d' THEN typ.typbasetype
            END AS elemtypoid
        FROM pg_type AS typ
        LEFT JOIN pg_class AS cls ON (cls.oid = typ.typrelid)
        LEFT JOIN pg_proc AS proc ON proc.oid = typ.typreceive
        LEFT JOIN pg_range ON (pg_range.rngtypid = typ.oid)
    ) AS typ
    LEFT JOIN pg_type AS elemtyp ON elemtyp.oid = elemtypoid
    LEFT JOIN pg_class AS elemcls ON (elemcls.oid = elemtyp.typrelid)
    LEFT JOIN pg_proc AS elemproc ON elemproc.oid = elemtyp.typreceive
) AS t
JOIN pg_namespace AS ns ON (ns.oid = typnamespace)
WHERE typtype IN ('b', 'r', 'm', 'e', 'd') OR (typtype = 'c' AND relkind='c') OR (typtype = 'p' AND typname IN ('record', 'void')) OR
    (typtype = 'a' AND (elemtyptype IN ('b', 'r', 'm', 'e', 'd') OR (elemtyptype = 'p' AND elemtypname IN ('record', 'void')) OR
        (elemtyptype = 'c' AND elemrelkind='c')))
ORDER BY CASE WHEN typtype IN ('b', 'e', 'p') THEN 0 WHEN typtype = 'r' THEN 1 WHEN typtype = 'm' THEN 2 WHEN typtype = 'c' THEN 3
    WHEN typtype = 'd' AND elemtyptype <> 'a' THEN 4 WHEN typtype = 'a' THEN 5 WHEN typtype = 'd' AND elemtyptype = 'a' THEN 6 END;

SELECT typ.oid, att.attname, att.atttypid FROM pg_type AS typ JOIN pg_namespace AS ns ON (ns.oid = typ.typnamespace)
JOIN pg_class AS cls ON (cls.oid = typ.typrelid) JOIN pg_attribute AS att ON (att.attrelid = typ.typrelid)
WHERE (typ.typtype = 'c' AND cls.relkind='c') AND attnum > 0 AND NOT attisdropped ORDER BY typ.oid, att.attnum;

SELECT pg_type.oid, enumlabel FROM pg_enum JOIN pg_type ON pg_type.oid=enumtypid ORDER BY oid, enumsortorder;
"""

PATH = """quote_ident(table_schema) IN (
    SELECT CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
    FROM generate_series(array_lower(string_to_array(current_setting('search_path'),','),1),
                         array_upper(string_to_array(current_setting('search_path'),','),1)) as i,
         string_to_array(current_setting('search_path'),',') s)"""

QUESTIONS = [
    # ---- Power BI, through Npgsql: what the navigator lists, and keys.
    ("Power BI", "SELECT table_schema, table_name, table_type FROM information_schema.tables "
                 "WHERE table_schema NOT IN ('information_schema', 'pg_catalog') ORDER BY 1, 2", ("orders", "lines", "BASE TABLE")),
    ("Power BI", "SELECT column_name, ordinal_position, is_nullable, CASE WHEN (data_type LIKE '%unsigned%') THEN data_type || ' unsigned' "
                 "ELSE data_type END AS data_type FROM information_schema.columns WHERE table_schema = 'orders' AND table_name = 'orders'",
     ("total", 3, "YES", "double precision")),
    ("Power BI", "SELECT i.constraint_schema || '_' || i.constraint_name AS index_name, ii.column_name, ii.ordinal_position, "
                 "CASE WHEN i.constraint_type = 'PRIMARY KEY' THEN 'Y' ELSE 'N' END FROM information_schema.table_constraints i "
                 "INNER JOIN information_schema.key_column_usage ii ON i.constraint_schema = ii.constraint_schema AND i.constraint_name = ii.constraint_name "
                 "AND i.table_schema = ii.table_schema AND i.table_name = ii.table_name WHERE i.table_schema = 'orders' AND i.table_name = 'lines' "
                 "AND i.constraint_type IN ('PRIMARY KEY', 'UNIQUE') ORDER BY 1, 3", ("orders_lines_pkey", "line", 2, "Y")),
    # ---- Grafana's source for PostgreSQL.
    ("Grafana", "SELECT current_setting('server_version_num')::int/100 as version", (1500,)),
    ("Grafana", "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'", None),
    ("Grafana", "SELECT schema_name AS \"name\" FROM information_schema.schemata WHERE schema_name NOT IN ('information_schema', 'pg_catalog') ORDER BY schema_name",
     ("orders",)),
    ("Grafana", "SELECT quote_ident(table_name) AS \"table\" FROM information_schema.tables WHERE quote_ident(table_schema) = 'orders' ORDER BY 1", ("lines",)),
    ("Grafana", f"SELECT CASE WHEN {PATH} THEN quote_ident(table_name) ELSE quote_ident(table_schema) || '.' || quote_ident(table_name) END AS \"table\" "
                f"FROM information_schema.tables WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog') "
                f"ORDER BY CASE WHEN {PATH} THEN 0 ELSE 1 END, 1", ("customers",)),
    ("Grafana", "SELECT quote_ident(column_name) AS \"column\", data_type AS \"type\" FROM information_schema.columns WHERE "
                "CASE WHEN array_length(parse_ident('orders.orders'),1) = 2 THEN quote_ident(table_schema) = (parse_ident('orders.orders'))[1] "
                f"AND quote_ident(table_name) = (parse_ident('orders.orders'))[2] ELSE quote_ident(table_name) = 'orders.orders' AND {PATH} END",
     ("customer", "text")),
    # ---- Metabase.
    ("Metabase", "SELECT n.nspname AS schema, c.relname AS name, CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'v' THEN 'VIEW' END AS type, "
                 "d.description, stat.n_live_tup AS estimated_row_count FROM pg_catalog.pg_class AS c INNER JOIN pg_catalog.pg_namespace AS n ON c.relnamespace = n.oid "
                 "LEFT JOIN pg_catalog.pg_description AS d ON (c.oid = d.objoid) AND (d.objsubid = 0) AND (d.classoid = 'pg_class'::regclass) "
                 "LEFT JOIN pg_stat_user_tables AS stat ON (n.nspname = stat.schemaname) AND (c.relname = stat.relname) "
                 "WHERE (c.relnamespace = n.oid) AND (n.nspname !~ '^pg_') AND (n.nspname <> 'information_schema') AND c.relkind IN ('r', 'p', 'v', 'f', 'm') "
                 "AND n.nspname IN ('reports', 'orders') ORDER BY type, schema, name", ("reports", "totals", "MATERIALIZED VIEW", None, None)),
    ("Metabase", "SELECT c.column_name AS name, CASE WHEN c.udt_schema IN ('public', 'pg_catalog') THEN FORMAT('%s', c.udt_name) ELSE FORMAT('\"%s\".\"%s\"', c.udt_schema, c.udt_name) END "
                 "AS \"database-type\", (c.ordinal_position - 1) AS \"database-position\", c.table_schema AS \"table-schema\", c.table_name AS \"table-name\", (pk.column_name IS NOT NULL) AS \"pk?\", "
                 "col_description(CAST(CAST(FORMAT('%I.%I', CAST(c.table_schema AS text), CAST(c.table_name AS text)) AS regclass) AS oid), c.ordinal_position) AS \"field-comment\", "
                 "((c.column_default IS NULL) AND (c.is_nullable = 'NO') AND NOT (((c.column_default IS NOT NULL) AND (c.column_default LIKE '%nextval(%')) OR (c.is_identity <> 'NO'))) AS required "
                 "FROM information_schema.columns AS c LEFT JOIN (SELECT tc.table_schema, tc.table_name, kc.column_name FROM information_schema.table_constraints AS tc "
                 "INNER JOIN information_schema.key_column_usage AS kc ON (tc.constraint_name = kc.constraint_name) AND (tc.table_schema = kc.table_schema) AND (tc.table_name = kc.table_name) "
                 "WHERE tc.constraint_type = 'PRIMARY KEY') AS pk ON (c.table_schema = pk.table_schema) AND (c.table_name = pk.table_name) AND (c.column_name = pk.column_name) "
                 "WHERE c.table_schema !~ '^information_schema|catalog_history|pg_' AND (c.table_schema IN ('orders')) "
                 "UNION ALL SELECT pa.attname AS name, CASE WHEN ptn.nspname IN ('public', 'pg_catalog') THEN FORMAT('%s', pt.typname) ELSE FORMAT('\"%s\".\"%s\"', ptn.nspname, pt.typname) END, "
                 "(pa.attnum - 1), pn.nspname, pc.relname, FALSE, NULL, FALSE FROM pg_catalog.pg_class AS pc INNER JOIN pg_catalog.pg_namespace AS pn ON pn.oid = pc.relnamespace "
                 "INNER JOIN pg_catalog.pg_attribute AS pa ON pa.attrelid = pc.oid INNER JOIN pg_catalog.pg_type AS pt ON pt.oid = pa.atttypid "
                 "INNER JOIN pg_catalog.pg_namespace AS ptn ON ptn.oid = pt.typnamespace WHERE (pc.relkind = 'm') AND (pa.attnum >= 1) "
                 "ORDER BY \"table-schema\", \"table-name\", \"database-position\"", ("n", "int8", 1, "reports", "totals", False, None, False)),
    ("Metabase", "SELECT fk_ns.nspname AS \"fk-table-schema\", fk_table.relname, fk_column.attname, pk_ns.nspname, pk_table.relname, pk_column.attname FROM pg_constraint AS c "
                 "INNER JOIN pg_class AS fk_table ON c.conrelid = fk_table.oid INNER JOIN pg_namespace AS fk_ns ON c.connamespace = fk_ns.oid "
                 "INNER JOIN pg_attribute AS fk_column ON c.conrelid = fk_column.attrelid INNER JOIN pg_class AS pk_table ON c.confrelid = pk_table.oid "
                 "INNER JOIN pg_namespace AS pk_ns ON pk_table.relnamespace = pk_ns.oid INNER JOIN pg_attribute AS pk_column ON c.confrelid = pk_column.attrelid "
                 "WHERE fk_ns.nspname !~ '^information_schema|catalog_history|pg_' AND (c.contype = 'f'::char) AND (fk_column.attnum = ANY(c.conkey)) "
                 "AND (pk_column.attnum = ANY(c.confkey)) ORDER BY \"fk-table-schema\"", None),
    ("Metabase", "SELECT tmp.\"table-schema\", tmp.\"table-name\", TRIM(BOTH '\"' FROM pg_catalog.pg_get_indexdef(tmp.ci_oid, tmp.pos, FALSE)) AS \"field-name\" FROM (SELECT n.nspname AS \"table-schema\", "
                 "ct.relname AS \"table-name\", ci.oid AS ci_oid, (information_schema._pg_expandarray(i.indkey)).n AS pos FROM pg_catalog.pg_class AS ct "
                 "INNER JOIN pg_catalog.pg_namespace AS n ON ct.relnamespace = n.oid INNER JOIN pg_catalog.pg_index AS i ON ct.oid = i.indrelid "
                 "INNER JOIN pg_catalog.pg_class AS ci ON ci.oid = i.indexrelid WHERE (pg_catalog.pg_get_expr(i.indpred, i.indrelid) IS NULL) "
                 "AND n.nspname !~ '^information_schema|catalog_history|pg_') AS tmp WHERE tmp.pos = 1", ("orders", "lines", "order_id")),
    ("Metabase", "SELECT nspname, typname FROM pg_type t JOIN pg_enum e ON t.oid = e.enumtypid JOIN pg_namespace n ON n.oid = t.typnamespace GROUP BY nspname, typname", None),
    ("Metabase", "with table_privileges as (select NULL as role, t.schemaname as schema, t.objectname as table, "
                 "pg_catalog.has_any_column_privilege(current_user, '\"' || t.schemaname || '\"' || '.' || '\"' || t.objectname || '\"', 'update') as update, "
                 "pg_catalog.has_table_privilege(current_user, '\"' || t.schemaname || '\"' || '.' || '\"' || t.objectname || '\"', 'SELECT') as select "
                 "from (select schemaname, tablename as objectname from pg_catalog.pg_tables union select schemaname, viewname as objectname from pg_views "
                 "union select schemaname, matviewname as objectname from pg_matviews) as t where t.schemaname !~ '^pg_' and t.schemaname <> 'information_schema' "
                 "and pg_catalog.has_schema_privilege(current_user, t.schemaname, 'usage')) select t.* from table_privileges t", (None, "reports", "totals", False, True)),
    # ---- DBeaver.
    ("DBeaver", "SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE datname='headwater'", (16383, 16383, "headwater")),
    ("DBeaver", "SELECT n.oid,n.*,d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=n.oid AND d.objsubid=0 "
                "AND d.classoid='pg_namespace'::regclass ORDER BY nspname", None),
    ("DBeaver", "SELECT t.oid,t.*,c.relkind,format_type(nullif(t.typbasetype, 0), t.typtypmod) as base_type_name, d.description FROM pg_catalog.pg_type t "
                "LEFT OUTER JOIN pg_catalog.pg_type et ON et.oid=t.typelem LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid=t.typrelid "
                "LEFT OUTER JOIN pg_catalog.pg_description d ON t.oid=d.objoid WHERE t.typname IS NOT NULL AND (c.relkind IS NULL OR c.relkind = 'c') "
                "AND (et.typcategory IS NULL OR et.typcategory <> 'C')", (16, 16, "bool")),
    ("DBeaver", "SELECT c.oid,c.*,d.description,pg_catalog.pg_get_expr(c.relpartbound, c.oid) as partition_expr, pg_catalog.pg_get_partkeydef(c.oid) as partition_key "
                "FROM pg_catalog.pg_class c LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=c.oid AND d.objsubid=0 AND d.classoid='pg_class'::regclass "
                "WHERE c.relnamespace='orders'::regnamespace AND c.relkind not in ('i','I','c')", None),
    ("DBeaver", "SELECT c.relname,a.*,pg_catalog.pg_get_expr(ad.adbin, ad.adrelid, true) as def_value,dsc.description,dep.objid FROM pg_catalog.pg_attribute a "
                "INNER JOIN pg_catalog.pg_class c ON (a.attrelid=c.oid) LEFT OUTER JOIN pg_catalog.pg_attrdef ad ON (a.attrelid=ad.adrelid AND a.attnum = ad.adnum) "
                "LEFT OUTER JOIN pg_catalog.pg_description dsc ON (c.oid=dsc.objoid AND a.attnum = dsc.objsubid) "
                "LEFT OUTER JOIN pg_depend dep on dep.refobjid = a.attrelid AND dep.deptype = 'i' and dep.refobjsubid = a.attnum and dep.classid = dep.refclassid "
                "WHERE NOT a.attisdropped AND c.oid='orders.orders'::regclass ORDER BY a.attnum", None),
    ("DBeaver", "SELECT c.oid,c.*,t.relname as tabrelname,rt.relnamespace as refnamespace,d.description, null as consrc_copy FROM pg_catalog.pg_constraint c "
                "INNER JOIN pg_catalog.pg_class t ON t.oid=c.conrelid LEFT OUTER JOIN pg_catalog.pg_class rt ON rt.oid=c.confrelid "
                "LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=c.oid AND d.objsubid=0 AND d.classoid='pg_constraint'::regclass "
                "WHERE c.conrelid='orders.lines'::regclass ORDER BY c.oid", None),
    ("DBeaver", "SELECT i.*,i.indkey as keys,c.relname,c.relnamespace,c.relam,tc.relname as tabrelname,dsc.description,pg_catalog.pg_get_expr(i.indexprs, i.indrelid, true) as expr "
                "FROM pg_catalog.pg_index i INNER JOIN pg_catalog.pg_class c ON c.oid=i.indexrelid INNER JOIN pg_catalog.pg_class tc ON tc.oid=i.indrelid "
                "LEFT OUTER JOIN pg_catalog.pg_description dsc ON i.indexrelid=dsc.objoid WHERE i.indrelid='orders.lines'::regclass ORDER BY c.relname", None),
    ("DBeaver", "SELECT p.oid,p.*,d.description FROM pg_catalog.pg_proc p LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=p.oid WHERE p.pronamespace='orders'::regnamespace ORDER BY p.proname", None),
    ("DBeaver", "SELECT x.oid,x.*,p.pronamespace FROM pg_catalog.pg_trigger x LEFT OUTER JOIN pg_catalog.pg_proc p ON p.oid=x.tgfoid WHERE x.tgrelid='orders.lines'::regclass AND NOT tgisinternal", None),
    ("DBeaver", "SELECT i.*,c.relnamespace FROM pg_catalog.pg_inherits i,pg_catalog.pg_class c WHERE i.inhrelid='orders.lines'::regclass AND c.oid=i.inhparent ORDER BY i.inhseqno", None),
    ("DBeaver", "SELECT a.oid,a.*,pd.description FROM pg_catalog.pg_roles a left join pg_catalog.pg_shdescription pd on a.oid = pd.objoid ORDER BY a.rolname", None),
    ("DBeaver", "select c.oid,pg_catalog.pg_total_relation_size(c.oid) as total_rel_size,pg_catalog.pg_relation_size(c.oid) as rel_size FROM pg_class c WHERE c.relnamespace='orders'::regnamespace", None),
    ("DBeaver", "SELECT * FROM pg_catalog.pg_settings WHERE name='server_version'", ("server_version", "15.0")),
    ("DBeaver", "select string_agg(word, ',') from pg_catalog.pg_get_keywords() where word <> ALL ('{a,abs,absolute,limit}'::text[])", None),
    ("DBeaver", "SELECT current_schema(),session_user", ("orders", "ada")),
    # ---- Superset asks through SQLAlchemy, below, and these of its own.
    ("Superset", "SELECT table_name FROM information_schema.views WHERE table_schema='orders'", None),
    ("Superset", "SELECT datname FROM pg_database WHERE datistemplate = false", ("headwater",)),
]


def asks(connection):
    for tool, question, expected in QUESTIONS:
        try:
            found = connection.execute(question.encode()).fetchall()
        except psycopg.Error as error:
            raise AssertionError(f"{tool}: {question}: {error}") from error
        if expected is not None:
            assert any(row[: len(expected)] == expected for row in found), f"{tool}: {question}: {found}"


def loads_types(connection):
    cursor = connection.execute(NPGSQL.encode())
    assert cursor.fetchone()[0].startswith("PostgreSQL 15")
    assert cursor.nextset()
    types = {row[2]: row for row in cursor.fetchall()}
    assert types["int8"][:4] == ("pg_catalog", 20, "int8", "b"), types["int8"]
    assert types["_int8"][3:] == ("a", False, 20), types["_int8"]
    assert types["void"][3] == "p" and list(types)[-1].startswith("_"), list(types)
    assert cursor.nextset() and cursor.fetchall() == []
    assert cursor.nextset() and cursor.fetchall() == []


def reflects(url):
    """SQLAlchemy's inspector, whole: it is what Superset and pandas list with."""
    for driver in ["psycopg", "psycopg2"]:
        inspector = sqlalchemy.inspect(sqlalchemy.create_engine(url.replace("postgresql:", f"postgresql+{driver}:")))
        names = inspector.get_schema_names()
        assert {"customers", "orders", "reports", "information_schema"} <= set(names), names
        assert inspector.default_schema_name == "orders", inspector.default_schema_name
        assert sorted(inspector.get_table_names(schema="orders")) == ["lines", "orders"]
        assert inspector.get_table_names(schema="reports") == []
        assert inspector.get_materialized_view_names(schema="reports") == ["totals"]
        assert inspector.get_view_names(schema="orders") == []
        assert inspector.get_sequence_names(schema="orders") == []
        assert "count" in inspector.get_view_definition("totals", schema="reports").lower()
        assert [column["name"] for column in inspector.get_columns("totals", schema="reports")] == ["customer", "n"]
        assert [column["name"] for column in inspector.get_columns("orders", schema="orders")] == ["id", "customer", "total"]
        assert inspector.get_pk_constraint("lines", schema="orders")["constrained_columns"] == ["order_id", "line"]
        assert inspector.get_foreign_keys("lines", schema="orders") == []
        assert inspector.get_indexes("lines", schema="orders") == []
        assert inspector.get_unique_constraints("lines", schema="orders") == []
        assert inspector.get_check_constraints("lines", schema="orders") == []
        assert inspector.get_table_comment("lines", schema="orders") == {"text": None}
        assert inspector.get_enums(schema="*") == [] and inspector.get_domains(schema="*") == []
        assert inspector.has_table("totals", schema="reports") and inspector.has_schema("orders")
        assert len(inspector.get_multi_columns(schema="orders")) == 2
        metadata = sqlalchemy.MetaData()
        metadata.reflect(inspector.engine, schema="orders", views=True)
        assert sorted(metadata.tables) == ["orders.lines", "orders.orders"], sorted(metadata.tables)


def main():
    url = f"postgresql://ada@{sys.argv[1]}/headwater"
    with psycopg.connect(url, autocommit=True) as connection:
        loads_types(connection)
        asks(connection)
    reflects(url)
    print("every check passed")


if __name__ == "__main__":
    main()
