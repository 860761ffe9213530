//! Joins between services: what the keys of one side save on the other, and that they change no answer.

use std::time::Duration;

use arrow::util::pretty::pretty_format_batches;
use headwater_source::{Expr, ScalarValue};

use crate::sheet::Sheet;

#[tokio::test]
async fn keys_of_the_build_side_go_down_with_the_statement_of_the_probe_side() {
    let (shop, store) = (Sheet::new("shop"), Sheet::new("store"));
    let engine = Sheet::engine(&[&shop, &store]).await;
    let sql = "SELECT count(*) FROM shop.items a JOIN store.items b ON a.id = b.id WHERE a.id < 3";
    let answer = engine.sql(sql).await.unwrap();
    let log = answer.remote_statements();
    answer.collect().await.unwrap();
    let keys = [&shop, &store].into_iter().any(|sheet| {
        sheet.last_asked().filters.iter().any(|filter| match filter {
            Expr::InList { values, .. } => *values == [ScalarValue::from(1_i64), ScalarValue::from(2_i64)],
            _ => false,
        })
    });
    assert!(keys, "{:?}", log.statements());
    assert!(log.statements().iter().all(|statement| statement.rows == 2), "{:?}", log.statements());
}

#[tokio::test]
async fn probe_side_is_not_asked_where_the_build_side_has_no_key() {
    let (shop, store) = (Sheet::new("shop"), Sheet::new("store"));
    let engine = Sheet::engine(&[&shop, &store]).await;
    let sql = "SELECT count(*) FROM shop.items a JOIN store.items b ON a.id = b.id WHERE a.name = 'nobody'";
    let answer = engine.sql(sql).await.unwrap();
    let log = answer.remote_statements();
    answer.collect().await.unwrap();
    assert!(log.statements().iter().any(|statement| statement.statements == 0), "{:?}", log.statements());
}

#[tokio::test]
async fn no_kind_of_join_changes_its_answer() {
    let (shop, store) = (Sheet::new("shop"), Sheet::new("store"));
    let session = Sheet::engine(&[&shop, &store]).await.session();
    let joins = [
        "JOIN",
        "LEFT JOIN",
        "RIGHT JOIN",
        "FULL JOIN",
        "LEFT SEMI JOIN",
        "LEFT ANTI JOIN",
        "RIGHT SEMI JOIN",
        "RIGHT ANTI JOIN",
    ];
    let mut queries: Vec<String> = Vec::new();
    for join in joins {
        for on in [
            "a.id = b.id",
            "a.name = b.name",
            "a.id = b.id AND a.name = b.name",
            "a.id = b.id + 1",
            "a.id = b.id AND a.id > 1",
        ] {
            for filter in ["TRUE", "a.id < 3", "a.name = 'nobody'"] {
                let from = format!("(SELECT * FROM shop.items a WHERE {filter}) a {join} store.items b ON {on}");
                queries.push(format!("SELECT count(*) FROM {from}"));
            }
        }
    }
    for subquery in [
        "id NOT IN (SELECT id FROM store.items WHERE id > 2)",
        "id NOT IN (SELECT id FROM store.items WHERE id IS NOT NULL AND id > 2)",
        "id IN (SELECT id FROM store.items WHERE name = 'a')",
        "EXISTS (SELECT 1 FROM store.items b WHERE b.id = a.id AND b.name <> a.name)",
        "id = (SELECT max(id) FROM store.items b WHERE b.name = a.name)",
    ] {
        queries.push(format!("SELECT * FROM shop.items a WHERE {subquery} ORDER BY id"));
    }
    queries.push("SELECT * FROM shop.items a JOIN (SELECT id FROM store.items ORDER BY id LIMIT 2) b ON a.id = b.id ORDER BY a.id".into());
    queries.push("SELECT count(*) FROM shop.items a JOIN store.items b ON a.id IS NOT DISTINCT FROM b.id".into());
    for query in queries {
        let mut answers = Vec::new();
        for pushdown in ["off", "on"] {
            session.sql(&format!("SET headwater.pushdown = {pushdown}")).await.unwrap();
            shop.forget_asked();
            let batches = session.sql(&query).await.unwrap().collect().await.unwrap();
            answers.push(pretty_format_batches(&batches).unwrap().to_string());
        }
        assert_eq!(answers[0], answers[1], "{query}");
    }
}

#[tokio::test]
async fn joins_in_a_row_pass_their_keys_on() {
    let (a, b, c) = (Sheet::new("a"), Sheet::new("b"), Sheet::new("c"));
    let engine = Sheet::engine(&[&a, &b, &c]).await;
    let sql =
        "SELECT count(*) FROM a.items x JOIN b.items y ON x.id = y.id JOIN c.items z ON y.id = z.id WHERE x.id = 2";
    let answer = engine.sql(sql).await.unwrap();
    let log = answer.remote_statements();
    answer.collect().await.unwrap();
    assert!(log.statements().iter().all(|statement| statement.rows == 1), "{:?}", log.statements());
}

#[tokio::test]
async fn recursive_query_does_not_wait_for_keys_that_nobody_tells() {
    let (shop, store) = (Sheet::new("shop"), Sheet::new("store"));
    let session = Sheet::engine(&[&shop, &store]).await.session();
    let sql = "WITH RECURSIVE t AS (SELECT id FROM shop.items WHERE id = 1 UNION ALL \
               SELECT a.id FROM t JOIN store.items b ON b.id = t.id JOIN shop.items a ON a.id = b.id + 1) \
               SELECT count(*) FROM t";
    let answer = session.sql(sql).await.unwrap();
    let batches = tokio::time::timeout(Duration::from_secs(20), answer.collect()).await.expect("it ends").unwrap();
    assert_eq!(pretty_format_batches(&batches).unwrap().to_string().lines().nth(3), Some("| 4        |"));
}

#[tokio::test]
async fn filter_of_a_top_k_that_a_session_switches_on_is_not_waited_for() {
    let shop = Sheet::new("shop");
    let session = Sheet::engine(&[&shop]).await.session();
    session.sql("SET datafusion.optimizer.enable_dynamic_filter_pushdown = true").await.unwrap();
    let answer = session.sql("SELECT * FROM shop.items ORDER BY name LIMIT 2").await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), answer.collect()).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn join_whose_partitions_are_not_all_read_ends() {
    let (shop, store) = (Sheet::new("shop"), Sheet::new("store"));
    let session = Sheet::engine(&[&shop, &store]).await.session();
    session.sql("SET datafusion.execution.target_partitions = 8").await.unwrap();
    session.sql("SET datafusion.optimizer.hash_join_single_partition_threshold = 0").await.unwrap();
    session.sql("SET datafusion.optimizer.hash_join_single_partition_threshold_rows = 0").await.unwrap();
    // One key above, a collected join in the middle, partitioned joins below.
    let sql = "SELECT count(*) FROM (SELECT * FROM shop.items WHERE id = 1) few JOIN \
               (SELECT x.id FROM (VALUES (1), (2), (3)) small(id) JOIN \
               (SELECT a.id FROM shop.items a JOIN store.items b ON a.id = b.id) x ON x.id = small.id) y ON y.id = few.id";
    let answer = session.sql(sql).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), answer.collect()).await.expect("it ends").unwrap();
}
