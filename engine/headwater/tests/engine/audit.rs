//! The audit log: a line before the first row and one after the last, and never a literal.

use std::net::IpAddr;
use std::path::Path;

use datafusion::common::ScalarValue;
use futures::StreamExt;
use headwater::{AuditLog, Caller, Engine, ErrorKind, Session};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::access::{refusal, rows, told};
use crate::ledger::Ledger;

/// A literal that no line may hold.
const CANARY: &str = "canary 4111 1111";

const ACCESS: &str = "roles:
  some: {members: [ada], grants: [{service: orders, tables: [orders], columns: [id]}]}
  all: {members: [root], grants: [{service: \"*\"}], defines: [v]}
";

struct World {
    directory: TempDir,
    engine: Engine,
}

impl World {
    async fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let (access, log) = (directory.path().join("access.yaml"), directory.path().join("audit.jsonl"));
        std::fs::write(&access, ACCESS).unwrap();
        let engine = Self::engine(&access, &log).await;
        Self { directory, engine }
    }

    async fn engine(access: &Path, log: &Path) -> Engine {
        let orders = Ledger::new("orders", &["orders", "lines"]);
        for id in 0..10 {
            orders.commit(&[("orders", id, Some(id)), ("lines", id, Some(id))]);
        }
        Ledger::builder(&[&orders]).access_file(access).audit(AuditLog::open(log).unwrap()).build().await.unwrap()
    }

    fn user(&self, name: &str) -> Session {
        self.engine.session_as(&Caller::user(name).at("flight", IpAddr::from([10, 0, 0, 1])))
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("audit.jsonl")).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_has_a_line_before_its_first_row_and_one_after_its_last() {
    let world = World::new().await;
    let ada = world.user("ada");
    let answer =
        ada.sql(&format!("SELECT count(id) FROM orders.orders WHERE id > 3 AND '{CANARY}' <> 'x'")).await.unwrap();
    assert!(world.lines().is_empty(), "nothing was read yet");
    let query = answer.query_id();
    let mut batches = answer.into_stream().unwrap();
    let [start] = &world.lines()[..] else { panic!("{}", world.text()) };
    while let Some(batch) = batches.next().await {
        batch.unwrap();
    }
    drop(batches);
    let [_, end] = &world.lines()[..] else { panic!("{}", world.text()) };
    for (line, event) in [(start, "start"), (end, "end")] {
        assert_eq!(line["event"], event);
        assert_eq!(line["user"], "ada");
        assert_eq!((&line["door"], &line["address"]), (&json!("flight"), &json!("10.0.0.1")));
        assert_eq!(line["query_id"], query);
        assert_eq!(line["kind"], "query");
        assert_eq!(line["tables"], json!([{"schema": "orders", "table": "orders", "columns": ["id"]}]));
        assert_eq!(line["statement"].as_str().unwrap().len(), 16);
    }
    assert_eq!((&end["outcome"], &end["rows"]), (&json!("complete"), &json!(1)));
    // Another literal, the same statement.
    rows(&ada, "SELECT count(id) FROM orders.orders WHERE id > 5 AND 'y' <> 'x'").await;
    assert_eq!(world.lines().last().unwrap()["statement"], end["statement"]);
    drop(ada.sql("SELECT id FROM orders.orders").await.unwrap().into_stream().unwrap());
    assert_eq!(world.lines().last().unwrap()["outcome"], "cancelled");
    let (kind, _) = refusal(&ada, &format!("SELECT CAST('{CANARY}' || id AS BIGINT) FROM orders.orders")).await;
    let last = world.lines().pop().unwrap();
    assert_eq!((&last["outcome"], &last["error"]), (&json!("failed"), &json!(format!("{kind:?}"))));
    assert!(!world.text().contains("canary") && !world.text().contains("4111"), "{}", world.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn denial_names_what_was_asked_for_and_nothing_that_is_not_there() {
    let world = World::new().await;
    let ada = world.user("ada");
    for (statement, tables) in [
        ("SELECT * FROM orders.lines WHERE id = 1", json!([{"schema": "orders", "table": "lines", "columns": []}])),
        ("SELECT amount FROM orders.orders", json!([{"schema": "orders", "table": "orders", "columns": ["amount"]}])),
        ("CREATE MATERIALIZED VIEW v.x AS SELECT id FROM orders.orders", json!([])),
    ] {
        refusal(&ada, statement).await;
        let line = world.lines().pop().unwrap();
        assert_eq!(
            (&line["event"], &line["outcome"], &line["error"]),
            (&json!("end"), &json!("denied"), &json!("Denied")),
            "{statement}"
        );
        assert_eq!(line["tables"], tables, "{statement}");
        assert!(ada.prepare(statement).await.is_err());
    }
    // What is not there is failed, and its name, which may be anything, is not told.
    for statement in [
        format!("SELECT * FROM orders.\"{CANARY}\""),
        format!("SELECT \"{CANARY}\" FROM orders.orders"),
        format!("SELECT '{CANARY}"),
        format!("INSERT INTO orders.orders VALUES ('{CANARY}')"),
    ] {
        refusal(&ada, &statement).await;
        assert_eq!(world.lines().pop().unwrap()["outcome"], "failed", "{statement}");
    }
    assert!(!world.text().contains("canary"), "{}", world.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_statement_is_recorded_and_values_are_not() {
    let world = World::new().await;
    let root = world.user("root");
    let prepared = root.prepare("SELECT id FROM orders.orders WHERE amount > $1 AND $2 <> ''").await.unwrap();
    let values = vec![ScalarValue::Int64(Some(5)), ScalarValue::Utf8(Some(CANARY.to_owned()))];
    prepared.execute(values.clone()).await.unwrap().collect().await.unwrap();
    prepared.execute(values).await.unwrap().collect().await.unwrap();
    let lines = world.lines();
    assert_eq!(lines.len(), 4, "{}", world.text());
    assert_eq!(lines[3]["tables"], json!([{"schema": "orders", "table": "orders", "columns": ["amount", "id"]}]));
    assert_eq!(lines[3]["rows"], 4);
    assert_ne!(lines[1]["query_id"], lines[3]["query_id"]);
    for (statement, kind) in [
        ("CREATE MATERIALIZED VIEW v.ids AS SELECT id FROM orders.orders WHERE amount <> 4111", "create view"),
        ("SELECT count(*) FROM v.ids", "query"),
        (
            "SELECT id, (SELECT l.id FROM orders.lines l WHERE l.id = o.id) AS line FROM orders.orders o WHERE id < 0",
            "query",
        ),
        ("REFRESH MATERIALIZED VIEW v.ids", "refresh view"),
        ("EXPLAIN SELECT id FROM orders.orders", "explain"),
        ("EXPLAIN ANALYZE SELECT id FROM orders.orders", "explain analyze"),
        ("DROP MATERIALIZED VIEW v.ids", "drop view"),
    ] {
        let before = world.lines().len();
        rows(&root, statement).await;
        let lines = world.lines();
        assert_eq!(lines.len(), before + 2, "{statement}: {}", world.text());
        assert!(lines[before..].iter().all(|line| line["kind"] == kind), "{statement}: {}", world.text());
        assert_eq!(lines[before + 1]["outcome"], "complete");
    }
    rows(&root, "PREPARE p AS SELECT id FROM orders.lines WHERE id = 4111").await;
    rows(&root, "EXECUTE p").await;
    let lines = world.lines();
    assert_eq!(
        lines.last().unwrap()["tables"],
        json!([{"schema": "orders", "table": "lines", "columns": ["id"]}]),
        "{}",
        world.text()
    );
    let before = world.lines().len();
    for statement in [
        "SELECT 1",
        "SET headwater.max_staleness = '1 h'",
        "SHOW search_path",
        "SELECT table_name FROM information_schema.tables",
    ] {
        rows(&root, statement).await;
    }
    assert_eq!(world.lines().len(), before, "what reads no table is not recorded");
    rows(&world.engine.session(), "SELECT count(*) FROM orders.orders").await;
    let last = world.lines().pop().unwrap();
    assert_eq!((&last["user"], &last["door"]), (&Value::Null, &json!("program")));
    assert!(!world.text().contains("canary") && !world.text().contains("4111"), "{}", world.text());
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_runs_while_the_log_can_not_be_written() {
    let directory = TempDir::new().unwrap();
    let access = directory.path().join("access.yaml");
    std::fs::write(&access, ACCESS).unwrap();
    let engine = World::engine(&access, Path::new("/dev/full")).await;
    let root = engine.session_as(&Caller::user("root"));
    let (kind, error) = refusal(&root, "SELECT id FROM orders.orders").await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(error.starts_with("the audit log can't be written"), "{error}");
    assert!(told(&root, "CREATE MATERIALIZED VIEW v.x AS SELECT id FROM orders.orders").await.is_err());
    assert!(engine.materialized_views().is_empty());
    assert_eq!(rows(&root, "SELECT 1").await, ["1"]);
}
