//! The conformance suite, under every kind of collation.

use arrow::array::RecordBatch;
use headwater_connectors::conformance::fixture;

use super::Database;
use crate::conforming::{self, TABLE, hex, trimmed};

const COLUMNS: &str = "id bigint PRIMARY KEY, whole bigint, amount numeric(12,2), ratio double precision, label text, \
                       flag boolean, day date, moment timestamp, raw bytea";

/// A database with these rows in a table of these columns.
async fn database(columns: &str, rows: &RecordBatch) -> Database {
    let database = Database::new().await;
    database.run("CREATE COLLATION folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false)").await;
    database.run(&format!("CREATE TABLE {TABLE} ({columns})")).await;
    insert(&database, rows).await;
    database
}

async fn insert(database: &Database, rows: &RecordBatch) {
    let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
    database.run(&conforming::insert(TABLE, rows, text, |bytes| format!("'\\x{}'", hex(bytes)))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ordinary_table_conforms_plain_throttled_and_flaky() {
    let database = database(COLUMNS, &fixture::rows()).await;
    conforming::plain_throttled_and_flaky(database.source(), TABLE, fixture::rows()).await;
}

/// The columns `id` and `label`.
fn labels() -> RecordBatch {
    fixture::rows().project(&[0, 4]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn indexed_bytewise_and_folding_collations_conform() {
    for collation in ["\"C\"", "\"en-x-icu\"", "folding"] {
        let columns = format!("id bigint PRIMARY KEY, label varchar(64) COLLATE {collation}");
        let database = database(&columns, &labels()).await;
        database.run(&format!("CREATE INDEX ON {TABLE} (label)")).await;
        conforming::plain(database.source(), TABLE, labels()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn padded_text_conforms() {
    let database = database("id bigint PRIMARY KEY, label char(64)", &labels()).await;
    // It is read without trailing spaces.
    conforming::plain(database.source(), TABLE, trimmed(&labels())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn view_and_partitioned_table_conform() {
    let database = Database::new().await;
    database.run(&format!("CREATE TABLE {TABLE} ({COLUMNS}) PARTITION BY HASH (id)")).await;
    for remainder in 0..3 {
        let bounds = format!("FOR VALUES WITH (MODULUS 3, REMAINDER {remainder})");
        database.run(&format!("CREATE TABLE part_{remainder} PARTITION OF {TABLE} {bounds}")).await;
    }
    insert(&database, &fixture::rows()).await;
    database.run(&format!("CREATE VIEW seen AS SELECT * FROM {TABLE} WHERE id > 0")).await;
    for table in [TABLE, "seen"] {
        conforming::plain(database.source(), table, fixture::rows()).await;
    }
}
