//! A password and a literal that no log, error, plan or metric may hold, at every door of the command itself; and that its log is one JSON object a line.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::process::headwater;
use headwater_sql_tests::services::Services;
use headwater_sql_tests::wait;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::doors::{CANARY, UsersFile, run};

const DEADLINE: Duration = Duration::from_secs(60);

/// What stands in a query.
const LITERAL: &str = "canary-literal-7c1e";

/// Everybody who comes in reads everything and sees the metrics.
const ACCESS: &str =
    "roles:\n  all:\n    members: [\"*\"]\n    monitors: true\n    grants: [{service: pg}, {service: lite}]\n";

/// What the log said, so far.
pub(crate) type Log = Arc<Mutex<Vec<String>>>;

pub(crate) async fn address(log: &Log, scheme: &str) -> String {
    let mut found = None;
    wait::until("the server listens", DEADLINE, async || {
        let lines = log.lock().await;
        let after =
            lines.iter().find_map(|line| Some(line.split_once(&format!("listening on {scheme}://"))?.1.to_owned()));
        found = after
            .map(|rest| rest.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect::<String>());
        found.is_some()
    })
    .await;
    found.unwrap()
}

async fn http(address: &str, authorization: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head =
        format!("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {authorization}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    wait::within("the answer comes", DEADLINE, stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_and_literal_are_in_no_log_error_plan_or_metric() {
    let postgres = PostgresDatabase::with("CREATE TABLE t (id bigint, s text); INSERT INTO t VALUES (1, 'a')").await;
    let services =
        Services::new().with_postgres("pg", &postgres.url()).with_sqlite("lite", "CREATE TABLE t (id INTEGER, s TEXT)");
    std::fs::write(services.manifests().join("access.yaml"), ACCESS).unwrap();
    let (users, token) = UsersFile::new();
    let mut child = Command::new(headwater())
        .args([
            "serve",
            "--log-format",
            "json",
            "--flight-addr",
            "127.0.0.1:0",
            "--pg-addr",
            "127.0.0.1:0",
            "--http-addr",
            "127.0.0.1:0",
        ])
        .arg("--users")
        .arg(&users.path)
        .arg("--services")
        .arg(services.manifests())
        .env("HEADWATER_LOG", "debug")
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (log, mut lines) = (Log::default(), BufReader::new(child.stderr.take().unwrap()).lines());
    let kept = Arc::clone(&log);
    let reading = tokio::spawn(async move {
        while let Some(line) = lines.next_line().await.unwrap() {
            kept.lock().await.push(line);
        }
    });
    let (flight, pg, metrics) =
        (address(&log, "grpc").await, address(&log, "postgres").await, address(&log, "http").await);
    let mut seen = Vec::new();
    let queries = [
        format!("EXPLAIN VERBOSE SELECT id FROM pg.t WHERE s = '{LITERAL}'"),
        format!("SELECT id FROM pg.t WHERE s = '{LITERAL}' AND id > 0"),
        format!("SELECT CAST('{LITERAL}' AS INT) + id FROM pg.t"),
        "SELECT * FROM pg.nothing".to_owned(),
    ];
    let mut plans = Vec::new();
    for password in [CANARY.as_str(), "wrong canary"] {
        for query in &queries {
            let url = format!("postgres://ada@{pg}/headwater");
            let (_, text) = run(Path::new("psql"), &["-X", &url, "-c", query], &[("PGPASSWORD", password)]).await;
            plans.push(text);
            let uri = format!("grpc://{flight}");
            let asked = ["sql", "--connect", &uri, "--user", "ada", query];
            plans.push(run(&headwater(), &asked, &[("HEADWATER_PASSWORD", password)]).await.1);
        }
    }
    seen.push(http(&metrics, &format!("Bearer {token}")).await);
    seen.push(http(&metrics, "Basic YWRhOndyb25nIGNhbmFyeQ==").await);
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    let status = wait::within("the server stops", DEADLINE, child.wait()).await.unwrap();
    assert!(status.success(), "{status}");
    reading.await.unwrap();
    let log = log.lock().await.clone();
    for line in &log {
        let object: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(object["time"].is_string() && object["level"].is_string(), "{line}");
    }
    assert!(log.iter().any(|line| line.contains("query finished")), "queries are logged");
    assert!(log.iter().any(|line| line.contains("login refused")), "refusals are logged");
    seen.extend(log);
    for text in &seen {
        assert!(!text.contains(LITERAL), "{text}");
    }
    for text in seen.iter().chain(&plans) {
        assert!(!text.contains(CANARY.as_str()) && !text.contains("wrong canary") && !text.contains(&token), "{text}");
        assert!(!text.contains(&headwater_sql_tests::canary()), "the password of the database is shown");
    }
}
