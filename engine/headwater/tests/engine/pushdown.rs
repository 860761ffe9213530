//! What goes to the source, and that the answer does not depend on it.

use arrow::util::pretty::pretty_format_batches;
use headwater::Session;
use headwater_source::Expr;

use crate::sheet::Sheet;

async fn text(session: &Session, sql: &str) -> String {
    let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

/// Runs a query with pushdown off and on, asserts one answer, and returns what the source was asked with pushdown on.
async fn asked(sql: &str) -> headwater_source::ScanRequest {
    let sheet = Sheet::new("shop");
    let session = Sheet::engine(&[&sheet]).await.session();
    session.sql("SET headwater.pushdown = off").await.unwrap();
    let off = text(&session, sql).await;
    let scanned = sheet.last_asked();
    assert!(scanned.filters.is_empty() && scanned.limit.is_none() && scanned.sort.is_empty(), "{scanned:?}");
    session.sql("SET headwater.pushdown = on").await.unwrap();
    assert_eq!(text(&session, sql).await, off, "{sql}");
    sheet.last_asked()
}

#[tokio::test]
async fn exact_filter_goes_down_and_leaves_the_plan() {
    let request = asked("SELECT name FROM shop.items WHERE id > 1 ORDER BY name").await;
    assert!(matches!(&request.filters[..], [Expr::Compare { .. }]), "{request:?}");
    let sheet = Sheet::new("shop");
    let session = Sheet::engine(&[&sheet]).await.session();
    let plan = text(&session, "EXPLAIN SELECT name FROM shop.items WHERE id > 1").await;
    assert!(!plan.contains("FilterExec"), "{plan}");
}

#[tokio::test]
async fn superset_goes_down_and_is_checked_again() {
    let request = asked("SELECT id, name FROM shop.items WHERE name = 'a' ORDER BY id").await;
    assert_eq!(request.filters.len(), 1);
    let sheet = Sheet::new("shop");
    let session = Sheet::engine(&[&sheet]).await.session();
    let plan = text(&session, "EXPLAIN SELECT id FROM shop.items WHERE name = 'a' AND reverse(name) = 'A'").await;
    assert!(plan.contains("FilterExec") && plan.contains("checked again"), "{plan}");
    assert!(plan.contains("not pushed: the function reverse is evaluated locally"), "{plan}");
}

#[tokio::test]
async fn limit_goes_down_only_where_every_filter_is_exact() {
    assert_eq!(asked("SELECT count(*) FROM (SELECT id FROM shop.items WHERE id > 0 LIMIT 2)").await.limit, Some(2));
    assert_eq!(asked("SELECT count(*) FROM (SELECT id FROM shop.items WHERE name = 'a' LIMIT 2)").await.limit, None);
    assert_eq!(asked("SELECT count(*) FROM (SELECT id FROM shop.items LIMIT 2 OFFSET 1)").await.limit, Some(3));
}

#[tokio::test]
async fn filter_above_a_limit_does_not_pass_it() {
    let request = asked("SELECT count(*) FROM (SELECT id FROM shop.items ORDER BY id LIMIT 2) WHERE id = 3").await;
    assert!(request.filters.is_empty(), "{request:?}");
}

#[tokio::test]
async fn top_n_goes_down_beneath_the_local_sort() {
    let request = asked("SELECT id AS number FROM shop.items ORDER BY number LIMIT 2").await;
    assert_eq!((request.limit, request.sort.len()), (Some(2), 1));
    assert!(!request.sort[0].descending && !request.sort[0].nulls_first);
    let request = asked("SELECT id FROM shop.items WHERE name = 'a' ORDER BY id LIMIT 1").await;
    assert_eq!((request.limit, request.sort.len()), (None, 0), "a local filter stands between");
    let request = asked("SELECT name FROM shop.items ORDER BY name, id LIMIT 2").await;
    assert_eq!((request.limit, request.sort.len()), (None, 0), "the source folds case");
    let request = asked("SELECT id FROM shop.items ORDER BY id + 1 LIMIT 2").await;
    assert_eq!((request.limit, request.sort.len()), (None, 0), "a computed key");
}

#[tokio::test]
async fn count_of_all_rows_reads_no_column() {
    let request = asked("SELECT count(*) FROM shop.items").await;
    assert!(request.projection.is_empty());
}

#[tokio::test]
async fn null_in_a_list_or_comparison_keeps_its_meaning() {
    asked("SELECT id FROM shop.items WHERE id NOT IN (1, NULL)").await;
    asked("SELECT id FROM shop.items WHERE id IN (1, NULL)").await;
    asked("SELECT id FROM shop.items WHERE NOT (id = 1 OR name = 'b') ORDER BY id").await;
    asked("SELECT id FROM shop.items WHERE id BETWEEN 2 AND 3 ORDER BY id").await;
    asked("SELECT id FROM shop.items WHERE id NOT BETWEEN 2 AND 3 ORDER BY id").await;
}

#[tokio::test]
async fn volatile_function_is_never_pushed() {
    let sheet = Sheet::new("shop");
    let session = Sheet::engine(&[&sheet]).await.session();
    text(&session, "SELECT id FROM shop.items WHERE id > random() * 10").await;
    assert!(sheet.last_asked().filters.is_empty());
}

#[tokio::test]
async fn explain_analyze_counts_rows_bytes_and_time_of_each_statement() {
    let sheet = Sheet::new("shop");
    let engine = Sheet::engine(&[&sheet]).await;
    let plan = text(&engine.session(), "EXPLAIN ANALYZE SELECT id FROM shop.items WHERE id >= 3").await;
    for part in ["statement=items where", "rows=2", "bytes=", "elapsed=", "statements=1"] {
        assert!(plan.contains(part), "{part} in {plan}");
    }
    let answer = engine.sql("SELECT id FROM shop.items WHERE id >= 3").await.unwrap();
    let log = answer.remote_statements();
    answer.collect().await.unwrap();
    let statements = log.statements();
    assert_eq!((statements.len(), statements[0].rows, statements[0].statements), (1, 2, 1), "{statements:?}");
}
