//! How long a cancelled query goes on: until its client has the error, and until its source runs nothing of it.
//!
//! `./test --servers-only cargo run --release -p headwater-benches --bin cancel`
//!
//! A view at Postgres and one at MariaDB compute for hours without a row. A hundred times at each, a client asks Headwater for it, and once the statement runs there,
//! another cancels: with CancelFlightInfo over Flight, with CancelRequest over the Postgres protocol. Both times count from when the cancel is sent. The source is asked every
//! two milliseconds whether the statement is among those that run, so what is said of it is up to as much too long.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{CancelFlightInfoRequest, CancelStatus, FlightClient};
use futures::TryStreamExt;
use headwater::Engine;
use headwater_benches::percentile;
use headwater_server::{Security, flight, pg};
use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::services::Services;
use mysql_async::prelude::Queryable;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;
use tonic::transport::Endpoint;

const CANCELS: usize = 100;
const LOOKED_EVERY: Duration = Duration::from_millis(2);
const DEADLINE: Duration = Duration::from_secs(30);

/// Where a source tells what it runs.
enum Looking {
    Postgres(tokio_postgres::Client),
    Mysql(Box<mysql_async::Conn>),
}

/// By which door the client comes.
#[derive(Clone, Copy)]
enum Door {
    Flight(SocketAddr),
    Postgres(SocketAddr),
}

/// From the cancel to its two effects.
struct Took {
    client: Duration,
    source: Duration,
}

#[tokio::main]
async fn main() {
    let postgres = PostgresDatabase::with(
        "CREATE VIEW endless AS SELECT (a.i + b.i)::bigint AS id FROM generate_series(1, 300000) a(i), generate_series(1, 300000) b(i) WHERE a.i + b.i < 0",
    )
    .await;
    let mysql = MysqlDatabase::with(
        "CREATE VIEW endless AS SELECT CAST(a.seq + b.seq AS SIGNED) AS id FROM seq_1_to_300000 a, seq_1_to_300000 b WHERE a.seq + b.seq < 0",
    )
    .await;
    let services = Services::new().with_postgres("pg", &postgres.url()).with_mysql("my", &mysql.url());
    let (flight, pg) = doors(services.engine().await).await;
    let mut looking =
        [("pg", Looking::Postgres(postgres.client().await)), ("my", Looking::Mysql(Box::new(mysql.client().await)))];
    println!("| cancelled by | source | cancels | client p50, ms | client p99, ms | source p50, ms | source p99, ms |");
    println!("|---|---|---:|---:|---:|---:|---:|");
    for (way, door) in [("CancelFlightInfo", Door::Flight(flight)), ("CancelRequest", Door::Postgres(pg))] {
        for (service, looking) in &mut looking {
            let mut took = vec![];
            for _ in 0..CANCELS {
                took.push(cancelled(door, service, looking).await);
            }
            let of = |pick: fn(&Took) -> Duration, share| {
                percentile(&took.iter().map(pick).collect::<Vec<_>>(), share).as_secs_f64() * 1e3
            };
            let (client, source) = (|took: &Took| took.client, |took: &Took| took.source);
            let source_name = if *service == "pg" { "Postgres" } else { "MariaDB" };
            println!(
                "| {way} | {source_name} | {CANCELS} | {:.1} | {:.1} | {:.1} | {:.1} |",
                of(client, 0.5),
                of(client, 0.99),
                of(source, 0.5),
                of(source, 0.99)
            );
        }
    }
}

async fn doors(engine: Engine) -> (SocketAddr, SocketAddr) {
    let (one, two) = (bind().await, bind().await);
    let addresses = (one.local_addr().expect("it is bound"), two.local_addr().expect("it is bound"));
    tokio::spawn(flight::serve(engine.clone(), one, std::future::pending::<()>()));
    tokio::spawn(pg::serve(engine, two, std::future::pending::<()>(), pg::Limits::default(), Security::default()));
    addresses
}

async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port is free")
}

async fn cancelled(door: Door, service: &str, looking: &mut Looking) -> Took {
    let query = format!("SELECT id FROM {service}.endless");
    match door {
        Door::Flight(address) => by_flight(address, &query, looking).await,
        Door::Postgres(address) => by_postgres(address, &query, looking).await,
    }
}

async fn by_flight(address: SocketAddr, query: &str, looking: &mut Looking) -> Took {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let mut client = FlightSqlServiceClient::new(endpoint.connect().await.expect("it listens"));
    let mut actions = FlightClient::new(endpoint.connect().await.expect("it listens"));
    let info = client.execute(query.to_owned(), None).await.expect("it is planned");
    let ticket = info.endpoint[0].ticket.clone().expect("an endpoint has a ticket");
    let reading = tokio::spawn(async move {
        let rows = async { client.do_get(ticket).await?.try_collect::<Vec<_>>().await };
        rows.await.expect_err("the query is cancelled");
        Instant::now()
    });
    looking.until(true).await;
    let started = Instant::now();
    let answer = actions.cancel_flight_info(CancelFlightInfoRequest::new(info)).await.expect("it is answered");
    assert_eq!(answer.status, CancelStatus::Cancelled as i32);
    ended(started, reading, looking).await
}

async fn by_postgres(address: SocketAddr, query: &str, looking: &mut Looking) -> Took {
    let url = format!("postgres://bench@{address}/headwater");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("it listens");
    tokio::spawn(connection);
    let (token, query) = (client.cancel_token(), query.to_owned());
    let reading = tokio::spawn(async move {
        let error = client.query(&query, &[]).await.expect_err("the query is cancelled");
        assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{error}");
        Instant::now()
    });
    looking.until(true).await;
    let started = Instant::now();
    token.cancel_query(NoTls).await.expect("it is taken");
    ended(started, reading, looking).await
}

async fn ended(started: Instant, reading: JoinHandle<Instant>, looking: &mut Looking) -> Took {
    looking.until(false).await;
    let source = started.elapsed();
    let failed = tokio::time::timeout(DEADLINE, reading).await.expect("the client has its error").expect("it is read");
    Took { client: failed.saturating_duration_since(started), source }
}

impl Looking {
    /// Waits until the statement runs, or runs no more. It runs once it has done so for 20 ms: its text is there for a moment when it is planned too, and a cancel that comes
    /// between a client's Parse and its Bind is for no statement.
    async fn until(&mut self, runs: bool) {
        let started = Instant::now();
        while self.runs().await != runs {
            assert!(started.elapsed() < DEADLINE, "the statement is still as it was");
            tokio::time::sleep(LOOKED_EVERY).await;
        }
    }

    async fn runs(&mut self) -> bool {
        match self {
            Self::Postgres(client) => {
                let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' \
                     AND pid <> pg_backend_pid() AND query LIKE 'SELECT \"id\"%endless%' \
                     AND clock_timestamp() - query_start > interval '20 ms'";
                client.query_one(sql, &[]).await.expect("it is told").get::<_, i64>(0) > 0
            }
            Self::Mysql(conn) => {
                let sql = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND COMMAND <> 'Sleep' AND INFO LIKE '%SELECT `id`%endless%' AND TIME_MS > 20";
                conn.query_first::<i64, _>(sql).await.expect("it is told").unwrap_or_default() > 0
            }
        }
    }
}
