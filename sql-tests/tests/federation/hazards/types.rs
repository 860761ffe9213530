//! Types that take a whole table down in other engines: here one odd column is text, and the rest works.

use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::{Reference, Services, both_ways, rows};

use headwater::Engine;

/// Each column alone, all together, and a filter on each: nothing fails, and nothing changes with pushdown.
async fn every_column_is_read(engine: &Engine, table: &str) {
    let all = both_ways(engine, &format!("SELECT * FROM {table}")).await.unwrap_or_else(|error| panic!("{error}"));
    let reference = Reference::copy(engine, &[table]).await;
    for (column, data_type) in &all.columns {
        let read = |query: String| {
            let reference = &reference;
            async move { reference.agrees(engine, &query).await.unwrap_or_else(|error| panic!("{query}: {error}")) }
        };
        read(format!("SELECT \"{column}\" FROM {table}")).await;
        read(format!("SELECT id FROM {table} WHERE \"{column}\" IS NULL")).await;
        read(format!("SELECT id FROM {table} WHERE \"{column}\" IS NOT NULL")).await;
        read(format!("SELECT count(\"{column}\") FROM {table}")).await;
        if *data_type == arrow::datatypes::DataType::Utf8 {
            let value = all.rows[0][all.columns.iter().position(|(name, _)| name == column).unwrap()].clone().unwrap();
            let value = value.replace('\'', "''");
            let found = read(format!("SELECT id FROM {table} WHERE \"{column}\" = '{value}'")).await;
            assert!(found.column().contains(&"1"), "{column} equals the text that it is read as");
            read(format!("SELECT id FROM {table} WHERE \"{column}\" = 'nothing like it'")).await;
            read(format!("SELECT id FROM {table} WHERE \"{column}\" <> 'nothing like it'")).await;
            read(format!("SELECT id FROM {table} WHERE \"{column}\" >= '1' AND \"{column}\" IN ('{value}', 'x')"))
                .await;
            read(format!("SELECT id FROM {table} WHERE \"{column}\" LIKE '%1%'")).await;
            read(format!("SELECT id FROM {table} WHERE upper(\"{column}\") = upper('{value}')")).await;
            read(format!("SELECT \"{column}\" FROM {table} ORDER BY \"{column}\" LIMIT 1")).await;
        }
    }
}

#[tokio::test]
async fn postgres_odd_types_degrade_to_text_and_hide_nothing() {
    let database = PostgresDatabase::with(
        "CREATE EXTENSION IF NOT EXISTS hstore; CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b text); \
         CREATE DOMAIN positive AS int CHECK (value > 0); \
         CREATE TABLE t (id int, j json, jb jsonb, tmz timetz, b1 bit(3), vb varbit, i inet, c cidr, mac macaddr, e mood, ea mood[], \
           u uuid, ua uuid[], m money, r int4range, p point, pg polygon, x xml, ts tsvector, tq tsquery, iv interval, hs hstore, comp pair, \
           dom positive, o oid, ja jsonb[], na numeric[], da date[], ba bytea[], nm name, ch \"char\", pl pg_lsn, ba1 bytea, xid8 xid8); \
         INSERT INTO t VALUES (1, '{\"b\": 1,  \"a\": [2]}', '{\"b\": 1, \"a\": [2]}', '12:00:00+02', '101', '1', '10.0.0.1/8', '10.0.0.0/8', \
           '08:00:2b:01:02:03', 'sad', '{sad,NULL}', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}', \
           12.34, '[1,5)', '(1,2)', '((0,0),(1,1))', '<a>1</a>', 'fat cat', 'fat & cat', '1 mon 2 days 03:04:05.000006', 'a=>1', \
           '(1,\"x,y\")', 7, 42, '{\"{\\\"k\\\": 1}\"}', '{1.10,NULL}', '{2024-01-01}', '{\"\\\\x01\"}', 'nm', 'c', '0/16B3748', '\\x0001ff', '1'); INSERT INTO t (id) VALUES (2)",
    )
    .await;
    let services = Services::new().with_postgres("pg", &database.url());
    let engine = services.engine().await;
    every_column_is_read(&engine, "pg.t").await;
    let found = rows(&engine, "SELECT u, e, jb, i, b1 FROM pg.t WHERE id = 1").await;
    let expected = ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "sad", "{\"a\": [2], \"b\": 1}", "10.0.0.1/8", "101"];
    assert_eq!(found.texts(), [expected]);
    let reference = Reference::copy(&engine, &["pg.t"]).await;
    for test in [
        "u = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
        "u = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
        "u = 'not a uuid'",
        "u LIKE 'a0ee%'",
        "u IN ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{a0eebc999c0b4ef8bb6d6bb9bd380a11}')",
        "u > 'a'",
        "u <> 'x'",
        "e = 'SAD'",
        "e > 'a'",
    ] {
        let query = format!("SELECT id FROM pg.t WHERE {test}");
        reference.agrees(&engine, &query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    }
}

#[tokio::test]
async fn mariadb_odd_types_degrade_to_text_and_hide_nothing() {
    let database = MysqlDatabase::with(
        "CREATE TABLE t (id int, y year, b1 bit(1), b8 bit(8), b64 bit(64), e enum('a', 'B', ''), s set('x', 'y'), j json, g geometry, \
           u uuid, i6 inet6, tb tinyblob, mb mediumblob, bi binary(4), vb varbinary(4), tt tinytext, lt longtext, d decimal(65,30), \
           ti tinyint(1), f float, dt0 datetime, tm time, z int(5) zerofill, nat nchar(3), gen int AS (id + 1) VIRTUAL); \
         INSERT INTO t (id, y, b1, b8, b64, e, s, j, g, u, i6, tb, mb, bi, vb, tt, lt, d, ti, f, dt0, tm, z, nat) VALUES \
           (1, 2024, b'1', b'10000001', b'1', 'B', 'x,y', '{\"a\": 1}', ST_GeomFromText('POINT(1 2)'), \
           'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '::1', x'00ff', x'0102', x'01', x'0100', 'tiny', 'long', 1.5, 1, 1.5, \
           '2024-01-01 00:00:00', '12:00:00', 42, 'abc'); INSERT INTO t (id) VALUES (2)",
    )
    .await;
    let engine = Services::new().with_mysql("my", &database.url());
    every_column_is_read(&engine.engine().await, "my.t").await;
}

#[tokio::test]
async fn sqlite_odd_declarations_hide_nothing() {
    let services = Services::new().with_sqlite(
        "lite",
        "CREATE TABLE t (id INTEGER, j JSON, none, any ANY, odd \"FLOATING POINT\", geo POINT, d DECIMAL, u UUID, long LONGVARCHAR(10), gen INT AS (id + 1));
         INSERT INTO t (id, j, none, any, odd, geo, d, u, long) VALUES (1, '{\"a\": 1}', 'free', 'text', 3, 4, 5, 'a0eebc99', 'x');
         INSERT INTO t (id) VALUES (2);
         CREATE VIEW v AS SELECT id, id * 2 AS twice, 'x' AS const FROM t;
         CREATE TABLE w (k TEXT PRIMARY KEY, v INT) WITHOUT ROWID; INSERT INTO w VALUES ('a', 1);
         CREATE VIRTUAL TABLE fts USING fts5(body); INSERT INTO fts VALUES ('words here');",
    );
    let engine = services.engine().await;
    every_column_is_read(&engine, "lite.t").await;
    assert_eq!(rows(&engine, "SELECT id FROM lite.v WHERE id = 1").await.column(), ["1"]);
    assert_eq!(rows(&engine, "SELECT twice FROM lite.v ORDER BY id").await.column(), ["2", "4"]);
    assert_eq!(rows(&engine, "SELECT v FROM lite.w WHERE k = 'a'").await.column(), ["1"]);
    assert_eq!(rows(&engine, "SELECT body FROM lite.fts").await.column(), ["words here"]);
}

#[tokio::test]
async fn views_partitions_and_foreign_schemas_are_tables_like_others() {
    let database = PostgresDatabase::with(
        "CREATE TABLE p (id int, d date) PARTITION BY RANGE (d); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2024-01-01') TO ('2025-01-01'); \
         INSERT INTO p VALUES (1, '2024-05-05'); CREATE VIEW v AS SELECT id * 2 AS twice FROM p; \
         CREATE MATERIALIZED VIEW mv AS SELECT count(*) AS n FROM p; CREATE SCHEMA other; CREATE TABLE other.t2 (id int); \
         INSERT INTO other.t2 VALUES (9); CREATE TABLE \"Mixed Case\" (\"Id\" int); INSERT INTO \"Mixed Case\" VALUES (3); \
         CREATE TABLE no_columns (); INSERT INTO no_columns DEFAULT VALUES; CREATE TABLE empty_table (id int)",
    )
    .await;
    let services = Services::new().with_postgres("pg", &database.url());
    let engine = services.engine().await;
    assert_eq!(rows(&engine, "SELECT twice FROM pg.v").await.column(), ["2"]);
    assert_eq!(rows(&engine, "SELECT n FROM pg.mv").await.column(), ["1"]);
    assert_eq!(rows(&engine, "SELECT id FROM pg.p WHERE d = DATE '2024-05-05'").await.column(), ["1"]);
    assert_eq!(rows(&engine, "SELECT id FROM pg.t2").await.column(), ["9"]);
    assert_eq!(rows(&engine, "SELECT \"Id\" FROM pg.\"Mixed Case\" WHERE \"Id\" = 3").await.column(), ["3"]);
    assert!(rows(&engine, "SELECT id FROM pg.empty_table").await.rows.is_empty());
    assert_eq!(rows(&engine, "SELECT count(*) FROM pg.empty_table").await.column(), ["0"]);
    assert_eq!(rows(&engine, "SELECT count(*) FROM pg.no_columns").await.column(), ["1"]);
}
