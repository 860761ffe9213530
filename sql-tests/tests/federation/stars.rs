//! Facts in one database whose dimensions are in others: the facts are grouped at their source by what the joins read of them.

use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::{Reference, Services};

/// 60,000 sales of 20 products to 30 customers, some of which are in no dimension.
const SALES: &str = "
    CREATE TABLE sales (id int PRIMARY KEY, customer int, product int, store int, amount numeric(10,2), sold timestamp);
    INSERT INTO sales SELECT n, nullif(n % 31, 3), n % 21, n % 5, CASE WHEN n % 11 = 0 THEN NULL ELSE n % 900 * 0.25 END,
        timestamp '2024-01-01' + n * interval '7 minutes' FROM generate_series(1, 60000) n;
    CREATE TABLE stores (id int PRIMARY KEY, town text);
    INSERT INTO stores SELECT n, 'town ' || n % 3 FROM generate_series(0, 3) n;
    ANALYZE;
";

const CUSTOMERS: &str = "
    CREATE TABLE customers (id int PRIMARY KEY, country varchar(20));
    INSERT INTO customers SELECT seq, CONCAT('c', seq % 4) FROM seq_1_to_29;
    ANALYZE TABLE customers;
";

const PRODUCTS: &str = "
    CREATE TABLE products (id INTEGER PRIMARY KEY, kind TEXT, price INTEGER) STRICT;
    WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 18)
    INSERT INTO products SELECT n, 'k' || n % 4, n * 3 FROM n;
    ANALYZE;
";

/// Each with the most rows that it may ship of the sales.
const QUERIES: &[(u64, &str)] = &[
    (
        1_400,
        "SELECT c.country, p.kind, sum(s.amount) AS total, count(*) AS n FROM sales.sales s JOIN crm.customers c ON c.id = s.customer \
         JOIN catalog.products p ON p.id = s.product GROUP BY c.country, p.kind",
    ),
    (
        1_400,
        "SELECT p.kind, avg(s.amount), min(s.sold), max(s.amount) FROM sales.sales s JOIN crm.customers c ON c.id = s.customer \
         JOIN catalog.products p ON p.id = s.product WHERE c.country <> 'c1' GROUP BY p.kind",
    ),
    // A third dimension, in the facts' own database.
    (
        4_200,
        "SELECT t.town, c.country, p.kind, sum(s.amount) FROM sales.sales s JOIN sales.stores t ON t.id = s.store \
         JOIN crm.customers c ON c.id = s.customer JOIN catalog.products p ON p.id = s.product GROUP BY 1, 2, 3",
    ),
    // Facts without a partner stay; conditions on a dimension decide above.
    (
        1_400,
        "SELECT c.country, p.kind, sum(s.amount), count(s.amount) FROM sales.sales s LEFT JOIN crm.customers c ON c.id = s.customer \
         LEFT JOIN catalog.products p ON p.id = s.product AND p.price > 9 GROUP BY c.country, p.kind",
    ),
    // Dimensions without a fact stay.
    (
        1_400,
        "SELECT c.id, sum(x.amount), count(x.id) FROM crm.customers c LEFT JOIN (SELECT s.customer, s.amount, s.id FROM sales.sales s \
         JOIN catalog.products p ON p.id = s.product WHERE p.price > 9) AS x ON x.customer = c.id GROUP BY c.id",
    ),
    // A condition of each sum, and a group of the facts' own.
    (
        4_200,
        "SELECT p.kind, s.store, sum(s.amount) FILTER (WHERE s.amount > 50), count(*) FILTER (WHERE s.amount IS NULL) \
         FROM sales.sales s JOIN crm.customers c ON c.id = s.customer JOIN catalog.products p ON p.id = s.product GROUP BY 1, 2",
    ),
    // Months, computed at the source.
    (
        6_000,
        "SELECT date_trunc('month', s.sold) AS month, c.country, sum(s.amount) FROM sales.sales s JOIN crm.customers c ON c.id = s.customer \
         GROUP BY 1, 2",
    ),
    // What is aggregated is of two sides, or of a side that many rows of the facts meet: only the answer counts.
    (
        60_000,
        "SELECT c.country, sum(s.amount * p.price), count(DISTINCT s.store) FROM sales.sales s JOIN crm.customers c ON c.id = s.customer \
         JOIN catalog.products p ON p.id = s.product GROUP BY c.country",
    ),
    (
        60_000,
        "SELECT s.store, sum(p.price), count(*) FROM sales.sales s JOIN crm.customers c ON c.id = s.customer \
         JOIN catalog.products p ON p.id = s.product GROUP BY s.store",
    ),
    // What is computed beneath a join that keeps the other side is NULL where it has no row.
    (
        60_000,
        "SELECT k, sum(amount) FROM crm.customers c LEFT JOIN (SELECT coalesce(s.product, 0) AS k, s.customer AS cust, s.amount AS amount \
         FROM sales.sales s JOIN catalog.products p ON p.id = s.product WHERE s.customer < 5) ON cust = c.id GROUP BY k",
    ),
    // Two tables of one name.
    (
        60_000,
        "SELECT c.country, sum(amount) FROM crm.customers c JOIN (SELECT s.customer AS cust, s.amount AS amount FROM sales.sales s \
         JOIN crm.customers c ON c.id = s.customer) ON cust = c.id GROUP BY c.country",
    ),
    (
        1_400,
        "WITH star AS (SELECT s.amount, s.customer, p.kind FROM sales.sales s JOIN catalog.products p ON p.id = s.product) \
         SELECT c.country, t.kind, max(t.amount), count(*) FROM star t JOIN crm.customers c ON c.id = t.customer GROUP BY 1, 2",
    ),
    // No partner at all.
    (
        1_400,
        "SELECT count(*), sum(s.amount) FROM sales.sales s JOIN crm.customers c ON c.id = s.customer JOIN catalog.products p ON p.id = s.product \
         WHERE p.kind = 'none'",
    ),
];

#[tokio::test]
async fn facts_are_grouped_beneath_the_joins_with_their_dimensions() {
    ship_at_most(QUERIES).await;
}

/// Asserts that each query answers as over a local copy, and ships no more rows of the sales' database.
pub(crate) async fn ship_at_most(queries: &[(u64, &str)]) {
    let (sales, crm) = (PostgresDatabase::with(SALES).await, MysqlDatabase::with(CUSTOMERS).await);
    let services = Services::new()
        .with_postgres("sales", &sales.url())
        .with_mysql("crm", &crm.url())
        .with_sqlite("catalog", PRODUCTS);
    let engine = services.engine().await;
    let tables = ["sales.sales", "sales.stores", "crm.customers", "catalog.products"];
    let reference = Reference::copy(&engine, &tables).await;
    let mut wrong = Vec::new();
    for (most, query) in queries {
        if let Err(difference) = reference.agrees(&engine, query).await {
            wrong.push(format!("{query}\n{difference}"));
        }
        let answer = engine.sql(query).await.unwrap();
        let log = answer.remote_statements();
        answer.collect().await.unwrap();
        let of_sales = log.statements().into_iter().filter(|statement| statement.service == "sales");
        let shipped: u64 = of_sales.map(|statement| statement.rows).sum();
        if shipped > *most {
            wrong.push(format!("{query}\nships {shipped} rows, more than {most}: {:#?}", log.statements()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
