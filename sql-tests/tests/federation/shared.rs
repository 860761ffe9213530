//! Sub-plans over several services that a query needs more than once are computed once.

use std::time::Duration;

use headwater::{Engine, Limits};
use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::{Services, ask, rows};
use headwater_sql_tests::wait;

use crate::needed::{Shop, ship_and_agree};

/// What each town has spent: some 12,000 sums of orders and 10,000 people are shipped for it.
const SPENT: &str = "SELECT p.town, sum(o.total) AS total, count(*) AS n FROM shop.orders o JOIN crm.people p ON p.id = o.customer GROUP BY p.town";

/// The orders of a kind, and who placed them: 8,571 of them, and no more people than that.
const PLACED: &str = "SELECT o.id, o.total, o.placed, p.id AS person, p.name, p.town FROM shop.orders o JOIN crm.people p ON p.id = o.customer WHERE o.id % 7 = 0";

/// Queries over `x`, each with the most rows that it may ship of both services.
const QUERIES: &[(u64, &str, &str)] = &[
    (23_000, SPENT, "SELECT town, total FROM x WHERE total > (SELECT avg(total) FROM x)"),
    (23_000, SPENT, "SELECT a.town, b.town, a.total - b.total FROM x a JOIN x b ON a.total < b.total"),
    (
        23_000,
        SPENT,
        "SELECT town, total FROM x UNION ALL SELECT 'all', sum(total) FROM x UNION ALL SELECT 'n', max(n) FROM x",
    ),
    (
        23_000,
        SPENT,
        "SELECT 'all' AS town, sum(total) AS total FROM x UNION ALL SELECT 'n', max(n) FROM x UNION ALL SELECT town, total FROM x",
    ),
    (
        23_000,
        SPENT,
        "SELECT town, total / (SELECT sum(total) FROM x), (SELECT max(n) FROM x) FROM x ORDER BY total DESC LIMIT 3",
    ),
    (23_000, SPENT, "SELECT town FROM x WHERE n = (SELECT max(n) FROM x) OR total = (SELECT min(total) FROM x)"),
    (19_000, PLACED, "SELECT town, (SELECT max(placed) FROM x), sum(total * person) FROM x GROUP BY town"),
    (
        19_000,
        PLACED,
        "SELECT a.id, a.person FROM x a WHERE a.placed = (SELECT max(b.placed) FROM x b WHERE b.person = a.person)",
    ),
    (19_000, PLACED, SELF_JOIN),
    // The first rows are sought among all, since all are needed for the mean.
    (
        23_000,
        "SELECT p.id AS person, p.town, sum(o.total) AS total FROM shop.orders o JOIN crm.people p ON p.id = o.customer GROUP BY p.id, p.town",
        "SELECT a.person, a.total FROM x a WHERE a.total > (SELECT avg(b.total) FROM x b WHERE b.town = a.town) ORDER BY a.total DESC, a.person LIMIT 20",
    ),
    // The value of the subquery goes to the orders that are above it: fewer are read than all, a second time.
    (30_000, PLACED, "SELECT id, name FROM x WHERE total > (SELECT 1.5 * avg(total) FROM x)"),
    // An order and what it is cut by stay together.
    (
        19_000,
        PLACED,
        "(SELECT id, total FROM x ORDER BY total, id OFFSET 8000) UNION ALL (SELECT id, total FROM x ORDER BY total, id)",
    ),
    (
        // Each might have been cut at a source.
        30_000,
        PLACED,
        "SELECT * FROM (SELECT id, total FROM x ORDER BY total * person, id OFFSET 3 LIMIT 4) a, (SELECT id, total FROM x ORDER BY total * person, id LIMIT 7) b",
    ),
    // Both read few rows, by keys.
    (
        100,
        "SELECT o.id, o.total, p.id AS person, p.town FROM shop.orders o JOIN crm.people p ON p.id = o.customer",
        "SELECT v.person, x.id FROM crm.vip v JOIN x ON x.person = v.person WHERE v.person * 3 < 10 \
         UNION ALL SELECT v.person, x.id FROM crm.vip v JOIN x ON x.person = v.person WHERE v.person * 5 < 10",
    ),
];

const SELF_JOIN: &str =
    "SELECT a.id, b.id FROM x a JOIN x b ON a.placed = b.placed AND a.id < b.id AND a.town = b.town";

fn with(cte: &str, query: &str) -> String {
    format!("WITH x AS ({cte}) {query}")
}

/// How often the plan reads rows that are computed once.
async fn shares(engine: &Engine, query: &str) -> usize {
    let plan = rows(engine, &format!("EXPLAIN {query}")).await.texts().concat().join("\n");
    plan.matches("SharedExec").count()
}

#[tokio::test]
async fn cte_that_is_read_twice_is_computed_once() {
    let Shop { engine, reference, .. } = &Shop::open().await;
    let queries: Vec<(u64, String)> = QUERIES.iter().map(|(most, cte, query)| (*most, with(cte, query))).collect();
    let queries: Vec<(u64, &str)> = queries.iter().map(|(most, query)| (*most, query.as_str())).collect();
    ship_and_agree(engine, reference, &queries).await;
    for (cte, query, times) in [
        (SPENT, QUERIES[0].2, 2),
        (PLACED, SELF_JOIN, 2),
        // One source answers it whole.
        (
            "SELECT customer, sum(total) AS total FROM shop.orders GROUP BY customer",
            "SELECT count(*) FROM x a JOIN x b ON a.total < b.total",
            0,
        ),
        // It is another each time, above what is computed once.
        (&format!("SELECT random() AS r, town, n FROM ({SPENT}) s"), "SELECT a.r FROM x a JOIN x b ON a.r < b.r", 2),
    ] {
        assert_eq!(shares(engine, &with(cte, query)).await, times, "{query}");
    }
}

#[tokio::test]
async fn statement_that_is_prepared_computes_once_for_each_execution() {
    let Shop { engine, .. } = &Shop::open().await;
    let session = engine.session();
    ask(
        &session,
        &format!(
            "PREPARE above AS {}",
            with(SPENT, "SELECT count(*) FROM x WHERE total > $1 * (SELECT avg(total) FROM x)")
        ),
    )
    .await
    .unwrap();
    for (factor, count) in [("0.1", "5"), ("100.0", "0"), ("0.1", "5")] {
        assert_eq!(ask(&session, &format!("EXECUTE above({factor})")).await.unwrap().column(), [count]);
    }
}

#[tokio::test]
async fn rows_that_memory_does_not_hold_are_spilled() {
    let shop = Shop::open().await;
    let spill = tempfile::tempdir().unwrap();
    let limits = Limits { memory_bytes: 4 << 20, spill_directory: spill.path().to_owned(), ..Limits::default() };
    let engine = shop.engine_with(limits).await;
    let query = with(&PLACED.replace("% 7 = 0", "% 2 = 0"), SELF_JOIN);
    shop.reference.agrees(&engine, &query).await.unwrap();
    let plan = rows(&engine, &format!("EXPLAIN ANALYZE {query}")).await.texts().concat().join("\n");
    let spilled: Vec<&str> = plan.lines().filter(|line| line.contains("SharedExec")).collect();
    assert!(
        spilled.iter().any(|line| line.contains("spill_count=") && !line.contains("spilled_rows=0")),
        "{spilled:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_any_more_is_stopped() {
    let postgres = PostgresDatabase::with(
        "CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2); CREATE VIEW slow AS SELECT id, pg_sleep(300)::text AS s FROM t",
    )
    .await;
    let mysql = MysqlDatabase::with("CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2)").await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    let engine = services.engine().await;
    let query = with(
        "SELECT m.id, max(s.s) AS s FROM my.t m JOIN pg.slow s ON m.id = s.id GROUP BY m.id",
        "SELECT a.id FROM x a JOIN x b ON a.s < b.s",
    );
    assert_eq!(shares(&engine, &query).await, 2);
    let asking = tokio::spawn({
        let engine = engine.clone();
        async move { ask(&engine.session(), &query).await }
    });
    wait::until("it runs", Duration::from_secs(30), async || postgres.running("slow").await > 0).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(postgres.running("slow").await, 1, "it is computed once");
    asking.abort();
    wait::until("nothing runs", Duration::from_secs(3), async || postgres.running("slow").await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_cut_reader_leaves_are_there_for_others() {
    let postgres = PostgresDatabase::with(
        "CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2); CREATE VIEW slow AS SELECT id, 's' || pg_sleep(0.3)::text AS s FROM t",
    )
    .await;
    let mysql = MysqlDatabase::with("CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2)").await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    let engine = services.engine().await;
    // The limit is met while the rows are being computed; then all of them are wanted.
    let query = with(
        "SELECT m.id, s.s FROM my.t m JOIN pg.slow s ON m.id = s.id",
        "SELECT sum(id * length(s)) + 0 * (SELECT min(v) FROM (SELECT id AS v FROM my.t UNION ALL SELECT id + length(s) AS v FROM x LIMIT 1) u) AS total, \
         count(*) AS n FROM x",
    );
    assert_eq!(shares(&engine, &query).await, 2);
    for _ in 0..3 {
        assert_eq!(rows(&engine, &query).await.texts(), [["3", "2"]]);
    }
}

/// The groups of one are made in parts at their source, and put together here.
#[tokio::test]
async fn groups_that_are_made_in_parts_are_not_those_of_a_query() {
    let mysql = MysqlDatabase::with(
        "CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL); INSERT INTO orders SELECT seq, seq % 1000 FROM seq_1_to_400000; ANALYZE TABLE orders",
    )
    .await;
    let postgres = PostgresDatabase::with(
        "CREATE TABLE people (id int PRIMARY KEY, town text); INSERT INTO people SELECT n, 'town ' || n % 4 FROM generate_series(0, 999) n; ANALYZE",
    )
    .await;
    let services = Services::new().with_mysql("shop", &mysql.url()).with_postgres("crm", &postgres.url());
    let engine = services.engine().await;
    let query = "SELECT DISTINCT p.town, 0 AS n FROM shop.orders o JOIN crm.people p ON o.customer = p.id UNION ALL \
        SELECT p.town, count(*) FROM (SELECT DISTINCT o.customer FROM shop.orders o) JOIN crm.people p ON o.customer = p.id GROUP BY p.town";
    let mut found: Vec<Vec<String>> = rows(&engine, query)
        .await
        .texts()
        .into_iter()
        .map(|row| row.into_iter().map(str::to_owned).collect())
        .collect();
    found.sort();
    let expected = (0..4).flat_map(|town| ["0", "250"].map(|n| vec![format!("town {town}"), n.to_owned()]));
    assert_eq!(found, expected.collect::<Vec<_>>());
}
