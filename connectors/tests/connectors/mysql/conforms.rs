//! The conformance suite, under every kind of collation.

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use headwater_connectors::conformance::fixture;

use super::Database;
use crate::conforming::{self, TABLE, as_type, hex, trimmed, without_negative_zero};

const COLUMNS: &str = "id BIGINT PRIMARY KEY, whole BIGINT, amount DECIMAL(12,2), ratio DOUBLE, label VARCHAR(64), \
                       flag BOOLEAN, day DATE, moment DATETIME(6), raw VARBINARY(16)";

/// A database with these rows in the table that the statement creates.
async fn database(create: &str, rows: &RecordBatch) -> Database {
    let mut database = Database::new().await;
    database.run(create).await;
    // Hexadecimal, because what a backslash means in a text depends on the session.
    let text = |text: &str| format!("CONVERT(X'{}' USING utf8mb4)", hex(text.as_bytes()));
    database.run(&conforming::insert(TABLE, rows, text, |bytes| format!("X'{}'", hex(bytes)))).await;
    database
}

/// The fixture as it is read: BOOLEAN is a TINYINT and may hold any small number, and MariaDB stores -0.0 as 0.
fn stored() -> RecordBatch {
    conforming::with_column(&without_negative_zero(&fixture::rows()), "flag", as_type(DataType::Int8))
}

/// The columns `id` and `label`.
fn labels() -> RecordBatch {
    fixture::rows().project(&[0, 4]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ordinary_table_conforms_plain_throttled_and_flaky() {
    let database = database(&format!("CREATE TABLE {TABLE} ({COLUMNS})"), &fixture::rows()).await;
    conforming::plain_throttled_and_flaky(database.source(), TABLE, stored()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn indexed_bytewise_and_folding_collations_conform() {
    for collation in ["utf8mb4_nopad_bin", "utf8mb4_bin", "utf8mb4_unicode_ci"] {
        let label = format!("label VARCHAR(64) COLLATE {collation}");
        let create = format!("CREATE TABLE {TABLE} (id BIGINT PRIMARY KEY, {label}, KEY (label))");
        let database = database(&create, &labels()).await;
        conforming::plain(database.source(), TABLE, labels()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn padded_text_conforms() {
    let create = format!("CREATE TABLE {TABLE} (id BIGINT PRIMARY KEY, label CHAR(64))");
    let database = database(&create, &labels()).await;
    // It is read without trailing spaces.
    conforming::plain(database.source(), TABLE, trimmed(&labels())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn view_and_partitioned_table_conform() {
    let create = format!("CREATE TABLE {TABLE} ({COLUMNS}) PARTITION BY HASH (id) PARTITIONS 3");
    let mut database = database(&create, &fixture::rows()).await;
    database.run(&format!("CREATE VIEW seen AS SELECT * FROM {TABLE} WHERE id > 0")).await;
    for table in [TABLE, "seen"] {
        conforming::plain(database.source(), table, stored()).await;
    }
}
