//! Every way in which a query ends early stops what it runs at its sources, within a second.
//!
//! The sources compute a cross join that takes hours and has no row, so nothing is ever written to a client that has left: without a
//! request to stop, the statement would go on.

use std::process::Stdio;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use headwater::{Engine, ErrorKind};
use headwater_server::flight::{Limits, serve_with};
use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::process::headwater;
use headwater_sql_tests::services::Services;
use headwater_sql_tests::wait;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::Server;
use crate::arrow_client::connect;

const SECOND: Duration = Duration::from_secs(1);

/// How long anything else may take before a test fails.
const DEADLINE: Duration = Duration::from_secs(60);

/// How the statement that takes hours is known among those that run.
const ENDLESS: &str = "endless";

struct Stores {
    postgres: PostgresDatabase,
    mysql: MysqlDatabase,
    services: Services,
}

impl Stores {
    async fn new() -> Self {
        let postgres = PostgresDatabase::with(
            "CREATE TABLE t (id bigint); INSERT INTO t SELECT generate_series(1, 1000); \
             CREATE VIEW endless AS SELECT (a.i + b.i)::bigint AS id FROM generate_series(1, 300000) a(i), generate_series(1, 300000) b(i) \
             WHERE a.i + b.i < 0",
        )
        .await;
        // A server that looks by itself whether its client is there would hide that nobody told it to stop.
        let name = postgres.name();
        postgres.execute(&format!("ALTER DATABASE \"{name}\" SET client_connection_check_interval = 0")).await;
        let mysql = MysqlDatabase::with(
            "CREATE TABLE t (id bigint); INSERT INTO t SELECT seq FROM seq_1_to_1000; \
             CREATE VIEW endless AS SELECT CAST(a.seq + b.seq AS SIGNED) AS id FROM seq_1_to_300000 a, seq_1_to_300000 b \
             WHERE a.seq + b.seq < 0",
        )
        .await;
        let services = Services::new()
            .with_postgres("pg", &postgres.url())
            .with_mysql("my", &mysql.url())
            .with_sqlite("lite", "CREATE TABLE t (id INTEGER); INSERT INTO t VALUES (1), (2)");
        Self { postgres, mysql, services }
    }

    async fn engine(&self) -> Engine {
        self.services.engine().await
    }

    async fn running(&self, service: &str) -> usize {
        match service {
            "pg" => self.postgres.running(ENDLESS).await,
            _ => self.mysql.running(ENDLESS).await,
        }
    }

    async fn runs(&self, service: &str) {
        wait::until("the statement runs", DEADLINE, async || self.running(service).await > 0).await;
    }

    async fn is_gone(&self, service: &str, how: &str) {
        let what = format!("{service} stops the statement: {how}");
        wait::until(&what, SECOND, async || self.running(service).await == 0).await;
    }
}

const SERVICES: [&str; 2] = ["pg", "my"];

/// Queries that wait in different places for the statement that takes hours.
fn queries(service: &str) -> [(&'static str, String); 4] {
    [
        ("its first row", format!("SELECT id FROM {service}.endless")),
        ("all of its rows", format!("SELECT count(*), max(id + 1) FROM {service}.endless WHERE id % 7 = 3")),
        ("keys of a join", format!("SELECT t.id FROM {service}.endless e JOIN lite.t t ON t.id = e.id")),
        ("keys of another source", format!("SELECT count(*) FROM lite.t t JOIN {service}.endless e ON t.id = e.id")),
    ]
}

fn ask(engine: &Engine, query: &str) -> JoinHandle<Result<usize, headwater::Error>> {
    let (session, query) = (engine.session(), query.to_owned());
    tokio::spawn(async move { Ok(session.sql(&query).await?.collect().await?.len()) })
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_answer_stops_its_statements() {
    let stores = Stores::new().await;
    let engine = stores.engine().await;
    for service in SERVICES {
        for (place, query) in queries(service) {
            let asking = ask(&engine, &query);
            stores.runs(service).await;
            asking.abort();
            stores.is_gone(service, &format!("an answer dropped while it waits for {place}")).await;
        }
    }
    // The connections are whole.
    for service in SERVICES {
        let batches = engine.sql(&format!("SELECT * FROM {service}.t")).await.unwrap().collect().await.unwrap();
        assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deadline_stops_its_statements() {
    let stores = Stores::new().await;
    let engine = stores.engine().await;
    for service in SERVICES {
        for (place, query) in queries(service) {
            let session = engine.session();
            session.sql("SET headwater.query_deadline = '1500 ms'").await.unwrap();
            let asking = tokio::spawn(async move { session.sql(&query).await?.collect().await });
            stores.runs(service).await;
            let error = wait::within("the deadline", DEADLINE, asking).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            stores.is_gone(service, &format!("past the deadline while it waits for {place}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_leaves_stops_its_statements() {
    let stores = Stores::new().await;
    let server = Server::over(stores.engine().await).await;
    for service in SERVICES {
        for (place, query) in queries(service) {
            // The stream alone, on a connection that stays.
            let mut client = connect(&server.address).await;
            let info = client.execute(query.clone(), None).await.unwrap();
            let mut stream = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
            let reading = tokio::spawn(async move { stream.next().await.map(|_| ()) });
            stores.runs(service).await;
            reading.abort();
            stores.is_gone(service, &format!("a stream closed while it waits for {place}")).await;
            // The connection with everything on it.
            let info = client.execute(query, None).await.unwrap();
            let reading = tokio::spawn(async move {
                let stream = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
                stream.try_collect::<Vec<_>>().await.map(|_| ())
            });
            stores.runs(service).await;
            reading.abort();
            stores.is_gone(service, &format!("a connection closed while it waits for {place}")).await;
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_stops_takes_its_statements_along() {
    let stores = Stores::new().await;
    for service in SERVICES {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let stopped = async {
            stopped.await.ok();
        };
        let limits = Limits { drain: Duration::from_millis(100), ..Limits::default() };
        let serving = tokio::spawn(serve_with(stores.engine().await, listener, stopped, limits));
        let mut client = connect(&address).await;
        let info = client.execute(format!("SELECT id FROM {service}.endless"), None).await.unwrap();
        let stream = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
        let reading = tokio::spawn(stream.try_collect::<Vec<_>>());
        stores.runs(service).await;
        drop(stop);
        wait::within("the server stops", DEADLINE, serving).await.unwrap().unwrap();
        stores.is_gone(service, "the server was stopped").await;
        assert!(wait::within("the stream ends", DEADLINE, reading).await.unwrap().is_err());
    }
}

async fn signal(child: &Child, signal: &str) {
    let id = child.id().expect("the command runs").to_string();
    assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_and_sigterm_stop_the_statements_of_the_command_line() {
    let stores = Stores::new().await;
    for (service, how) in SERVICES.into_iter().flat_map(|service| ["-INT", "-TERM"].map(|how| (service, how))) {
        let endless = format!("SELECT id FROM {service}.endless");
        let mut command = Command::new(headwater());
        command.arg("sql").arg("--services").arg(stores.services.manifests()).arg("--format").arg("csv");
        command.kill_on_drop(true).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.arg(&endless).spawn().unwrap();
        stores.runs(service).await;
        signal(&child, how).await;
        stores.is_gone(service, how).await;
        let output = wait::within("the command ends", DEADLINE, child.wait_with_output()).await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_statement_of_the_command_line_stops_the_others_of_its_query() {
    let stores = Stores::new().await;
    for service in SERVICES {
        let mut command = Command::new(headwater());
        command.arg("sql").arg("--services").arg(stores.services.manifests()).arg("--format").arg("csv");
        command.kill_on_drop(true).stdout(Stdio::null()).stderr(Stdio::piped());
        let late = format!("SET headwater.query_deadline = '2 s'; SELECT id FROM {service}.endless");
        let child = command.arg(&late).spawn().unwrap();
        stores.runs(service).await;
        let output = wait::within("the command ends", DEADLINE, child.wait_with_output()).await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        stores.is_gone(service, "a command that failed").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_a_command_that_waits_for_a_statement() {
    let stores = Stores::new().await;
    let mut command = Command::new(headwater());
    command.arg("sql").arg("--services").arg(stores.services.manifests()).arg("--format").arg("csv");
    command.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut statements = child.stdin.take().unwrap();
    statements.write_all(b"SELECT count(*) FROM lite.t;\n").await.unwrap();
    let mut answer = BufReader::new(child.stdout.take().unwrap()).lines();
    while wait::within("an answer", DEADLINE, answer.next_line()).await.unwrap().as_deref() != Some("2") {}
    signal(&child, "-TERM").await;
    let status = wait::within("the command ends", DEADLINE, child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(143), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_at_a_client_stops_the_statements_of_the_server() {
    let stores = Stores::new().await;
    let server = Server::over(stores.engine().await).await;
    for service in SERVICES {
        let mut command = Command::new(headwater());
        command.arg("sql").arg("--connect").arg(format!("grpc://{}", server.address)).arg("--format").arg("csv");
        command.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut statements = child.stdin.take().unwrap();
        statements.write_all(format!("SELECT id FROM {service}.endless;\n").as_bytes()).await.unwrap();
        stores.runs(service).await;
        signal(&child, "-INT").await;
        stores.is_gone(service, "Ctrl-C").await;
        drop(statements);
        wait::within("the command ends", DEADLINE, child.wait()).await.unwrap();
    }
    server.stop().await;
}
