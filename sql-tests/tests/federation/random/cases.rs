//! What random queries found: each failure as a small case that stays.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::parquet::arrow::ArrowWriter;
use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::{Pushdown, Reference, Services, ask, session};

/// Asks with pushdown, without and over a local copy, under these settings, and asserts the one answer.
async fn agree(services: &Services, tables: &[&str], settings: &[&str], query: &str) -> Vec<Vec<Option<String>>> {
    let engine = services.engine().await;
    let reference = Reference::copy(&engine, tables).await;
    for setting in settings {
        reference.ask(setting).await.unwrap();
    }
    let right = reference.ask(query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    for pushdown in [Pushdown::On, Pushdown::Off] {
        let session = session(&engine, pushdown).await;
        for setting in settings {
            ask(&session, setting).await.unwrap();
        }
        let found = ask(&session, query).await.unwrap_or_else(|error| panic!("{query}\n{pushdown:?}: {error}"));
        assert_eq!(found.difference(&right), None, "{query}\npushdown {pushdown:?}");
    }
    right.sorted().rows
}

const PARTITIONED: [&str; 3] = [
    "SET datafusion.execution.target_partitions = 3",
    "SET datafusion.optimizer.hash_join_single_partition_threshold = 0",
    "SET datafusion.optimizer.hash_join_single_partition_threshold_rows = 0",
];

/// DataFusion hands a join's keys down by names of columns: the keys of `v.id` reached `o.id`, and its row was not read.
#[tokio::test]
async fn keys_of_a_join_do_not_reach_another_column_of_the_same_name() {
    let database = MysqlDatabase::with(
        "CREATE TABLE orders (id boolean, day date); \
         INSERT INTO orders VALUES (0, '1969-12-31'), (0, '0001-01-01'), (1, '1969-12-31'), (NULL, '2020-02-29'), \
         (0, '0001-01-01'), (0, '0001-01-01'); \
         CREATE TABLE visits (id bigint, page smallint, seconds double, day date); \
         INSERT INTO visits VALUES (-1, 1, NULL, '1969-12-31')",
    )
    .await;
    let services = Services::new().with_mysql("my", &database.url());
    let query = "SELECT 1.0 AS found FROM my.orders o LEFT JOIN my.visits v ON o.day = v.day \
        JOIN my.visits w ON v.id = w.id WHERE o.id = w.page AND (v.seconds <= 1.0) IS NULL";
    for settings in [&PARTITIONED[..], &[]] {
        let rows = agree(&services, &["my.orders", "my.visits"], settings, query).await;
        assert_eq!(rows, [[Some("1.0".to_owned())]]);
    }
}

/// The side that is aggregated early has no column to group by: a constant alone made an aggregate of nothing, which failed, and a
/// count made a row of no rows, which each row of the other side met.
#[tokio::test]
async fn join_without_keys_is_not_aggregated_beneath() {
    let postgres = PostgresDatabase::with("CREATE TABLE none (x int)").await;
    let mysql = MysqlDatabase::with("CREATE TABLE words (w varchar(20)); INSERT INTO words VALUES ('a'), ('b')").await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    for query in [
        "SELECT DISTINCT CAST('1' AS DOUBLE) AS one FROM pg.none n JOIN my.words w ON true",
        "SELECT w.w, count(n.x) AS many FROM my.words w CROSS JOIN pg.none n GROUP BY w.w",
        "SELECT w.w, sum(n.x) AS total FROM my.words w JOIN pg.none n ON w.w = 'a' GROUP BY w.w",
    ] {
        let rows = agree(&services, &["pg.none", "my.words"], &[], query).await;
        assert!(rows.is_empty(), "{query}: {rows:?}");
    }
}

/// MariaDB remembers what a subquery answered by the values of the outer row under their collation, and took the answer for 'A' for that
/// for 'a'.
#[tokio::test]
async fn answer_of_a_subquery_is_not_remembered_for_another_text_that_folds_alike() {
    let database = MysqlDatabase::with(
        "CREATE TABLE t (id int PRIMARY KEY, s varchar(20)); \
         INSERT INTO t VALUES (0, 'A'), (1, 'a'), (2, 'A'), (3, 'a'), (4, 'a'), (5, '\u{E1}'), (6, 'A ')",
    )
    .await;
    let services = Services::new().with_mysql("my", &database.url());
    let query = "SELECT a.id FROM my.t a WHERE NOT EXISTS (SELECT 1 FROM my.t b WHERE b.id % 3 = 1 AND b.s = a.s)";
    let rows = agree(&services, &["my.t"], &[], query).await;
    assert_eq!(rows.concat(), ["0", "2", "5", "6"].map(|id| Some(id.to_owned())));
}

/// Beneath a projection two keys are one column, of which an aggregate makes one: the plan had a column too few.
#[tokio::test]
async fn column_that_is_selected_twice_is_grouped_beneath_a_join() {
    let postgres = PostgresDatabase::with("CREATE TABLE t (c int); INSERT INTO t VALUES (1), (1), (2)").await;
    let mysql =
        MysqlDatabase::with("CREATE TABLE u (id int PRIMARY KEY, d int); INSERT INTO u VALUES (1, 7), (3, 7)").await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    for query in [
        "SELECT DISTINCT t.c AS a, t.c AS b FROM my.u JOIN pg.t ON true",
        "SELECT t.c AS a, t.c AS b, count(t.c) AS n, avg(t.c) AS m FROM my.u CROSS JOIN pg.t GROUP BY 1, 2",
        "SELECT u.id, t.c, count(*) AS n FROM my.u JOIN pg.t ON u.id = t.c GROUP BY u.id, t.c",
        "SELECT DISTINCT u.id AS a, t.c AS b FROM my.u JOIN pg.t ON u.id = t.c",
        "SELECT DISTINCT CAST(t.c AS VARCHAR) AS a, CAST(t.c AS DECIMAL(20, 0)) AS b FROM my.u CROSS JOIN pg.t",
    ] {
        assert!(!agree(&services, &["pg.t", "my.u"], &[], query).await.is_empty(), "{query}");
    }
}

/// A join that projects its columns itself forgets which of them is constant, and the order by it was missed.
#[tokio::test]
async fn rows_are_ordered_by_a_constant_above_a_join() {
    let database =
        PostgresDatabase::with("CREATE TABLE t (c double precision); INSERT INTO t VALUES (1), (2), (NULL)").await;
    let services = Services::new().with_postgres("pg", &database.url());
    let query = "SELECT s.one FROM (SELECT 1.0 AS one, c FROM pg.t) AS s LEFT JOIN pg.t AS u ON s.c = u.c ORDER BY 1";
    let partitions = ["SET datafusion.execution.target_partitions = 3"];
    assert_eq!(agree(&services, &["pg.t"], &partitions, query).await.len(), 3);
}

/// What is constant on one side of an outer join is NULL where that side has no partner; DataFusion did not sort by it, and cut the rows as they came.
#[tokio::test]
async fn rows_are_ordered_by_a_constant_of_an_outer_joins_side() {
    let postgres = PostgresDatabase::with("CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2), (3), (4)").await;
    let mysql =
        MysqlDatabase::with("CREATE TABLE u (id int, kind varchar(9)); INSERT INTO u VALUES (2, 'a'), (4, 'a')").await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    let engine = services.engine().await;
    let rows = |values: [Option<&str>; 2]| values.map(|value| vec![value.map(str::to_owned)]);
    for pushdown in [Pushdown::On, Pushdown::Off] {
        let session = session(&engine, pushdown).await;
        for side in
            ["(SELECT id, 'a' AS kind FROM my.u)", "(SELECT id, kind FROM my.u WHERE upper(kind) = 'A' AND kind = 'a')"]
        {
            for (order, first) in
                [("DESC NULLS FIRST", rows([None, None])), ("DESC NULLS LAST", rows([Some("a"), Some("a")]))]
            {
                for join in ["pg.t LEFT JOIN {side} AS s", "{side} AS s RIGHT JOIN pg.t", "pg.t FULL JOIN {side} AS s"]
                {
                    let from = join.replace("{side}", side);
                    let query = format!("SELECT s.kind FROM {from} ON t.id = s.id ORDER BY s.kind {order} LIMIT 2");
                    assert_eq!(ask(&session, &query).await.unwrap().rows, first, "{query}");
                }
            }
        }
    }
}

/// The key of the answer that the second source gives may be NULL for DataFusion, the key that the first one has may not.
#[tokio::test]
async fn groups_by_keys_are_grouped_again() {
    let postgres = PostgresDatabase::with("CREATE TABLE t (c int); INSERT INTO t VALUES (1), (1), (2)").await;
    let mysql = MysqlDatabase::with("CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1), (3)").await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    let query = "(SELECT u.id, avg(t.c) AS mean FROM my.u JOIN pg.t ON u.id = t.c GROUP BY u.id) \
        INTERSECT (SELECT u.id, CAST('1' AS DOUBLE) AS mean FROM my.u)";
    assert_eq!(
        agree(&services, &["pg.t", "my.u"], &[], query).await,
        [["1", "1.0"].map(|value| Some(value.to_owned()))]
    );
}

/// DataFusion takes `1 = id` and `id = 1` for conditions of which never both hold.
#[tokio::test]
async fn constant_on_the_left_is_the_same_as_one_on_the_right() {
    let database = MysqlDatabase::with("CREATE TABLE t (id int); INSERT INTO t VALUES (1), (1), (5), (6)").await;
    let services = Services::new().with_mysql("my", &database.url());
    for (query, rows) in [
        ("SELECT a.id FROM my.t a LEFT JOIN my.t b ON a.id = b.id AND 1 = a.id WHERE b.id IS NOT NULL", 4),
        ("SELECT a.id FROM my.t a JOIN my.t b ON a.id = b.id AND 1 = a.id WHERE a.id = 1", 4),
        ("SELECT a.id FROM my.t a JOIN my.t b ON a.id = b.id AND 5 < a.id WHERE a.id >= 5", 1),
        ("SELECT s.id FROM (SELECT CAST(1 AS INT) AS y, id FROM my.t WHERE id = 1) AS s WHERE s.y = s.id", 2),
        ("SELECT s.id FROM (SELECT CAST(5 AS INT) AS y, id FROM my.t WHERE id >= 5) AS s WHERE s.y < s.id", 1),
    ] {
        assert_eq!(agree(&services, &["my.t"], &[], query).await.len(), rows, "{query}");
    }
}

/// DataFusion makes a join of a subquery, with a derived table in which columns of one name were one column.
#[tokio::test]
async fn subquery_is_correlated_by_the_columns_that_it_names() {
    let postgres = PostgresDatabase::with(
        "CREATE TABLE a (id int, x int); INSERT INTO a VALUES (1, 10), (2, 20); \
         CREATE TABLE b (id int, y int); INSERT INTO b VALUES (1, 2), (7, 1)",
    )
    .await;
    let mysql = MysqlDatabase::with("CREATE TABLE o (id int, z int); INSERT INTO o VALUES (1, 2), (4, 4)").await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    let joined = "FROM pg.a JOIN pg.b ON a.id = b.y WHERE a.id = o.z";
    for (query, right) in [
        (format!("SELECT o.id FROM my.o WHERE EXISTS (SELECT 1 {joined} AND b.id = o.id)"), vec!["1"]),
        (format!("SELECT o.id FROM my.o WHERE EXISTS (SELECT b.id {joined})"), vec!["1"]),
        (format!("SELECT o.id FROM my.o WHERE NOT EXISTS (SELECT b.id {joined} AND b.id = o.id)"), vec!["4"]),
        (format!("SELECT o.id FROM my.o WHERE o.z IN (SELECT b.y {joined} AND b.id = o.id)"), vec!["1"]),
        (format!("SELECT (SELECT count(*) {joined} AND b.id = o.id) AS n FROM my.o"), vec!["0", "1"]),
        (format!("SELECT o.id FROM my.o WHERE 10 = (SELECT max(a.x) - 10 {joined} AND b.id = o.id)"), vec!["1"]),
        (format!("SELECT o.id FROM my.o WHERE EXISTS (SELECT a.id, b.id, row_number() OVER (ORDER BY a.x) {joined})"), vec!["1"]),
        ("SELECT o.id FROM my.o WHERE 1 = (SELECT count(*) FROM pg.a JOIN pg.b ON a.id = b.y WHERE a.id = o.z GROUP BY a.id)".to_owned(), vec!["1"]),
    ] {
        let rows = agree(&services, &["pg.a", "pg.b", "my.o"], &[], &query).await;
        assert_eq!(rows.concat(), right.into_iter().map(|id| Some(id.to_owned())).collect::<Vec<_>>(), "{query}");
    }
    let engine = services.engine().await;
    let session = session(&engine, Pushdown::On).await;
    for query in [
        format!("SELECT o.id FROM my.o WHERE EXISTS (SELECT b.id {joined} AND b.id = o.id)"),
        format!("SELECT o.id FROM my.o WHERE 1 = (SELECT count(*) {joined} AND b.id = o.id)"),
    ] {
        ask(&session, &format!("CREATE OR REPLACE MATERIALIZED VIEW random.view AS {query}")).await.unwrap();
        let held = ask(&session, "SELECT id FROM random.view").await.unwrap();
        assert_eq!(held.rows, [[Some("1".to_owned())]], "{query}");
    }
}

/// Postgres calls `"f"::numeric` f too, and did not know by which of both to order.
#[tokio::test]
async fn column_is_ordered_by_beside_its_cast() {
    let database =
        PostgresDatabase::with("CREATE TABLE t (f numeric(10,2), \"sum\" int); INSERT INTO t VALUES (1, 2), (2, 1)")
            .await;
    let services = Services::new().with_postgres("pg", &database.url());
    for query in [
        "SELECT DISTINCT f, CAST(f AS DECIMAL(12, 3)) AS g FROM pg.t ORDER BY 1, 2 LIMIT 20",
        "SELECT \"sum\" AS s, sum(f) AS total FROM pg.t GROUP BY 1 ORDER BY 1 LIMIT 20",
    ] {
        assert_eq!(agree(&services, &["pg.t"], &[], query).await.len(), 2, "{query}");
    }
}

/// DataFusion keeps of two lists what is written in both, or in one and not in the other, whatever the columns in them hold.
#[tokio::test]
async fn lists_that_read_columns_are_compared_by_value() {
    let database =
        MysqlDatabase::with("CREATE TABLE t (x int, y int, z int); INSERT INTO t VALUES (1, 2, 1), (3, 4, 5)").await;
    let services = Services::new().with_mysql("my", &database.url());
    for (query, rows) in [
        ("SELECT x FROM my.t WHERE x IN (1, x) AND x NOT IN (x, 2)", 0),
        ("SELECT x FROM my.t WHERE x IN (1, y) AND x IN (2, z)", 1),
        ("SELECT x FROM my.t WHERE x IN (y, z)", 1),
        ("SELECT x FROM my.t WHERE EXISTS (SELECT 1 FROM my.t u WHERE u.x IN (1, t.z) AND u.x NOT IN (t.z, 2))", 1),
    ] {
        assert_eq!(agree(&services, &["my.t"], &[], query).await.len(), rows, "{query}");
    }
}

/// A condition on the only group that reads nothing of it was tested beneath it, where a view answered.
#[tokio::test]
async fn constant_condition_on_all_rows_leaves_no_row() {
    let database = MysqlDatabase::with("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2)").await;
    let services = Services::new().with_mysql("my", &database.url());
    let engine = services.engine().await;
    let session = session(&engine, Pushdown::On).await;
    ask(&session, "CREATE MATERIALIZED VIEW random.view AS SELECT x FROM my.t").await.unwrap();
    ask(&session, "SET headwater.max_staleness = '1 h'").await.unwrap();
    for (query, rows) in [
        ("SELECT max(x) AS m FROM my.t HAVING contains('a', '1')", 0),
        ("SELECT max(x) AS m FROM my.t HAVING count(*) > 1", 1),
    ] {
        assert_eq!(ask(&session, query).await.unwrap().rows.len(), rows, "{query}");
    }
}

/// A filter about the side that may be NULL was moved to the other side's column of the same name, once the sides were exchanged.
#[tokio::test]
async fn filter_above_an_exchanged_join_stays_with_its_column() {
    let postgres =
        PostgresDatabase::with("CREATE TABLE l (id int); INSERT INTO l SELECT generate_series(1, 300); ANALYZE").await;
    let mysql = MysqlDatabase::with("CREATE TABLE r (id int, l int); INSERT INTO r VALUES (7, 1), (0, 2)").await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    for (query, rows) in [
        ("SELECT r.id FROM pg.l LEFT JOIN my.r ON l.id = r.l WHERE coalesce(r.id, 7) = 7", 299),
        (
            "SELECT s.id FROM (SELECT r.id FROM my.r CROSS JOIN my.r AS q RIGHT JOIN pg.l ON q.l = l.id) AS s WHERE coalesce(s.id, 7) = 7",
            300,
        ),
    ] {
        assert_eq!(agree(&services, &["pg.l", "my.r"], &[], query).await.len(), rows, "{query}");
    }
}

/// Columns that are equal beneath grouping sets are not above them, and were ordered by one of them.
#[tokio::test]
async fn grouping_sets_of_equal_columns_are_ordered_by_both() {
    let database = MysqlDatabase::with("CREATE TABLE t (x int, y int); INSERT INTO t VALUES (1, 1), (2, 2)").await;
    let services = Services::new().with_mysql("my", &database.url());
    let engine = services.engine().await;
    let query =
        "SELECT a.x, b.x AS z FROM my.t a JOIN my.t b ON a.x = b.x GROUP BY CUBE (a.x, b.x) ORDER BY 1, 2 LIMIT 9";
    for pushdown in [Pushdown::On, Pushdown::Off] {
        let session = session(&engine, pushdown).await;
        ask(&session, "SET datafusion.execution.target_partitions = 3").await.unwrap();
        let rows = ask(&session, query).await.unwrap().rows;
        let mut sorted = rows.clone();
        sorted.sort_by_key(|row| row.iter().map(|value| (value.is_none(), value.clone())).collect::<Vec<_>>());
        assert_eq!(rows, sorted);
    }
}

/// DataFusion keeps the first groups of an order in a table of which keys are found by `==`, so a group of NaN was never found again, which panicked.
#[tokio::test]
async fn groups_of_nan_are_cut_by_an_order() {
    let database = PostgresDatabase::with(
        "CREATE TABLE t (f double precision, x int, g real); \
         INSERT INTO t SELECT CASE i % 7 WHEN 0 THEN float8 'NaN' WHEN 1 THEN 0 WHEN 2 THEN float8 '-0.0' ELSE i % 7 END, i, \
             CASE i % 5 WHEN 0 THEN float4 'NaN' ELSE i END FROM generate_series(1, 100) i",
    )
    .await;
    let services = Services::new().with_postgres("pg", &database.url());
    for query in [
        "SELECT f, max(x) AS m FROM (SELECT f, x FROM pg.t WHERE chr(x) <> 'a') AS t GROUP BY f ORDER BY m DESC LIMIT 2",
        "SELECT f, min(x) AS m FROM (SELECT f, x FROM pg.t WHERE chr(x) <> 'a') AS t GROUP BY f ORDER BY m LIMIT 3",
        "SELECT f FROM (SELECT f, x FROM pg.t WHERE chr(x) <> 'a') AS t GROUP BY f ORDER BY f DESC LIMIT 2",
        "SELECT x, max(g) AS m FROM (SELECT g, x FROM pg.t WHERE chr(x) <> 'a') AS t GROUP BY x ORDER BY m DESC, x LIMIT 2",
        "SELECT x, min(g) AS m FROM (SELECT g, x FROM pg.t WHERE chr(x) <> 'a') AS t GROUP BY x ORDER BY m LIMIT 2",
    ] {
        let engine = services.engine().await;
        for pushdown in [Pushdown::On, Pushdown::Off] {
            let session = session(&engine, pushdown).await;
            let cut = ask(&session, query).await.unwrap_or_else(|error| panic!("{query}: {error}")).rows;
            let (whole, limit) = query.split_once(" LIMIT ").unwrap();
            let mut whole = ask(&session, whole).await.unwrap().rows;
            whole.truncate(limit.parse().unwrap());
            assert_eq!(cut, whole, "{query}");
        }
    }
}

/// Groups by a floating-point key have 0.0 and -0.0 in one, and what tells them apart was computed of the groups.
#[tokio::test]
async fn zeros_of_both_signs_are_told_apart_beneath_groups_only() {
    let database = PostgresDatabase::with(
        "CREATE TABLE t (f double precision, x int); INSERT INTO t VALUES ('0', 1), ('-0.0', 2), (1, 4)",
    )
    .await;
    let mysql = MysqlDatabase::with("CREATE TABLE u (f double); INSERT INTO u VALUES (0), (1)").await;
    let services = Services::new().with_postgres("pg", &database.url()).with_mysql("my", &mysql.url());
    let engine = services.engine().await;
    let reference = Reference::copy(&engine, &["pg.t", "my.u"]).await;
    let session = session(&engine, Pushdown::On).await;
    ask(&session, "CREATE MATERIALIZED VIEW random.view AS SELECT f, count(*) AS n FROM pg.t GROUP BY f")
        .await
        .unwrap();
    for staleness in ["0 s", "1 h"] {
        ask(&session, &format!("SET headwater.max_staleness = '{staleness}'")).await.unwrap();
        for query in [
            "SELECT count(DISTINCT CAST(f AS VARCHAR)) AS n FROM pg.t",
            "SELECT CAST(f AS VARCHAR) AS s, count(*) AS n FROM pg.t GROUP BY CAST(f AS VARCHAR)",
            "SELECT count(*) AS n FROM pg.t WHERE CAST(f AS VARCHAR) = '-0.0'",
            "SELECT count(*) AS n FROM pg.t WHERE f = 0",
            "SELECT CAST(t.f AS VARCHAR) AS s, sum(t.x) AS n FROM pg.t JOIN my.u ON t.f = u.f GROUP BY CAST(t.f AS VARCHAR)",
            "SELECT 1 / t.f AS s, sum(t.x) AS n FROM pg.t JOIN my.u ON t.f = u.f GROUP BY 1 / t.f",
        ] {
            let right = reference.ask(query).await.unwrap();
            assert_eq!(ask(&session, query).await.unwrap().difference(&right), None, "{query}");
        }
    }
}

/// What lies beneath a NULL of a view's times was the least of all times, with which `date_trunc` computed, and overflowed.
#[tokio::test]
async fn time_that_is_null_in_a_view_is_truncated() {
    let database =
        MysqlDatabase::with("CREATE TABLE t (at datetime(6)); INSERT INTO t VALUES (NULL), ('2020-02-29 10:00:00')")
            .await;
    let services = Services::new().with_mysql("my", &database.url());
    let engine = services.engine().await;
    let session = session(&engine, Pushdown::On).await;
    ask(&session, "CREATE MATERIALIZED VIEW random.view AS SELECT at FROM my.t").await.unwrap();
    let rows = ask(&session, "SELECT date_trunc('day', at) AS day FROM random.view ORDER BY day").await.unwrap().rows;
    assert_eq!(rows, [[Some("2020-02-29T00:00:00".to_owned())], [None]]);
}

/// What is never NULL was planned as something that may be, and refused where it was grouped by.
#[tokio::test]
async fn truth_of_a_condition_is_grouped_by() {
    let database = PostgresDatabase::with(
        "CREATE TABLE t (x boolean, y int); INSERT INTO t VALUES (true, 1), (false, NULL), (NULL, 3)",
    )
    .await;
    let services = Services::new().with_postgres("pg", &database.url());
    for truth in ["IS TRUE", "IS NOT TRUE", "IS FALSE", "IS NOT FALSE", "IS UNKNOWN", "IS NOT UNKNOWN"] {
        for query in [
            format!("SELECT DISTINCT x {truth} AS b FROM pg.t"),
            format!("SELECT b, count(*) AS n FROM (SELECT x {truth} AS b FROM pg.t) AS t GROUP BY b"),
            format!("SELECT x {truth} AS b, count(DISTINCT y) AS n FROM pg.t GROUP BY x {truth}"),
            format!(
                "SELECT b, max(n) AS n FROM (SELECT x {truth} AS b, y, count(*) AS n FROM pg.t GROUP BY 1, 2) AS t GROUP BY b"
            ),
            format!("SELECT y, count(*) OVER (PARTITION BY x {truth}) AS n FROM pg.t UNION SELECT 1, 1"),
            format!("SELECT x {truth} AS b, count(*) AS n FROM pg.t GROUP BY ROLLUP (x {truth})"),
            format!("SELECT y, count(*) AS n FROM pg.t GROUP BY CUBE (x {truth}, y)"),
            format!("SELECT count(*) AS n FROM pg.t GROUP BY GROUPING SETS ((y, CASE WHEN x {truth} THEN 1 END), ())"),
            format!("SELECT max(CASE WHEN b THEN 1 END) AS n FROM (SELECT (x AND y > 1) {truth} AS b FROM pg.t) AS t"),
        ] {
            agree(&services, &["pg.t"], &[], &query).await;
        }
        let rows = agree(&services, &["pg.t"], &[], &format!("SELECT DISTINCT x, x {truth} AS b FROM pg.t")).await;
        let holds = |x: Option<&str>| match truth {
            "IS TRUE" => x == Some("true"),
            "IS NOT TRUE" => x != Some("true"),
            "IS FALSE" => x == Some("false"),
            "IS NOT FALSE" => x != Some("false"),
            "IS UNKNOWN" => x.is_none(),
            _ => x.is_some(),
        };
        let right = |row: &Vec<Option<String>>| {
            row[1].as_deref() == Some(if holds(row[0].as_deref()) { "true" } else { "false" })
        };
        assert!(rows.len() == 3 && rows.iter().all(right), "{truth}: {rows:?}");
    }
}

/// Parts of a union that are constant in the first key told each other by the second what cannot be among the first rows.
#[tokio::test]
async fn first_rows_of_a_union_of_constants_are_those_of_all_parts() {
    let database = PostgresDatabase::with(
        "CREATE TABLE t (x int, s text); INSERT INTO t SELECT i % 3, chr(97 + i % 5) FROM generate_series(1, 40) i",
    )
    .await;
    let services = Services::new().with_postgres("pg", &database.url());
    let engine = services.engine().await;
    for partitions in [1, 3] {
        for pushdown in [Pushdown::On, Pushdown::Off] {
            let session = session(&engine, pushdown).await;
            ask(&session, &format!("SET datafusion.execution.target_partitions = {partitions}")).await.unwrap();
            for (query, first) in [
                ("SELECT 7 AS kind, x FROM pg.t UNION ALL SELECT 5, min(x) FROM pg.t ORDER BY 1, 2 LIMIT 4", "5"),
                ("SELECT 7 AS kind, x FROM pg.t UNION ALL SELECT 9, min(x) FROM pg.t ORDER BY 1 DESC, 2 LIMIT 4", "9"),
                (
                    "SELECT 'b' AS kind, s FROM pg.t UNION ALL SELECT 'a', max(s) FROM pg.t ORDER BY kind, s LIMIT 2",
                    "a",
                ),
                (
                    "SELECT CAST(NULL AS INT) AS kind, x FROM pg.t UNION ALL SELECT min(x), min(x) FROM pg.t ORDER BY 1, 2 LIMIT 4",
                    "0",
                ),
            ] {
                let rows = ask(&session, query).await.unwrap().rows;
                assert_eq!(
                    rows[0][0].as_deref(),
                    Some(first),
                    "{query}\n{pushdown:?}, {partitions} partitions: {rows:?}"
                );
            }
        }
    }
}

/// A sum of decimals beside a distinct count had ten digits more than the statement was planned with.
#[tokio::test]
async fn sum_beside_a_distinct_count_has_the_type_that_was_planned() {
    let database = PostgresDatabase::with(
        "CREATE TABLE t (k int, x int, d numeric(10,2)); INSERT INTO t VALUES (1, 1, 1.25), (1, 2, 2.50), (2, 2, NULL)",
    )
    .await;
    let services = Services::new().with_postgres("pg", &database.url());
    let engine = services.engine().await;
    for pushdown in [Pushdown::On, Pushdown::Off] {
        let session = session(&engine, pushdown).await;
        for (query, place) in [
            ("SELECT sum(d) AS total, count(DISTINCT x) AS n FROM pg.t", 0),
            ("SELECT k, count(DISTINCT x) AS n, sum(d) AS total, max(d) AS most FROM pg.t GROUP BY k", 2),
        ] {
            let found = ask(&session, query).await.unwrap();
            assert_eq!(found.columns[place], ("total".to_owned(), DataType::Decimal128(20, 2)), "{query}");
        }
        let rows = ask(&session, "SELECT sum(d) AS total, count(DISTINCT x) AS n FROM pg.t").await.unwrap().rows;
        assert_eq!(rows, [[Some("3.75".to_owned()), Some("2".to_owned())]]);
    }
}

/// Of tables in memory, as a view's rows are, their number is known exactly, and of no rows the sum of a constant was 0; a second aggregate above a first failed.
#[tokio::test]
async fn sum_of_a_constant_over_no_rows_in_memory_is_null() {
    let database = MysqlDatabase::with("CREATE TABLE t (x int); INSERT INTO t VALUES (1)").await;
    let services = Services::new().with_mysql("my", &database.url());
    let engine = services.engine().await;
    let session = session(&engine, Pushdown::On).await;
    ask(&session, "CREATE MATERIALIZED VIEW random.view AS SELECT x FROM my.t WHERE x > 1").await.unwrap();
    let reference = Reference::empty();
    let x = Arc::new(Schema::new(vec![Field::new("x", DataType::Int32, true)]));
    reference.register("random", "view", MemTable::try_new(x, vec![vec![]]).unwrap());
    for query in [
        "SELECT sum(x) AS s FROM (SELECT 1 AS x FROM random.view) AS v",
        "SELECT sum(m) FILTER (WHERE true) AS s FROM (SELECT 1 AS one, max(x) AS m FROM random.view) AS v",
    ] {
        assert_eq!(ask(&session, query).await.unwrap().rows, [[None]], "{query}");
        assert_eq!(reference.ask(query).await.unwrap().rows, [[None]], "{query}");
    }
    assert_eq!(ask(&session, "SELECT count(*) AS n FROM random.view").await.unwrap().rows, [[Some("0".to_owned())]]);
}

/// What a window is made from is ordered, and any so many different rows of it were cut as by an order that nobody gave.
#[tokio::test]
async fn any_different_rows_of_a_window_are_as_many_as_the_limit_says() {
    let database =
        PostgresDatabase::with("CREATE TABLE t (a text); INSERT INTO t VALUES ('x'), ('x'), ('y'), (NULL)").await;
    let services = Services::new().with_postgres("pg", &database.url());
    let query = "SELECT DISTINCT a, row_number() OVER (PARTITION BY a ORDER BY a) AS n FROM pg.t LIMIT 5";
    assert_eq!(agree(&services, &["pg.t"], &PARTITIONED, query).await.len(), 4);
}

/// The first rows by one column twice: a panic.
#[tokio::test]
async fn first_row_by_a_column_that_is_named_twice_is_the_first() {
    let database =
        PostgresDatabase::with("CREATE TABLE t (a text, b int); INSERT INTO t VALUES ('x', 2), ('x', 1), ('y', 3)")
            .await;
    let services = Services::new().with_postgres("pg", &database.url());
    for (query, right) in [
        ("SELECT DISTINCT ON (a) a AS one, b, a AS two FROM pg.t ORDER BY 1, 2, 3", [["x", "1", "x"], ["y", "3", "y"]]),
        (
            "SELECT DISTINCT ON (coalesce(a, a)) coalesce(a, a) AS one, b, a AS two FROM pg.t ORDER BY 1, 2, 3",
            [["x", "1", "x"], ["y", "3", "y"]],
        ),
        (
            "SELECT a, first_value(b ORDER BY b DESC, b), max(a) FROM pg.t GROUP BY a ORDER BY a",
            [["x", "2", "x"], ["y", "3", "y"]],
        ),
    ] {
        let right = right.map(|row| row.map(|value| Some(value.to_owned())));
        assert_eq!(agree(&services, &["pg.t"], &[], query).await, right, "{query}");
    }
}

/// What a condition says is known once what it is about is put into it, and that was beneath the group of all rows, which has a row of no rows.
#[tokio::test]
async fn condition_on_a_constant_beside_all_rows_is_tested_above_them() {
    let database = PostgresDatabase::with("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2)").await;
    let services = Services::new().with_postgres("pg", &database.url());
    for (query, rows) in [
        ("SELECT * FROM (SELECT 1 AS one, max(x) AS m FROM pg.t) AS v WHERE one > 1", 0),
        ("SELECT * FROM (SELECT 1 AS one, max(x) AS m FROM pg.t) AS v WHERE NOT (one IN (1, 1, 1))", 0),
        ("SELECT * FROM (SELECT 1 AS one, max(x) AS m FROM pg.t) AS v WHERE one > 0 AND m > 1", 1),
        ("SELECT m FROM (SELECT 1 AS one, max(x) AS m FROM pg.t GROUP BY ROLLUP (x)) AS v WHERE one > 1", 0),
        (
            "SELECT m FROM (SELECT 1 AS one, x, max(x) AS m FROM pg.t GROUP BY GROUPING SETS ((), (x))) AS v WHERE one = 1",
            3,
        ),
        ("SELECT m FROM (SELECT 1 AS one, x, max(x) AS m FROM pg.t GROUP BY x) AS v WHERE one > 1", 0),
    ] {
        assert_eq!(agree(&services, &["pg.t"], &[], query).await.len(), rows, "{query}");
    }
}

/// A constant among the keys of grouping sets was one above them too, where it is NULL in some groups: those of equal keys were handed on more than once. So it was with rows in an order.
#[tokio::test]
async fn groups_of_grouping_sets_come_once_whatever_is_known_of_their_rows() {
    let numbers: Vec<String> = (0..200).map(|i| format!("({}, {})", i % 40, i % 7)).collect();
    let rows = format!("CREATE TABLE t (x int, y int); INSERT INTO t VALUES {}", numbers.join(", "));
    let database = PostgresDatabase::with(&rows).await;
    let lite = format!("CREATE TABLE u (x INTEGER, y INTEGER); INSERT INTO u VALUES {}", numbers.join(", "));
    let services = Services::new().with_postgres("pg", &database.url()).with_sqlite("lite", &lite);
    for partitions in [1, 3] {
        let settings = [
            format!("SET datafusion.execution.target_partitions = {partitions}"),
            "SET datafusion.execution.batch_size = 5".to_owned(),
        ];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        for (query, groups) in [
            ("SELECT 'a' AS a FROM pg.t AS t CROSS JOIN lite.u AS u GROUP BY ROLLUP (u.x, CAST('a' AS BYTEA))", 81),
            ("SELECT u.x, count(*) AS n FROM lite.u AS u GROUP BY CUBE (u.x, CAST('a' AS BYTEA))", 82),
            ("SELECT u.x, u.y, count(*) AS n FROM lite.u AS u WHERE u.y = 3 GROUP BY ROLLUP (u.y, u.x)", 31),
            (
                "SELECT v.x, v.y, count(*) AS n FROM (SELECT x, y FROM lite.u ORDER BY x, y LIMIT 190) AS v GROUP BY CUBE (x, y)",
                236,
            ),
            (
                "SELECT v.x, v.n, count(*) AS m FROM (SELECT u.x, count(*) AS n FROM lite.u AS u JOIN pg.t AS t ON t.x = u.x GROUP BY u.x) AS v \
                 GROUP BY CUBE (x, n)",
                82,
            ),
        ] {
            let found = agree(&services, &["pg.t", "lite.u"], &settings, query).await.len();
            assert_eq!(found, groups, "{query}");
        }
    }
}

/// A cast has its argument's name, and two keys of groups had one name where the second was computed of the first.
#[tokio::test]
async fn groups_may_be_by_a_column_and_by_its_cast() {
    let database = PostgresDatabase::with("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (1), (2), (NULL)").await;
    let services = Services::new().with_postgres("pg", &database.url());
    for query in [
        "SELECT 1 AS one FROM pg.t GROUP BY x, CAST(x AS SMALLINT)",
        "SELECT x, count(*) AS n FROM pg.t AS t GROUP BY x, CAST(x AS BIGINT)",
    ] {
        assert_eq!(agree(&services, &["pg.t"], &[], query).await.len(), 3, "{query}");
    }
}

/// Which columns a LATERAL reads of what stands before it was not known when a view took their place.
#[tokio::test]
async fn view_beside_a_lateral_has_the_columns_that_it_reads() {
    let database = PostgresDatabase::with(
        "CREATE TABLE t (a int, b bool); INSERT INTO t VALUES (1, true), (2, false), (3, NULL);
         CREATE TABLE u (x int); INSERT INTO u VALUES (7), (8)",
    )
    .await;
    let services = Services::new().with_postgres("pg", &database.url());
    let engine = services.engine().await;
    let session = session(&engine, Pushdown::On).await;
    ask(&session, "CREATE MATERIALIZED VIEW random.view AS SELECT a, b FROM pg.t").await.unwrap();
    ask(&session, "CREATE MATERIALIZED VIEW random.less AS SELECT a FROM pg.t").await.unwrap();
    ask(&session, "SET headwater.max_staleness = '1 h'").await.unwrap();
    let query = "SELECT t.a, v.x FROM pg.t AS t CROSS JOIN LATERAL (SELECT u.x FROM pg.u AS u WHERE t.b) AS v";
    let one = || Some("1".to_owned());
    let rows = ask(&session, query).await.unwrap().sorted().rows;
    assert_eq!(rows, [[one(), Some("7".to_owned())], [one(), Some("8".to_owned())]]);
}

/// Rows were sorted by what is computed, and then not known to be.
#[tokio::test]
async fn rows_are_ordered_by_what_functions_make() {
    let database = PostgresDatabase::with(
        "CREATE TABLE t (a float8, b text); INSERT INTO t VALUES (1.5, 'x'), (2.5, 'long'), (2.5, 'x'), (NULL, NULL)",
    )
    .await;
    let services = Services::new().with_postgres("pg", &database.url());
    let engine = services.engine().await;
    let session = session(&engine, Pushdown::Off).await;
    for (query, right) in [
        ("SELECT b, max(a) AS m FROM pg.t GROUP BY b ORDER BY length(b) > 3, b", "x 2.5, long 2.5, NULL NULL"),
        ("SELECT b, max(a) AS m FROM pg.t GROUP BY b ORDER BY -trunc(max(a)), length(b) > 1 DESC LIMIT 1", "long 2.5"),
        ("SELECT b, rank() OVER (ORDER BY -trunc(a), b) AS r FROM pg.t ORDER BY r", "long 1, x 2, x 3, NULL 4"),
        (
            "SELECT b, rank() OVER (PARTITION BY b ORDER BY length(b) > 3, -trunc(a)) AS r FROM pg.t ORDER BY b, r",
            "long 1, x 1, x 2, NULL 1",
        ),
        (
            "SELECT b, count(*) OVER (PARTITION BY a ORDER BY b, -trunc(a)) AS n FROM pg.t ORDER BY a, b",
            "x 1, long 1, x 2, NULL 1",
        ),
    ] {
        for setting in [PARTITIONED[0], "SET datafusion.execution.batch_size = 2"] {
            ask(&session, setting).await.unwrap();
        }
        let answer = ask(&session, query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        let rows: Vec<String> = answer.texts().iter().map(|row| row.join(" ")).collect();
        assert_eq!(rows.join(", "), right, "{query}");
    }
}

/// A condition that is another each time was tested of the rows that groups and windows are made of.
#[tokio::test]
async fn condition_that_is_another_each_time_is_tested_of_groups() {
    let database = PostgresDatabase::with(
        "CREATE TABLE t (k int); INSERT INTO t SELECT i % 50 FROM generate_series(1, 1000) AS i",
    )
    .await;
    let services = Services::new().with_postgres("pg", &database.url());
    let engine = services.engine().await;
    for pushdown in [Pushdown::On, Pushdown::Off] {
        let session = session(&engine, pushdown).await;
        for query in [
            "SELECT n FROM (SELECT k, count(*) AS n FROM pg.t GROUP BY k) AS v WHERE random() < 0.5",
            "SELECT n FROM (SELECT k, count(*) OVER (PARTITION BY k) AS n FROM pg.t) AS v WHERE random() < 0.5",
        ] {
            let rows = ask(&session, query).await.unwrap().rows;
            assert!(!rows.is_empty() && rows.iter().all(|row| row[0].as_deref() == Some("20")), "{query}: {rows:?}");
        }
    }
}

/// Keys of a join were sought in files by their bits, and a zero of the other sign was not found.
#[tokio::test]
async fn keys_of_zero_find_both_zeros_in_files() {
    let services = Services::new().with_files("files");
    for (name, column, values) in [("p", "x", vec![-0.0, 1.5, 2.5, 0.0]), ("k", "y", vec![0.0, 7.5])] {
        let batch = RecordBatch::try_from_iter([(column, Arc::new(Float64Array::from(values)) as ArrayRef)]).unwrap();
        let file = std::fs::File::create(services.folder("files").join(format!("{name}.parquet"))).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }
    for query in [
        "SELECT p.x FROM files.p AS p JOIN files.k AS k ON p.x = k.y",
        "SELECT p.x FROM files.p AS p WHERE x IN (SELECT y FROM files.k)",
        "SELECT p.x FROM files.p AS p WHERE x IN (0.0, 3.0, 4.0, 5.0, 6.0)",
    ] {
        assert_eq!(agree(&services, &["files.p", "files.k"], &[], query).await.len(), 2, "{query}");
    }
}

/// A list of four constants, CASE and nullif compared the bits of a number, and told the zeros apart that are equal.
#[tokio::test]
async fn zeros_of_both_signs_are_equal_in_every_form() {
    let tables = "CREATE TABLE t (x double); INSERT INTO t VALUES (-0.1), (0.1), (2.5), (NULL)";
    let database = MysqlDatabase::with(tables).await;
    let services = Services::new().with_mysql("my", &database.url());
    let zeros = "(SELECT round(x) AS x FROM my.t) AS v";
    for (query, rows) in [
        (format!("SELECT x FROM {zeros} WHERE x IN (0.0, 1.0, 5.0, 7.0)"), 2),
        (format!("SELECT x FROM {zeros} WHERE x NOT IN (1.0, 5.0, -0.0, 7.0)"), 1),
        (format!("SELECT x FROM {zeros} WHERE x = 1.0 OR x = 5.0 OR x = 0.0 OR x = 7.0"), 2),
        (format!("SELECT x FROM {zeros} WHERE CASE x WHEN 0.0 THEN true END"), 2),
        (format!("SELECT x FROM {zeros} WHERE nullif(x, 0.0) IS NULL"), 3),
        (format!("SELECT x FROM {zeros} GROUP BY x, CASE x WHEN 0.0 THEN 1 ELSE 2 END, nullif(x, 0)"), 3),
    ] {
        assert_eq!(agree(&services, &["my.t"], &[], &query).await.len(), rows, "{query}");
    }
}

/// The groups of a first few were cut beneath a window, which then ranked among those that were left.
#[tokio::test]
async fn window_over_groups_is_of_all_groups() {
    let database = PostgresDatabase::with("CREATE TABLE t (k int); INSERT INTO t VALUES (1), (2), (3), (3)").await;
    let services = Services::new().with_postgres("pg", &database.url());
    for (query, right) in [
        ("SELECT k, dense_rank() OVER (ORDER BY k) AS r FROM pg.t GROUP BY k ORDER BY k DESC LIMIT 1", ["3", "3"]),
        ("SELECT k, count(*) OVER () AS n FROM pg.t GROUP BY k ORDER BY k DESC LIMIT 1", ["3", "3"]),
        (
            "SELECT k, sum(m) OVER () AS s FROM (SELECT k, max(k) AS m FROM pg.t GROUP BY k) AS v ORDER BY m DESC LIMIT 1",
            ["3", "6"],
        ),
    ] {
        for partitions in ["1", "3"] {
            let setting = format!("SET datafusion.execution.target_partitions = {partitions}");
            let rows = agree(&services, &["pg.t"], &[&setting], query).await;
            assert_eq!(rows, [right.map(|value| Some(value.to_owned()))], "{query}");
        }
    }
}

/// Windows whose partitions and orders begin alike were one window.
#[tokio::test]
async fn windows_that_begin_alike_are_told_apart() {
    let tables = "CREATE TABLE t (x int, g text); INSERT INTO t VALUES (1, 'a'), (1, 'a'), (2, 'a'), (3, 'b')";
    let database = PostgresDatabase::with(tables).await;
    let services = Services::new().with_postgres("pg", &database.url());
    for (query, right) in [
        (
            "SELECT x, sum(x) OVER (PARTITION BY g ORDER BY x ROWS 1 PRECEDING) AS a,
             sum(x) OVER (PARTITION BY g, x ROWS 1 PRECEDING) AS b FROM pg.t ORDER BY 1, 2, 3",
            vec![["1", "1", "1"], ["1", "2", "2"], ["2", "3", "2"], ["3", "3", "3"]],
        ),
        (
            "SELECT x, rank() OVER (PARTITION BY g ORDER BY x, x NULLS FIRST) AS a,
             rank() OVER (PARTITION BY g, x ORDER BY x) AS b FROM pg.t ORDER BY 1, 2, 3",
            vec![["1", "1", "1"], ["1", "1", "1"], ["2", "3", "1"], ["3", "1", "1"]],
        ),
        (
            "SELECT x, rank() OVER (PARTITION BY g ORDER BY x, x NULLS FIRST) AS a, 0 AS b FROM pg.t
             QUALIFY rank() OVER (PARTITION BY g, x ORDER BY x) > 1",
            vec![],
        ),
    ] {
        let rows = agree(&services, &["pg.t"], &[], query).await;
        let right: Vec<_> = right.iter().map(|row| row.map(|value| Some(value.to_owned())).to_vec()).collect();
        assert_eq!(rows, right, "{query}");
    }
}

/// A text that a source prints otherwise, or takes for another type, stood among texts of which it computes another.
#[tokio::test]
async fn text_of_another_type_is_not_computed_with_at_the_source() {
    let tables = "CREATE TYPE mood AS ENUM ('b', 'a'); CREATE TABLE t (n numeric, j jsonb, m mood, s text, u uuid);
        INSERT INTO t VALUES (1.50, '{\"a\":1}', 'b', 'x', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'), (NULL, NULL, NULL, NULL, NULL)";
    let database = PostgresDatabase::with(tables).await;
    let services = Services::new().with_postgres("pg", &database.url());
    for column in ["n", "j", "m", "u"] {
        for query in [
            format!("SELECT DISTINCT CASE WHEN {column} IS NULL THEN 'b' ELSE {column} END FROM pg.t"),
            format!("SELECT count(*) FROM pg.t WHERE 'b' || {column} <> s"),
            format!("SELECT coalesce(s, {column}) AS k, count(*) FROM pg.t GROUP BY coalesce(s, {column})"),
            format!("SELECT s || {column} AS k FROM pg.t UNION SELECT 'b' FROM pg.t"),
        ] {
            agree(&services, &["pg.t"], &[], &query).await;
        }
    }
}

/// Membership in rows that a lateral subquery is part of was handed to a scan before it was a join, and stayed there.
#[tokio::test]
async fn membership_is_not_left_with_the_scan() {
    let tables = "CREATE TABLE t (a int, b int); INSERT INTO t VALUES (1, 1), (2, 7), (NULL, 3)";
    let database = PostgresDatabase::with(tables).await;
    let services = Services::new().with_postgres("pg", &database.url());
    let query = "SELECT t.a FROM pg.t CROSS JOIN pg.t AS o WHERE t.a IN (SELECT u.b FROM pg.t u CROSS JOIN
        (SELECT 1 AS k FROM pg.t v CROSS JOIN LATERAL (SELECT w.a FROM pg.t w WHERE w.b = v.b) x ORDER BY 1 LIMIT 1) y) ORDER BY 1";
    let rows = agree(&services, &["pg.t"], &[], query).await;
    assert_eq!(rows, vec![vec![Some("1".to_owned())]; 3], "{query}");
}

/// A condition on the group of all rows, of which nothing is shown, was written as HAVING, which SQLite refuses there.
#[tokio::test]
async fn condition_on_the_group_of_all_rows_that_is_not_shown() {
    let services = Services::new().with_sqlite("lite", "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2)");
    for (right, query) in [
        (1, "SELECT 'x' FROM (SELECT count(*) AS n FROM lite.t) s WHERE n = 2"),
        (0, "SELECT 'x' FROM (SELECT sum(a) AS n FROM lite.t) s WHERE n > 3"),
        (1, "SELECT sum(a) FROM lite.t HAVING count(*) > 1"),
    ] {
        assert_eq!(agree(&services, &["lite.t"], &[], query).await.len(), right, "{query}");
    }
}
