//! DuckDB over the same services, as a process of its own that is asked line by line.
//!
//! It is a peer where `HEADWATER_BENCH_DUCKDB` names a Python that has the packages of `python/requirements.txt`. What it takes is what
//! `python/duckdb_peer.py` measures: from the SQL text to all rows in Arrow, without the way to this process.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Names the Python.
pub const VARIABLE: &str = "HEADWATER_BENCH_DUCKDB";

/// A running DuckDB. It ends with this.
#[derive(Debug)]
pub struct DuckDb {
    _process: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// Where the services' stores are.
#[derive(Debug, Clone)]
pub struct Stores {
    /// The URL of the customers' Postgres.
    pub customers: String,
    /// The URL of the orders' MariaDB.
    pub orders: String,
    /// The file of the catalog's SQLite.
    pub catalog: PathBuf,
    /// The directory of the suppliers' Parquet files.
    pub suppliers: PathBuf,
}

impl DuckDb {
    /// Starts it; `None` where no Python is named.
    ///
    /// # Panics
    /// Where it does not start.
    pub async fn start(stores: &Stores) -> Option<Self> {
        let stores = json!({
            "customers": stores.customers, "orders": stores.orders,
            "catalog": stores.catalog, "suppliers": stores.suppliers,
        });
        Self::run("duckdb_peer.py", &stores).await
    }

    /// Starts it over the Parquet files of a directory, whose rows it reads into memory; `None` where no Python is named.
    ///
    /// # Panics
    /// Where it does not start.
    pub async fn start_in_memory(tables: &Path) -> Option<Self> {
        Self::run("duckdb_in_memory.py", &json!({ "tables": tables })).await
    }

    async fn run(script: &str, stores: &Value) -> Option<Self> {
        let python = std::env::var_os(VARIABLE)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
        let mut process = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the peer starts");
        let questions = process.stdin.take().expect("a pipe");
        let answers = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let mut peer = Self { _process: process, questions, answers };
        // On standard input, because every process of the machine sees arguments, and the URLs hold passwords.
        let ready = peer.exchange(stores).await;
        assert_eq!(ready["ready"], json!(true), "the peer does not start: {ready}");
        Some(peer)
    }

    /// Asks a query: rows of the answer and its time, or the peer's error.
    pub async fn ask(&mut self, sql: &str) -> Result<(u64, Duration), String> {
        let answer = self.exchange(&json!({ "sql": sql })).await;
        match (answer["rows"].as_u64(), answer["seconds"].as_f64()) {
            (Some(rows), Some(seconds)) => Ok((rows, Duration::from_secs_f64(seconds))),
            _ => Err(answer["error"].as_str().unwrap_or("no answer").to_owned()),
        }
    }

    async fn exchange(&mut self, message: &Value) -> Value {
        self.questions.write_all(format!("{message}\n").as_bytes()).await.expect("the peer reads");
        let line = self.answers.next_line().await.expect("the peer writes");
        line.and_then(|line| serde_json::from_str(&line).ok()).unwrap_or(json!({ "error": "the peer is gone" }))
    }
}
