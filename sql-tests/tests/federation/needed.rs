//! What is shipped of a large table of which an answer needs little: the first rows of a computed order, sums and their totals, the keys that are only
//! tested for, the rows of some partitions.

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
