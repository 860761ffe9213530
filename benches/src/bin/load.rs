//! Two hundred clients at a running `headwater serve`: half over Flight SQL, half over the Postgres protocol, point lookups among scans.
//!
//! `./test --servers-only cargo run --release -p headwater-benches --bin load`
//!
//! The server is a process of its own, with the memory that `POOL_BYTES` says. 1,000,000 orders are in Postgres and in a Parquet file, 200,000 customers in SQLite. A client asks,
//! reads the whole answer, pauses for a second, give or take half, and asks again, for a minute. Nine of ten questions look one row up by its key, in Postgres or in SQLite by
//! turns; the tenth is a scan: 20,000 rows of Postgres sent to the client, or a million rows of Parquet grouped. A lookup is text over Flight and a prepared statement over the
//! Postgres protocol, as their drivers send it. What a lookup takes is from its question to its last row.
//!
//! Each client has a thread of its own, so that what one makes of its rows holds no other up but by the time of the cores, as another program would.
//! *Unloaded* is the same lookup by one client, the only one there is, a thousand times at each door and source with 1 ms between.
//! `HEADWATER_LOAD_PAUSE_MS` is another pause, `HEADWATER_LOAD_SECONDS` another time, `HEADWATER_LOAD_CLIENTS` other clients.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use arrow_flight::sql::client::FlightSqlServiceClient;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use headwater::Engine;
use headwater_benches::{percentile, resident_max_bytes};
use headwater_sql_tests::dice::Dice;
use headwater_sql_tests::postgres::PostgresDatabase;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_postgres::{NoTls, Statement};
use tonic::transport::{Channel, Endpoint};

const ORDERS: u64 = 1_000_000;
const CUSTOMERS: u64 = 200_000;
/// The rows of a scan that sends them.
const SENT: u64 = 20_000;
const POOL_BYTES: u64 = 512 << 20;
const UNLOADED: usize = 1_000;
/// One question of so many is a scan.
const SCANNED: u64 = 10;

/// The allocator of the server, which this program is when it is started so.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Question {
    OrderById,
    CustomerById,
    OrdersSent,
    OrdersGrouped,
}

/// A client at a door.
enum Client {
    Flight(Box<FlightSqlServiceClient<Channel>>),
    Postgres { client: tokio_postgres::Client, order: Statement, customer: Statement },
}

/// How long each question took, by door and question; and what failed.
#[derive(Debug, Default)]
struct Told {
    took: BTreeMap<(&'static str, Question), Vec<Duration>>,
    errors: Vec<String>,
}

/// The server.
struct Serving {
    child: Child,
    flight: SocketAddr,
    postgres: SocketAddr,
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return headwater_server::cli::main();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (database, serving) = runtime.block_on(async {
        let database = fill(directory.path()).await;
        (database, Serving::start(directory.path()).await)
    });
    measure(&serving);
    // Both say goodbye to what runs.
    let _entered = runtime.enter();
    drop((serving, database));
    ExitCode::SUCCESS
}

fn measure(serving: &Serving) {
    let unloaded = serving.unloaded();
    let clients = setting("HEADWATER_LOAD_CLIENTS", 200);
    let pause = Duration::from_millis(setting("HEADWATER_LOAD_PAUSE_MS", 1_000));
    let time = Duration::from_secs(setting("HEADWATER_LOAD_SECONDS", 60));
    let loaded = serving.loaded(clients, pause, time);
    let resident = serving.resident_max_bytes();
    println!("| lookup | unloaded p50, ms | p99, ms | loaded p50, ms | p99, ms | loaded p99 / unloaded p99 | asked |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (key, alone) in &unloaded.took {
        let among = loaded.took.get(key).cloned().unwrap_or_default();
        let ms = |times: &[Duration], share| percentile(times, share).as_secs_f64() * 1e3;
        let ratio = ms(&among, 0.99) / ms(alone, 0.99);
        println!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {ratio:.1} | {} |",
            named(*key),
            ms(alone, 0.5),
            ms(alone, 0.99),
            ms(&among, 0.5),
            ms(&among, 0.99),
            among.len()
        );
    }
    let asked: usize = loaded.took.values().map(Vec::len).sum();
    let scans: Vec<Duration> = loaded
        .took
        .iter()
        .filter(|((_, question), _)| !question.is_lookup())
        .flat_map(|(_, times)| times.clone())
        .collect();
    println!();
    println!(
        "| clients | seconds | questions | scans | scan p50, ms | scan p99, ms | errors | resident max, MiB | pool, MiB | resident / pool |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    println!(
        "| {clients} | {} | {asked} | {} | {:.0} | {:.0} | {} | {} | {} | {:.2} |",
        time.as_secs(),
        scans.len(),
        percentile(&scans, 0.5).as_secs_f64() * 1e3,
        percentile(&scans, 0.99).as_secs_f64() * 1e3,
        loaded.errors.len(),
        resident >> 20,
        POOL_BYTES >> 20,
        resident as f64 / POOL_BYTES as f64
    );
    for error in loaded.errors.iter().take(5) {
        eprintln!("error: {error}");
    }
}

fn named((door, question): (&str, Question)) -> String {
    let source = if question == Question::OrderById { "Postgres" } else { "SQLite" };
    format!("{door}, row of {source}")
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

impl Told {
    fn of(all: impl IntoIterator<Item = Self>) -> Self {
        let mut whole = Self::default();
        for told in all {
            whole.errors.extend(told.errors);
            for (key, times) in told.took {
                whole.took.entry(key).or_default().extend(times);
            }
        }
        whole
    }
}

impl Question {
    fn is_lookup(self) -> bool {
        matches!(self, Self::OrderById | Self::CustomerById)
    }

    fn next(dice: &mut Dice, turn: u64) -> Self {
        match (dice.below(SCANNED as usize), turn % 2) {
            (0, 0) => Self::OrdersSent,
            (0, _) => Self::OrdersGrouped,
            (_, 0) => Self::OrderById,
            (_, _) => Self::CustomerById,
        }
    }

    fn sql(self, id: u64) -> String {
        match self {
            Self::OrderById => format!("SELECT * FROM shop.orders WHERE id = {id}"),
            Self::CustomerById => format!("SELECT * FROM people.customers WHERE id = {id}"),
            Self::OrdersSent => format!("SELECT * FROM shop.orders WHERE id BETWEEN {id} AND {}", id + SENT - 1),
            Self::OrdersGrouped => {
                "SELECT customer, count(*), sum(amount) FROM files.orders GROUP BY customer".to_owned()
            }
        }
    }

    /// A key, such that the answer is as large as it is to be; and how many rows that is.
    fn key(self, dice: &mut Dice) -> (u64, u64) {
        let below = |dice: &mut Dice, most: u64| dice.below(most as usize) as u64 + 1;
        match self {
            Self::OrderById => (below(dice, ORDERS), 1),
            Self::CustomerById => (below(dice, CUSTOMERS), 1),
            Self::OrdersSent => (below(dice, ORDERS - SENT), SENT),
            Self::OrdersGrouped => (0, 1_000),
        }
    }
}

impl Client {
    fn door(&self) -> &'static str {
        match self {
            Self::Flight(_) => "Flight",
            Self::Postgres { .. } => "Postgres protocol",
        }
    }

    /// Asks, and reads all of the answer: how many rows it has.
    async fn ask(&mut self, question: Question, id: u64) -> Result<u64, String> {
        match self {
            Self::Flight(client) => {
                let failed = |error: arrow_flight::error::FlightError| error.to_string();
                let info = client.execute(question.sql(id), None).await.map_err(failed)?;
                let mut rows = 0;
                for endpoint in info.endpoint {
                    let ticket = endpoint.ticket.ok_or("an endpoint without a ticket")?;
                    let mut batches = client.do_get(ticket).await.map_err(failed)?;
                    while let Some(batch) = batches.try_next().await.map_err(failed)? {
                        rows += batch.num_rows() as u64;
                    }
                }
                Ok(rows)
            }
            Self::Postgres { client, order, customer } => {
                let failed = |error: tokio_postgres::Error| format!("{error:?}");
                let id = id as i64;
                let rows = match question {
                    Question::OrderById => client.query_raw(order, [id]).await,
                    Question::CustomerById => client.query_raw(customer, [id]).await,
                    scan => client.query_raw::<_, i64, _>(&scan.sql(id as u64), []).await,
                };
                let mut rows = std::pin::pin!(rows.map_err(failed)?);
                let mut count = 0;
                while rows.try_next().await.map_err(failed)?.is_some() {
                    count += 1;
                }
                Ok(count)
            }
        }
    }

    async fn told(&mut self, question: Question, dice: &mut Dice, told: &mut Told) {
        let (id, expected) = question.key(dice);
        let started = Instant::now();
        match self.ask(question, id).await {
            Ok(rows) if rows == expected => {
                told.took.entry((self.door(), question)).or_default().push(started.elapsed())
            }
            Ok(rows) => told.errors.push(format!("{question:?} of {id} has {rows} rows and not {expected}")),
            Err(error) => told.errors.push(error),
        }
    }
}

impl Serving {
    async fn start(directory: &Path) -> Self {
        let config = directory.join("headwater.yaml");
        std::fs::write(&config, format!("limits:\n  memory_bytes: {POOL_BYTES}\n")).expect("a file is written");
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["serve", "--flight-addr", "127.0.0.1:0", "--pg-addr", "127.0.0.1:0", "--services"])
            .arg(directory.join("services"))
            .arg("--config")
            .arg(&config)
            .env("HEADWATER_LOG", "info")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let (mut flight, mut postgres) = (None, None);
        while flight.is_none() || postgres.is_none() {
            let line = lines.next_line().await.expect("its log is text").expect("it goes on until it listens");
            let address = |scheme: &str| {
                let rest = line.split_once(&format!("listening on {scheme}://"))?.1;
                rest.split_whitespace().next()?.parse::<SocketAddr>().ok()
            };
            flight = flight.or(address("grpc"));
            postgres = postgres.or(address("postgres"));
        }
        // A pipe that nobody reads would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let (flight, postgres) = (flight.expect("it is there"), postgres.expect("it is there"));
        Self { child, flight, postgres }
    }

    async fn client(&self, number: u64) -> Client {
        if number.is_multiple_of(2) {
            let endpoint = Endpoint::from_shared(format!("http://{}", self.flight)).expect("an address");
            let channel = endpoint.tcp_nodelay(true).connect().await.expect("it listens");
            return Client::Flight(Box::new(FlightSqlServiceClient::new(channel)));
        }
        let url = format!("postgres://bench@{}/headwater", self.postgres);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("it listens");
        tokio::spawn(connection);
        let order = client.prepare("SELECT * FROM shop.orders WHERE id = $1").await.expect("it is prepared");
        let customer = client.prepare("SELECT * FROM people.customers WHERE id = $1").await.expect("it is prepared");
        Client::Postgres { client, order, customer }
    }

    fn unloaded(&self) -> Told {
        let asking = [0, 1].map(|number| {
            // One after the other: each is alone.
            alone(async {
                let (mut client, mut told) = (self.client(number).await, Told::default());
                let mut dice = Dice::new(number);
                for question in [Question::OrderById, Question::CustomerById] {
                    // The first connect, and describe the tables.
                    let mut first = Told::default();
                    for _ in 0..UNLOADED / 10 {
                        client.told(question, &mut dice, &mut first).await;
                    }
                    for _ in 0..UNLOADED {
                        client.told(question, &mut dice, &mut told).await;
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
                told
            })
        });
        let told = Told::of(asking);
        assert!(told.errors.is_empty(), "{:?}", told.errors);
        told
    }

    fn loaded(&self, clients: u64, pause: Duration, time: Duration) -> Told {
        let begun = Barrier::new(clients as usize);
        let asking = |number: u64| {
            alone(async {
                let (mut client, mut told) = (self.client(number).await, Told::default());
                let mut dice = Dice::new(1_000 + number);
                begun.wait();
                let started = Instant::now();
                let some = |dice: &mut Dice, most: Duration| {
                    Duration::from_micros(dice.below(most.as_micros() as usize + 1) as u64)
                };
                tokio::time::sleep(some(&mut dice, pause)).await;
                for turn in number / 2.. {
                    if started.elapsed() >= time {
                        break;
                    }
                    let question = Question::next(&mut dice, turn);
                    client.told(question, &mut dice, &mut told).await;
                    tokio::time::sleep(pause / 2 + some(&mut dice, pause)).await;
                }
                told
            })
        };
        std::thread::scope(|scope| {
            let asking = &asking;
            let clients: Vec<_> = (0..clients).map(|number| scope.spawn(move || asking(number))).collect();
            Told::of(clients.into_iter().map(|client| client.join().expect("a client goes on")))
        })
    }

    /// The most that was resident since the server started, as Linux tells it.
    fn resident_max_bytes(&self) -> u64 {
        resident_max_bytes(self.child.id().expect("it runs"))
    }
}

/// Runs a client on this thread, and nothing else.
fn alone<T>(client: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(client)
}

/// The stores and their manifests.
async fn fill(directory: &Path) -> PostgresDatabase {
    let database = PostgresDatabase::with(&format!(
        "CREATE TABLE orders AS SELECT n AS id, n % 1000 AS customer, (n * 0.37)::float8 AS amount, 'order ' || n AS note, \
         timestamp '2024-01-01' + n * interval '1 second' AS placed_at FROM generate_series(1, {ORDERS}::bigint) n; \
         ALTER TABLE orders ADD PRIMARY KEY (id); ANALYZE orders"
    ))
    .await;
    let sqlite = rusqlite::Connection::open(directory.join("people.db")).expect("a file is made");
    let customers = format!(
        "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, country TEXT NOT NULL);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {CUSTOMERS})
         INSERT INTO customers SELECT i, 'customer ' || i, 'country ' || i % 40 FROM n"
    );
    sqlite.execute_batch(&customers).expect("rows are inserted");
    let (services, folder) = (directory.join("services"), directory.join("files"));
    std::fs::create_dir(&services).expect("a directory is made");
    std::fs::create_dir(&folder).expect("a directory is made");
    let url = database.url();
    manifest(&services, "shop", &format!("connector: postgres, url: \"{url}\""), "orders: {from: orders}");
    manifest(&services, "people", "connector: sqlite, path: ../people.db", "customers: {from: customers}");
    let builder = Engine::builder().services_dir(&services).connectors(headwater_connectors::all());
    let engine = builder.build().await.expect("the engine opens");
    let rows =
        engine.sql("SELECT * FROM shop.orders").await.expect("it is planned").collect().await.expect("it is read");
    let frame = SessionContext::new().read_batches(rows).expect("batches of one schema");
    let (file, options) = (folder.join("orders.parquet"), DataFrameWriteOptions::new().with_single_file_output(true));
    frame.write_parquet(&file.to_string_lossy(), options, None).await.expect("Parquet is written");
    manifest(&services, "files", "connector: files, url: ../files/", "orders: {from: orders.parquet}");
    database
}

fn manifest(services: &Path, service: &str, source: &str, publishes: &str) {
    let text = format!("service: {service}\nsource: {{{source}}}\npublishes: {{{publishes}}}\n");
    std::fs::write(services.join(format!("{service}.yaml")), text).expect("a manifest is written");
}
