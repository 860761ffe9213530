//! Views over Flight and from the command line: endless subscriptions, the state of an answer in its metadata, views that files define.
//!
//! The services are SQLite files followed by triggers and read as `headwater serve` reads them.

use std::process::Stdio;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::datatypes::{Int64Type, UInt64Type};
use arrow_flight::error::FlightError;
use futures::StreamExt;
use headwater::Engine;
use headwater_sql_tests::services::Services;
use headwater_sql_tests::wait;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tonic::Code;

use crate::Server;
use crate::arrow_client::{Client, ask, connect};
use headwater_sql_tests::process::headwater;

const DEADLINE: Duration = Duration::from_secs(60);

fn shop() -> Services {
    let services = Services::new().with_sqlite(
        "shop",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL); INSERT INTO t VALUES (1, 10), (2, 20)",
    );
    let manifest = "service: shop\nsource: {connector: sqlite, path: ../shop.db}\nfeed: {mode: triggers, consent: true}\npublishes: \"*\"\n";
    std::fs::write(services.manifests().join("shop.yaml"), manifest).unwrap();
    services
}

async fn stream(client: &mut Client, query: &str) -> arrow_flight::decode::FlightRecordBatchStream {
    let info = client.execute(query.to_owned(), None).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap()
}

/// Reads until the whole of an epoch: its number, and rows with their weights.
async fn epoch(
    stream: &mut arrow_flight::decode::FlightRecordBatchStream,
) -> Result<(u64, Vec<(i64, i64, i64)>), FlightError> {
    let mut rows = Vec::new();
    loop {
        let batch: RecordBatch =
            wait::within("an epoch comes", DEADLINE, stream.next()).await.expect("it has no end")?;
        let last = batch.num_rows() - 1;
        let number = |column: usize| batch.column(column).as_primitive::<Int64Type>();
        rows.extend((0..=last).map(|row| (number(2).value(row), number(4).value(row), number(5).value(row))));
        if batch.column(3).as_boolean().value(last) {
            rows.sort_unstable();
            return Ok((batch.column(0).as_primitive::<UInt64Type>().value(last), rows));
        }
    }
}

fn code(error: FlightError) -> (Code, String) {
    match error {
        FlightError::Tonic(status) => (status.code(), status.message().to_owned()),
        other => panic!("a status was expected, not {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscription_goes_on_from_its_epoch_and_ends_with_its_view_or_its_server() {
    let services = shop();
    let engine = services.engine().await;
    let server = Server::over(engine.clone()).await;
    let mut client = connect(&server.address).await;
    ask(&mut client, "CREATE MATERIALIZED VIEW v.t AS SELECT id, n FROM shop.t").await.unwrap();
    let mut changes = stream(&mut client, "SUBSCRIBE TO v.t WITH SNAPSHOT").await;
    let (first, rows) = epoch(&mut changes).await.unwrap();
    assert_eq!(rows, [(1, 1, 10), (1, 2, 20)]);
    assert_eq!(changes.schema().unwrap().metadata()["headwater.subscription"], "v.t");
    services.sqlite("shop").execute_batch("UPDATE t SET n = 11 WHERE id = 1").unwrap();
    let (second, rows) = epoch(&mut changes).await.unwrap();
    assert!(second > first);
    assert_eq!(rows, [(-1, 1, 10), (1, 1, 11)]);
    drop(changes);
    services
        .sqlite("shop")
        .execute_batch("BEGIN; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (3, 30); COMMIT")
        .unwrap();
    let mut prepared = client.prepare(format!("SUBSCRIBE TO v.t FROM EPOCH {second}"), None).await.unwrap();
    assert_eq!(prepared.dataset_schema().unwrap().fields().len(), 6);
    let info = prepared.execute().await.unwrap();
    let mut changes = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    let (third, rows) = epoch(&mut changes).await.unwrap();
    assert_eq!(rows, [(-1, 2, 20), (1, 3, 30)]);
    let (code_of, message) = code(client.execute("SUBSCRIBE TO v.t FROM EPOCH 1".to_owned(), None).await.unwrap_err());
    assert_eq!(code_of, Code::OutOfRange);
    assert!(message.contains("SUBSCRIBE TO v.t WITH SNAPSHOT"), "{message}");
    ask(&mut client, "DROP MATERIALIZED VIEW v.t").await.unwrap();
    let (code_of, message) = code(epoch(&mut changes).await.unwrap_err());
    assert_eq!(code_of, Code::NotFound);
    assert!(message.contains("\"v.t\" was dropped"), "{message}");
    // A server that stops does not wait for those who never end.
    ask(&mut client, "CREATE MATERIALIZED VIEW v.t AS SELECT id, n FROM shop.t").await.unwrap();
    let mut changes = stream(&mut client, "SUBSCRIBE TO v.t WITH SNAPSHOT").await;
    assert!(epoch(&mut changes).await.unwrap().0 > third);
    let stopping = tokio::spawn(server.stop());
    assert_eq!(code(epoch(&mut changes).await.unwrap_err()).0, Code::Unavailable);
    drop((changes, client));
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn subscription_is_let_go_of_when_its_client_leaves() {
    let services = shop();
    let views = headwater::ViewOptions { subscriptions_max: 1, ..headwater::ViewOptions::default() };
    let engine = Engine::builder()
        .services_dir(services.manifests())
        .connectors(headwater_connectors::all())
        .views(views)
        .build()
        .await
        .unwrap();
    let server = Server::over(engine.clone()).await;
    let mut client = connect(&server.address).await;
    ask(&mut client, "CREATE MATERIALIZED VIEW v.t AS SELECT id, n FROM shop.t").await.unwrap();
    let mut changes = stream(&mut client, "SUBSCRIBE TO v.t WITH SNAPSHOT").await;
    epoch(&mut changes).await.unwrap();
    let refused = client.execute("SUBSCRIBE TO v.t".to_owned(), None).await.unwrap_err();
    assert_eq!(code(refused).0, Code::ResourceExhausted);
    drop((changes, client));
    wait::until("the subscription is let go of", DEADLINE, async || engine.subscribe("v.t").is_ok()).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_says_its_epoch_vector_and_lag_in_schema_and_flight_info() {
    let services = shop();
    let server = Server::over(services.engine().await).await;
    let mut client = connect(&server.address).await;
    ask(&mut client, "CREATE MATERIALIZED VIEW v.t AS SELECT id, n FROM shop.t").await.unwrap();
    let info = client.execute("SELECT sum(n) AS n FROM v.t".to_owned(), None).await.unwrap();
    let announced: Value = serde_json::from_slice(&info.app_metadata).unwrap();
    let schema = info.clone().try_decode_schema().unwrap();
    let mut rows = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    let batch = rows.next().await.unwrap().unwrap();
    let metadata = batch.schema().metadata().clone();
    assert_eq!(&metadata, schema.metadata());
    assert_eq!(announced["headwater.epoch"], metadata["headwater.epoch"].as_str());
    assert!(metadata["headwater.epoch"].parse::<u64>().unwrap() > 0);
    let object = |key: &str| serde_json::from_str::<Value>(&metadata[key]).unwrap();
    assert!(object("headwater.vector")["shop"].is_string(), "{metadata:?}");
    assert!(object("headwater.lag_ms_max")["shop"].is_number(), "{metadata:?}");
    assert_eq!(object("headwater.class")["shop"], "transactional");
    // What it says is what at_least takes: the same answer cannot be older.
    client.set_header("cookie", "arrow_flight_session_id=2f0e8b61-57a6-4d55-9b3c-3f9f3d2a7a10");
    ask(&mut client, &format!("SET headwater.at_least = '{}'", metadata["headwater.vector"])).await.unwrap();
    assert_eq!(ask(&mut client, "SELECT count(*) FROM v.t").await.unwrap().column(), ["2"]);
    let info = client.execute("SELECT count(*) FROM shop.t".to_owned(), None).await.unwrap();
    assert!(info.app_metadata.is_empty() && info.try_decode_schema().unwrap().metadata().is_empty());
    drop(client);
    server.stop().await;
}

async fn next_line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    wait::within("a line comes", DEADLINE, lines.next_line()).await.unwrap().expect("the command goes on")
}

#[tokio::test(flavor = "multi_thread")]
async fn command_line_prints_a_subscription_as_it_goes() {
    let services = shop();
    let server = Server::over(services.engine().await).await;
    let mut client = connect(&server.address).await;
    ask(&mut client, "CREATE MATERIALIZED VIEW v.t AS SELECT id, n FROM shop.t").await.unwrap();
    for format in ["csv", "table"] {
        let mut command = Command::new(headwater());
        command.arg("sql").arg("--connect").arg(format!("grpc://{}", server.address)).arg("--format").arg(format);
        command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.arg("SUBSCRIBE TO v.t WITH SNAPSHOT").spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(next_line(&mut lines).await.contains("headwater_epoch"));
        let mut seen = String::new();
        while !seen.contains("true") {
            seen = next_line(&mut lines).await;
        }
        let written =
            format!("UPDATE t SET n = n + 1000 WHERE id = 1; UPDATE t SET n = n WHERE id = 2 AND '{format}' = ''");
        services.sqlite("shop").execute_batch(&written).unwrap();
        let changed = [next_line(&mut lines).await, next_line(&mut lines).await].join("\n");
        assert!(changed.contains("-1") && changed.contains("10"), "{changed}");
        child.kill().await.unwrap();
    }
    drop(client);
    server.stop().await;
}

/// A server of its own process.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    async fn start(services: &Services) -> Self {
        let mut command = Command::new(headwater());
        command.arg("serve").arg("--services").arg(services.manifests()).arg("--flight-addr").arg("127.0.0.1:0");
        command.arg("--state").arg(services.directory().join("state"));
        command.env("HEADWATER_LOG", "info").kill_on_drop(true).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = wait::within("the server listens", DEADLINE, lines.next_line()).await.unwrap().expect("a line");
            if let Some((_, address)) = line.split_once("listening on ") {
                break address.split_whitespace().next().unwrap().to_owned();
            }
        };
        // Its log is read on, or its pipe would fill.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, address }
    }

    async fn client(&self) -> Client {
        connect(&self.address.trim_start_matches("grpc://").parse().unwrap()).await
    }

    async fn signal(&self, signal: &str) {
        let id = self.child.id().expect("the server runs").to_string();
        assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
    }

    async fn apply(&self, services: &Services, options: &[&str]) -> (bool, String) {
        let mut command = Command::new(headwater());
        command
            .arg("apply")
            .arg("--services")
            .arg(services.manifests())
            .arg("--connect")
            .arg(&self.address)
            .args(options);
        let output = wait::within("the command ends", DEADLINE, command.kill_on_drop(true).output()).await.unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    }
}

async fn until(client: &mut Client, query: &str, wanted: &[&str]) {
    let mut found = vec![];
    wait::until(&format!("{query} answers {wanted:?}"), DEADLINE, async || {
        found = ask(client, query)
            .await
            .map(|rows| rows.column().iter().map(ToString::to_string).collect())
            .unwrap_or_default();
        found == wanted
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_define_views_at_the_start_by_apply_and_at_sighup() {
    let services = shop();
    let folder = services.manifests().join("views");
    std::fs::create_dir(&folder).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("total.sql", "CREATE MATERIALIZED VIEW v.total AS SELECT sum(n) AS n FROM shop.t;");
    let serving = Serving::start(&services).await;
    let mut client = serving.client().await;
    until(&mut client, "SELECT n FROM v.total", &["30"]).await;
    ask(&mut client, "CREATE MATERIALIZED VIEW v.mine AS SELECT id FROM shop.t").await.unwrap();
    write("total.sql", "CREATE MATERIALIZED VIEW v.total AS SELECT 2 * sum(n) AS n FROM shop.t;");
    write("twice.sql", "CREATE MATERIALIZED VIEW v.twice AS SELECT 2 * n AS n FROM v.total;");
    let (ok, said) = serving.apply(&services, &["--dry-run"]).await;
    assert!(ok && said.contains("replace    v.total") && said.contains("create     v.twice"), "{said}");
    assert!(said.contains("2 to change; nothing was done"), "{said}");
    until(&mut client, "SELECT n FROM v.total", &["30"]).await;
    let (ok, said) = serving.apply(&services, &[]).await;
    assert!(ok && said.contains("v.twice: shown") && said.contains("2 changed"), "{said}");
    until(&mut client, "SELECT n FROM v.twice", &["120"]).await;
    write("bad.sql", "-- a comment\nCREATE MATERIALIZED VIEW v.bad AS SELECT nothing FROM shop.t;");
    let (ok, said) = serving.apply(&services, &[]).await;
    assert!(!ok && said.contains("views/bad.sql:2: v.bad: ") && said.contains("nothing"), "{said}");
    std::fs::remove_file(folder.join("bad.sql")).unwrap();
    std::fs::remove_file(folder.join("twice.sql")).unwrap();
    write("other.sql", "CREATE MATERIALIZED VIEW v.other AS SELECT max(n) AS n FROM shop.t;");
    serving.signal("-HUP").await;
    let named = "SELECT name FROM headwater.views WHERE state = 'live' ORDER BY name";
    until(&mut client, named, &["mine", "other", "total"]).await;
    std::fs::remove_file(folder.join("total.sql")).unwrap();
    drop(client);
    serving.signal("-TERM").await;
    let mut serving = serving;
    wait::within("the server stops", DEADLINE, serving.child.wait()).await.unwrap();
    let serving = Serving::start(&services).await;
    until(&mut serving.client().await, named, &["mine", "other"]).await;
}
