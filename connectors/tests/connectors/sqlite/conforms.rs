use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use headwater_connectors::conformance::{self, Expectations, Flaky, FlakyPlan, fixture};
use headwater_source::{
    Capabilities, Operator, Result, Rule, ScalarValue, Scan, ScanRequest, Source, Support, TableDef, ValueClass,
    async_trait,
};
use rusqlite::types::Value;

use super::{Database, service};
use crate::conforming::{self, TABLE};

const COLUMNS: &str = "id INTEGER PRIMARY KEY, whole INTEGER, amount DECIMAL(12,2), ratio REAL, label TEXT, flag BOOLEAN, \
                       day DATE, moment DATETIME, raw BLOB";

/// The fixture as SQLite keeps it: a REAL column stores -0.0 as the integer 0.
fn stored() -> RecordBatch {
    conforming::without_negative_zero(&fixture::rows())
}

/// The same without nullability, as views have it.
fn nullable(rows: &RecordBatch) -> RecordBatch {
    let fields: Vec<_> =
        rows.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), rows.columns().to_vec()).unwrap()
}

fn value(rows: &RecordBatch, column: usize, row: usize) -> Value {
    let array = rows.column(column);
    match ScalarValue::try_from_array(array, row).unwrap() {
        value if value.is_null() => Value::Null,
        ScalarValue::Int64(Some(integer)) => Value::Integer(integer),
        ScalarValue::Boolean(Some(flag)) => Value::Integer(i64::from(flag)),
        ScalarValue::Float64(Some(real)) => Value::Real(real),
        ScalarValue::Utf8(Some(text)) => Value::Text(text),
        ScalarValue::Binary(Some(bytes)) => Value::Blob(bytes),
        _ => {
            let text = cast(array, &DataType::Utf8).unwrap().as_string::<i32>().value(row).to_owned();
            // Every form that is read: both separators, with and without Z.
            let text = if row.is_multiple_of(2) { text.replace('T', " ") } else { text };
            Value::Text(if row.is_multiple_of(3) && text.contains(':') { format!("{text}Z") } else { text })
        }
    }
}

fn insert(database: &Database, table: &str, rows: &RecordBatch) {
    let places = vec!["?"; rows.num_columns()].join(", ");
    let mut statement = database.writer.prepare(&format!("INSERT INTO {table} VALUES ({places})")).unwrap();
    for row in 0..rows.num_rows() {
        let values = (0..rows.num_columns()).map(|column| value(rows, column, row));
        statement.execute(rusqlite::params_from_iter(values)).unwrap();
    }
}

fn database(create: &str, rows: &RecordBatch) -> Database {
    let database = Database::new(create);
    insert(&database, "conformance", rows);
    database
}

async fn conforms(database: &Database, rows: RecordBatch) {
    conforming::plain(database.source(), TABLE, rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ordinary_table_conforms_plain_throttled_and_flaky() {
    let database = database(&format!("CREATE TABLE conformance ({COLUMNS})"), &fixture::rows());
    conforming::plain_throttled_and_flaky(database.source(), TABLE, stored()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn source_whose_streams_always_break_never_gives_an_answer() {
    let database = database(&format!("CREATE TABLE conformance ({COLUMNS})"), &fixture::rows());
    let flaky = Flaky::new(database.source(), service(), FlakyPlan::every_stream(1, 200));
    let violation = conformance::check(Arc::new(flaky), &Expectations::new("conformance", stored())).await.unwrap_err();
    assert!(violation.to_string().contains("failed while reading"), "{violation}");
}

#[tokio::test(flavor = "multi_thread")]
async fn suite_finds_a_missing_row_and_a_changed_value() {
    let database = database(&format!("CREATE TABLE conformance ({COLUMNS})"), &fixture::rows());
    let expectations = Expectations::new("conformance", stored());
    database.run("UPDATE conformance SET label = 'x' WHERE id = 50");
    assert!(conformance::check(database.source(), &expectations).await.is_err());
    database.run("DELETE FROM conformance WHERE id = 50");
    assert!(conformance::check(database.source(), &expectations).await.is_err());
}

/// A source that promises more than it keeps.
#[derive(Debug)]
struct Boastful(Arc<dyn Source>, Capabilities);

#[async_trait]
impl Source for Boastful {
    fn location(&self) -> String {
        self.0.location()
    }

    fn capabilities(&self) -> &Capabilities {
        &self.1
    }

    async fn tables(&self) -> Result<Vec<TableDef>> {
        self.0.tables().await
    }

    async fn table(&self, from: &str) -> Result<TableDef> {
        self.0.table(from).await
    }

    async fn prepare(&self, request: ScanRequest) -> Result<Arc<dyn Scan>> {
        self.0.prepare(request).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn suite_finds_every_capability_that_is_too_good() {
    let create = format!("CREATE TABLE conformance ({})", COLUMNS.replace("label TEXT", "label TEXT COLLATE NOCASE"));
    let database = database(&create, &fixture::rows());
    const BOASTS: &[&[Rule]] = &[
        &[(Operator::Equal, ValueClass::TextFolded, Support::Exact)],
        &[(Operator::NotEqual, ValueClass::TextFolded, Support::Superset)],
        &[(Operator::Like, ValueClass::TextFolded, Support::Exact)],
        &[(Operator::NotLike, ValueClass::TextFolded, Support::Superset)],
        &[(Operator::Sort, ValueClass::TextFolded, Support::Exact)],
        &[(Operator::Equal, ValueClass::Timestamp, Support::Exact)],
        &[(Operator::Order, ValueClass::Timestamp, Support::Exact)],
        &[(Operator::Sort, ValueClass::Timestamp, Support::Exact)],
    ];
    for rules in BOASTS {
        let boastful = Boastful(database.source(), Capabilities::new("boastful", rules));
        let checked = conformance::check(Arc::new(boastful), &Expectations::new("conformance", stored())).await;
        assert!(checked.is_err(), "{rules:?} passed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wal_without_rowid_and_indexes_conform() {
    let columns = COLUMNS.replace("INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY NOT NULL");
    let create = format!(
        "PRAGMA journal_mode = WAL; CREATE TABLE conformance ({columns}) WITHOUT ROWID; \
         CREATE INDEX a ON conformance (whole, label); CREATE INDEX b ON conformance (label COLLATE NOCASE); \
         CREATE INDEX c ON conformance (day); CREATE INDEX d ON conformance (moment); CREATE INDEX e ON conformance (ratio);"
    );
    conforms(&database(&create, &fixture::rows()), stored()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_table_conforms_with_exact_pushdown() {
    let rows = stored().project(&[0, 1, 3, 4, 8]).unwrap();
    let create = "CREATE TABLE conformance (id INTEGER PRIMARY KEY, whole INT, ratio REAL, label TEXT, raw BLOB) STRICT; \
                  CREATE INDEX a ON conformance (label); CREATE INDEX b ON conformance (whole)";
    conforms(&database(create, &rows), rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folding_collations_conform() {
    for collation in ["NOCASE", "RTRIM"] {
        let create = format!(
            "CREATE TABLE conformance ({}); CREATE INDEX a ON conformance (label)",
            COLUMNS.replace("label TEXT", &format!("label TEXT COLLATE {collation}"))
        );
        conforms(&database(&create, &fixture::rows()), stored()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn utf16_database_conforms() {
    for encoding in ["UTF-16le", "UTF-16be"] {
        let create = format!("PRAGMA encoding = '{encoding}'; CREATE TABLE conformance ({COLUMNS})");
        conforms(&database(&create, &fixture::rows()), stored()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_and_compound_views_conform() {
    let rows = nullable(&stored());
    let plain = format!("CREATE TABLE rows ({COLUMNS}); CREATE VIEW conformance AS SELECT * FROM rows WHERE id > 0");
    let compound = format!(
        "CREATE TABLE rows ({COLUMNS}); CREATE TABLE others ({COLUMNS}); \
         CREATE VIEW conformance AS SELECT * FROM rows UNION ALL SELECT * FROM others"
    );
    for create in [plain, compound] {
        let database = Database::new(&create);
        insert(&database, "rows", &fixture::rows());
        conforms(&database, rows.clone()).await;
    }
}

/// Values that only SQLite among the sources can store.
fn odd_rows() -> RecordBatch {
    let texts = ["a\0b", "a\0", "\0", "a", "ab", "\u{10ffff}", "\u{ffff}", "\u{e000}", "~", ""];
    let floats =
        [f64::INFINITY, f64::NEG_INFINITY, 5e-324, -5e-324, 0.0, 9_007_199_254_740_993.0, 1e15, 0.1, -1e300, 1.0];
    let days = [-719_528, 2_932_896, -719_527, 0, 1, -1, 11_016, 31, 59, 60];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(1..=10)),
        Arc::new(StringArray::from_iter_values(texts)),
        Arc::new(Float64Array::from_iter_values(floats)),
        Arc::new(Date32Array::from_iter_values(days)),
    ];
    let fields: Vec<Field> = ["id", "label", "ratio", "day"]
        .iter()
        .zip(&columns)
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), *name != "id"))
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_only_sqlite_stores_conform() {
    let create = "CREATE TABLE conformance (id INTEGER PRIMARY KEY, label TEXT, ratio DOUBLE, day DATE)";
    conforms(&database(create, &odd_rows()), odd_rows()).await;
    let strict = odd_rows().project(&[0, 1, 2]).unwrap();
    let create = "CREATE TABLE conformance (id INTEGER PRIMARY KEY, label TEXT, ratio REAL) STRICT";
    conforms(&database(create, &strict), strict).await;
}
