//! How a text is read.

use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;

use super::*;

const T: &str = "CREATE TABLE t (id int, ok boolean, qty int); \
    INSERT INTO t VALUES (1, true, 5), (2, false, 5), (3, NULL, 1), (4, false, 1)";

const Y: &str = "CREATE TABLE y (id int, yx varchar(9)); INSERT INTO y VALUES (2, 'c'), (3, 'd')";

/// `pg.t`, `pg.z`, `pg.y`, and `my.y`, which is the same.
async fn services() -> (Services, PostgresDatabase, MysqlDatabase) {
    let z = "CREATE TABLE z (id int, zx varchar(9)); INSERT INTO z VALUES (1, 'a'), (2, 'b')";
    let postgres = PostgresDatabase::with(&format!("{T}; {Y}; {z}")).await;
    let mysql = MysqlDatabase::with(Y).await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    (services, postgres, mysql)
}

/// The error of a query.
async fn error(services: &Services, query: &str) -> String {
    let engine = services.engine().await;
    match ask(&session(&engine, Pushdown::On).await, query).await {
        Ok(rows) => panic!("{query}: {:?}", rows.texts()),
        Err(error) => error,
    }
}

/// The parser takes the AND and the OR that follow for its operand's.
#[tokio::test]
async fn distinct_from_binds_tighter_than_and() {
    let (services, _postgres, _mysql) = services().await;
    for (query, right) in [
        ("SELECT id FROM pg.t WHERE ok IS DISTINCT FROM true AND qty > 3", &[&["2"][..]][..]),
        ("SELECT id FROM pg.t WHERE ok IS DISTINCT FROM (true AND qty > 3)", &[&["2"], &["3"]]),
        ("SELECT id FROM pg.t WHERE qty = 5 AND ok IS DISTINCT FROM true OR id = 3", &[&["2"], &["3"]]),
        ("SELECT id FROM pg.t WHERE NOT ok IS NOT DISTINCT FROM true AND qty = 1", &[&["3"], &["4"]]),
        (
            "SELECT id FROM pg.t WHERE ok IS DISTINCT FROM true AND qty IS DISTINCT FROM 5 OR id = 1",
            &[&["1"], &["3"], &["4"]],
        ),
        (
            "SELECT id, CASE WHEN ok IS NOT DISTINCT FROM NULL AND qty = 5 THEN 'x' ELSE 'y' END AS c FROM pg.t WHERE id > 2",
            &[&["3", "y"], &["4", "y"]],
        ),
        (
            "SELECT t.id, y.id AS other FROM pg.t LEFT JOIN my.y ON t.id IS NOT DISTINCT FROM y.id AND t.qty > 3",
            &[&["1", "NULL"], &["2", "2"], &["3", "NULL"], &["4", "NULL"]],
        ),
        (
            "WITH c AS (SELECT id FROM pg.t WHERE ok IS DISTINCT FROM true AND qty > 3) SELECT c.id, y.yx FROM c JOIN my.y ON c.id = y.id",
            &[&["2", "c"]],
        ),
    ] {
        answers(&services, &[], query, right).await;
    }
    let engine = services.engine().await;
    let session = session(&engine, Pushdown::On).await;
    let view = "CREATE OR REPLACE MATERIALIZED VIEW syntax.view AS \
        SELECT id FROM pg.t WHERE ok IS DISTINCT FROM true AND qty > 3";
    ask(&session, view).await.unwrap();
    assert_eq!(ask(&session, "SELECT id FROM syntax.view").await.unwrap().texts(), [["2"]]);
}

/// The planner forgets which window is extended.
#[tokio::test]
async fn window_is_extended() {
    let (services, _postgres, _mysql) = services().await;
    let sums = |sums: [&'static str; 4]| ["1", "2", "3", "4"].into_iter().zip(sums).map(|(id, sum)| vec![id, sum]);
    for (over, windows, right) in [
        ("(w ORDER BY t.id)", "w AS (PARTITION BY qty)", ["5", "10", "1", "2"]),
        ("(w)", "w AS (PARTITION BY qty)", ["10", "10", "2", "2"]),
        ("w", "w AS (PARTITION BY qty)", ["10", "10", "2", "2"]),
        ("(w ROWS 1 PRECEDING)", "w AS (ORDER BY t.id)", ["5", "10", "6", "2"]),
        ("v", "w AS (PARTITION BY qty), v AS (w ORDER BY t.id DESC)", ["10", "5", "2", "1"]),
        ("(v ROWS CURRENT ROW)", "w AS (PARTITION BY qty), v AS (w ORDER BY t.id)", ["5", "5", "1", "1"]),
    ] {
        let right: Vec<Vec<&str>> = sums(right).collect();
        let right: Vec<&[&str]> = right.iter().map(Vec::as_slice).collect();
        for from in ["pg.t", "pg.t LEFT JOIN my.y ON t.id = y.id"] {
            let query = format!("SELECT t.id, sum(qty) OVER {over} AS s FROM {from} WINDOW {windows}");
            answers(&services, &[], &query, &right).await;
        }
    }
    for (query, part) in [
        (
            "SELECT sum(qty) OVER (w PARTITION BY id) FROM pg.t WINDOW w AS (ORDER BY id)",
            "cannot override PARTITION BY",
        ),
        ("SELECT sum(qty) OVER (w ORDER BY id) FROM pg.t WINDOW w AS (ORDER BY id)", "cannot override ORDER BY"),
        ("SELECT sum(qty) OVER (v ORDER BY id) FROM pg.t", "\"v\""),
    ] {
        let message = error(&services, query).await;
        assert!(message.contains(part), "{query}: {message}");
    }
}

/// The planner shows one side's column, whether that side has a row or not.
#[tokio::test]
async fn outer_joins_with_using_show_the_key_that_is_there() {
    let (services, _postgres, _mysql) = services().await;
    for y in ["pg.y", "my.y"] {
        for (query, right) in [
            ("SELECT * FROM pg.z LEFT JOIN {y} USING (id)", &[&["1", "a", "NULL"][..], &["2", "b", "c"]][..]),
            ("SELECT * FROM pg.z RIGHT JOIN {y} USING (id)", &[&["2", "b", "c"], &["3", "NULL", "d"]]),
            (
                "SELECT * FROM pg.z FULL JOIN {y} USING (id)",
                &[&["1", "a", "NULL"], &["2", "b", "c"], &["3", "NULL", "d"]],
            ),
            ("SELECT * FROM pg.z LEFT JOIN (SELECT id FROM {y}) AS u USING (id)", &[&["1", "a"], &["2", "b"]]),
            ("SELECT id FROM pg.z LEFT JOIN {y} USING (id)", &[&["1"], &["2"]]),
            ("SELECT id FROM pg.z RIGHT JOIN {y} USING (id)", &[&["2"], &["3"]]),
            ("SELECT id FROM pg.z FULL JOIN {y} USING (id)", &[&["1"], &["2"], &["3"]]),
            ("SELECT DISTINCT id FROM pg.z FULL JOIN {y} USING (id) ORDER BY id", &[&["1"], &["2"], &["3"]]),
            ("SELECT id, zx FROM pg.z FULL JOIN {y} USING (id) WHERE id = 3", &[&["3", "NULL"]]),
            ("SELECT id FROM pg.z FULL JOIN {y} USING (id) ORDER BY id DESC LIMIT 1", &[&["3"]]),
            ("SELECT zx FROM pg.z RIGHT JOIN {y} USING (id) ORDER BY id DESC LIMIT 1", &[&["NULL"]]),
            (
                "SELECT id, count(*) AS n FROM pg.z FULL JOIN {y} USING (id) GROUP BY id HAVING id > 1 ORDER BY id",
                &[&["2", "1"], &["3", "1"]],
            ),
            (
                "SELECT id, zx, u.yx, v.yx AS again FROM pg.z FULL JOIN {y} AS u USING (id) FULL JOIN pg.y AS v USING (id)",
                &[&["1", "a", "NULL", "NULL"], &["2", "b", "c", "c"], &["3", "NULL", "d", "d"]],
            ),
            (
                "SELECT * FROM pg.z LEFT JOIN {y} AS u USING (id) LEFT JOIN pg.y AS v USING (id)",
                &[&["1", "a", "NULL", "NULL"], &["2", "b", "c", "c"]],
            ),
            (
                "SELECT id, qty FROM pg.z RIGHT JOIN {y} USING (id) JOIN (SELECT id AS k, qty FROM pg.t) AS t ON k = id + 1",
                &[&["2", "1"], &["3", "1"]],
            ),
            // It is not told which of the two has `id`; the planner takes the first by the alphabet, which is the left one's.
            (
                "SELECT * FROM pg.z AS a LEFT JOIN (SELECT 7 AS k, 'a' AS zx) AS b USING (zx) LEFT JOIN {y} AS c USING (id)",
                &[&["1", "a", "7", "NULL"], &["2", "b", "NULL", "c"]],
            ),
            ("SELECT id, zx, yx FROM pg.z JOIN {y} USING (id)", &[&["2", "b", "c"]]),
        ] {
            answers(&services, &[], &query.replace("{y}", y), right).await;
        }
    }
    for (query, part) in [
        ("SELECT z.zx FROM pg.z NATURAL LEFT JOIN my.y", "write USING"),
        ("SELECT 1 FROM pg.z JOIN pg.t ON true FULL JOIN my.y USING (id)", "write ON"),
    ] {
        let message = error(&services, query).await;
        assert!(message.contains(part), "{query}: {message}");
    }
}

/// The planner knows LIMIT alone.
#[tokio::test]
async fn first_rows_are_fetched() {
    let (services, _postgres, _mysql) = services().await;
    for (query, right) in [
        ("SELECT id FROM pg.t ORDER BY id FETCH FIRST 2 ROWS ONLY", &[&["1"][..], &["2"]][..]),
        ("SELECT id FROM my.y ORDER BY id FETCH FIRST ROW ONLY", &[&["2"]]),
        ("SELECT id FROM pg.t ORDER BY id OFFSET 1 ROW FETCH NEXT 2 ROWS ONLY", &[&["2"], &["3"]]),
    ] {
        answers(&services, &[], query, right).await;
    }
}

/// Rows of values are compared value by value: the first that differs decides, and NULL is equal to nothing.
#[tokio::test]
async fn rows_of_values_are_compared_in_order() {
    let rows = "CREATE TABLE r (id int, a int, b varchar(9), d date); INSERT INTO r VALUES (1, 1, 'x', '2024-01-01'), (2, 1, 'y', '2024-01-02'), \
        (3, 2, 'x', NULL), (4, NULL, 'y', '2024-01-04'), (5, 2, NULL, '2024-01-05')";
    let postgres = PostgresDatabase::with(rows).await;
    let mysql = MysqlDatabase::with(rows).await;
    let services =
        Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url()).with_sqlite("lite", rows);
    for (condition, right) in [
        ("(a, b) = (1, 'x')", &["1"][..]),
        ("ROW(a, b) = ROW(1, 'x')", &["1"]),
        ("(a, b) <> (1, 'x')", &["2", "3", "4", "5"]),
        ("(a, b) <> (2, 'x')", &["1", "2", "4"]),
        ("(a, b) > (1, 'x')", &["2", "3", "5"]),
        ("(a, b) >= (1, 'x')", &["1", "2", "3", "5"]),
        ("(a, b) < (2, 'x')", &["1", "2"]),
        ("(a, b) <= (2, 'x')", &["1", "2", "3"]),
        ("(d, id) > (DATE '2024-01-02', 1)", &["2", "4", "5"]),
        ("(d, id) > (DATE '2024-01-02', 2)", &["4", "5"]),
        ("(a, b, id) > (1, 'x', 0)", &["1", "2", "3", "5"]),
        ("(a, b) BETWEEN (1, 'y') AND (2, 'x')", &["2", "3"]),
        ("(a, b) NOT BETWEEN (1, 'y') AND (2, 'x')", &["1"]),
        ("(a, b) IN ((1, 'y'), (2, 'x'))", &["2", "3"]),
        ("(a, b) NOT IN ((1, 'y'), (3, 'x'))", &["1", "3", "5"]),
        ("(a, b) IN ((2, NULL), (1, 'x'))", &["1"]),
        ("((a, b) IN ((2, NULL), (1, 'x'))) IS NULL", &["3", "4", "5"]),
        ("((a, b), id) = ((1, 'y'), 2)", &["2"]),
        ("((a, b), id) > ((1, 'x'), 1)", &["2", "3", "5"]),
        ("((a, b), id) <> ((2, NULL), 5)", &["1", "2", "3", "4"]),
        ("(a, b) IS NULL", &[]),
        ("(a, b) IS NOT NULL", &["1", "2", "3"]),
        ("(a, b) IS DISTINCT FROM (2, NULL)", &["1", "2", "3", "4"]),
        ("(a, b) IS NOT DISTINCT FROM (2, NULL) AND id > 1", &["5"]),
        ("mod(id, 3) = 2 AND mod(id + 1, 3) = 0", &["2", "5"]),
        ("b COLLATE \"C\" = 'x'", &["1", "3"]),
        ("b LIKE '!_' ESCAPE '!' OR b LIKE '%!y' ESCAPE '!'", &["2", "4"]),
    ] {
        for service in ["pg", "my", "lite"] {
            let query = format!("SELECT id FROM {service}.r WHERE {condition}");
            let right: Vec<[&str; 1]> = right.iter().map(|value| [*value]).collect();
            let right: Vec<&[&str]> = right.iter().map(|row| &row[..]).collect();
            answers(&services, &[], &query, &right).await;
        }
    }
    let refused = [
        ("SELECT id FROM pg.r WHERE (a, b) = (1, 'x', 2)", "rows of 2 and of 3 values"),
        ("SELECT id FROM pg.r WHERE (a, b) IN ((1, 'x'), (2, 'y', 3))", "rows of 2 and of 3 values"),
        ("SELECT id FROM pg.r WHERE (a, b) IN (SELECT id FROM my.r)", "rows of 2 and of 1 values"),
        ("SELECT id FROM pg.r WHERE b COLLATE \"de_DE\" = 'x'", "compared byte by byte"),
    ];
    for (query, part) in refused {
        let error = error(&services, query).await;
        assert!(error.contains(part), "{query}: {error}");
    }
    // What follows a row, by an index of its first column.
    let engine = services.engine().await;
    let session = session(&engine, Pushdown::On).await;
    let plan = "EXPLAIN SELECT id FROM pg.r WHERE (a, id) > (1, 1) ORDER BY a, id LIMIT 2";
    let plan = ask(&session, plan).await.unwrap().texts().concat().concat();
    assert!(plan.contains(r#"WHERE "a" >= $1::integer AND ("a" > "#) && plan.contains("LIMIT 2"), "{plan}");
}

/// Calendars are made of days and numbers.
#[tokio::test]
async fn intervals_are_multiplied_by_whole_numbers() {
    let (services, _postgres, _mysql) = services().await;
    for (query, right) in [
        ("SELECT CAST(DATE '2024-01-30' + 3 * INTERVAL '1 day' AS DATE)", &[&["2024-02-02"][..]][..]),
        (
            "SELECT id, CAST(DATE '2024-01-31' + INTERVAL '1 month' * id AS DATE) FROM pg.t WHERE id < 3",
            &[&["1", "2024-02-29"], &["2", "2024-03-31"]],
        ),
        ("SELECT count(*) FROM pg.t WHERE DATE '2024-01-01' + qty * INTERVAL '1 day' > DATE '2024-01-03'", &[&["2"]]),
        ("SELECT TIMESTAMP '2024-01-01 00:00:00' - 2 * INTERVAL '90 minutes'", &[&["2023-12-31T21:00:00"]]),
        (
            "SELECT CAST(DATE '2024-01-01' + i * INTERVAL '1 day' AS DATE), count(t.id) FROM generate_series(1, 3) AS g(i) LEFT JOIN pg.t ON t.qty = i GROUP BY 1",
            &[&["2024-01-02", "2"], &["2024-01-03", "0"], &["2024-01-04", "0"]],
        ),
    ] {
        answers(&services, &[], query, right).await;
    }
    let engine = services.engine().await;
    let prepared = session(&engine, Pushdown::On).await;
    let prepared =
        prepared.prepare("SELECT CAST(DATE '2024-01-01' + $1 * INTERVAL '1 day' AS DATE) AS day").await.unwrap();
    let day = prepared.execute(vec![2_i64.into()]).await.unwrap();
    let schema = day.schema();
    let day = headwater_sql_tests::rows::Rows::of(&schema, &day.collect().await.unwrap());
    assert_eq!(day.texts(), [["2024-01-03"]]);
    let error = error(&services, "SELECT 4000000000 * INTERVAL '1 day'").await;
    assert!(error.contains("longer than an interval can be"), "{error}");
}
