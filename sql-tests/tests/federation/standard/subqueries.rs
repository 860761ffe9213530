//! Subqueries and set operations.

use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::{Services, error};

use super::answers;

const OUTER: &str = "CREATE TABLE x (a int, b int, t int); \
    INSERT INTO x VALUES (1, 1, 1), (2, NULL, 1), (3, NULL, 2), (NULL, NULL, 3)";
const INNER: &str = "CREATE TABLE y (c int, t int); INSERT INTO y VALUES (1, 1), (NULL, 2)";

/// Asserts the column `x.a` of the rows that a condition keeps, with both tables in one service and in two.
async fn keeps(conditions: &[(&str, &[&str])]) {
    keeps_as(conditions, true).await;
}

/// The same, and whether the local copy can be asked, too.
async fn keeps_as(conditions: &[(&str, &[&str])], copied: bool) {
    let postgres = PostgresDatabase::with(&format!("{OUTER}; {INNER}")).await;
    let mysql = MysqlDatabase::with(INNER).await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    for service in ["pg", "my"] {
        let inner = format!("{service}.y");
        for (condition, right) in conditions {
            let query =
                format!("SELECT x.a FROM pg.x WHERE {}", condition.replace("FROM y", &format!("FROM {inner} y")));
            let right: Vec<[&str; 1]> = right.iter().map(|value| [*value]).collect();
            let right: Vec<&[&str]> = right.iter().map(|row| &row[..]).collect();
            let tables = ["pg.x", &inner];
            answers(&services, if copied { &tables } else { &[] }, &query, &right).await;
        }
    }
}

/// A value is not known to be none of a subquery's where it is NULL or one of them is.
#[tokio::test]
async fn membership_is_null_where_it_is_not_known() {
    const ALL: &[&str] = &["1", "2", "3", "NULL"];
    keeps(&[
        ("a IN (SELECT c FROM y)", &["1"]),
        ("a IN (SELECT count(*) FROM y WHERE y.t = x.t)", &["1"]),
        ("a - 1 IN (SELECT count(*) FROM y WHERE y.t = x.t + 5)", &["1"]),
        ("a NOT IN (SELECT c FROM y)", &[]),
        ("NOT (a IN (SELECT c FROM y))", &[]),
        ("5 NOT IN (SELECT c FROM y)", &[]),
        ("5 NOT IN (SELECT c FROM y WHERE c IS NOT NULL)", ALL),
        ("CAST(NULL AS INT) NOT IN (SELECT c FROM y)", &[]),
        ("CAST(NULL AS INT) NOT IN (SELECT c FROM y WHERE c > 5)", ALL),
        ("a NOT IN (SELECT c FROM y) OR b IS NOT NULL", &["1"]),
        ("a IN (SELECT c FROM y) OR b IS NULL", ALL),
        ("a NOT IN (SELECT c FROM y WHERE c > 5) OR b IS NOT NULL", ALL),
        ("a NOT IN (SELECT c FROM y WHERE c IS NOT NULL) OR b = 7", &["2", "3"]),
        ("(a NOT IN (SELECT c FROM y)) IS NULL", &["2", "3", "NULL"]),
        ("(a IN (SELECT c FROM y)) IS NULL", &["2", "3", "NULL"]),
        ("(a IN (SELECT c FROM y)) IS NOT NULL", &["1"]),
        ("(a NOT IN (SELECT c FROM y)) IS NOT TRUE", ALL),
        ("(a IN (SELECT c FROM y)) IS NOT TRUE", &["2", "3", "NULL"]),
        ("(a IN (SELECT c FROM y)) IS NOT FALSE", ALL),
        ("(a NOT IN (SELECT c FROM y)) IS FALSE", &["1"]),
        ("NOT (a IN (SELECT c FROM y) AND a > 0)", &[]),
        ("NOT (a IN (SELECT c FROM y) AND a > 2)", &["1", "2"]),
        ("NOT (a NOT IN (SELECT c FROM y) OR a > 2)", &["1"]),
        ("coalesce(a IN (SELECT c FROM y), true)", ALL),
        ("coalesce(a NOT IN (SELECT c FROM y), false)", &[]),
        ("(a IN (SELECT c FROM y)) = (b IS NOT NULL)", &["1"]),
        (
            "CASE WHEN a NOT IN (SELECT c FROM y) THEN false WHEN a IN (SELECT c FROM y) THEN false ELSE true END",
            &["2", "3", "NULL"],
        ),
        ("CASE a IN (SELECT c FROM y) WHEN true THEN b = 1 WHEN false THEN true ELSE a = 3 END", &["1", "3"]),
    ])
    .await;
}

/// Only the rows that meet the subquery's condition are compared.
#[tokio::test]
async fn membership_of_a_correlated_subquery_is_null_where_it_is_not_known() {
    keeps(&[
        ("a NOT IN (SELECT c FROM y WHERE c > x.a)", &["1", "2", "3", "NULL"]),
        ("a NOT IN (SELECT c FROM y WHERE y.t = x.t)", &["2", "NULL"]),
        ("NOT (a IN (SELECT c FROM y WHERE y.t = x.t))", &["2", "NULL"]),
        ("a NOT IN (SELECT DISTINCT c FROM y WHERE y.t = x.t)", &["2", "NULL"]),
        ("a NOT IN (SELECT y.c AS t FROM y WHERE y.t = x.t)", &["2", "NULL"]),
        ("a NOT IN (SELECT c FROM y WHERE y.t = x.t) OR b = 1", &["1", "2", "NULL"]),
        ("(a IN (SELECT c FROM y WHERE y.t = x.t)) IS NULL", &["3"]),
        ("coalesce(a IN (SELECT c FROM y WHERE y.t = x.t), true)", &["1", "3"]),
        ("a NOT IN (SELECT max(c) FROM y WHERE y.t = x.t)", &["2"]),
        ("a NOT IN (SELECT count(*) FROM y WHERE y.t = x.t)", &["2", "3"]),
    ])
    .await;
}

/// What the value and the subquery's columns are called alike is not mixed up.
#[tokio::test]
async fn membership_among_the_rows_of_the_same_table() {
    let database = PostgresDatabase::with(&format!("{OUTER}; {INNER}")).await;
    let services = Services::new().with_postgres("pg", &database.url());
    let tables = ["pg.x", "pg.y"];
    for (query, right) in [
        ("SELECT a FROM pg.x WHERE (a IN (SELECT a FROM pg.x)) IS NULL", &[&["NULL"][..]][..]),
        ("SELECT a FROM pg.x WHERE a NOT IN (SELECT z.b FROM pg.x AS z WHERE z.t = x.t)", &[]),
        (
            "SELECT x.a FROM pg.x JOIN pg.y ON x.t = y.t WHERE x.a NOT IN (SELECT x.b FROM pg.x WHERE x.a = y.c)",
            &[&["2"], &["3"]],
        ),
        ("SELECT t FROM pg.x GROUP BY t HAVING count(*) NOT IN (SELECT c FROM pg.y) OR t = 3", &[&["3"]]),
    ] {
        answers(&services, &tables, query, right).await;
    }
}

/// An aggregate of all rows is one row, also of none.
#[tokio::test]
async fn aggregate_of_no_rows_is_a_row() {
    keeps(&[
        ("EXISTS (SELECT count(*) FROM y WHERE y.c = x.a)", &["1", "2", "3", "NULL"]),
        ("NOT EXISTS (SELECT max(y.t) FROM y WHERE y.c = x.a)", &[]),
        ("NOT EXISTS (SELECT count(*) FROM y WHERE y.c = x.a) OR b = 1", &["1"]),
        ("EXISTS (SELECT count(*) FROM y WHERE y.c = x.a GROUP BY y.c)", &["1"]),
    ])
    .await;
}

/// With ALL a row is there as often as on both sides, or as often as it is more often on the left.
#[tokio::test]
async fn set_operations_with_all_count_equal_rows() {
    const RIGHT: &str = "INSERT INTO r VALUES (1, 'a'), (2, NULL), (2, NULL), (2, NULL)";
    let postgres = PostgresDatabase::with(&format!(
        "CREATE TABLE l (v int, w text); INSERT INTO l VALUES (1, 'a'), (1, 'a'), (2, NULL), (2, NULL), (3, 'c'); \
         CREATE TABLE r (v int, w text); {RIGHT}"
    ))
    .await;
    let mysql = MysqlDatabase::with(&format!("CREATE TABLE r (v bigint, w varchar(9)); {RIGHT}")).await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    const A: &[&str] = &["1", "a"];
    const NULL: &[&str] = &["2", "NULL"];
    const C: &[&str] = &["3", "c"];
    for right in ["pg.r", "my.r"] {
        for (query, rows) in [
            ("SELECT v, w FROM pg.l INTERSECT ALL SELECT v, w FROM {r}", &[A, NULL, NULL][..]),
            ("SELECT v, w FROM pg.l EXCEPT ALL SELECT v, w FROM {r}", &[A, C]),
            ("SELECT v, w FROM pg.l INTERSECT SELECT v, w FROM {r}", &[A, NULL]),
            ("SELECT v, w FROM pg.l EXCEPT SELECT v, w FROM {r}", &[C]),
            ("SELECT DISTINCT v, w FROM pg.l INTERSECT ALL SELECT v, w FROM {r}", &[A, NULL]),
            ("(SELECT v, w FROM pg.l INTERSECT ALL SELECT v, w FROM {r}) EXCEPT ALL SELECT 1, 'a'", &[NULL, NULL]),
            ("SELECT * FROM (SELECT v, w FROM pg.l EXCEPT ALL SELECT v, w FROM {r}) AS s WHERE s.v < 3", &[A]),
            ("SELECT v, w FROM pg.l WHERE v IN (SELECT v FROM pg.l EXCEPT ALL SELECT v FROM {r})", &[A, A, C]),
            (
                "SELECT v FROM pg.l LEFT SEMI JOIN {r} AS r ON l.v IS NOT DISTINCT FROM r.v",
                &[&["1"], &["1"], &["2"], &["2"]],
            ),
            (
                "SELECT w FROM pg.l LEFT SEMI JOIN {r} AS r ON l.w IS NOT DISTINCT FROM r.w",
                &[&["a"], &["a"], &["NULL"], &["NULL"]],
            ),
            ("SELECT v FROM pg.l LEFT ANTI JOIN {r} AS r ON l.v IS NOT DISTINCT FROM r.v", &[&["3"]]),
            (
                "SELECT v FROM pg.l WHERE EXISTS (SELECT 1 FROM {r} AS r WHERE r.v IS NOT DISTINCT FROM l.v)",
                &[&["1"], &["1"], &["2"], &["2"]],
            ),
        ] {
            answers(&services, &["pg.l", right], &query.replace("{r}", right), rows).await;
        }
    }
    for (query, rows) in [
        (
            "SELECT * FROM (VALUES (1), (1), (2)) AS l (x) INTERSECT ALL SELECT * FROM (VALUES (1)) AS r (x)",
            &[&["1"][..]][..],
        ),
        (
            "SELECT * FROM (VALUES (1), (1), (2)) AS l (x) EXCEPT ALL SELECT * FROM (VALUES (1)) AS r (x)",
            &[&["1"], &["2"]],
        ),
    ] {
        answers(&services, &[], query, rows).await;
    }
}

/// A pattern describes the whole text, in which `%` is any text and `_` any character.
#[tokio::test]
async fn similar_texts_are_those_of_the_pattern() {
    let database = PostgresDatabase::with(
        "CREATE TABLE words (id int, s text); \
         INSERT INTO words VALUES (1, 'abc'), (2, 'a.c'), (3, E'a\\nc'), (4, 'a%c'), (5, NULL), (6, 'xabcx')",
    )
    .await;
    let services = Services::new().with_postgres("pg", &database.url());
    for (condition, ids) in [
        ("s SIMILAR TO 'abc'", &["1"][..]),
        ("s SIMILAR TO 'b'", &[]),
        ("s SIMILAR TO 'a%'", &["1", "2", "3", "4"]),
        ("s SIMILAR TO 'a_c'", &["1", "2", "3", "4"]),
        ("s SIMILAR TO 'a.c'", &["2"]),
        ("s SIMILAR TO 'a#%c' ESCAPE '#'", &["4"]),
        ("s SIMILAR TO '(x|y)?a[a-c]c(x|y)?'", &["1", "6"]),
        ("s SIMILAR TO 'a[^b]c'", &["2", "3", "4"]),
        ("s SIMILAR TO 'a(b|z){1,2}c|xyz'", &["1"]),
        ("s SIMILAR TO ('a' || '%')", &["1", "2", "3", "4"]),
        ("s NOT SIMILAR TO 'a%'", &["6"]),
        ("(s SIMILAR TO 'a%') IS NULL", &["5"]),
        ("s SIMILAR TO NULL", &[]),
    ] {
        let rows: Vec<[&str; 1]> = ids.iter().map(|id| [*id]).collect();
        let rows: Vec<&[&str]> = rows.iter().map(|row| &row[..]).collect();
        let query = format!("SELECT id FROM pg.words WHERE {condition}");
        answers(&services, &["pg.words"], &query, &rows).await;
    }
    for (text, pattern, is) in [
        ("abc", "b", "false"),
        ("abc", "a%", "true"),
        ("abc", "a_c", "true"),
        ("a_c", r"a\_c", "true"),
        ("abc", r"a\_c", "false"),
    ] {
        answers(&services, &[], &format!("SELECT '{text}' SIMILAR TO '{pattern}' AS s"), &[&[is]]).await;
    }
    let refused = error(&services.engine().await, "SELECT id FROM pg.words WHERE 'abc' SIMILAR TO s").await;
    assert!(refused.contains("SIMILAR TO") && refused.contains("regexp_like"), "{refused}");
}

/// Whether there is a row, and whether a value is among them, in a select list.
#[tokio::test]
async fn membership_and_existence_are_values() {
    let postgres = PostgresDatabase::with(&format!("{OUTER}; {INNER}")).await;
    let mysql = MysqlDatabase::with(INNER).await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    const ROWS: [&str; 4] = ["1", "2", "3", "NULL"];
    for service in ["pg", "my"] {
        let inner = format!("{service}.y");
        for (value, right) in [
            ("EXISTS (SELECT 1 FROM y WHERE y.c = x.a)", ["true", "false", "false", "false"]),
            ("NOT EXISTS (SELECT 1 FROM y WHERE y.c = x.a AND y.t > 0)", ["false", "true", "true", "true"]),
            ("EXISTS (SELECT 1 FROM y WHERE y.t = x.t ORDER BY y.c LIMIT 1)", ["true", "true", "true", "false"]),
            ("EXISTS (SELECT 1 FROM y WHERE y.c > 5)", ["false"; 4]),
            ("EXISTS (SELECT count(*) FROM y WHERE y.c = x.a)", ["true"; 4]),
            (
                "CASE WHEN EXISTS (SELECT 1 FROM y WHERE y.t = x.t) THEN 'some' ELSE 'none' END",
                ["some", "some", "some", "none"],
            ),
            ("a IN (SELECT c FROM y)", ["true", "NULL", "NULL", "NULL"]),
            ("a NOT IN (SELECT c FROM y WHERE y.t = x.t)", ["false", "true", "NULL", "true"]),
            ("a IN (SELECT c FROM y WHERE c > 5)", ["false"; 4]),
            ("coalesce(a, 0) IN (SELECT coalesce(c, 7) FROM y)", ["true", "false", "false", "false"]),
            ("coalesce(a, 0) NOT IN (SELECT coalesce(c, 7) FROM y)", ["false", "true", "true", "true"]),
            ("a IN (VALUES (2), (3))", ["false", "true", "true", "NULL"]),
        ] {
            let query = format!("SELECT x.a, {} AS v FROM pg.x", value.replace("FROM y", &format!("FROM {inner} y")));
            let right: Vec<[&str; 2]> = ROWS.into_iter().zip(right).map(|(row, value)| [row, value]).collect();
            let right: Vec<&[&str]> = right.iter().map(|row| &row[..]).collect();
            answers(&services, &["pg.x", &inner], &query, &right).await;
        }
    }
}

/// Such values are grouped and told apart like others; what can't be counted is refused and not answered wrong.
#[tokio::test]
async fn existence_as_a_value_is_never_null() {
    let postgres = PostgresDatabase::with(&format!("{OUTER}; {INNER}")).await;
    let mysql = MysqlDatabase::with(INNER).await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    for inner in ["pg.y", "my.y"] {
        for (query, right) in [
            ("SELECT DISTINCT EXISTS (SELECT 1 FROM y) FROM pg.x", &[&["true"][..]][..]),
            (
                "SELECT e, count(*) FROM (SELECT EXISTS (SELECT 1 FROM y WHERE y.c = x.a) AS e FROM pg.x) GROUP BY e",
                &[&["true", "1"], &["false", "3"]],
            ),
            (
                "SELECT EXISTS (SELECT 1 FROM y WHERE y.c = x.a) AS e FROM pg.x UNION SELECT NOT EXISTS (SELECT 1 FROM y WHERE c > 5)",
                &[&["true"], &["false"]],
            ),
        ] {
            let query = query.replace("FROM y", &format!("FROM {inner} y"));
            answers(&services, &["pg.x", inner], &query, right).await;
        }
    }
    let engine = services.engine().await;
    for refused in [
        "SELECT EXISTS (SELECT 1 FROM pg.y WHERE y.c = x.a HAVING count(*) = 0) FROM pg.x",
        "SELECT EXISTS (SELECT 1 FROM (SELECT count(*) AS n FROM pg.y WHERE y.c = x.a) s WHERE s.n = 0) FROM pg.x",
        "SELECT a IN (SELECT DISTINCT ON (t) c FROM pg.y WHERE y.t = x.t ORDER BY t, c) FROM pg.x",
    ] {
        error(&engine, refused).await;
    }
}

/// Rows that are written down.
#[tokio::test]
async fn membership_among_values() {
    keeps(&[
        ("a IN (VALUES (2), (3), (9))", &["2", "3"]),
        ("a NOT IN (VALUES (2), (3))", &["1"]),
        ("a IN (VALUES (2), (NULL)) OR b = 1", &["1", "2"]),
        ("a NOT IN (VALUES (2), (NULL))", &[]),
        ("a IN (SELECT * FROM (VALUES (1), (3)) AS v (k))", &["1", "3"]),
        ("a IN (SELECT l - k FROM (VALUES (1, 2), (b, 3)) AS v (k, l))", &["1"]),
        ("a IN (VALUES (t), (b + 2))", &["1"]),
    ])
    .await;
    // And where DataFusion takes no subquery.
    let postgres = PostgresDatabase::with(&format!("{OUTER}; {INNER}")).await;
    let services = Services::new().with_postgres("pg", &postgres.url());
    for (query, right) in [
        (
            "SELECT x.a, y.c FROM pg.x LEFT JOIN pg.y ON x.a IN (VALUES (y.c), (3)) WHERE x.a < 3",
            &[&["1", "1"][..], &["2", "NULL"]][..],
        ),
        ("SELECT count(*) FILTER (WHERE a IN (VALUES (2), (3))) FROM pg.x", &[&["2"]]),
        ("SELECT a, max(a IN (VALUES (3))) OVER () FROM pg.x WHERE a < 3", &[&["1", "false"], &["2", "false"]]),
        (
            "SELECT a IN (VALUES (2), (3)) AS k, count(*) FROM pg.x GROUP BY a IN (VALUES (2), (3))",
            &[&["true", "2"], &["false", "1"], &["NULL", "1"]],
        ),
    ] {
        answers(&services, &["pg.x", "pg.y"], query, right).await;
    }
}

/// Customers in one service, and their orders in the same one and in another: customer 1 has three orders, 2 has two of one day, 3 none.
const CUSTOMERS: &str = "CREATE TABLE customers (id int, town varchar(9)); INSERT INTO customers VALUES (1, 'a'), (2, 'b'), (3, 'a'), (NULL, 'b')";
const ORDERS: &str = "CREATE TABLE orders (id int, customer int, placed date, state varchar(9)); INSERT INTO orders VALUES \
    (10, 1, '2024-01-01', 'new'), (11, 1, '2024-02-01', 'paid'), (12, 1, '2024-01-15', NULL), \
    (20, 2, '2024-03-01', 'new'), (21, 2, '2024-03-01', 'sent'), (30, NULL, '2024-09-09', 'lost')";

/// A condition that reads from outside can't be moved above a limit; the limit is one for each value that is compared.
#[tokio::test]
async fn first_rows_of_a_correlated_subquery_are_those_of_each_value() {
    let postgres = PostgresDatabase::with(&format!("{CUSTOMERS}; {ORDERS}")).await;
    let mysql = MysqlDatabase::with(ORDERS).await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    let cases: &[(&str, &[&[&str]])] = &[
        (
            "SELECT c.id, (SELECT o.state FROM orders o WHERE o.customer = c.id ORDER BY o.placed DESC LIMIT 1) AS state FROM pg.customers c",
            &[&["1", "paid"], &["2", "new or sent"], &["3", "NULL"], &["NULL", "NULL"]],
        ),
        (
            "SELECT c.id, (SELECT o.id FROM orders o WHERE c.id = o.customer AND o.id < 30 ORDER BY o.placed, o.id DESC LIMIT 1) AS o FROM pg.customers c",
            &[&["1", "10"], &["2", "21"], &["3", "NULL"], &["NULL", "NULL"]],
        ),
        // NULL is a value, the second one here.
        (
            "SELECT c.id, coalesce((SELECT o.state FROM orders o WHERE o.customer = c.id ORDER BY o.placed, o.id LIMIT 1 OFFSET 1), '-') AS state FROM pg.customers c",
            &[&["1", "-"], &["2", "sent"], &["3", "-"], &["NULL", "-"]],
        ),
        (
            "SELECT c.id FROM pg.customers c WHERE 20 < (SELECT o.id + 0 FROM orders o WHERE o.customer = c.id ORDER BY o.id DESC LIMIT 1)",
            &[&["2"]],
        ),
        // Functions over windows see the rows of one value.
        (
            "SELECT c.id, (SELECT row_number() OVER (ORDER BY o.id) FROM orders o WHERE o.customer = c.id ORDER BY o.id DESC LIMIT 1) AS n FROM pg.customers c",
            &[&["1", "3"], &["2", "2"], &["3", "NULL"], &["NULL", "NULL"]],
        ),
        (
            "SELECT c.id, (SELECT max(d.rn) FROM (SELECT row_number() OVER (ORDER BY o.id) AS rn FROM orders o WHERE o.customer = c.id) d) AS n FROM pg.customers c",
            &[&["1", "3"], &["2", "2"], &["3", "NULL"], &["NULL", "NULL"]],
        ),
        (
            "SELECT c.id FROM pg.customers c WHERE EXISTS (SELECT 1 FROM (SELECT o.state, row_number() OVER (ORDER BY o.placed DESC) AS rn FROM orders o WHERE o.customer = c.id) d WHERE d.rn = 1 AND d.state = 'paid')",
            &[&["1"]],
        ),
        (
            "SELECT c.id FROM pg.customers c WHERE 1 IN (SELECT rank() OVER (ORDER BY o.placed) FROM orders o WHERE o.customer = c.id AND o.id > 12)",
            &[&["2"]],
        ),
        (
            "SELECT c.id, l.n FROM pg.customers c CROSS JOIN LATERAL (SELECT o.id, count(*) OVER () AS n FROM orders o WHERE o.customer = c.id) l WHERE l.id % 10 = 1",
            &[&["1", "3"], &["2", "2"]],
        ),
        (
            "SELECT c.id FROM pg.customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer = c.id OFFSET 2)",
            &[&["1"]],
        ),
        (
            "SELECT c.id FROM pg.customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer = c.id LIMIT 1 OFFSET 1)",
            &[&["1"], &["2"]],
        ),
        (
            "SELECT c.id FROM pg.customers c WHERE EXISTS (SELECT 1 FROM (SELECT o.state FROM orders o WHERE o.customer = c.id ORDER BY o.id DESC LIMIT 1) d WHERE d.state = 'sent')",
            &[&["2"]],
        ),
        // A derived table in a join, and columns of one name.
        (
            "SELECT c.id FROM pg.customers c WHERE EXISTS (SELECT 1 FROM orders p JOIN (SELECT * FROM orders o WHERE o.customer = c.id) d ON d.id = p.id + 1)",
            &[&["1"], &["2"]],
        ),
        (
            "SELECT c.id, l.customer AS k FROM pg.customers c CROSS JOIN LATERAL (SELECT p.customer FROM orders o JOIN orders p ON p.id = o.id + 10 WHERE o.customer = c.id) l",
            &[&["1", "2"], &["1", "2"], &["2", "NULL"]],
        ),
        // A derived table hands up what its condition compares.
        (
            "SELECT c.id FROM pg.customers c WHERE EXISTS (SELECT 1 FROM (SELECT o.placed AS day FROM orders o WHERE o.customer = c.id) d WHERE d.day > DATE '2024-02-15')",
            &[&["2"]],
        ),
        (
            "SELECT c.id, (SELECT sum(d.n) FROM (SELECT o.id AS n FROM orders o WHERE o.customer = c.id) d) AS n FROM pg.customers c",
            &[&["1", "33"], &["2", "41"], &["3", "NULL"], &["NULL", "NULL"]],
        ),
        (
            "SELECT c.id, l.n FROM pg.customers c CROSS JOIN LATERAL (SELECT d.n + 1 AS n FROM (SELECT o.id AS n FROM orders o WHERE o.customer = c.id) d) l",
            &[&["1", "11"], &["1", "12"], &["1", "13"], &["2", "21"], &["2", "22"]],
        ),
        // Found by random queries: casts of what is compared, a window of which the last is taken, what is computed of it, and a value that is compared twice.
        (
            "SELECT c.id FROM pg.customers c WHERE c.id + 10 IN (SELECT o.id FROM orders o WHERE o.id <> c.id)",
            &[&["1"], &["2"]],
        ),
        (
            "SELECT c.id FROM pg.customers c WHERE 2 IN (SELECT o.customer FROM orders o WHERE o.customer <> c.id)",
            &[&["1"], &["3"]],
        ),
        (
            "SELECT c.id, CASE WHEN (SELECT row_number() OVER (PARTITION BY o.placed ORDER BY o.id) FROM orders o WHERE o.customer = c.id ORDER BY o.id DESC LIMIT 1) = 1 THEN 'y' ELSE 'n' END AS f FROM pg.customers c",
            &[&["1", "y"], &["2", "n"], &["3", "n"], &["NULL", "n"]],
        ),
        (
            "SELECT c.id FROM pg.customers c WHERE c.id * 11 IN (SELECT d.id + d.customer FROM (SELECT o.*, row_number() OVER (ORDER BY o.id) AS n FROM orders o WHERE o.customer = c.id) d WHERE d.n = 1 ORDER BY d.id LIMIT 2) OR c.id = 3",
            &[&["1"], &["2"], &["3"]],
        ),
        (
            "SELECT c.id, (SELECT o.customer FROM orders o WHERE o.customer = c.id AND (o.customer = c.id OR o.id = 1) ORDER BY o.id LIMIT 1) AS k FROM pg.customers c",
            &[&["1", "1"], &["2", "2"], &["3", "NULL"], &["NULL", "NULL"]],
        ),
        // An aggregate of all that is found has a row where nothing is.
        (
            "SELECT c.id, (SELECT count(*) FROM orders o WHERE o.customer = c.id LIMIT 1) AS n FROM pg.customers c",
            &[&["1", "3"], &["2", "2"], &["3", "0"], &["NULL", "0"]],
        ),
        (
            "SELECT c.id, (SELECT d.n + 1 FROM (SELECT count(*) AS n FROM orders o WHERE o.customer = c.id) d ORDER BY d.n LIMIT 1) AS n FROM pg.customers c",
            &[&["1", "4"], &["2", "3"], &["3", "1"], &["NULL", "1"]],
        ),
        (
            "SELECT c.id, l.n FROM pg.customers c CROSS JOIN LATERAL (SELECT d.n FROM (SELECT count(*) AS n FROM orders o WHERE o.customer = c.id) d) l",
            &[&["1", "3"], &["2", "2"], &["3", "0"], &["NULL", "0"]],
        ),
        // Groups, different values, and a derived table beneath the limit.
        (
            "SELECT c.id, (SELECT count(*) FROM orders o WHERE o.customer = c.id GROUP BY o.placed ORDER BY count(*) DESC LIMIT 1) AS n FROM pg.customers c",
            &[&["1", "1"], &["2", "2"], &["3", "NULL"], &["NULL", "NULL"]],
        ),
        (
            "SELECT c.id, (SELECT DISTINCT o.placed FROM orders o WHERE o.customer = c.id ORDER BY o.placed LIMIT 1 OFFSET 1) AS d FROM pg.customers c",
            &[&["1", "2024-01-15"], &["2", "NULL"], &["3", "NULL"], &["NULL", "NULL"]],
        ),
        (
            "SELECT c.id, (SELECT sum(d.id) FROM (SELECT o.id, o.placed FROM orders o WHERE o.customer = c.id ORDER BY o.placed LIMIT 2) d) AS n FROM pg.customers c",
            &[&["1", "22"], &["2", "41"], &["3", "NULL"], &["NULL", "NULL"]],
        ),
        (
            "SELECT c.id FROM pg.customers c WHERE 12 IN (SELECT o.id FROM orders o WHERE o.customer = c.id ORDER BY o.placed LIMIT 2)",
            &[&["1"]],
        ),
        (
            "SELECT c.id FROM pg.customers c WHERE 11 IN (SELECT o.id FROM orders o WHERE o.customer = c.id ORDER BY o.placed LIMIT 2)",
            &[],
        ),
        (
            "SELECT c.id FROM pg.customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer = c.id LIMIT 1)",
            &[&["1"], &["2"]],
        ),
        (
            "SELECT c.id, l.id AS o FROM pg.customers c CROSS JOIN LATERAL (SELECT o.id FROM orders o WHERE o.customer = c.id ORDER BY o.placed DESC, o.id LIMIT 2) l",
            &[&["1", "11"], &["1", "12"], &["2", "20"], &["2", "21"]],
        ),
        (
            "SELECT c.id, l.id AS o FROM pg.customers c LEFT JOIN LATERAL (SELECT o.id FROM orders o WHERE o.customer = c.id ORDER BY o.placed DESC, o.id LIMIT 1 OFFSET 1) l ON true",
            &[&["1", "12"], &["2", "21"], &["3", "NULL"], &["NULL", "NULL"]],
        ),
        // By two columns, one of which is compared with a value computed outside.
        (
            "SELECT c.id, (SELECT o.id FROM orders o WHERE o.customer = c.id AND o.id / 10 = c.id ORDER BY o.placed DESC LIMIT 1) AS o FROM pg.customers c WHERE c.id < 3",
            &[&["1", "11"], &["2", "20 or 21"]],
        ),
        // What reads nothing from outside is cut once.
        (
            "SELECT c.id FROM pg.customers c WHERE c.id = (SELECT o.customer FROM orders o WHERE o.id < 20 ORDER BY o.id LIMIT 1)",
            &[&["1"]],
        ),
    ];
    for service in ["pg", "my"] {
        let orders = format!("{service}.orders");
        for (query, right) in cases {
            let query = query.replace("FROM orders", &format!("FROM {orders}"));
            // Either may be the first of its day.
            let query = match right.iter().any(|row| row[1..].iter().any(|value| value.contains(" or "))) {
                true => format!(
                    "SELECT q.id, CASE WHEN q.id = 2 THEN CASE WHEN CAST(q.{0} AS VARCHAR) IN ('new', 'sent', '20', '21') THEN '{1}' END ELSE CAST(q.{0} AS VARCHAR) END FROM ({query}) q",
                    if query.contains("AS state") { "state" } else { "o" },
                    right.iter().find_map(|row| row.iter().find(|value| value.contains(" or "))).unwrap(),
                ),
                false => query,
            };
            answers(&services, &["pg.customers", &orders], &query, right).await;
        }
    }
    let counted = "SELECT c.id FROM pg.customers c WHERE EXISTS (SELECT 1 FROM (SELECT count(*) AS n FROM my.orders o WHERE o.customer = c.id) d WHERE d.n = 0)";
    let error = headwater_sql_tests::services::error(&services.engine().await, counted).await;
    assert!(error.contains("equal (=) to what is outside"), "{error}");
    // A limit above another comparison is one for each row.
    let engine = services.engine().await;
    let second = "SELECT c.id, l.id AS o FROM pg.customers c CROSS JOIN LATERAL (SELECT o.id FROM my.orders o WHERE o.id > c.id ORDER BY o.id LIMIT 2) l";
    let error = headwater_sql_tests::services::error(&engine, second).await;
    assert!(error.contains("equal (=) to what is outside"), "{error}");
}

/// What a subquery compares with the row around it may be anything.
#[tokio::test]
async fn aggregate_of_what_is_found_for_each_row() {
    let postgres =
        PostgresDatabase::with(&format!("{CUSTOMERS}; {ORDERS}; INSERT INTO customers VALUES (1, 'a')")).await;
    let mysql = MysqlDatabase::with(ORDERS).await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    let cases: &[(&str, &[&[&str]])] = &[
        (
            "SELECT c.id, (SELECT count(*) FROM orders o WHERE o.customer = c.id AND o.id > c.id + 10) AS n FROM pg.customers c",
            &[&["1", "1"], &["1", "1"], &["2", "2"], &["3", "0"], &["NULL", "0"]],
        ),
        (
            "SELECT c.id, (SELECT sum(o.id) + count(o.state) FROM orders o WHERE o.customer <> c.id AND o.id < 25) AS n FROM pg.customers c",
            &[&["1", "43"], &["1", "43"], &["2", "35"], &["3", "78"], &["NULL", "NULL"]],
        ),
        (
            "SELECT c.town, (SELECT count(*) FILTER (WHERE o.state = 'new') FROM orders o WHERE o.customer < c.id) AS n FROM pg.customers c",
            &[&["a", "0"], &["a", "0"], &["b", "1"], &["a", "2"], &["b", "0"]],
        ),
        (
            "SELECT c.id FROM pg.customers c WHERE 2 <= (SELECT count(*) FROM orders o WHERE o.customer = c.id OR o.customer > c.id + 100) ORDER BY c.id",
            &[&["1"], &["1"], &["2"]],
        ),
        // The first of an order, by another comparison.
        (
            "SELECT c.id, (SELECT o.id FROM orders o WHERE o.id > c.id * 10 ORDER BY o.id LIMIT 1) AS o FROM pg.customers c",
            &[&["1", "11"], &["1", "11"], &["2", "21"], &["3", "NULL"], &["NULL", "NULL"]],
        ),
        (
            "SELECT c.id, (SELECT max(d.n) FROM (SELECT o.id * 2 AS n, o.customer AS k FROM orders o WHERE o.id > c.id) d WHERE d.k = c.id) AS n FROM pg.customers c",
            &[&["1", "24"], &["1", "24"], &["2", "42"], &["3", "NULL"], &["NULL", "NULL"]],
        ),
        // Two of them, and one that DataFusion knows.
        (
            "SELECT c.id, (SELECT count(*) FROM orders o WHERE o.id < c.id * 10) AS a, (SELECT count(*) FROM orders o WHERE o.id > c.id * 10) AS b, (SELECT max(o.id) FROM orders o WHERE o.customer = c.id) AS m FROM pg.customers c",
            &[
                &["1", "0", "5", "12"],
                &["1", "0", "5", "12"],
                &["2", "3", "2", "21"],
                &["3", "5", "0", "NULL"],
                &["NULL", "0", "0", "NULL"],
            ],
        ),
    ];
    for service in ["pg", "my"] {
        let orders = format!("{service}.orders");
        for (query, right) in cases {
            let query = query.replace("FROM orders", &format!("FROM {orders}"));
            answers(&services, &["pg.customers", &orders], &query, right).await;
        }
    }
}

/// A row of values is compared value by value, and what is not known of one is not known of the row.
#[tokio::test]
async fn row_is_among_the_rows_of_a_subquery_of_several_columns() {
    const ALL: &[&str] = &["1", "2", "3", "NULL"];
    let conditions: &[(&str, &[&str])] = &[
        ("(a, t) IN (SELECT c, t FROM y)", &["1"]),
        ("(a, t) = ANY (SELECT c, t FROM y)", &["1"]),
        ("ROW(a, t) IN (SELECT c, t FROM y)", &["1"]),
        ("(a + 0, (t)) IN (SELECT c, max(t) FROM y GROUP BY c)", &["1"]),
        // (NULL, 2) may be (3, 2), and (NULL, 3) is neither.
        ("(a, t) NOT IN (SELECT c, t FROM y)", &["2", "NULL"]),
        ("(a, t) <> ALL (SELECT c, t FROM y)", &["2", "NULL"]),
        ("NOT ((a, t) IN (SELECT c, t FROM y))", &["2", "NULL"]),
        ("(a, t) NOT IN (SELECT c, t FROM y WHERE c > 5)", ALL),
        ("(a, t) NOT IN (SELECT c, t FROM y) OR b = 1", &["1", "2", "NULL"]),
        ("((a, t) IN (SELECT c, t FROM y)) IS NULL", &["3"]),
        ("((a, t) NOT IN (SELECT c, t FROM y)) IS NULL", &["3"]),
        ("coalesce((a, t) IN (SELECT c, t FROM y), true)", &["1", "3"]),
        ("CASE WHEN (a, t) IN (SELECT c, t FROM y) THEN false ELSE a > 1 END", &["2", "3"]),
        ("(a, 1) IN (SELECT c, y.t FROM y WHERE y.t = x.t)", &["1"]),
        ("EXISTS (SELECT 1 FROM y WHERE (y.c, y.t) IN (SELECT x.a, 1 FROM pg.x))", ALL),
    ];
    // A copy that reads the text as DataFusion does refuses it.
    keeps_as(conditions, false).await;
}

/// What looks a value up need be no aggregate; where it finds more than one, the query fails, and not for what nobody asks.
#[tokio::test]
async fn value_is_looked_up_by_a_key_or_fails_where_there_are_two() {
    let towns = "CREATE TABLE towns (code varchar(9) PRIMARY KEY, name varchar(9), size int, open boolean); \
        INSERT INTO towns VALUES ('a', 'Aachen', 3, true), ('b', 'Bonn', NULL, false); \
        CREATE TABLE texts (code varchar(9) PRIMARY KEY, n int); INSERT INTO texts VALUES ('1', 1), ('01', 2)";
    let postgres = PostgresDatabase::with(&format!("{CUSTOMERS}; {ORDERS}; {towns}")).await;
    let mysql = MysqlDatabase::with(&format!("{ORDERS}; {towns}")).await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    let cases: &[(&str, &[&[&str]])] = &[
        (
            "SELECT c.id, (SELECT t.name FROM towns t WHERE t.code = c.town) AS town FROM pg.customers c",
            &[&["1", "Aachen"], &["2", "Bonn"], &["3", "Aachen"], &["NULL", "Bonn"]],
        ),
        (
            "SELECT c.id, (SELECT CAST(t.open AS BOOLEAN) FROM towns t WHERE c.town = t.code AND t.size > 1) AS is_open FROM pg.customers c",
            &[&["1", "true"], &["2", "NULL"], &["3", "true"], &["NULL", "NULL"]],
        ),
        (
            "SELECT c.id FROM pg.customers c WHERE (SELECT t.size FROM towns t WHERE t.code = c.town) = 3",
            &[&["1"], &["3"]],
        ),
        (
            "SELECT (SELECT t.name FROM towns t WHERE t.code = c.town) AS town, count(*) FROM pg.customers c GROUP BY 1",
            &[&["Aachen", "2"], &["Bonn", "2"]],
        ),
        (
            "SELECT c.id FROM pg.customers c ORDER BY (SELECT t.name FROM towns t WHERE t.code = c.town) DESC, c.id LIMIT 1",
            &[&["2"]],
        ),
        (
            "SELECT c.id, row_number() OVER (ORDER BY (SELECT t.name FROM towns t WHERE t.code = c.town), c.id) AS n FROM pg.customers c WHERE c.id < 3",
            &[&["1", "1"], &["2", "2"]],
        ),
        // What is looked up is what is compared.
        (
            "SELECT c.id, (SELECT t.code FROM towns t WHERE t.code = c.town) AS code, (SELECT o.customer FROM orders o WHERE o.customer = c.id AND o.id % 10 = 0) AS k FROM pg.customers c",
            &[&["1", "a", "1"], &["2", "b", "2"], &["3", "a", "NULL"], &["NULL", "b", "NULL"]],
        ),
        // Two texts are one number, and one group.
        (
            "SELECT c.id, (SELECT sum(t.n) FROM texts t WHERE CAST(t.code AS INT) = c.id) AS n FROM pg.customers c",
            &[&["1", "3"], &["2", "NULL"], &["3", "NULL"], &["NULL", "NULL"]],
        ),
        // By no key: there are no two where one is asked for, though there are elsewhere.
        (
            "SELECT c.id, (SELECT o.state FROM orders o WHERE o.customer = c.id AND o.placed < DATE '2024-01-10') AS state FROM pg.customers c",
            &[&["1", "new"], &["2", "NULL"], &["3", "NULL"], &["NULL", "NULL"]],
        ),
        (
            "SELECT c.id, (SELECT o.placed FROM orders o WHERE o.customer = c.id) AS placed FROM pg.customers c WHERE c.id = 3",
            &[&["3", "NULL"]],
        ),
        (
            "SELECT c.id, t.name FROM pg.customers c JOIN towns t ON t.code = c.town AND EXISTS (SELECT 1 FROM orders o WHERE o.customer = c.id AND o.state = 'sent')",
            &[&["2", "Bonn"]],
        ),
    ];
    for service in ["pg", "my"] {
        for (query, right) in cases {
            let of = |query: &str| {
                ["orders", "towns", "texts"].iter().fold(query.to_owned(), |query, table| {
                    query
                        .replace(&format!("FROM {table}"), &format!("FROM {service}.{table}"))
                        .replace(&format!("JOIN {table}"), &format!("JOIN {service}.{table}"))
                })
            };
            answers(&services, &[], &of(query), right).await;
        }
        let engine = services.engine().await;
        let two = format!(
            "SELECT c.id, (SELECT o.id FROM {service}.orders o WHERE o.customer = c.id) AS o FROM pg.customers c"
        );
        let error = headwater_sql_tests::services::error(&engine, &two).await;
        assert!(error.contains("rows for one row of the query around it"), "{error}");
        // Two texts are one number.
        let two = format!(
            "SELECT c.id, (SELECT t.n FROM {service}.texts t WHERE CAST(t.code AS INT) = c.id) AS n FROM pg.customers c"
        );
        let error = headwater_sql_tests::services::error(&engine, &two).await;
        assert!(error.contains("rows for one row of the query around it"), "{error}");
    }
}
