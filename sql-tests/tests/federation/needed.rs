//! What is shipped of a large table of which an answer needs little: the first rows of a computed order, sums and their totals, the keys that are only
//! tested for, the rows of some partitions.

use headwater::{Engine, Limits};
use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::{Reference, Services, ask, rows};

use crate::stars::ship_at_most;

/// Each with the most rows that it may ship of the sales.
const ORDERS: &[(u64, &str)] = &[
    (10, "SELECT id, amount FROM sales.sales ORDER BY amount * 2 DESC NULLS LAST, id LIMIT 10"),
    (10, "SELECT id FROM sales.sales ORDER BY -amount NULLS FIRST, id LIMIT 10"),
    (10, "SELECT id, sold FROM sales.sales ORDER BY extract(hour FROM sold) DESC, id LIMIT 10"),
    (7, "SELECT id FROM sales.sales ORDER BY abs(amount - 100), id LIMIT 5 OFFSET 2"),
    (
        3,
        "SELECT store, sum(amount) AS total FROM sales.sales GROUP BY store ORDER BY sum(amount) * 2 + count(*) DESC LIMIT 3",
    ),
    (
        5,
        "SELECT id, coalesce(amount, 0) FROM sales.sales WHERE store < 3 ORDER BY coalesce(amount, 0), id DESC LIMIT 5",
    ),
    (
        9,
        "SELECT id FROM sales.sales ORDER BY CASE WHEN store = 2 THEN 0 WHEN amount > 100 THEN 1 ELSE 2 END, id LIMIT 9",
    ),
    (
        10,
        "SELECT s.id, t.town FROM sales.sales s JOIN sales.stores t ON t.id = s.store ORDER BY s.amount * t.id DESC NULLS LAST, s.id LIMIT 10",
    ),
    (
        5,
        "SELECT store, sum(amount) AS total FROM sales.sales GROUP BY store ORDER BY sum(amount) / 2 + count(*) DESC LIMIT 4",
    ),
    // What Postgres does otherwise than the engine, or the engine computes alone: only the answer counts.
    (60_000, "SELECT id FROM sales.sales ORDER BY amount / 3 DESC NULLS LAST, id LIMIT 3"),
    (60_000, "SELECT id FROM sales.sales ORDER BY sqrt(CAST(id % 100 AS double)), id LIMIT 3"),
    (60_000, "SELECT id FROM sales.sales WHERE upper(CAST(store AS text)) = '2' ORDER BY id + store DESC LIMIT 3"),
];

const TOTALS: &[(u64, &str)] = &[
    (
        110,
        "SELECT store, product, sum(amount), count(*), avg(amount), min(sold), max(amount) FROM sales.sales GROUP BY ROLLUP (store, product)",
    ),
    (110, "SELECT store, product, count(amount), sum(id) FROM sales.sales GROUP BY CUBE (store, product)"),
    (
        110,
        "SELECT grouping(store) AS g, store, product, sum(amount) FILTER (WHERE amount > 50) FROM sales.sales \
         GROUP BY GROUPING SETS ((store), (product), (), (store, product), (store))",
    ),
    (
        110,
        "SELECT store, sum(amount) AS total FROM sales.sales GROUP BY ROLLUP (store, product) HAVING sum(amount) > 100000",
    ),
    (
        60,
        "SELECT date_trunc('month', sold) AS month, store, sum(amount) FROM sales.sales GROUP BY ROLLUP (date_trunc('month', sold), store)",
    ),
    (
        160,
        "SELECT c.country, s.store, sum(s.amount), count(*) FROM sales.sales s JOIN crm.customers c ON c.id = s.customer GROUP BY ROLLUP (c.country, s.store)",
    ),
    (
        3_300,
        "SELECT c.country, p.kind, avg(s.amount) FROM sales.sales s JOIN crm.customers c ON c.id = s.customer JOIN catalog.products p ON p.id = s.product \
         GROUP BY CUBE (c.country, p.kind)",
    ),
    (0, "SELECT store, sum(amount), count(*) FROM sales.sales WHERE id < 0 GROUP BY ROLLUP (store)"),
    (
        110,
        "SELECT store, sum(total), count(*) FROM (SELECT store, product, sum(amount) AS total FROM sales.sales GROUP BY store, product) x GROUP BY ROLLUP (store)",
    ),
    // Only the answer counts.
    (60_000, "SELECT store, count(DISTINCT product), sum(amount) FROM sales.sales GROUP BY ROLLUP (store)"),
    (60_000, "SELECT store, id, sum(amount) FROM sales.sales WHERE id < 2000 GROUP BY ROLLUP (store, id)"),
];

const TESTED: &[(u64, &str)] = &[
    (
        31,
        "SELECT c.id FROM crm.customers c WHERE EXISTS (SELECT 1 FROM sales.sales s WHERE s.customer = c.id AND s.amount > 200)",
    ),
    (
        31,
        "SELECT c.id FROM crm.customers c WHERE NOT EXISTS (SELECT 1 FROM sales.sales s WHERE s.customer = c.id AND s.store = 1)",
    ),
    (31, "SELECT c.id FROM crm.customers c WHERE c.id NOT IN (SELECT s.customer FROM sales.sales s)"),
    (
        31,
        "SELECT c.id FROM crm.customers c WHERE c.id NOT IN (SELECT s.customer FROM sales.sales s WHERE s.customer > 5)",
    ),
    (
        31,
        "SELECT c.id FROM crm.customers c WHERE c.country = 'c1' OR c.id IN (SELECT s.customer FROM sales.sales s WHERE s.store = 2)",
    ),
    (
        651,
        "SELECT c.id FROM crm.customers c WHERE EXISTS (SELECT 1 FROM sales.sales s WHERE s.customer = c.id AND s.product > c.id)",
    ),
    (
        21,
        "SELECT p.kind, count(*) FROM catalog.products p WHERE p.id IN (SELECT product FROM sales.sales WHERE amount > 220) GROUP BY p.kind",
    ),
    (
        31,
        "SELECT c.country FROM crm.customers c WHERE c.id IN (SELECT s.customer FROM sales.sales s JOIN sales.stores t ON t.id = s.store WHERE t.town = 'town 1')",
    ),
];

const UNMATCHED: &[(u64, &str)] = &[
    (
        31,
        "SELECT c.id, c.country FROM crm.customers c LEFT JOIN sales.sales s ON s.customer = c.id AND s.store = 1 AND s.amount > 220 WHERE s.id IS NULL",
    ),
    (
        31,
        "SELECT c.id, s.product FROM sales.sales s RIGHT JOIN crm.customers c ON s.customer = c.id WHERE s.customer IS NULL AND c.id > 2",
    ),
    (
        31,
        "SELECT c.country, count(*), count(s.id), min(s.sold) FROM crm.customers c LEFT JOIN sales.sales s ON s.customer = c.id WHERE s.id IS NULL GROUP BY c.country",
    ),
    (
        31,
        "SELECT c.id FROM crm.customers c LEFT JOIN sales.sales s ON s.customer = c.id AND s.store = 9 WHERE s.id IS NULL AND coalesce(s.amount, 1) = 1",
    ),
    // A row with a partner may be NULL there.
    (
        60_000,
        "SELECT c.id, s.id FROM crm.customers c LEFT JOIN sales.sales s ON s.customer = c.id AND s.id < 200 WHERE s.amount IS NULL",
    ),
    (
        60_000,
        "SELECT c.id, s.id FROM crm.customers c LEFT JOIN sales.sales s ON s.customer = c.id WHERE s.id IS NULL OR s.id = 7",
    ),
];

const PARTITIONS: &[(u64, &str)] = &[
    (
        4_000,
        "SELECT c.country, x.id FROM crm.customers c JOIN (SELECT id, customer, row_number() OVER (PARTITION BY customer ORDER BY sold DESC, id) AS place \
         FROM sales.sales) x ON x.customer = c.id WHERE x.place = 1 AND c.id < 3",
    ),
    (
        4_000,
        "SELECT c.id, x.id, x.share FROM crm.customers c JOIN (SELECT id, customer, amount / sum(amount) OVER (PARTITION BY customer) AS share, \
         count(*) OVER (PARTITION BY product, customer) AS n FROM sales.sales) x ON x.customer = c.id WHERE c.id < 3 AND x.n > 90",
    ),
    (
        4_000,
        "SELECT c.id, x.id, x.before FROM crm.customers c LEFT JOIN (SELECT id, customer, lag(amount) OVER (PARTITION BY customer ORDER BY id) AS before \
         FROM sales.sales WHERE store = 1) x ON x.customer = c.id WHERE c.id < 4",
    ),
    // Functions over other partitions, or over all rows, need the rows of all customers.
    (
        60_000,
        "SELECT c.id, x.id, x.place, x.total FROM crm.customers c JOIN (SELECT id, customer, sum(amount) OVER (PARTITION BY customer) AS total, \
         row_number() OVER (PARTITION BY store ORDER BY id) AS place FROM sales.sales) x ON x.customer = c.id WHERE c.id < 3",
    ),
    (
        60_000,
        "SELECT c.id, x.id, x.place FROM crm.customers c JOIN (SELECT id, customer, rank() OVER (ORDER BY id) AS place FROM sales.sales) x \
         ON x.customer = c.id WHERE c.id = 2",
    ),
    (
        60_000,
        "SELECT c.id, x.id FROM crm.customers c JOIN (SELECT id, customer, sum(amount) OVER (PARTITION BY customer ORDER BY id) AS total FROM sales.sales) x \
         ON x.customer = c.id AND x.total > 3000 ORDER BY x.total, x.id LIMIT 7",
    ),
];

#[tokio::test]
async fn first_rows_of_a_computed_order_are_cut_at_the_source() {
    ship_at_most(ORDERS).await;
}

#[tokio::test]
async fn totals_of_grouping_sets_are_made_of_the_finest_groups() {
    ship_at_most(TOTALS).await;
}

#[tokio::test]
async fn rows_that_are_only_tested_for_are_shipped_once_a_key() {
    ship_at_most(TESTED).await;
}

#[tokio::test]
async fn outer_joins_of_which_rows_without_a_partner_are_kept_ship_keys() {
    ship_at_most(UNMATCHED).await;
}

#[tokio::test]
async fn rows_of_the_partitions_that_a_join_has_use_for_are_all_that_is_read() {
    ship_at_most(PARTITIONS).await;
}

/// 60,000 orders of 12,000 customers, of whom 10,000 are known.
const ORDERED: &str = "
    CREATE TABLE orders (id int PRIMARY KEY, customer int, total numeric(10,2), placed timestamp);
    INSERT INTO orders SELECT n, nullif(n * 7 % 12000, 5), CASE WHEN n % 13 = 0 THEN NULL ELSE n * 31 % 5000 * 0.25 END,
        timestamp '2024-01-01' + n % 9000 * interval '1 minute' FROM generate_series(1, 60000) n;
    CREATE INDEX ON orders (placed);
    CREATE TABLE lines (order_id int, line int, amount int, PRIMARY KEY (order_id, line));
    INSERT INTO lines SELECT n % 60000 + 1, n / 60000, n % 77 FROM generate_series(0, 119999) n;
    ANALYZE;
";

const PEOPLE: &str = "
    CREATE TABLE people (id int PRIMARY KEY, name varchar(20), town varchar(20), INDEX (town));
    INSERT INTO people SELECT seq, CONCAT('name ', seq), CONCAT('town ', seq % 5) FROM seq_0_to_9999;
    CREATE TABLE vip (person int PRIMARY KEY);
    INSERT INTO vip SELECT seq * 2 FROM seq_0_to_5999;
    ANALYZE TABLE people, vip;
";

/// Each with the most rows that it may ship of both services.
const TRIED: &[(u64, &str)] = &[
    (
        400,
        "SELECT o.id, o.placed, p.name FROM shop.orders o JOIN crm.people p ON p.id = o.customer ORDER BY o.placed DESC, o.id LIMIT 20 OFFSET 30",
    ),
    (
        400,
        "SELECT o.id, p.name FROM shop.orders o JOIN crm.people p ON p.id = o.customer ORDER BY o.total DESC NULLS LAST, o.id LIMIT 20",
    ),
    (
        400,
        "SELECT o.id, p.name FROM shop.orders o JOIN crm.people p ON p.id = o.customer ORDER BY o.total NULLS FIRST, o.id DESC LIMIT 20",
    ),
    (
        400,
        "SELECT o.id, p.name FROM shop.orders o JOIN crm.people p ON p.id = o.customer ORDER BY o.total * 2 - o.id DESC NULLS LAST, o.id LIMIT 20",
    ),
    (
        1_200,
        "SELECT o.id, p.name FROM shop.orders o JOIN crm.people p ON p.id = o.customer WHERE p.town = 'town 3' ORDER BY o.placed, o.id LIMIT 20",
    ),
    (
        1_000,
        "SELECT l.amount, o.id, l.line, p.name FROM shop.orders o JOIN shop.lines l ON l.order_id = o.id JOIN crm.people p ON p.id = o.customer \
        WHERE l.amount < p.id ORDER BY o.placed DESC, o.id, l.line LIMIT 20",
    ),
    (
        500,
        "SELECT o.id FROM shop.orders o WHERE o.customer IN (SELECT p.id FROM crm.people p) ORDER BY o.placed, o.id LIMIT 20",
    ),
    (
        1_000,
        "SELECT o.id FROM shop.orders o WHERE NOT EXISTS (SELECT 1 FROM crm.people p WHERE p.id = o.customer) ORDER BY o.id DESC LIMIT 20",
    ),
    (
        1_000,
        "SELECT o.id, p.name FROM shop.orders o JOIN crm.people p ON p.id = o.customer JOIN crm.vip v ON v.person = p.id ORDER BY o.placed DESC, o.id LIMIT 20",
    ),
    (
        1_000,
        "SELECT x.id, upper(x.name) FROM (SELECT o.id, o.placed, p.name FROM shop.orders o JOIN crm.people p ON p.id = o.customer) x ORDER BY x.placed DESC, x.id LIMIT 20",
    ),
    // Fewer rows come than were hoped for: all is answered.
    (
        80_000,
        "SELECT o.id, p.name FROM shop.orders o JOIN crm.people p ON p.id = o.customer WHERE o.id % 100 > p.id ORDER BY o.placed DESC, o.id LIMIT 20",
    ),
    (
        80_000,
        "SELECT o.id, p.name FROM shop.orders o JOIN crm.people p ON p.id = o.customer WHERE p.name LIKE '%77' ORDER BY o.placed DESC, o.id LIMIT 900",
    ),
    (
        80_000,
        "SELECT o.id, p.name FROM shop.orders o JOIN crm.people p ON p.id = o.customer WHERE p.name = 'nobody' ORDER BY o.placed DESC, o.id LIMIT 5",
    ),
    // The order is of both sides, or of groups.
    (
        80_000,
        "SELECT o.id, p.name FROM shop.orders o JOIN crm.people p ON p.id = o.customer ORDER BY o.placed, p.name, o.id LIMIT 20",
    ),
    (
        80_000,
        "SELECT p.town, count(*) AS n FROM shop.orders o JOIN crm.people p ON p.id = o.customer GROUP BY p.town ORDER BY n, p.town LIMIT 3",
    ),
];

/// Asserts answers, and that they ship so many rows of both services at most.
pub(crate) async fn ship_and_agree(engine: &Engine, reference: &Reference, queries: &[(u64, &str)]) {
    let mut wrong = Vec::new();
    for (most, query) in queries {
        // The second time a plan is made of the first one's draft.
        for _ in 0..3 {
            if let Err(difference) = reference.agrees(engine, query).await {
                wrong.push(format!("{query}\n{difference}"));
            }
        }
        let answer = engine.sql(query).await.unwrap();
        let log = answer.remote_statements();
        answer.collect().await.unwrap();
        let shipped: u64 = log.statements().into_iter().map(|statement| statement.rows).sum();
        if shipped > *most {
            wrong.push(format!("{query}\nships {shipped} rows, more than {most}: {:#?}", log.statements()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Orders at Postgres, people at MariaDB, and a copy of both.
pub(crate) struct Shop {
    pub(crate) engine: Engine,
    pub(crate) reference: Reference,
    _databases: (PostgresDatabase, MysqlDatabase),
    services: Services,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let (shop, crm) = (PostgresDatabase::with(ORDERED).await, MysqlDatabase::with(PEOPLE).await);
        let services = Services::new().with_postgres("shop", &shop.url()).with_mysql("crm", &crm.url());
        let engine = services.engine().await;
        let reference = Reference::copy(&engine, &["shop.orders", "shop.lines", "crm.people", "crm.vip"]).await;
        Self { engine, reference, _databases: (shop, crm), services }
    }

    /// Another engine over the same services.
    pub(crate) async fn engine_with(&self, limits: Limits) -> Engine {
        let engine = Engine::builder().services_dir(self.services.manifests()).connectors(headwater_connectors::all());
        engine.limits(limits).build().await.unwrap()
    }
}

#[tokio::test]
async fn first_rows_above_a_join_are_looked_up_for_the_first_of_its_side() {
    let Shop { engine, reference, .. } = &Shop::open().await;
    ship_and_agree(engine, reference, TRIED).await;
    let tried = "SELECT o.id, upper(p.name) FROM shop.orders o JOIN crm.people p ON p.id = o.customer";
    for (query, fell_back) in [
        (format!("{tried} ORDER BY o.placed DESC, o.id LIMIT 20"), false),
        (format!("{tried} WHERE o.id + 20000 < p.id ORDER BY o.placed DESC, o.id LIMIT 20"), true),
    ] {
        let plan = rows(engine, &format!("EXPLAIN ANALYZE {query}")).await.texts().concat().concat();
        assert!(plan.contains("TriedExec: the first input answers"), "{plan}");
        assert_eq!(plan.contains("fell_back=1"), fell_back, "{plan}");
    }
    let nested =
        format!("{tried} WHERE p.id > (SELECT avg(person) FROM crm.vip) ORDER BY o.placed DESC, o.id LIMIT 20");
    reference.agrees(engine, &nested).await.unwrap();
    // What an outer query computes of the rows keeps their order, however small batches are.
    let session = engine.session();
    ask(&session, "SET datafusion.execution.batch_size = 50").await.unwrap();
    let order = "ORDER BY o.placed DESC, o.id LIMIT 900";
    for condition in ["", "WHERE o.id + 20000 < p.id"] {
        let join = "FROM shop.orders o JOIN crm.people p ON p.id = o.customer";
        let plain = ask(&session, &format!("SELECT o.id {join} {condition} {order}")).await.unwrap();
        let nested = format!("SELECT CAST(i + 0 AS int) FROM (SELECT o.id AS i, p.name {join} {condition} {order}) x");
        assert_eq!(ask(&session, &nested).await.unwrap().texts(), plain.texts(), "{nested}");
    }
}

/// Rows that a condition of the one side keeps, or one of the other.
const EITHER: &[(u64, &str)] = &[
    (
        200,
        "SELECT o.id, p.name FROM shop.orders o JOIN crm.people p ON p.id = o.customer WHERE o.total > 1249 OR p.name = 'name 77'",
    ),
    (
        200,
        "SELECT o.id, o.total FROM shop.orders o JOIN crm.people p ON p.id = o.customer WHERE p.name = 'name 77' OR p.name = 'name 78' OR o.total > 1249 OR o.id = 9",
    ),
    (
        200,
        "SELECT p.town, count(*), sum(o.total) FROM crm.people p JOIN shop.orders o ON o.customer = p.id AND o.id > p.id \
        WHERE (o.id BETWEEN 40 AND 60 OR p.name = 'name 77') AND o.placed IS NOT NULL GROUP BY p.town",
    ),
    (
        400,
        "SELECT o.id, p.name, v.person FROM shop.orders o JOIN crm.people p ON p.id = o.customer JOIN crm.vip v ON v.person = p.id \
        WHERE o.id < 30 OR p.id = 4",
    ),
    // One of them keeps most rows, is of both sides, or fills with NULLs.
    (
        80_000,
        "SELECT count(*) FROM shop.orders o JOIN crm.people p ON p.id = o.customer WHERE o.total > 2 OR p.name = 'name 77'",
    ),
    (
        80_000,
        "SELECT count(*) FROM shop.orders o JOIN crm.people p ON p.id = o.customer WHERE o.id < 50 OR p.id + o.id = 100",
    ),
    (
        80_000,
        "SELECT count(*), count(p.id) FROM shop.orders o LEFT JOIN crm.people p ON p.id = o.customer AND (o.id < 50 OR p.name = 'name 77')",
    ),
];

/// First rows of an order over the rows of both.
const UNIONS: &[(u64, &str)] = &[
    (
        20,
        "SELECT k, n FROM (SELECT 'o' AS k, id AS n FROM shop.orders UNION ALL SELECT 'p', id FROM crm.people) t ORDER BY n DESC, k LIMIT 10",
    ),
    (
        20,
        "SELECT n FROM (SELECT id AS n FROM shop.orders WHERE total IS NOT NULL UNION ALL SELECT id FROM crm.people) t ORDER BY n * 2 - 7, n LIMIT 6 OFFSET 4",
    ),
    (
        20,
        "SELECT max(n) FROM (SELECT n FROM (SELECT customer AS n FROM shop.orders UNION ALL SELECT id FROM crm.people) t ORDER BY n NULLS FIRST LIMIT 10) t",
    ),
    (
        80_000,
        "SELECT n FROM (SELECT customer AS n FROM shop.orders UNION SELECT id FROM crm.people) t ORDER BY n DESC NULLS LAST LIMIT 10",
    ),
];

#[tokio::test]
async fn rows_of_two_sources_are_kept_and_cut_at_each() {
    let Shop { engine, reference, .. } = &Shop::open().await;
    ship_and_agree(engine, reference, EITHER).await;
    ship_and_agree(engine, reference, UNIONS).await;
    // What is read twice must have the same rows both times.
    for (orders, is_parted) in [
        ("shop.orders", true),
        ("(SELECT id, customer, total * random() AS total FROM shop.orders)", false),
        ("(SELECT id, customer, total FROM shop.orders LIMIT 50000)", false),
        (
            "(SELECT id, customer, sum(total) OVER (PARTITION BY customer ORDER BY placed ROWS 1 PRECEDING) AS total FROM shop.orders)",
            false,
        ),
        ("(SELECT customer, max(id) AS id, max(total) AS total FROM shop.orders GROUP BY customer)", false),
    ] {
        let join = format!("SELECT o.id FROM {orders} o JOIN crm.people p ON p.id = o.customer");
        let query = format!("{join} WHERE o.total > 1249 OR p.name = 'name 77'");
        let plan = rows(engine, &format!("EXPLAIN {query}")).await.texts().concat().concat();
        assert_eq!(plan.contains("UnionExec"), is_parted, "{plan}");
    }
}
