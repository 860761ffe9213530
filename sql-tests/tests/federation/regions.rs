//! Sub-plans of one source go down as one statement, and answer as a local copy does.

use headwater::Engine;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::{Reference, Services, rows};

/// Orders, lines and customers with NULLs, duplicates, texts that a locale would order otherwise, and sums that leave their types.
const SHOP: &str = "
    CREATE TABLE customers (id int PRIMARY KEY, name text COLLATE \"en-x-icu\", country text, code char(4), born date);
    INSERT INTO customers (id, name, country, born) VALUES (1, 'b', 'de', '1970-01-01'), (2, 'B', 'de', NULL), (3, 'a', NULL, '2999-12-31'),
        (4, 'ä', 'fr', '0001-01-01'), (5, NULL, 'fr', 'infinity'), (6, 'B', 'de', '1970-01-01');
    UPDATE customers SET code = country || ' ';
    CREATE TABLE orders (id bigint PRIMARY KEY, customer int, price numeric(15,2), discount numeric(15,2), flag boolean, big bigint, wide numeric(38,0));
    INSERT INTO orders VALUES (10, 1, 12.50, 0.05, true, 9223372036854775807, 90000000000000000000000000000000000000),
        (11, 1, 99.99, 0.00, false, 9223372036854775807, 90000000000000000000000000000000000000),
        (12, 2, NULL, 0.10, NULL, -1, 1), (13, 3, -5.01, NULL, true, NULL, NULL), (14, NULL, 7.00, 0.01, false, 3, 4),
        (15, 9, 0.00, 0.02, true, 5, 6);
    CREATE TABLE lines (order_id bigint, line int, quantity smallint, part text COLLATE \"C\", PRIMARY KEY (order_id, line));
    INSERT INTO lines VALUES (10, 1, 3, 'x'), (10, 2, 32767, 'y'), (11, 1, 32767, 'x'), (12, 1, NULL, 'z'), (12, 2, 5, NULL), (13, 1, 1, 'x'), (77, 1, 1, 'x');
";

/// Each with how many statements it is.
pub(crate) const QUERIES: &[(usize, &str)] = &[
    (1, "SELECT c.name, o.id FROM crm.customers c JOIN shop.orders o ON o.customer = c.id"),
    (
        1,
        "SELECT c.id, o.id, o.price FROM crm.customers c LEFT JOIN shop.orders o ON o.customer = c.id AND o.price > 10",
    ),
    (1, "SELECT o.id, c.name FROM crm.customers c RIGHT JOIN shop.orders o ON o.customer = c.id AND c.country = 'de'"),
    (1, "SELECT id FROM shop.orders WHERE customer IN (SELECT id FROM crm.customers WHERE country = 'de')"),
    (1, "SELECT id FROM shop.orders o WHERE NOT EXISTS (SELECT 1 FROM crm.customers c WHERE c.id = o.customer)"),
    (
        1,
        "SELECT c.name, l.part, l.quantity FROM crm.customers c JOIN shop.orders o ON o.customer = c.id JOIN shop.lines l ON l.order_id = o.id WHERE l.line = 1",
    ),
    (1, "SELECT name, count(*), count(born), min(born), max(id) FROM crm.customers GROUP BY name"),
    (1, "SELECT country, count(DISTINCT name) FROM crm.customers GROUP BY country"),
    (1, "SELECT DISTINCT country, name FROM crm.customers"),
    (1, "SELECT count(*) FROM shop.lines"),
    (
        1,
        "SELECT count(*), sum(price), min(price), max(price), avg(price), avg(quantity) FROM shop.orders JOIN shop.lines ON order_id = id",
    ),
    (1, "SELECT customer, sum(big), sum(wide) FROM shop.orders GROUP BY customer"),
    (1, "SELECT part, sum(quantity), avg(quantity), count(quantity) FROM shop.lines GROUP BY part"),
    (1, "SELECT customer, sum(price * (1 - discount)) FROM shop.orders GROUP BY customer"),
    (1, "SELECT sum(price) FILTER (WHERE flag), count(*) FILTER (WHERE NOT flag), count(flag) FROM shop.orders"),
    (1, "SELECT customer, sum(price) FROM shop.orders GROUP BY customer HAVING sum(price) > 10 AND count(*) < 9"),
    (1, "SELECT min(name), max(name), min(country) FROM crm.customers"),
    (1, "SELECT sum(CASE WHEN flag THEN price ELSE 0 END), sum(CASE WHEN price > 5 THEN 1 END) FROM shop.orders"),
    (
        1,
        "SELECT customer, id FROM (SELECT customer, max(id) AS id FROM shop.orders GROUP BY customer) ORDER BY id DESC LIMIT 2",
    ),
    (
        1,
        "SELECT c.name, t.total FROM crm.customers c JOIN (SELECT customer, sum(price) AS total FROM shop.orders GROUP BY customer) t ON t.customer = c.id",
    ),
    (
        1,
        "SELECT id FROM shop.orders WHERE id IN (SELECT order_id FROM shop.lines GROUP BY order_id HAVING sum(quantity) > 5)",
    ),
    (
        1,
        "SELECT id, name FROM crm.customers WHERE country = 'de' UNION ALL SELECT id, name FROM crm.customers WHERE id > 4",
    ),
    (1, "SELECT substr(name, 1, 1), character_length(country), count(*) FROM crm.customers GROUP BY 1, 2"),
    (1, "SELECT coalesce(name, part), id % 3, line + 1 FROM crm.customers LEFT JOIN shop.lines ON order_id = id"),
    (1, "SELECT a.id, b.id FROM crm.customers a JOIN crm.customers b ON a.name = b.name AND a.id < b.id"),
    (1, "SELECT code, count(*), max(code) FROM crm.customers GROUP BY code"),
    // DataFusion simplifies the filter to `big IS NOT NULL OR NULL` after it has handed it down.
    (1, "SELECT count(*) FROM shop.orders o WHERE o.big IN (o.big, o.big)"),
    (
        1,
        "SELECT c.name, sum(o.price) FROM crm.customers c LEFT JOIN shop.orders o ON o.customer = c.id GROUP BY c.name",
    ),
    (1, "SELECT date_trunc('month', born) AS month, count(*) FROM crm.customers GROUP BY 1"),
    (
        1,
        "SELECT count(*) FROM crm.customers WHERE (country IS DISTINCT FROM 'de') AND ((born IS NOT DISTINCT FROM DATE '1970-01-01') OR id > 2)",
    ),
    (1, "SELECT flag IS NOT TRUE, flag IS FALSE, count(*) FROM shop.orders GROUP BY 1, 2"),
    (1, "SELECT trim(code), left(country, 1), CAST(id / 4 AS varchar), count(*) FROM crm.customers GROUP BY 1, 2, 3"),
    (1, "SELECT concat(country, '-') AS k, count(*) FROM crm.customers GROUP BY 1"),
    (1, "SELECT greatest(price, discount), abs(price), count(*) FROM shop.orders GROUP BY 1, 2"),
    (1, "SELECT count(*) FROM crm.customers WHERE strpos(name, 'B') = 1 AND replace(country, 'd', '') = 'e'"),
    // Neither side is ever NULL.
    (1, "SELECT id FROM shop.orders INTERSECT SELECT order_id FROM shop.lines"),
    (1, "SELECT order_id FROM shop.lines EXCEPT SELECT id FROM shop.orders"),
    // What Postgres would answer otherwise stays local.
    (2, "SELECT customer FROM shop.orders INTERSECT SELECT nullif(id, 3) FROM crm.customers"),
    (1, "SELECT avg(big) FROM shop.orders"),
    (1, "SELECT upper(name), count(*) FROM crm.customers GROUP BY upper(name)"),
    (1, "SELECT id FROM shop.orders WHERE customer NOT IN (SELECT order_id FROM shop.lines)"),
    (1, "SELECT id FROM shop.orders WHERE customer NOT IN (SELECT order_id FROM shop.lines WHERE order_id > 100)"),
    (2, "SELECT id FROM shop.orders WHERE customer NOT IN (SELECT order_id FROM shop.lines ORDER BY order_id LIMIT 1)"),
    (1, "SELECT line FROM shop.lines WHERE order_id NOT IN (SELECT customer FROM shop.orders)"),
    (1, "SELECT line FROM shop.lines WHERE order_id NOT IN (SELECT customer FROM shop.orders WHERE customer > 1)"),
    (1, "SELECT id FROM shop.orders WHERE customer NOT IN (SELECT nullif(id, 3) FROM crm.customers WHERE id < 3)"),
    (1, "SELECT id FROM shop.orders WHERE customer NOT IN (SELECT nullif(id, 3) FROM crm.customers)"),
    (
        1,
        "SELECT flag, count(*) FROM shop.orders WHERE customer + 1 NOT IN (SELECT id FROM crm.customers) GROUP BY flag",
    ),
    (2, "SELECT c.id, l.line FROM crm.customers c CROSS JOIN shop.lines l"),
    (2, "SELECT o.id, c.id FROM shop.orders o FULL JOIN crm.customers c ON o.customer = c.id"),
];

#[tokio::test]
async fn sub_plan_of_one_source_is_one_statement_and_answers_as_a_local_copy() {
    let database = PostgresDatabase::with(SHOP).await;
    let services = Services::new()
        .with_tables(
            "shop",
            &format!("connector: postgres, url: \"{}\"", database.url()),
            "{orders: {from: orders}, lines: {from: lines}}",
        )
        .with_tables(
            "crm",
            &format!("connector: postgres, url: \"{}\"", database.url()),
            "{customers: {from: customers}}",
        );
    let engine = services.engine().await;
    let reference = Reference::copy(&engine, &["shop.orders", "shop.lines", "crm.customers"]).await;
    let shown = ask_all(&engine, &reference, QUERIES).await;
    insta::assert_snapshot!(headwater_sql_tests::without_guesses(&shown));
}

/// Asserts the answers of a local copy and the numbers of statements; says what went to the sources.
pub(crate) async fn ask_all<Q: AsRef<str>>(engine: &Engine, reference: &Reference, queries: &[(usize, Q)]) -> String {
    let mut shown = Vec::new();
    let mut wrong = Vec::new();
    for (statements, query) in queries {
        let query = query.as_ref();
        if let Err(difference) = reference.agrees(engine, query).await {
            wrong.push(format!("{query}\n{difference}"));
        }
        let plan = rows(engine, &format!("EXPLAIN {query}")).await;
        let plan = plan.texts().into_iter().find(|row| row[0] == "physical_plan").unwrap()[1].to_owned();
        let remote: Vec<&str> = plan.lines().filter(|line| line.contains("RemoteScanExec")).map(str::trim).collect();
        if remote.len() != *statements {
            wrong.push(format!("{query}\nis {} statements and not {statements}:\n{plan}", remote.len()));
        }
        shown.push(format!("{query}\n{}", remote.join("\n")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    shown.join("\n\n")
}

/// Asks each query over two services of one Postgres database, `pg` and `pg2`, and asserts the answers of a local copy.
async fn agree_over_twins(ddl: &str, tables: &[&str], queries: &[&str]) {
    let database = PostgresDatabase::with(ddl).await;
    let services = Services::new().with_postgres("pg", &database.url()).with_postgres("pg2", &database.url());
    let engine = services.engine().await;
    let reference = Reference::copy(&engine, tables).await;
    let mut wrong = Vec::new();
    for query in queries {
        if let Err(difference) = reference.agrees(&engine, query).await {
            wrong.push(format!("{query}\n{difference}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What is joined is one thing in FROM, though its text may hold a join: a parenthesis around it would be no SQL.
#[tokio::test]
async fn groups_over_a_join_on_the_right_of_a_join_are_answered() {
    let ddl = "CREATE TABLE a (id bigint, k bigint); INSERT INTO a VALUES (1, 1), (2, 2), (3, NULL); \
        CREATE TABLE b (id bigint, k bigint); INSERT INTO b VALUES (1, 1), (2, 1), (3, 2)";
    let queries = [
        "SELECT a.id, d.n FROM pg.a a JOIN (SELECT b.k, count(*) AS n FROM pg2.b b JOIN pg.a c ON b.id = c.id GROUP BY b.k) d \
         ON a.k = d.k",
        "SELECT a.id, d.n FROM pg.a a LEFT JOIN (SELECT b.k, count(*) AS n FROM pg2.b b JOIN pg.a c ON b.id = c.id \
         GROUP BY b.k) d ON a.k = d.k",
        "SELECT a.id, d.l FROM pg.a a LEFT JOIN (SELECT b.k, c.id + 1 AS l FROM pg2.b b LEFT JOIN pg.a c ON b.id = c.k) d \
         ON a.k = d.k",
        "SELECT a.id, d.id FROM pg.a a LEFT JOIN (SELECT b.k, c.id FROM pg2.b b LEFT JOIN pg.a c ON b.id = c.k) d ON a.k = d.k",
    ];
    agree_over_twins(ddl, &["pg.a", "pg2.b"], &queries).await;
}

/// Text computed of a column keeps the column's collation, in which other texts may be equal, or which fits no other column's.
#[tokio::test]
async fn computed_text_is_compared_and_grouped_by_bytes() {
    let ddl = "CREATE COLLATION folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
        CREATE TABLE t (s text COLLATE folding, c text COLLATE \"C\", d text COLLATE \"en-x-icu\"); \
        INSERT INTO t VALUES ('ab', 'x', 'y'), ('AB', 'x', 'y'), ('Ab', NULL, 'x')";
    let queries = [
        "SELECT substr(s, 1, 1) AS k, count(*) FROM pg.t GROUP BY substr(s, 1, 1)",
        "SELECT DISTINCT coalesce(s, 'z') FROM pg.t",
        "SELECT count(DISTINCT s || 'b') FROM pg.t",
        "SELECT count(*) FROM pg.t WHERE substr(s, 1, 1) = 'a'",
        "SELECT count(*) FROM pg.t WHERE substr(s, 1, 1) <> 'a'",
        "SELECT count(*) FROM pg.t WHERE substr(s, 1, 1) IN ('a', 'b')",
        "SELECT count(*) FROM pg.t a JOIN pg2.t b ON substr(a.s, 1, 1) = substr(b.s, 1, 1)",
        "SELECT count(*) FROM pg.t a WHERE substr(a.s, 1, 1) IN (SELECT substr(b.s, 2, 1) FROM pg2.t b)",
        "SELECT coalesce(c, d) AS k, count(*) FROM pg.t GROUP BY coalesce(c, d)",
        "SELECT count(*) FROM pg.t a JOIN pg2.t b ON a.c || a.d = b.c || b.d",
        "SELECT s || 'b' AS k FROM pg.t UNION SELECT c || d FROM pg2.t",
        // The greatest text is that of the bytes, and has no collation of the column's.
        "SELECT count(*) FROM pg.t a LEFT JOIN (SELECT max(d) AS m FROM pg2.t) b ON a.d = b.m",
        "SELECT count(*) FROM pg.t a JOIN (SELECT k, min(s) AS m FROM (SELECT c AS k, s FROM pg2.t) v GROUP BY k) b ON a.s = b.m",
        "SELECT count(*) FROM pg.t a JOIN (SELECT max(s) FILTER (WHERE s < 'b') AS m FROM pg2.t) b ON a.d = b.m",
        "SELECT max(m) FROM (SELECT s, max(d) AS m FROM pg.t GROUP BY s) v WHERE m > 'x'",
        "SELECT m FROM (SELECT s, max(d) AS m FROM pg.t GROUP BY s) v GROUP BY m ORDER BY m LIMIT 1",
        "SELECT a.d FROM pg.t a WHERE a.d IN (SELECT max(b.d) FROM pg2.t b GROUP BY b.s)",
        "SELECT d AS k FROM pg.t UNION SELECT max(d) FROM pg2.t",
    ];
    agree_over_twins(ddl, &["pg.t", "pg2.t"], &queries).await;
}
