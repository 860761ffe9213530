//! Which statements run, and parameters.

use arrow::datatypes::DataType;
use headwater::ErrorKind;
use headwater_source::{Expr, ScalarValue};

use crate::sheet::Sheet;

#[tokio::test]
async fn writes_are_refused_by_name() {
    let shop = Sheet::new("shop");
    let session = Sheet::engine(&[&shop]).await.session();
    for sql in [
        "INSERT INTO shop.items VALUES (1, 'x')",
        "UPDATE shop.items SET id = 1",
        "DELETE FROM shop.items WHERE id IN (SELECT id FROM shop.items WHERE false)",
        "DROP TABLE shop.items",
        "CREATE VIEW shop.v AS SELECT 1",
        "SELECT * INTO shop.copy FROM shop.items",
        "EXPLAIN ANALYZE DELETE FROM shop.items",
    ] {
        let error = session.sql(sql).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{sql}: {error}");
        assert!(error.report().contains("shop."), "{}", error.report());
    }
}

#[tokio::test]
async fn parameter_becomes_a_typed_value_of_the_request() {
    let shop = Sheet::new("shop");
    let session = Sheet::engine(&[&shop]).await.session();
    let prepared = session.prepare("SELECT name FROM shop.items WHERE id = ? AND name = ?").await.unwrap();
    let types: Vec<DataType> = prepared.parameters().fields().iter().map(|field| field.data_type().clone()).collect();
    assert_eq!(types, [DataType::Int64, DataType::Utf8]);
    assert_eq!(prepared.schema().fields().len(), 1);
    let hostile = "' OR 1=1 --";
    let answer = prepared.execute(vec![ScalarValue::from(1_i64), ScalarValue::from(hostile)]).await.unwrap();
    let rows: usize = answer.collect().await.unwrap().iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(rows, 0);
    let literals: Vec<Expr> = shop.last_asked().filters;
    assert!(format!("{literals:?}").contains(hostile), "bound whole: {literals:?}");
    let error = prepared.execute(vec![]).await.unwrap_err();
    assert!(error.report().contains("2 parameters"), "{}", error.report());
}

#[tokio::test]
async fn absurd_parameter_number_is_refused() {
    let shop = Sheet::new("shop");
    let session = Sheet::engine(&[&shop]).await.session();
    let error = session.prepare("SELECT $99999999").await.unwrap_err();
    assert!(error.report().contains("at most 65535"), "{}", error.report());
    assert!(session.prepare("SELECT $0").await.is_err());
}

#[tokio::test]
async fn cross_join_that_makes_rows_without_end_stops_when_its_reader_leaves() {
    let shop = Sheet::new("shop");
    let engine = Sheet::engine(&[&shop]).await;
    let endless = "SELECT sum(a.value * b.value) FROM generate_series(1, 10000000) a, generate_series(1, 10000000) b";
    let answer = engine.sql(endless).await.unwrap();
    // On one thread, so that a join that never yields would keep the deadline from being looked at.
    let left = tokio::time::timeout(std::time::Duration::from_millis(300), answer.collect()).await;
    assert!(left.is_err(), "the join can't have ended");
}

#[tokio::test]
async fn executed_statement_sees_the_table_and_the_settings_of_now() {
    let shop = Sheet::new("shop");
    let session = Sheet::engine(&[&shop]).await.session();
    session.sql("PREPARE p AS SELECT * FROM shop.items WHERE id = $1").await.unwrap();
    let rows = async || session.sql("EXECUTE p(2)").await.unwrap().collect().await.unwrap()[0].schema();
    assert_eq!(rows().await.field(1).name(), "name");
    assert_eq!(shop.last_asked().filters.len(), 1);
    shop.rename_name_to("title");
    session.sql("SET headwater.pushdown = off").await.unwrap();
    // The first plan is older than the table; what it learns is there for the next.
    let _ = session.sql("EXECUTE p(2)").await;
    assert_eq!(rows().await.field(1).name(), "title");
    assert!(shop.last_asked().filters.is_empty());
    session.sql("DEALLOCATE p").await.unwrap();
    assert!(session.sql("EXECUTE p(2)").await.is_err());
}
