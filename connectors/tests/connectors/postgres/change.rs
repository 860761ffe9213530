//! The source's columns change between plan and scan: a named error, never shifted columns.

use headwater_source::{CompareOp, Error, Expr, ScalarValue, ScanRequest};

use super::{Database, failure, read, table, try_read};

async fn change_of(ddl: &str, filtered: bool) -> Error {
    let database = Database::new().await;
    database
        .run("CREATE TABLE t (a int NOT NULL, b int, c text, d numeric(12,2)); INSERT INTO t VALUES (1, 2, 'x', 3)")
        .await;
    let source = database.source();
    let mut request = ScanRequest::all(table(&source, "t").await);
    if filtered {
        request.filters =
            vec![Expr::compare(CompareOp::Equal, Expr::Column(0), Expr::Literal(ScalarValue::from(1_i32)))];
    }
    let scan = source.prepare(request.clone()).await.unwrap();
    drop(scan.open(0).await.unwrap());
    database.run(ddl).await;
    failure(scan.open(0).await.map(|_| ()))
}

#[tokio::test]
async fn changed_column_is_a_named_error() {
    for (ddl, named) in [
        ("ALTER TABLE t DROP COLUMN b", "b"),
        ("ALTER TABLE t RENAME COLUMN b TO e", "b"),
        ("ALTER TABLE t ALTER COLUMN b TYPE bigint", "b"),
        ("ALTER TABLE t DROP COLUMN b; ALTER TABLE t ADD COLUMN b text", "b"),
        ("ALTER TABLE t ALTER COLUMN d TYPE numeric(12,3)", "d"),
        ("ALTER TABLE t ALTER COLUMN a DROP NOT NULL", "a"),
        ("ALTER TABLE t ALTER COLUMN c TYPE text COLLATE \"en-x-icu\"", "c"),
        (
            "ALTER TABLE t RENAME COLUMN a TO x; ALTER TABLE t RENAME COLUMN b TO a; ALTER TABLE t RENAME COLUMN x TO b",
            "a",
        ),
        ("DROP TABLE t", "t"),
        ("DROP TABLE t; CREATE VIEW t AS SELECT 1 AS a, 2 AS b, 'x' AS c, 3 AS d", "a"),
    ] {
        for filtered in [false, true] {
            match change_of(ddl, filtered).await {
                Error::SchemaChanged { change, .. } => assert!(change.contains(named), "{ddl}: {change}"),
                other => panic!("{ddl}: {}", other.report()),
            }
        }
    }
}

#[tokio::test]
async fn added_and_unused_columns_do_not_matter() {
    let database = Database::new().await;
    database.run("CREATE TABLE t (a int, b int); INSERT INTO t VALUES (1, 2)").await;
    let source = database.source();
    let mut request = ScanRequest::all(table(&source, "t").await);
    request.projection = vec![1];
    database.run("ALTER TABLE t ADD COLUMN c int; ALTER TABLE t DROP COLUMN a").await;
    let batch = read(&source, request).await;
    assert_eq!(batch.num_rows(), 1);
}

#[tokio::test]
async fn view_that_writes_is_refused() {
    let database = Database::new().await;
    database
        .run(
            "CREATE TABLE log (n int); CREATE FUNCTION public.note() RETURNS int LANGUAGE plpgsql AS
             'BEGIN INSERT INTO public.log VALUES (1); RETURN 1; END'; CREATE VIEW v AS SELECT public.note() AS n",
        )
        .await;
    let source = database.source();
    let error = failure(try_read(&source, ScanRequest::all(table(&source, "v").await)).await);
    assert!(matches!(&error, Error::Remote { code: Some(code), .. } if code == "25006"), "{}", error.report());
}

#[tokio::test]
async fn functions_and_operators_of_a_schema_are_not_taken_for_the_systems() {
    let database = Database::new().await;
    database
        .run(&format!(
            "CREATE TABLE t (v int); INSERT INTO t VALUES (1), (2);
             CREATE FUNCTION public.yes(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT true';
             CREATE OPERATOR public.= (LEFTARG = int, RIGHTARG = int, FUNCTION = public.yes);
             ALTER DATABASE {} SET search_path = public, pg_catalog",
            database.name
        ))
        .await;
    let source = database.source();
    let mut request = ScanRequest::all(table(&source, "t").await);
    request.filters = vec![Expr::compare(CompareOp::Equal, Expr::Column(0), Expr::Literal(ScalarValue::from(1_i32)))];
    assert_eq!(read(&source, request).await.num_rows(), 1);
}
