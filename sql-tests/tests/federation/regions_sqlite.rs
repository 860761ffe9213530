//! Sub-plans of one SQLite file go down as one statement as far as SQLite itself makes sure of the values, and answer as a local copy does.

use headwater_sql_tests::services::{Reference, Services, both_ways, rows};

/// STRICT tables with NULLs, duplicates, texts that a locale would order otherwise, NUL in text, sums that leave 64 bits; and loose ones.
const SHOP: &str = "
    CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, country TEXT COLLATE NOCASE, code BLOB) STRICT;
    INSERT INTO customers VALUES (1, 'b', 'de', x'00'), (2, 'B', 'DE', x''), (3, 'a', NULL, NULL), (4, 'ä', 'fr', x'00ff'),
        (5, NULL, 'fr', x'00'), (6, 'B', 'de', x'00'), (7, 'a' || char(0) || 'b', 'es', NULL), (8, '', 'es', NULL);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, quantity INTEGER, big INTEGER, part TEXT, price REAL) STRICT;
    INSERT INTO orders VALUES (10, 1, 3, 9223372036854775807, 'x', 1.5), (11, 1, 32767, 9223372036854775807, 'y', 2.5),
        (12, 2, NULL, -1, 'x', NULL), (13, 3, -5, NULL, NULL, 0.5), (14, NULL, 7, -9223372036854775808, 'X', 4),
        (15, 9, 0, -9223372036854775808, 'x ', 1), (16, 9, 1, -9223372036854775807, '', 1);
    CREATE INDEX orders_customer ON orders (customer);
    CREATE TABLE notes (order_id INTEGER, line INTEGER, text TEXT, day DATE, flag BOOLEAN, cost DECIMAL(10,2));
    INSERT INTO notes VALUES (10, 1, 'x', '2024-02-29', 1, 1.25), (10, 2, 'y', NULL, 0, 2), (12, 1, NULL, '1970-01-01', NULL, NULL);
    CREATE TABLE keyed (id INTEGER PRIMARY KEY, note TEXT);
    INSERT INTO keyed VALUES (1, 'a'), (2, 'b'), (10, 'c'), (12, NULL);
    CREATE TABLE large (id INTEGER PRIMARY KEY, n INTEGER) STRICT;
    WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 2000) INSERT INTO large SELECT i, i * 7 % 1999 FROM c;
    CREATE VIEW named AS SELECT id, name FROM customers WHERE name IS NOT NULL;
";

/// Each with how many statements it is.
const QUERIES: &[(usize, &str)] = &[
    (1, "SELECT c.name, o.id FROM lite.customers c JOIN lite.orders o ON o.customer = c.id"),
    (
        1,
        "SELECT c.id, o.id, o.price, c.country FROM lite.customers c LEFT JOIN lite.orders o ON o.customer = c.id AND o.quantity > 1",
    ),
    (1, "SELECT o.id, c.name FROM lite.customers c RIGHT JOIN lite.orders o ON o.customer = c.id AND c.name = 'b'"),
    (1, "SELECT id FROM lite.orders WHERE customer IN (SELECT id FROM lite.customers WHERE name > 'A')"),
    (1, "SELECT id FROM lite.orders o WHERE NOT EXISTS (SELECT 1 FROM lite.customers c WHERE c.id = o.customer)"),
    (1, "SELECT a.id, b.id FROM lite.customers a JOIN lite.customers b ON a.name = b.name AND a.id < b.id"),
    (1, "SELECT a.id, b.id FROM lite.customers a JOIN lite.customers b ON a.code = b.code"),
    (1, "SELECT c.name, k.note FROM lite.customers c JOIN lite.keyed k ON k.id = c.id"),
    (
        1,
        "SELECT c.name, o.part, k.note FROM lite.customers c JOIN lite.orders o ON o.customer = c.id LEFT JOIN lite.keyed k ON k.id = o.id WHERE o.quantity > 0",
    ),
    (1, "SELECT count(*) FROM lite.orders"),
    (1, "SELECT count(*) FROM lite.notes"),
    (1, "SELECT count(*), count(name), count(code), min(name), max(name), min(id) FROM lite.customers"),
    (1, "SELECT sum(big), sum(quantity), min(big), max(big), count(price) FROM lite.orders"),
    (1, "SELECT sum(big) FILTER (WHERE quantity > 0), count(*) FILTER (WHERE part = 'x') FROM lite.orders"),
    (
        1,
        "SELECT sum(o.quantity), count(*) FROM lite.customers c JOIN lite.orders o ON o.customer = c.id WHERE c.id = 1",
    ),
    (1, "SELECT sum(quantity) FROM lite.orders WHERE id > 1000"),
    (
        1,
        "SELECT sum(CASE WHEN part = 'x' THEN 1 ELSE 0 END), max(CASE WHEN quantity > 5 THEN part END) FROM lite.orders",
    ),
    (1, "SELECT max(id) FROM lite.keyed WHERE id < 11"),
    (1, "SELECT o.id FROM lite.customers c JOIN lite.orders o ON o.customer = c.id ORDER BY o.part DESC, o.id LIMIT 2"),
    (1, "SELECT id, name FROM lite.customers WHERE id < 3 UNION ALL SELECT id, part FROM lite.orders"),
    (
        1,
        "SELECT o.quantity % 3, o.quantity / 2, o.quantity > 2, coalesce(o.part, c.name), c.name || '!' FROM lite.customers c JOIN lite.orders o ON o.customer = c.id",
    ),
    (1, "SELECT c.id FROM lite.customers c JOIN lite.orders o ON coalesce(o.part, '') = coalesce(c.name, '')"),
    (
        1,
        "SELECT c.name || '!' AS k, o.id FROM lite.customers c JOIN lite.orders o ON o.customer = c.id WHERE c.name || coalesce(o.part, '') < 'b' ORDER BY k, o.id LIMIT 3",
    ),
    (1, "SELECT c.id FROM lite.customers c JOIN (SELECT max(name) AS m FROM lite.customers) v ON c.name || '' = v.m"),
    (
        1,
        "SELECT min(c.name || '!'), max(coalesce(c.name, o.part)) FROM lite.customers c JOIN lite.orders o ON o.customer = c.id",
    ),
    (1, "SELECT o.id, 'x' AS x, 7 AS n, true AS t FROM lite.customers c JOIN lite.orders o ON o.customer = c.id"),
    // Groups are made faster here than in SQLite, and so are joins of large tables.
    (1, "SELECT part, sum(quantity), count(DISTINCT customer) FROM lite.orders GROUP BY part"),
    (1, "SELECT DISTINCT part FROM lite.orders"),
    (
        1,
        "SELECT c.name, count(*), sum(o.big) FROM lite.customers c JOIN lite.orders o ON o.customer = c.id GROUP BY c.name",
    ),
    (2, "SELECT a.id, b.id FROM lite.large a JOIN lite.large b ON a.id = b.n"),
    (1, "SELECT a.id, b.id FROM lite.large a JOIN lite.large b ON a.id = b.n WHERE a.id = 7"),
    (1, "SELECT count(*), sum(n) FROM lite.large"),
    // What only SQLite's declared types speak for stays local, and so does what SQLite answers otherwise.
    (1, "SELECT count(text), sum(line), min(day) FROM lite.notes"),
    (2, "SELECT k.id, n.line FROM lite.keyed k JOIN lite.notes n ON n.order_id = k.id"),
    (1, "SELECT count(country), min(country) FROM lite.customers"),
    (1, "SELECT sum(price), min(price) FROM lite.orders"),
    (1, "SELECT count(*) FROM lite.customers WHERE upper(name) = 'B' AND character_length(name) = 1"),
    (2, "SELECT o.id, c.id FROM lite.orders o FULL JOIN lite.customers c ON o.customer = c.id"),
];

#[tokio::test]
async fn sub_plan_of_one_file_is_one_statement_and_answers_as_a_local_copy() {
    let services = Services::new().with_sqlite("lite", SHOP);
    let engine = services.engine().await;
    let tables = ["lite.orders", "lite.customers", "lite.notes", "lite.keyed", "lite.named", "lite.large"];
    let reference = Reference::copy(&engine, &tables).await;
    let (mut shown, mut wrong) = (Vec::new(), Vec::new());
    for (statements, query) in QUERIES {
        if let Err(difference) = reference.agrees(&engine, query).await {
            wrong.push(format!("{query}\n{difference}"));
        }
        let plan = rows(&engine, &format!("EXPLAIN {query}")).await;
        let plan = plan.texts().into_iter().find(|row| row[0] == "physical_plan").unwrap()[1].to_owned();
        let remote: Vec<&str> = plan.lines().filter(|line| line.contains("RemoteScanExec")).map(str::trim).collect();
        if remote.len() != *statements {
            wrong.push(format!("{query}\nis {} statements and not {statements}:\n{plan}", remote.len()));
        }
        shown.push(format!("{query}\n{}", remote.join("\n")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    insta::assert_snapshot!(headwater_sql_tests::without_guesses(&shown.join("\n\n")));
}

/// Whatever is asked of a column that nothing enforces, a value that does not fit is the error that a scan reports.
#[tokio::test]
async fn value_that_does_not_fit_is_never_counted_summed_joined_or_compared() {
    let services = Services::new().with_sqlite(
        "lite",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, s TEXT, d DATE, b BOOLEAN, note TEXT NOT NULL);
         INSERT INTO t VALUES (1, 1, 'a', '2024-01-01', 1, 'x'), (2, 'two', x'00', 'someday', 2, 'y'), (3, 3, 'c', NULL, 0, 'z');
         CREATE TABLE tight (id INTEGER PRIMARY KEY, n INTEGER) STRICT;
         INSERT INTO tight VALUES (1, 1), (2, 2), (3, 3);",
    );
    let engine = services.engine().await;
    for column in ["n", "s", "d", "b"] {
        for query in [
            format!("SELECT count({column}) FROM lite.t"),
            format!("SELECT min({column}), max({column}) FROM lite.t"),
            format!("SELECT {column}, count(*) FROM lite.t GROUP BY {column}"),
            format!("SELECT DISTINCT {column} FROM lite.t"),
            format!("SELECT count(DISTINCT {column}) FROM lite.t"),
            format!("SELECT a.id FROM lite.tight a JOIN lite.t b ON a.id = b.id AND b.{column} IS NOT NULL"),
            format!("SELECT a.id, b.{column} FROM lite.tight a JOIN lite.t b ON a.id = b.id"),
            format!("SELECT {column} FROM lite.t WHERE id > 1 UNION ALL SELECT {column} FROM lite.t WHERE id = 1"),
            format!("SELECT a.id FROM lite.t a JOIN lite.t b ON a.{column} = b.{column}"),
        ] {
            let error = both_ways(&engine, &query).await.unwrap_err();
            for part in ["\"lite\"", "\"t\"", &format!("\"{column}\""), "rowid 2"] {
                assert!(error.contains(part), "{query}: {error} names {part}");
            }
        }
    }
    assert_eq!(rows(&engine, "SELECT count(*), max(id) FROM lite.t").await.texts(), [["3", "3"]]);
}
