//! Materialized views over real services without feeds: every type comes through, and what is written shows after the next reading.

use std::time::Duration;

use headwater::{Engine, Session, ViewOptions};
use headwater_sql_tests::everywhere::{Everywhere, SERVICES};
use headwater_sql_tests::rows::Rows;
use headwater_sql_tests::services::{Pushdown, ask, session};

const POSTGRES: &str = "
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE t (id bigint PRIMARY KEY, i int, n numeric(12,3), na numeric, f double precision, r real, b boolean, s text, d date, ts timestamp,
  tz timestamptz, tm time, by bytea, u uuid, j jsonb, ia int[], e mood);
INSERT INTO t VALUES (1, -7, 12345.678, 1.10, 'NaN', 1.5, true, 'é \"x\"', '2024-02-29', '2024-01-02 03:04:05.678901', '2024-01-02 03:04:05+02', '23:59:59',
  '\\x00ff', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{\"a\": 1}', '{1,NULL}', 'ok'),
  (2, 2147483647, -0.001, 0, '-0', 0, false, '', '0001-01-01', '1969-12-31 23:59:59', '1969-12-31 23:59:59+00', '00:00:00', '', NULL, '[]', '{}', 'sad');
INSERT INTO t (id) VALUES (3);";

const MARIADB: &str = "
CREATE TABLE t (id bigint PRIMARY KEY, i int, n decimal(12,3), f double, s varchar(50), d date, ts datetime(6), tm time(6), b varbinary(20),
  u bigint unsigned, e enum('a', 'b'), y year, bt bit(5), j json);
INSERT INTO t VALUES (1, -7, 12345.678, 0.1, 'é', '2024-02-29', '2024-01-02 03:04:05.678901', '23:59:59.5', x'00ff', 18446744073709551615, 'b', 2024, b'101', '{}'),
  (2, 0, -0.001, -1e300, '', '1000-01-01', '1000-01-01', '00:00:00', '', 0, 'a', 1970, b'0', '[1]');
INSERT INTO t (id) VALUES (3);";

const SQLITE: &str = "
CREATE TABLE t (id INTEGER PRIMARY KEY, i INTEGER, f REAL, s TEXT, b BLOB, d DECIMAL(10,2), x);
INSERT INTO t VALUES (1, -7, 0.1, 'é', x'00ff', 12.5, 'any'), (2, 9223372036854775807, -1e300, '', x'', 0, 7);
INSERT INTO t (id) VALUES (3);";

/// The longest that a reading takes on a machine that is busy.
const DEADLINE: Duration = Duration::from_secs(60);

async fn polled(everywhere: &Everywhere) -> (Engine, Session) {
    let views = ViewOptions { poll_interval: Duration::from_millis(50), ..ViewOptions::default() };
    let builder = Engine::builder().services_dir(everywhere.services.manifests());
    let engine = builder.connectors(headwater_connectors::all()).views(views).build().await.unwrap();
    let session = session(&engine, Pushdown::On).await;
    (engine, session)
}

async fn asked(session: &Session, sql: &str) -> Rows {
    ask(session, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Asks both until they agree.
async fn agree(session: &Session, view: &str, live: &str) {
    let begun = tokio::time::Instant::now();
    loop {
        let (shown, expected) = (asked(session, view).await, asked(session, live).await);
        let Some(difference) = shown.difference(&expected) else { return };
        assert!(begun.elapsed() < DEADLINE, "{view} and {live}: {difference}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_comes_through_a_view_and_writes_show_after_the_next_reading() {
    let everywhere = Everywhere::with(POSTGRES, MARIADB, SQLITE).await;
    let (_engine, session) = polled(&everywhere).await;
    for service in SERVICES {
        let created =
            asked(&session, &format!("CREATE MATERIALIZED VIEW v.{service} AS SELECT * FROM {service}.t")).await;
        assert_eq!(created.texts()[0][1], "shown", "{service}");
        agree(&session, &format!("SELECT * FROM v.{service}"), &format!("SELECT * FROM {service}.t")).await;
    }
    let joined = "SELECT p.id, p.n + m.n AS n, l.s || m.s AS s, count(*) AS c FROM pg.t p JOIN my.t m ON p.id = m.id \
                  LEFT JOIN lite.t l ON l.i = p.i GROUP BY p.id, p.n + m.n, l.s || m.s";
    asked(&session, &format!("CREATE MATERIALIZED VIEW v.joined AS {joined}")).await;
    agree(&session, "SELECT * FROM v.joined", joined).await;
    everywhere
        .postgres
        .execute("UPDATE t SET i = 7, n = 1 WHERE id = 2; INSERT INTO t (id, i, n) VALUES (4, -7, 2.5)")
        .await;
    everywhere.mysql.execute("DELETE FROM t WHERE id = 1").await;
    everywhere.mysql.execute("INSERT INTO t (id, n, s) VALUES (4, 0.5, 'x')").await;
    everywhere
        .services
        .sqlite("lite")
        .execute_batch("UPDATE t SET id = 10 WHERE id = 2; DELETE FROM t WHERE id = 3")
        .unwrap();
    for service in SERVICES {
        agree(&session, &format!("SELECT * FROM v.{service}"), &format!("SELECT * FROM {service}.t")).await;
    }
    agree(&session, "SELECT * FROM v.joined", joined).await;
    let classes = asked(&session, "SELECT DISTINCT class FROM headwater.freshness").await;
    assert_eq!(classes.column(), ["polled"]);
}
