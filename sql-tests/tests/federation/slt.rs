//! Runs the `.slt` files of `sql-tests/slt/`, each with pushdown on and off.

use std::path::PathBuf;

use headwater::Session;
use headwater_sql_tests::services::{Pushdown, Services, session};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};

/// The services of every `.slt` file: two SQLite files and a folder.
fn shop() -> Services {
    let services = Services::new()
        .with_sqlite(
            "customers",
            "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, country TEXT) STRICT;
             INSERT INTO customers VALUES (1, 'Ada', 'UK'), (2, 'Bob', NULL), (3, 'Cy', 'US');",
        )
        .with_sqlite(
            "orders",
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER, total INTEGER) STRICT;
             INSERT INTO orders VALUES (10, 1, 50), (11, 1, NULL), (12, 3, 7), (13, NULL, 9);",
        )
        .with_files("returns");
    std::fs::write(services.folder("returns").join("returns.csv"), "order_id,reason\n10,late\n12,\n").unwrap();
    services
}

struct Asked(Session);

/// What a `.slt` file sees of an error: the text that a user reads.
#[derive(Debug)]
struct Told(String);

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Told {}

#[async_trait::async_trait]
impl AsyncDB for Asked {
    type Error = Told;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Told> {
        let answer = headwater_sql_tests::services::ask(&self.0, sql).await.map_err(Told)?;
        if answer.columns.is_empty() {
            return Ok(DBOutput::StatementComplete(0));
        }
        let cell = |cell: &Option<String>| match cell.as_deref() {
            None => "NULL".to_owned(),
            Some("") => "(empty)".to_owned(),
            Some(text) => text.to_owned(),
        };
        let rows = answer.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
        Ok(DBOutput::Rows { types: vec![DefaultColumnType::Any; answer.columns.len()], rows })
    }

    async fn shutdown(&mut self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn every_slt_file_holds_with_pushdown_on_and_off() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("slt");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "there are .slt files");
    for pushdown in [Pushdown::On, Pushdown::Off] {
        for file in &files {
            let services = shop();
            let engine = services.engine().await;
            let mut runner = Runner::new(async || Ok(Asked(session(&engine, pushdown).await)));
            runner.run_file_async(file).await.unwrap_or_else(|error| panic!("{pushdown:?}: {error}"));
        }
    }
}
