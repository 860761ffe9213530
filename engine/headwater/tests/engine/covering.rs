//! Queries over services' tables, answered from views: with the same rows as the services give, from the view that EXPLAIN names, or not at all.

use std::time::Duration;

use arrow::array::Array;
use arrow::util::display::array_value_to_string;
use headwater::{Session, ViewOptions};

use crate::ledger::Ledger;

const WITHOUT_BOUND: &str = "SET headwater.max_staleness = off";
const WITH_BOUND: &str = "SET headwater.max_staleness = '1 h'";

fn options() -> ViewOptions {
    ViewOptions { head_interval: Duration::from_millis(20), ..ViewOptions::default() }
}

fn shops() -> (Ledger, Ledger) {
    let (orders, people) = (Ledger::new("orders", &["orders", "lines"]), Ledger::new("people", &["people"]));
    for id in 0..40 {
        orders.commit(&[("orders", id, Some(id % 7)), ("lines", id, Some((id * 13) % 11))]);
    }
    for id in 0..7 {
        people.commit(&[("people", id, Some(100 + id))]);
    }
    (orders, people)
}

async fn rows(session: &Session, sql: &str) -> Vec<String> {
    let answer = session.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", error.report()));
    let batches = answer.collect().await.unwrap_or_else(|error| panic!("{sql}: {}", error.report()));
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let cell = |column: &arrow::array::ArrayRef| match column.is_null(row) {
                true => "NULL".to_owned(),
                false => array_value_to_string(column, row).unwrap(),
            };
            rows.push(batch.columns().iter().map(cell).collect::<Vec<_>>().join("|"));
        }
    }
    rows.sort();
    rows
}

/// What EXPLAIN says of the views.
async fn said(session: &Session, sql: &str) -> String {
    let rows = rows(session, &format!("EXPLAIN {sql}")).await;
    rows.into_iter().find_map(|row| row.strip_prefix("materialized_views|").map(str::to_owned)).unwrap_or_default()
}

/// The answers of a query over the services and with views, which are the same, and what EXPLAIN says of the views.
async fn told(session: &Session, sql: &str) -> String {
    rows(session, WITHOUT_BOUND).await;
    let live = rows(session, sql).await;
    rows(session, WITH_BOUND).await;
    assert_eq!(rows(session, sql).await, live, "{sql}\n{}", rows(session, &format!("EXPLAIN {sql}")).await.join("\n"));
    said(session, sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn query_that_a_view_covers_is_read_from_it_and_one_that_it_does_not_says_why() {
    let (orders, people) = shops();
    let engine = Ledger::engine(&[&orders, &people], options()).await;
    let session = engine.session();
    for view in [
        "CREATE MATERIALIZED VIEW v.big AS SELECT id, amount FROM orders.orders WHERE amount >= 2",
        "CREATE MATERIALIZED VIEW v.lines AS SELECT o.id, o.amount AS person, l.amount AS quantity \
         FROM orders.orders o JOIN orders.lines l ON l.id = o.id",
        "CREATE MATERIALIZED VIEW v.sums AS SELECT o.amount AS person, p.amount AS name, count(*) AS n, sum(o.id) AS total, min(o.id) AS least, max(o.id) AS most \
         FROM orders.orders o JOIN people.people p ON o.amount = p.id GROUP BY o.amount, p.amount",
        "CREATE MATERIALIZED VIEW v.left AS SELECT p.id, o.id AS o FROM people.people p LEFT JOIN orders.orders o ON o.amount = p.id",
    ] {
        rows(&session, view).await;
    }
    for (sql, view) in [
        // The same, a part of the columns, a tighter filter, a filter written otherwise.
        ("SELECT id, amount FROM orders.orders WHERE amount >= 2", "v.big read"),
        ("SELECT amount + 1 AS x FROM orders.orders WHERE amount >= 2", "v.big read"),
        ("SELECT id FROM orders.orders WHERE amount > 3 AND id < 20", "v.big read"),
        ("SELECT id FROM orders.orders WHERE 5 = amount", "v.big read"),
        (
            "SELECT id FROM (SELECT * FROM orders.orders WHERE amount BETWEEN 2 AND 4) WHERE id > 7 ORDER BY id LIMIT 3",
            "v.big read",
        ),
        ("SELECT count(*), sum(id) FROM orders.orders WHERE amount IN (2, 3)", "v.big read"),
        (
            "SELECT amount, count(*) FROM orders.orders WHERE amount > 2 GROUP BY amount HAVING count(*) > 2",
            "v.big read",
        ),
        ("SELECT a.id FROM orders.orders a JOIN orders.orders b ON a.id = b.id + 1 WHERE a.amount >= 2", "v.big read"),
        // Joins in another order and of other names; the column that is equal to the one that is held.
        (
            "SELECT y.id, x.amount FROM orders.lines x, orders.orders y WHERE x.id = y.id AND x.amount > 3",
            "v.lines read",
        ),
        ("SELECT l.id FROM orders.orders o JOIN orders.lines l ON o.id = l.id", "v.lines read"),
        (
            "SELECT o.amount, sum(l.amount) AS s FROM orders.orders o JOIN orders.lines l ON o.id = l.id GROUP BY o.amount",
            "v.lines read",
        ),
        (
            "SELECT p.amount, l.amount FROM orders.orders o JOIN orders.lines l ON o.id = l.id JOIN people.people p ON p.id = o.amount",
            "v.lines read",
        ),
        // Groups of groups.
        (
            "SELECT p.amount, count(*), sum(o.id), min(o.id), max(o.id) FROM people.people p JOIN orders.orders o ON p.id = o.amount GROUP BY p.amount",
            "v.sums read",
        ),
        ("SELECT count(*), sum(o.id) FROM people.people p JOIN orders.orders o ON p.id = o.amount", "v.sums read"),
        (
            "SELECT count(*), max(o.id) FROM people.people p JOIN orders.orders o ON p.id = o.amount WHERE p.amount > 1000",
            "v.sums read",
        ),
        (
            "SELECT p.amount, count(*) AS n FROM people.people p JOIN orders.orders o ON p.id = o.amount WHERE o.amount > 2 GROUP BY p.amount HAVING sum(o.id) > 100",
            "v.sums read",
        ),
        ("SELECT DISTINCT p.amount FROM people.people p JOIN orders.orders o ON p.id = o.amount", "v.sums read"),
        (
            "SELECT count(DISTINCT p.amount), max(p.amount) FROM people.people p JOIN orders.orders o ON p.id = o.amount",
            "v.sums read",
        ),
        (
            "SELECT o.amount, p.amount AS b, sum(o.id) AS c FROM orders.orders o JOIN people.people p ON o.amount = p.id GROUP BY 1, 2 HAVING count(*) > 5",
            "v.sums read",
        ),
        // Outer joins.
        (
            "SELECT x.id, count(y.id) FROM people.people x LEFT JOIN orders.orders y ON x.id = y.amount GROUP BY x.id",
            "v.left read",
        ),
        ("SELECT y.id FROM people.people x LEFT JOIN orders.orders y ON y.amount = x.id WHERE x.id = 3", "v.left read"),
        // Parts of a query that is no block by itself.
        ("SELECT id FROM orders.orders WHERE amount = 4 UNION ALL SELECT id FROM people.people", "v.big read"),
        ("SELECT id FROM people.people p WHERE id IN (SELECT id FROM orders.orders WHERE amount > 4)", "v.big read"),
        ("SELECT id, row_number() OVER (ORDER BY id) AS r FROM orders.orders WHERE amount > 4", "v.big read"),
    ] {
        let said = told(&session, sql).await;
        assert!(said.contains(view), "{sql}: {said}");
    }
    for (sql, why) in [
        (
            "SELECT id FROM orders.orders WHERE amount >= 1",
            "v.big not read: it holds only rows with amount >= Int64(2)",
        ),
        ("SELECT id FROM orders.orders", "v.big not read: it holds only rows with"),
        ("SELECT id FROM orders.orders WHERE amount <> 1", "v.big not read: it holds only rows with"),
        ("SELECT count(*) FROM orders.orders WHERE amount > 3 OR id = 1", "v.big not read: it holds only rows with"),
        (
            "SELECT o.id, p.id FROM orders.orders o JOIN people.people p ON o.amount = p.id",
            "v.sums not read: it is grouped, and the query is not",
        ),
        (
            "SELECT o.id, count(*) FROM orders.orders o JOIN people.people p ON o.amount = p.id GROUP BY o.id",
            "v.sums not read: it does not hold id",
        ),
        (
            "SELECT count(*) FROM orders.orders o JOIN people.people p ON o.amount = p.id WHERE o.id > 3",
            "v.sums not read: it does not hold id",
        ),
        (
            "SELECT count(DISTINCT o.id) FROM orders.orders o JOIN people.people p ON o.amount = p.id",
            "it counts each value once",
        ),
        (
            "SELECT avg(o.id) FROM orders.orders o JOIN people.people p ON o.amount = p.id",
            "keep sum and count and divide",
        ),
        (
            "SELECT y.id FROM people.people x RIGHT JOIN orders.orders y ON y.amount = x.id",
            "v.left not read: no part of the query",
        ),
        (
            "SELECT y.id FROM people.people x LEFT JOIN orders.orders y ON y.amount = x.id AND y.id > 3",
            "v.left not read: no part of the query",
        ),
    ] {
        let said = told(&session, sql).await;
        assert!(said.contains(why), "{sql}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn view_answers_only_a_session_that_bounds_staleness_and_only_while_it_is_as_fresh() {
    let (orders, people) = shops();
    let engine = Ledger::engine(&[&orders, &people], options()).await;
    let session = engine.session();
    rows(
        &session,
        "CREATE MATERIALIZED VIEW v.sums AS SELECT amount, count(*) AS n FROM orders.orders GROUP BY amount",
    )
    .await;
    let sql = "SELECT count(*) FROM orders.orders WHERE amount = 3";
    assert!(said(&session, sql).await.contains("v.sums not read: headwater.max_staleness is not set"));
    rows(&session, "SET headwater.max_staleness = '1 h'").await;
    assert!(said(&session, sql).await.contains("v.sums read"));
    let plan = rows(&session, &format!("EXPLAIN {sql}")).await.join("\n");
    assert!(plan.contains("MaterializedViewExec: view=v.sums, epoch="), "{plan}");
    let analyzed = rows(&session, &format!("EXPLAIN ANALYZE {sql}")).await.join("\n");
    assert!(analyzed.contains("MaterializedViewExec: view=v.sums"), "{analyzed}");
    let prepared = session.prepare("SELECT count(*) FROM orders.orders WHERE amount = ?").await.unwrap();
    orders.take_down();
    // The source is away, and the view answers for it.
    assert_eq!(rows(&session, sql).await, ["6"]);
    let answer = prepared.execute(vec![datafusion::common::ScalarValue::Int64(Some(3))]).await.unwrap();
    assert_eq!(answer.collect().await.unwrap()[0].num_rows(), 1);
    rows(&session, "SET headwater.max_staleness = '1 ms'").await;
    let begun = std::time::Instant::now();
    loop {
        let said = said(&session, sql).await;
        if said.contains("v.sums not read: it may be") && said.contains("behind service \"orders\"") {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{said}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    orders.bring_back();
    assert_eq!(rows(&session, sql).await, ["6"]);
    // A token that the view has not come to.
    rows(&session, "SET headwater.max_staleness = '1 h'").await;
    rows(&session, "SET headwater.at_least = '{orders: 1000000}'").await;
    let said = said(&session, sql).await;
    assert!(said.contains("v.sums not read: it shows service \"orders\" at"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn views_that_a_query_names_and_those_that_answer_for_tables_are_read_at_one_epoch() {
    let (orders, people) = shops();
    let engine = Ledger::engine(&[&orders, &people], options()).await;
    let session = engine.session();
    rows(&session, "CREATE MATERIALIZED VIEW v.total AS SELECT sum(amount) AS total FROM orders.orders").await;
    rows(&session, "CREATE MATERIALIZED VIEW v.rows AS SELECT id, amount FROM orders.orders").await;
    rows(&session, WITH_BOUND).await;
    let sql =
        "SELECT (SELECT total FROM v.total) - (SELECT sum(amount) FROM orders.orders WHERE id >= 0) AS difference";
    let said = said(&session, sql).await;
    assert!(said.contains("v.rows read"), "{said}");
    let writer = {
        let orders = orders.clone();
        tokio::spawn(async move {
            for id in 0..500 {
                orders.commit(&[("orders", id, Some(id))]);
                tokio::task::yield_now().await;
            }
        })
    };
    while !writer.is_finished() {
        assert_eq!(rows(&session, sql).await, ["0"]);
    }
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn constant_of_the_side_that_an_outer_join_fills_up_is_not_the_one_of_the_other_side() {
    let (orders, people) = shops();
    let engine = Ledger::engine(&[&orders, &people], options()).await;
    let session = engine.session();
    let join = "FROM (SELECT id, 1 AS c FROM people.people) p \
                LEFT JOIN (SELECT amount, 1 AS c FROM orders.orders WHERE id < 3) o ON o.amount = p.id";
    rows(&session, &format!("CREATE MATERIALIZED VIEW v.left AS SELECT p.id, p.c {join}")).await;
    told(&session, &format!("SELECT p.id, o.c {join}")).await;
    let said = told(&session, &format!("SELECT p.c, p.id {join}")).await;
    assert!(said.contains("v.left read"), "{said}");
}
