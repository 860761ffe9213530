//! A table that changes between planning and reading is named as changed: never shifted columns, never a filter that means something else.

use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use headwater_source::{CompareOp, Error, Expr, OptionValue, QueryId, ScalarValue, ScanRequest, Source, TableDef};

use super::{Database, column, ids, read, read_all, table};

/// Reads a table as it was planned before a statement changed it.
async fn read_after(statement: &str) -> Result<RecordBatch, Error> {
    let (mut database, source, planned) = planned().await;
    database.run(statement).await;
    read(&source, ScanRequest::all(planned)).await
}

/// Reads it for a query, which asks for rows at once where an earlier one found the table as planned.
async fn read_again_after(statement: &str) -> Result<RecordBatch, Error> {
    let (mut database, source, planned) = planned().await;
    let schema = ScanRequest::all(Arc::clone(&planned)).schema();
    let scan = source.prepare(ScanRequest::all(planned)).await?;
    let read = async |query| scan.open_for(0, &QueryId::new(query).into()).await?.try_collect::<Vec<_>>().await;
    for query in [1, 2] {
        assert_eq!(read(query).await?[0].num_rows(), 1);
    }
    database.run(statement).await;
    let rows = read(3).await?;
    // Nothing is left of what was asked in vain.
    assert_eq!(read(4).await?, rows);
    Ok(concat_batches(&schema, &rows).unwrap())
}

async fn planned() -> (Database, Arc<dyn Source>, Arc<TableDef>) {
    let mut database = Database::new().await;
    database
        .run("CREATE TABLE t (id INT NOT NULL, a INT NOT NULL, b VARCHAR(20) COLLATE utf8mb4_nopad_bin, c DECIMAL(10,2), d TIME)")
        .await;
    database.run("INSERT INTO t VALUES (1, 10, 'x', 1.25, '10:00:00')").await;
    let source = database.source_with(&[("pool_size", OptionValue::Count(1))]);
    let planned = table(&source, "t").await;
    (database, source, planned)
}

#[tokio::test]
async fn changed_column_or_table_is_named() {
    for (statement, named) in [
        ("ALTER TABLE t DROP COLUMN a", "\"a\""),
        ("ALTER TABLE t CHANGE a z INT NOT NULL", "\"a\""),
        ("ALTER TABLE t MODIFY a BIGINT NOT NULL", "\"a\""),
        ("ALTER TABLE t MODIFY a INT UNSIGNED NOT NULL", "\"a\""),
        ("ALTER TABLE t MODIFY a INT NULL", "\"a\""),
        ("ALTER TABLE t MODIFY a VARCHAR(20) NOT NULL", "\"a\""),
        ("ALTER TABLE t MODIFY b VARCHAR(20) COLLATE utf8mb4_general_ci", "\"b\""),
        ("ALTER TABLE t MODIFY b VARBINARY(20)", "\"b\""),
        ("ALTER TABLE t MODIFY c DECIMAL(12,4)", "\"c\""),
        ("ALTER TABLE t MODIFY d DATETIME", "\"d\""),
        ("DROP TABLE t", "gone"),
        ("RENAME TABLE t TO u", "gone"),
    ] {
        for error in [read_after(statement).await, read_again_after(statement).await] {
            let error = error.expect_err(statement);
            let Error::SchemaChanged { table, change, .. } = &error else { panic!("{statement}: {error}") };
            assert!(table.ends_with(".t") && change.contains(named), "{statement}: {error}");
        }
    }
}

#[tokio::test]
async fn change_that_alters_no_answer_is_read() {
    for statement in [
        "ALTER TABLE t ADD COLUMN e INT FIRST",
        "ALTER TABLE t MODIFY a INT NOT NULL AFTER d",
        "ALTER TABLE t MODIFY b VARCHAR(200) COLLATE utf8mb4_nopad_bin",
        "ALTER TABLE t ADD INDEX (a)",
    ] {
        for batch in [read_after(statement).await, read_again_after(statement).await] {
            let batch = batch.unwrap_or_else(|error| panic!("{statement}: {error}"));
            assert_eq!(ids(&batch), [1], "{statement}");
            assert_eq!(ScalarValue::try_from_array(column(&batch, "a"), 0).unwrap(), ScalarValue::from(10_i32));
        }
    }
}

#[tokio::test]
async fn column_that_only_a_filter_uses_is_looked_at_too() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT NOT NULL, b VARCHAR(20) COLLATE utf8mb4_nopad_bin)").await;
    database.run("INSERT INTO t VALUES (1, 'a'), (2, 'A')").await;
    let source = database.source();
    let mut request = ScanRequest::all(table(&source, "t").await);
    request.projection = vec![0];
    request.filters = vec![Expr::compare(CompareOp::Equal, Expr::Column(1), Expr::Literal(ScalarValue::from("a")))];
    assert_eq!(ids(&read(&source, request.clone()).await.unwrap()), [1]);
    database.run("ALTER TABLE t MODIFY b VARCHAR(20) COLLATE utf8mb4_general_ci").await;
    let error = read(&source, request).await.unwrap_err();
    assert!(matches!(&error, Error::SchemaChanged { .. }), "{error}");
}

#[tokio::test]
async fn table_described_anew_has_its_new_columns() {
    let mut database = Database::new().await;
    database.run("CREATE TABLE t (id INT NOT NULL)").await;
    database.run("INSERT INTO t VALUES (1)").await;
    let source = database.source();
    assert_eq!(read_all(&source, "t").await.num_columns(), 1);
    database.run("ALTER TABLE t ADD COLUMN v INT FIRST").await;
    assert_eq!(read_all(&source, "t").await.num_columns(), 2);
    // The statement is the connection's prepared one; the server makes it anew.
    database.run("ALTER TABLE t MODIFY v BIGINT").await;
    assert_eq!(read_all(&source, "t").await.num_columns(), 2);
}
