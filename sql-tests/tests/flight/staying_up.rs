//! What keeps the doors open: limits of connections, queries and messages that are told at once, clients that say little or read nothing, and a stop that lets statements finish.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{CommandGetCatalogs, CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, Ticket};
use futures::TryStreamExt;
use headwater::{Engine, Limits as EngineLimits};
use headwater_server::{Security, flight, pg};
use headwater_sql_tests::certificates::Certificates;
use headwater_sql_tests::mysql::MysqlDatabase;
use headwater_sql_tests::postgres::PostgresDatabase;
use headwater_sql_tests::process::headwater;
use headwater_sql_tests::services::Services;
use headwater_sql_tests::wait;
use prost::Message;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_postgres::NoTls;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::arrow_client::connect;
use crate::doors::{Doors, tls};

const DEADLINE: Duration = Duration::from_secs(30);

const SECOND: Duration = Duration::from_secs(1);

fn lite() -> Services {
    Services::new().with_sqlite("lite", "CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2)")
}

async fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

async fn asked(channel: &Channel) -> Result<(), Status> {
    let command = FlightDescriptor::new_cmd(CommandGetCatalogs {}.as_any().encode_to_vec());
    let mut client = FlightServiceClient::new(channel.clone());
    wait::within("an answer", SECOND, client.get_flight_info(command)).await.map(|_| ())
}

async fn postgres(address: SocketAddr) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let config = format!("host=127.0.0.1 port={} user=test dbname=headwater", address.port());
    let (client, connection) = wait::within("an answer", SECOND, tokio_postgres::connect(&config, NoTls)).await?;
    tokio::spawn(async {
        connection.await.ok();
    });
    Ok(client)
}

fn sqlstate(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("none", |code| code.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_beyond_the_limit_is_told_so_at_once_by_both_doors() {
    let services = lite();
    let limits = flight::Limits { connections: 2, ..flight::Limits::default() };
    let pg_limits = pg::Limits { connections: 2, ..pg::Limits::default() };
    let doors = Doors::open_with(services.engine().await, Security::default(), limits, pg_limits).await;
    let mut channels = vec![channel(doors.flight).await, channel(doors.flight).await];
    for channel in &channels {
        asked(channel).await.unwrap();
    }
    for _ in 0..10 {
        let refused = asked(&channel(doors.flight).await).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        assert!(refused.message().contains("the server has 2 connections"), "{refused}");
    }
    for channel in &channels {
        asked(channel).await.unwrap();
    }
    channels.pop();
    wait::until("a place is free", DEADLINE, async || asked(&channel(doors.flight).await).await.is_ok()).await;
    let mut clients = vec![postgres(doors.postgres).await.unwrap(), postgres(doors.postgres).await.unwrap()];
    for _ in 0..10 {
        let refused = postgres(doors.postgres).await.err().unwrap();
        assert_eq!(sqlstate(&refused), "53300", "{refused}");
    }
    for client in &clients {
        client.simple_query("SELECT count(*) FROM lite.t").await.unwrap();
    }
    clients.pop();
    wait::until("a place is free", DEADLINE, async || postgres(doors.postgres).await.is_ok()).await;
    doors.close().await;
}

/// A database with a view that takes hours, one that takes two seconds and one that has more rows than fit anywhere.
async fn slow() -> (PostgresDatabase, Services) {
    let database = PostgresDatabase::with(
        "CREATE TABLE t (id bigint); INSERT INTO t VALUES (1), (2);
         CREATE VIEW endless AS SELECT (a.i + b.i)::bigint AS id FROM generate_series(1, 300000) a(i), generate_series(1, 300000) b(i) WHERE a.i + b.i < 0;
         CREATE VIEW slow AS SELECT 7::bigint AS id FROM pg_sleep(3);
         CREATE VIEW flood AS SELECT (a.i + b.i)::bigint AS id FROM generate_series(1, 300000) a(i), generate_series(1, 300000) b(i)",
    )
    .await;
    let services = Services::new().with_postgres("pg", &database.url());
    (database, services)
}

#[tokio::test(flavor = "multi_thread")]
async fn query_beyond_the_limit_is_told_so_at_once_by_both_doors() {
    let (database, services) = slow().await;
    let limits = EngineLimits { queries_max: 1, queries_waiting_max: 0, ..EngineLimits::default() };
    let connectors = headwater_connectors::all();
    let builder = Engine::builder().services_dir(services.manifests()).connectors(connectors).limits(limits);
    let doors = Doors::open(builder.build().await.unwrap(), Security::default()).await;
    let one = postgres(doors.postgres).await.unwrap();
    let cancel = one.cancel_token();
    let running = tokio::spawn(async move { one.simple_query("SELECT id FROM pg.endless").await.map(|_| ()) });
    wait::until("it runs", DEADLINE, async || database.running("endless").await > 0).await;
    let other = postgres(doors.postgres).await.unwrap();
    let refused = wait::within("an answer", SECOND, other.simple_query("SELECT id FROM pg.t")).await.unwrap_err();
    assert_eq!(sqlstate(&refused), "53300", "{refused}");
    let mut client = connect(&doors.flight).await;
    let info = client.execute("SELECT id FROM pg.t".to_owned(), None).await.unwrap();
    let read = async { client.do_get(info.endpoint[0].ticket.clone().unwrap()).await?.try_collect::<Vec<_>>().await };
    let refused = wait::within("an answer", SECOND, read).await.unwrap_err();
    match &refused {
        arrow_flight::error::FlightError::Tonic(status) => assert_eq!(status.code(), Code::ResourceExhausted),
        other => panic!("{other}"),
    }
    cancel.cancel_query(NoTls).await.unwrap();
    assert_eq!(sqlstate(&running.await.unwrap().unwrap_err()), "57014");
    // Its client is told before its turn is free again.
    let answered = async || other.simple_query("SELECT id FROM pg.t").await.is_ok_and(|rows| rows.len() == 4);
    wait::until("its turn is another's", DEADLINE, answered).await;
    doors.close().await;
}

/// `headwater serve` with every door, and where they are.
struct Serving {
    child: Child,
    flight: SocketAddr,
    postgres: SocketAddr,
    http: SocketAddr,
}

impl Serving {
    async fn start(services: &Services) -> Self {
        let any = "127.0.0.1:0";
        let mut child = Command::new(headwater())
            .args(["serve", "--flight-addr", any, "--pg-addr", any, "--http-addr", any, "--services"])
            .arg(services.manifests())
            .env("HEADWATER_LOG", "info")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (found, mut known) = watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("{line}");
                if let Some((head, rest)) =
                    line.split_once("listening on ").and_then(|(_, rest)| rest.split_once("://"))
                {
                    let address: String =
                        rest.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect();
                    found.send_modify(|all| all.push((head.to_owned(), address)));
                }
            }
        });
        let all = wait::within("it listens", DEADLINE, known.wait_for(|all| all.len() == 3)).await.unwrap().clone();
        let of = |scheme: &str| all.iter().find(|(known, _)| known == scheme).unwrap().1.parse().unwrap();
        Self { child, flight: of("grpc"), postgres: of("postgres"), http: of("http") }
    }

    async fn terminate(&self) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    }

    async fn ended(mut self) {
        let status = wait::within("the server ends", DEADLINE, self.child.wait()).await.unwrap();
        assert_eq!(status.code(), Some(0));
    }
}

/// A statement over Flight that is being read: how many rows it had, or its error.
async fn reading(address: SocketAddr, query: &str) -> tokio::task::JoinHandle<Result<usize, Status>> {
    let mut client = FlightServiceClient::new(channel(address).await);
    let command = CommandStatementQuery { query: query.to_owned(), transaction_id: None };
    let info = client.get_flight_info(FlightDescriptor::new_cmd(command.as_any().encode_to_vec())).await.unwrap();
    let ticket: Ticket = info.into_inner().endpoint[0].ticket.clone().unwrap();
    tokio::spawn(async move {
        let items: Vec<_> = client.do_get(ticket).await?.into_inner().try_collect().await?;
        // The first item is the schema.
        Ok(items.len() - 1)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_finish_after_sigterm_and_new_work_is_refused() {
    let (database, services) = slow().await;
    let serving = Serving::start(&services).await;
    let open = channel(serving.flight).await;
    asked(&open).await.unwrap();
    let idle = postgres(serving.postgres).await.unwrap();
    let flight = reading(serving.flight, "SELECT id FROM pg.slow").await;
    let client = postgres(serving.postgres).await.unwrap();
    let simple = tokio::spawn(async move { client.simple_query("SELECT id FROM pg.slow").await });
    wait::until("both run", DEADLINE, async || database.running("slow").await == 2).await;
    serving.terminate().await;
    let is_unready = async || {
        let Ok(mut stream) = TcpStream::connect(serving.http).await else { return true };
        let _closed = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        let mut answer = String::new();
        let _closed = stream.read_to_string(&mut answer).await;
        !answer.starts_with("HTTP/1.1 200")
    };
    wait::until("it is not ready any more", DEADLINE, is_unready).await;
    wait::until("no connection is taken", DEADLINE, async || {
        Endpoint::from_shared(format!("http://{}", serving.flight)).unwrap().connect().await.is_err()
            && TcpStream::connect(serving.postgres).await.is_err()
    })
    .await;
    assert!(asked(&open).await.is_err(), "a connection that is open takes no new request");
    let refused = wait::within("an answer", SECOND, idle.simple_query("SELECT 1")).await.unwrap_err();
    assert!(matches!(sqlstate(&refused), "57P01" | "none"), "{refused}");
    assert!(database.running("slow").await > 0, "what runs goes on meanwhile");
    assert_eq!(wait::within("it finishes", DEADLINE, flight).await.unwrap().unwrap(), 1);
    let rows = wait::within("it finishes", DEADLINE, simple).await.unwrap().unwrap();
    let rows = rows.iter().filter(|row| matches!(row, tokio_postgres::SimpleQueryMessage::Row(_)));
    assert_eq!(rows.count(), 1);
    serving.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_longer_than_the_limit_of_a_stop_is_cut_with_a_clear_error() {
    let (database, services) = slow().await;
    let serving = Serving::start(&services).await;
    let flight = reading(serving.flight, "SELECT id FROM pg.endless").await;
    let client = postgres(serving.postgres).await.unwrap();
    let simple = tokio::spawn(async move { client.simple_query("SELECT id FROM pg.endless").await });
    wait::until("both run", DEADLINE, async || database.running("endless").await == 2).await;
    let start = Instant::now();
    serving.terminate().await;
    let error = wait::within("it is cut", DEADLINE, flight).await.unwrap().unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::Unavailable, "the server is stopping; run the statement again later")
    );
    let error = wait::within("it is cut", DEADLINE, simple).await.unwrap().unwrap_err();
    assert_eq!(sqlstate(&error), "57P01", "{error}");
    assert!(start.elapsed() > Duration::from_secs(9), "they have ten seconds: {:?}", start.elapsed());
    wait::until("the source hears", SECOND, async || database.running("endless").await == 0).await;
    serving.ended().await;
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_that_a_stop_cuts_at_the_postgres_door_alone_is_stopped_at_mariadb() {
    let database = MysqlDatabase::with(
        "CREATE VIEW endless AS SELECT CAST(a.seq + b.seq AS SIGNED) AS id FROM seq_1_to_300000 a, seq_1_to_300000 b WHERE a.seq + b.seq < 0",
    )
    .await;
    let services = Services::new().with_mysql("my", &database.url());
    let serving = Serving::start(&services).await;
    let client = postgres(serving.postgres).await.unwrap();
    let simple = tokio::spawn(async move { client.simple_query("SELECT id FROM my.endless").await });
    wait::until("it runs", DEADLINE, async || database.running("endless").await > 0).await;
    serving.terminate().await;
    let error = wait::within("it is cut", DEADLINE, simple).await.unwrap().unwrap_err();
    assert_eq!(sqlstate(&error), "57P01", "{error}");
    wait::until("the source hears", SECOND, async || database.running("endless").await == 0).await;
    serving.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_runs_nothing_stops_at_once() {
    let services = lite();
    let serving = Serving::start(&services).await;
    let client = postgres(serving.postgres).await.unwrap();
    client.simple_query("SELECT id FROM lite.t").await.unwrap();
    drop(client);
    let start = Instant::now();
    serving.terminate().await;
    serving.ended().await;
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

/// Whether the statement waits for room at the client that reads it.
async fn is_held_back(database: &PostgresDatabase) -> bool {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%flood%' \
                 AND pid <> pg_backend_pid() AND wait_event = 'ClientWrite'";
    database.client().await.query_one(query, &[]).await.unwrap().get::<_, i64>(0) > 0
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_does_not_read_holds_its_source_back_and_is_noticed_when_it_leaves() {
    let (database, services) = slow().await;
    let doors = Doors::open(services.engine().await, Security::default()).await;
    let mut client = connect(&doors.flight).await;
    let info = client.execute("SELECT id FROM pg.flood".to_owned(), None).await.unwrap();
    let stream = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    wait::until("the source is held back", DEADLINE, async || is_held_back(&database).await).await;
    drop((stream, client));
    wait::until("the source hears", SECOND, async || database.running("flood").await == 0).await;
    for leaves in ["with rows unread", "half closed"] {
        let mut raw = TcpStream::connect(doors.postgres).await.unwrap();
        let startup = b"\0\0\0\x25\0\x03\0\0user\0eve\0database\0headwater\0\0";
        raw.write_all(&[startup.as_slice(), b"Q\0\0\0\x1cSELECT id FROM pg.flood\0"].concat()).await.unwrap();
        wait::until("the source is held back", DEADLINE, async || is_held_back(&database).await).await;
        match leaves {
            "half closed" => {
                // One that has said that nothing more comes, and reads on.
                raw.shutdown().await.unwrap();
                let mut rest = Vec::new();
                let _reset = wait::within("it ends", DEADLINE, raw.read_to_end(&mut rest)).await;
            }
            _ => drop(raw),
        }
        let what = format!("the source hears of a client that left {leaves}");
        wait::until(&what, SECOND, async || database.running("flood").await == 0).await;
    }
    doors.close().await;
}

/// Connections that say too little are closed: how long each took.
async fn closed(address: SocketAddr, said: &'static [u8]) -> Duration {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(said).await.unwrap();
    let start = Instant::now();
    let mut answer = Vec::new();
    let _reset = wait::within("it is closed", DEADLINE, stream.read_to_end(&mut answer)).await;
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_says_a_byte_and_no_more_is_let_go_at_every_port() {
    let (services, authority) = (lite(), Certificates::new());
    let plain = Doors::open(services.engine().await, Security::default()).await;
    let security = Security { tls: Some(tls(&authority.server("server"), None)), ..Security::default() };
    let secured = Doors::open(services.engine().await, security).await;
    let said: [(SocketAddr, &'static [u8], u64); 8] = [
        (plain.flight, b"", 10),
        (plain.flight, b"PRI * HTTP/2.0\r\n", 10),
        (plain.postgres, b"", 20),
        (plain.postgres, b"\0\0\0\x25\0\x03", 20),
        (plain.http, b"GET /healthz HT", 10),
        // The first bytes of a handshake.
        (secured.flight, b"\x16\x03\x01", 10),
        (secured.postgres, b"\0\0\0\x08\x04\xd2\x16\x2f\x16", 20),
        (secured.http, b"\x16", 10),
    ];
    let took = futures::future::join_all(said.map(|(address, bytes, _)| closed(address, bytes))).await;
    for ((_, bytes, seconds), took) in said.into_iter().zip(took) {
        assert!(took < Duration::from_secs(seconds + 3), "{took:?} after {}", String::from_utf8_lossy(bytes));
    }
    // A client that has begun may be silent.
    let quiet = channel(plain.flight).await;
    asked(&quiet).await.unwrap();
    plain.close().await;
    secured.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn message_beyond_the_limit_is_refused_by_name_and_others_go_on() {
    let services = lite();
    let limits = flight::Limits { message_bytes: 100_000, ..flight::Limits::default() };
    let pg_limits = pg::Limits { message_bytes: 100_000, ..pg::Limits::default() };
    let doors = Doors::open_with(services.engine().await, Security::default(), limits, pg_limits).await;
    let long = |bytes: usize| format!("SELECT id FROM lite.t -- {}", "x".repeat(bytes));
    let mut client = connect(&doors.flight).await;
    client.execute(long(90_000), None).await.unwrap();
    let refused = client.execute(long(100_000), None).await.unwrap_err().to_string();
    assert!(refused.contains("message length too large") && refused.contains("100000"), "{refused}");
    client.execute(long(10), None).await.unwrap();
    let other = postgres(doors.postgres).await.unwrap();
    let client = postgres(doors.postgres).await.unwrap();
    client.simple_query(&long(90_000)).await.unwrap();
    let refused = client.simple_query(&long(100_000)).await.unwrap_err();
    assert_eq!(sqlstate(&refused), "08P01", "{refused}");
    assert!(refused.to_string().contains("db error"), "{refused}");
    other.simple_query(&long(10)).await.unwrap();
    doors.close().await;
}
