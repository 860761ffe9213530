//! What is pushed, where values stand that their columns do not admit.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use headwater_source::{
    CompareOp, Error, Expr, Operator, ScalarValue, ScanRequest, SortKey, Source, Support, ValueClass,
};

use super::{Database, read, request};

fn compare(column: usize, op: CompareOp, value: impl Into<ScalarValue>) -> Expr {
    Expr::compare(op, Expr::Column(column), Expr::Literal(value.into()))
}

/// Pushes what the source takes of a filter and reads.
async fn pushed(
    source: &Arc<dyn Source>,
    request: ScanRequest,
    filter: &Expr,
) -> (Support, Result<RecordBatch, Error>) {
    let offer = source.capabilities().offer(filter, &request.table);
    let request = ScanRequest { filters: offer.filter.into_iter().collect(), ..request };
    (offer.support, read(source, &request).await)
}

fn ids(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

#[tokio::test]
async fn value_that_does_not_fit_is_never_counted_as_a_match() {
    let database = Database::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO t VALUES (1, 5), (2, 'abc'), (3, NULL), (4, 9)",
    );
    let source = database.source();
    let all = request(&source, "t").await;
    for op in [CompareOp::Greater, CompareOp::NotEqual] {
        let (support, answer) = pushed(&source, all.clone(), &compare(1, op, 6_i64)).await;
        assert_eq!(support, Support::Superset, "the column is read and checked again");
        assert!(matches!(answer, Err(Error::Value { .. })), "'abc' passes {op:?} in SQLite and must fail: {answer:?}");
    }
    // The row that does not fit does not pass either: it is not met.
    let (_, answer) = pushed(&source, all, &compare(1, CompareOp::Equal, 5_i64)).await;
    assert_eq!(ids(&answer.unwrap()), [1]);
}

#[tokio::test]
async fn lookup_by_key_and_by_index_reads_only_what_it_needs() {
    let database = Database::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, who TEXT, day DATE, moment DATETIME); CREATE INDEX who ON t (who); \
         CREATE INDEX day ON t (day); CREATE INDEX moment ON t (moment)",
    );
    let source = database.source();
    let all = request(&source, "t").await;
    let day = ScalarValue::Date32(Some(19_782));
    let moment = ScalarValue::TimestampMicrosecond(Some(0), None);
    for (column, value, index) in [
        (0, ScalarValue::from(7_i64), "INTEGER PRIMARY KEY"),
        (1, ScalarValue::from("x"), "INDEX who"),
        (2, day, "INDEX day"),
        (3, moment, "INDEX moment"),
    ] {
        let filter = source.capabilities().offer(&compare(column, CompareOp::Equal, value), &all.table).filter.unwrap();
        let scan = source.prepare(ScanRequest { filters: vec![filter], ..all.clone() }).await.unwrap();
        let explain = format!("EXPLAIN QUERY PLAN {}", scan.statement().text);
        let mut statement = database.writer.prepare(&explain).unwrap();
        for number in 1..=scan.statement().binds.len() {
            statement.raw_bind_parameter(number, "2024-02-29").unwrap();
        }
        let mut rows = statement.raw_query();
        let plan: String = rows.next().unwrap().unwrap().get(3).unwrap();
        assert!(plan.contains("SEARCH") && plan.contains(index), "{plan}");
    }
}

#[tokio::test]
async fn name_that_is_no_column_is_never_taken_for_a_string() {
    let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (1, 'a')");
    let source = database.source();
    let all = request(&source, "t").await;
    let scan = source.prepare(all).await.unwrap();
    assert_eq!(scan.statement().text, "SELECT t1.\"id\", t1.\"name\" FROM \"t\" t1");
    database.run("ALTER TABLE t RENAME COLUMN name TO label");
    match scan.open(0).await.err() {
        Some(Error::SchemaChanged { change, .. }) => assert_eq!(change, "column \"name\" is gone"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn odd_names_are_only_names() {
    let names = ["select", "a\"b", "a'b", "a`b", "[x]", "?1", "é 日本", "x; DROP TABLE t; --", "rowid", "a.b"];
    for name in names {
        let quoted = name.replace('"', "\"\"");
        let database = Database::new(&format!(
            "CREATE TABLE \"{quoted}\" (id INTEGER PRIMARY KEY, \"{quoted}\" TEXT); INSERT INTO \"{quoted}\" VALUES (1, 'x'), (2, 'y')"
        ));
        let source = database.source();
        let all = request(&source, name).await;
        let (_, answer) = pushed(&source, all, &compare(1, CompareOp::Equal, "y")).await;
        assert_eq!(ids(&answer.unwrap()), [2], "{name}");
    }
}

#[tokio::test]
async fn value_travels_beside_the_text() {
    let values = ["it's", "say \"hi\"", "\\') OR 1=1 -- ", "a''b", "?1", "\u{1}", "日本", "x'; DROP TABLE t; --"];
    let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT)");
    for value in values {
        database.writer.execute("INSERT INTO t (s) VALUES (?1)", [value]).unwrap();
    }
    let source = database.source();
    let all = request(&source, "t").await;
    for (index, value) in values.into_iter().enumerate() {
        let filter = source.capabilities().offer(&compare(1, CompareOp::Equal, value), &all.table).filter.unwrap();
        let request = ScanRequest { filters: vec![filter], ..all.clone() };
        let scan = source.prepare(request.clone()).await.unwrap();
        assert_eq!(
            scan.statement().to_string(),
            "SELECT t1.\"id\", t1.\"s\" FROM \"t\" t1 WHERE t1.\"s\" = ?1 binds=[text]"
        );
        assert_eq!(ids(&read(&source, &request).await.unwrap()), [index as i64 + 1]);
    }
}

#[tokio::test]
async fn sort_goes_down_only_where_nothing_odd_can_stand() {
    let database = Database::new(
        "CREATE TABLE loose (id INTEGER PRIMARY KEY, n INTEGER); CREATE TABLE tight (id INTEGER PRIMARY KEY, n INTEGER) STRICT; \
         INSERT INTO tight VALUES (1, 5), (2, NULL), (3, -7)",
    );
    let source = database.source();
    let key = |column| SortKey { column, descending: true, nulls_first: true };
    let loose = request(&source, "loose").await;
    assert!(source.capabilities().offer_sort(&[key(0)], &loose.table).is_ok(), "the rowid is an integer");
    assert!(source.capabilities().offer_sort(&[key(1)], &loose.table).is_err());
    let tight = request(&source, "tight").await;
    assert!(source.capabilities().offer_sort(&[key(1)], &tight.table).is_ok());
    let sorted = ScanRequest { sort: vec![key(1)], limit: Some(2), ..tight };
    assert_eq!(ids(&read(&source, &sorted).await.unwrap()), [2, 1]);
}

#[tokio::test]
async fn long_list_is_bound_whole_and_too_many_of_them_are_refused() {
    let database = Database::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INT); \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO t SELECT i, i FROM n",
    );
    let source = database.source();
    let all = request(&source, "t").await;
    let limit = source.capabilities().max_binds();
    let values: Vec<ScalarValue> = (1..=limit as i64).map(|n| ScalarValue::from(n * 2)).collect();
    let list = |column| Expr::InList { expr: Box::new(Expr::Column(column)), values: values.clone(), negated: false };
    for column in [0, 1] {
        let (support, answer) = pushed(&source, all.clone(), &list(column)).await;
        assert_ne!(support, Support::No);
        assert_eq!(answer.unwrap().num_rows(), 10_000);
    }
    let longer = Expr::InList {
        expr: Box::new(Expr::Column(0)),
        values: vec![ScalarValue::from(1_i64); limit + 1],
        negated: false,
    };
    assert_eq!(source.capabilities().offer(&longer, &all.table).support, Support::No);
    let request = ScanRequest { filters: vec![list(0), list(1), list(0)], ..all };
    assert!(matches!(source.prepare(request).await, Err(Error::Unsupported { .. })));
}

#[tokio::test]
async fn custom_collation_that_only_the_service_knows_needs_no_definition_here() {
    let database = Database::new("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT COLLATE NOCASE)");
    database.run("INSERT INTO t VALUES (1, 'ab'), (2, 'cd')");
    database.run("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'NOCASE', 'house')");
    let source = database.source();
    let (support, answer) = pushed(&source, request(&source, "t").await, &compare(1, CompareOp::Equal, "cd")).await;
    assert_eq!((support, ids(&answer.unwrap())), (Support::Superset, vec![2]));
}

/// The capability table as the documentation shows it.
fn documented(source: &Arc<dyn Source>) -> String {
    let mut table = format!("| class | {} |\n|---|", Operator::ALL.map(|operator| operator.to_string()).join(" | "));
    table.push_str(&"---|".repeat(Operator::ALL.len()));
    for class in ValueClass::ALL {
        let supports = Operator::ALL.map(|operator| source.capabilities().support(operator, class));
        if supports.iter().any(|support| *support != Support::No) {
            let words = supports.map(|support| format!("{support:?}").to_lowercase());
            table.push_str(&format!("\n| {class:?} | {} |", words.join(" | ")));
        }
    }
    table
}

#[test]
fn documentation_shows_the_capability_table_that_is_in_force() {
    let table = documented(&Database::new("").source());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/connectors/sqlite.md");
    let document = std::fs::read_to_string(path).unwrap();
    assert!(document.contains(&table), "docs/connectors/sqlite.md must hold\n{table}");
}
