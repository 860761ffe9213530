//! Large answers as several endpoints over one execution: read at once, one after another, in part, and left.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow_flight::error::FlightError;
use arrow_flight::{CancelFlightInfoRequest, CancelStatus, FlightClient, FlightInfo};
use futures::{StreamExt, TryStreamExt};
use headwater::{Engine, Limits as EngineLimits};
use headwater_server::flight::{Limits, serve_with};
use headwater_sql_tests::wait;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::Endpoint;

use crate::arrow_client::connect;
use crate::doors::python;
use crate::everywhere;

const DEADLINE: Duration = Duration::from_secs(30);

/// 100,000 rows of one service beside seven of another.
const LARGE: &str = "SELECT id FROM pg.many UNION ALL SELECT id + 1000000 FROM lite.t";

/// Hours of one service beside seven rows of another.
const ENDLESS: &str = "SELECT id FROM pg.endless UNION ALL SELECT id FROM lite.t";

/// A server to which whatever is in no order is large.
struct Door {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), headwater_server::flight::ServeError>>,
}

impl Door {
    async fn open(engine: Engine, limits: Limits) -> Self {
        headwater_sql_tests::logs::begin();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            stopped.await.ok();
        };
        Self { address, stop, serving: tokio::spawn(serve_with(engine, listener, stopped, limits)) }
    }

    async fn client(&self) -> FlightClient {
        FlightClient::new(Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap())
    }

    async fn ask(&self, query: &str) -> FlightInfo {
        connect(&self.address).await.execute(query.to_owned(), None).await.unwrap()
    }

    /// The numbers of an endpoint.
    async fn read(&self, info: &FlightInfo, endpoint: usize) -> Result<Vec<i64>, FlightError> {
        let ticket = info.endpoint[endpoint].ticket.clone().unwrap();
        let batches: Vec<_> = self.client().await.do_get(ticket).await?.try_collect().await?;
        let numbers = batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
        Ok(numbers.collect())
    }

    async fn close(self) {
        drop(self.stop);
        wait::within("the server stops", DEADLINE, self.serving).await.unwrap().unwrap();
    }
}

fn eager() -> Limits {
    Limits { spread_rows: 1, ..Limits::default() }
}

fn code(error: &FlightError) -> Code {
    match error {
        FlightError::Tonic(status) => status.code(),
        other => panic!("{other}"),
    }
}

fn expected() -> Vec<i64> {
    (1..=100_000).chain(1_000_000..1_000_007).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answer_in_no_order_has_endpoints_that_share_its_rows() {
    let everywhere = everywhere().await;
    let door = Door::open(everywhere.engine.clone(), Limits { spread_rows: 1_000, ..Limits::default() }).await;
    for at_once in [true, false] {
        let info = door.ask(LARGE).await;
        assert!(info.endpoint.len() > 1 && !info.ordered, "{info:?}");
        let tickets: BTreeSet<_> = info.endpoint.iter().map(|e| e.ticket.clone().unwrap().ticket).collect();
        assert_eq!(tickets.len(), info.endpoint.len());
        let mut found = match at_once {
            true => {
                let reading = (0..info.endpoint.len()).map(|endpoint| door.read(&info, endpoint));
                futures::future::try_join_all(reading).await.unwrap().concat()
            }
            false => {
                let mut found = Vec::new();
                for endpoint in 0..info.endpoint.len() {
                    found.extend(wait::within("it is read", DEADLINE, door.read(&info, endpoint)).await.unwrap());
                }
                found
            }
        };
        found.sort_unstable();
        assert_eq!(found, expected());
        let again = door.read(&info, 0).await.unwrap_err();
        assert_eq!(code(&again), Code::NotFound, "a ticket is fetched once");
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_that_is_small_or_in_an_order_has_one_endpoint() {
    let everywhere = everywhere().await;
    let door = Door::open(everywhere.engine.clone(), eager()).await;
    for query in [
        "SELECT id FROM pg.many WHERE id = 7".to_owned(),
        "SELECT count(*) FROM pg.many".to_owned(),
        format!("{LARGE} ORDER BY id"),
        format!("SELECT * FROM ({LARGE}) ORDER BY 1 LIMIT 10"),
        format!("SELECT * FROM ({LARGE}) LIMIT 10"),
        "SUBSCRIBE TO v.none WITH SNAPSHOT".to_owned(),
    ] {
        if query.starts_with("SUBSCRIBE") {
            everywhere.engine.sql("CREATE MATERIALIZED VIEW v.none AS SELECT id FROM lite.t").await.unwrap();
        }
        let info = door.ask(&query).await;
        assert!(info.endpoint.len() == 1 && info.ordered, "{query}: {info:?}");
    }
    door.close().await;
    // What is estimated to be small by the measure that holds where nothing is said.
    let door = Door::open(everywhere.engine.clone(), Limits::default()).await;
    assert_eq!(door.ask(LARGE).await.endpoint.len(), 1);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_that_is_read_alone_has_every_row_and_lets_the_query_go() {
    let everywhere = everywhere().await;
    let door = Door::open(everywhere.engine.clone(), eager()).await;
    let info = door.ask(LARGE).await;
    let last = info.endpoint.len() - 1;
    let mut found = wait::within("it is read", DEADLINE, door.read(&info, last)).await.unwrap();
    found.sort_unstable();
    assert_eq!(found, expected());
    let metrics = everywhere.engine.metrics().await;
    assert_eq!((metrics.queries_running, metrics.queries.get("complete")), (0, Some(&1)), "it is one query, and over");
    assert_eq!(door.read(&info, 0).await.unwrap(), Vec::<i64>::new(), "nothing is left for the others");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_one_query_with_one_turn_and_one_deadline() {
    let everywhere = everywhere().await;
    everywhere.postgres.execute("CREATE VIEW endless AS SELECT a.id FROM many a, many b WHERE a.id + b.id < 0").await;
    let limits =
        EngineLimits { queries_max: 1, query_deadline: Some(Duration::from_millis(1500)), ..EngineLimits::default() };
    let connectors = headwater_connectors::all();
    let builder = Engine::builder().services_dir(everywhere.services.manifests()).connectors(connectors).limits(limits);
    let engine = builder.build().await.unwrap();
    let door = Door::open(engine, eager()).await;
    let info = door.ask(LARGE).await;
    let reading = (0..info.endpoint.len()).map(|endpoint| door.read(&info, endpoint));
    let rows = wait::within("it is read", DEADLINE, futures::future::try_join_all(reading)).await.unwrap();
    assert_eq!(rows.concat().len(), expected().len());
    let info = door.ask(ENDLESS).await;
    let (one, other) = tokio::join!(door.read(&info, 0), door.read(&info, 1));
    for error in [one.unwrap_err(), other.unwrap_err()] {
        assert_eq!(code(&error), Code::DeadlineExceeded, "{error}");
    }
    wait::until("the source hears", Duration::from_secs(1), async || everywhere.postgres.running("endless").await == 0)
        .await;
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_info_ends_all_of_its_endpoints() {
    let everywhere = everywhere().await;
    everywhere.postgres.execute("CREATE VIEW endless AS SELECT a.id FROM many a, many b WHERE a.id + b.id < 0").await;
    let door = Door::open(everywhere.engine.clone(), eager()).await;
    for alone in [false, true] {
        let info = door.ask(ENDLESS).await;
        assert_eq!(everywhere.postgres.running("endless").await, 0, "nothing runs before it is fetched");
        let cancel = async {
            wait::until("it runs", DEADLINE, async || everywhere.postgres.running("endless").await > 0).await;
            // By a ticket that nobody has fetched, or by all.
            let mut named = info.clone();
            if alone {
                named.endpoint.drain(..1);
            }
            door.client().await.cancel_flight_info(CancelFlightInfoRequest::new(named)).await.unwrap().status
        };
        let (read, cancelled) = tokio::join!(door.read(&info, 0), cancel);
        assert_eq!(cancelled, CancelStatus::Cancelled as i32);
        assert_eq!(code(&read.unwrap_err()), Code::Cancelled);
        let gone = Duration::from_secs(1);
        wait::until("the source hears", gone, async || everywhere.postgres.running("endless").await == 0).await;
        assert_eq!(code(&door.read(&info, 1).await.unwrap_err()), Code::NotFound);
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_leaves_ends_the_query_and_its_other_endpoints() {
    let everywhere = everywhere().await;
    everywhere.postgres.execute("CREATE VIEW endless AS SELECT a.id FROM many a, many b WHERE a.id + b.id < 0").await;
    let door = Door::open(everywhere.engine.clone(), eager()).await;
    let info = door.ask(ENDLESS).await;
    let mut client = door.client().await;
    let mut reading = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    // The few rows of the other service come at once.
    assert!(wait::within("rows come", DEADLINE, reading.next()).await.unwrap().is_ok());
    wait::until("it runs", DEADLINE, async || everywhere.postgres.running("endless").await > 0).await;
    drop((reading, client));
    wait::until("the source hears", Duration::from_secs(1), async || everywhere.postgres.running("endless").await == 0)
        .await;
    let error = door.read(&info, 1).await.unwrap_err();
    assert!(code(&error) == Code::Cancelled && error.to_string().contains("its client left"), "{error}");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_nobody_fetches_in_time_are_gone() {
    let everywhere = everywhere().await;
    let limits = Limits { ticket_life: Duration::from_millis(1), ..eager() };
    let door = Door::open(everywhere.engine.clone(), limits).await;
    let info = door.ask(LARGE).await;
    for endpoint in 0..info.endpoint.len() {
        assert_eq!(code(&door.read(&info, endpoint).await.unwrap_err()), Code::NotFound);
    }
    let full = Door::open(everywhere.engine.clone(), Limits { tickets: 1, ..eager() }).await;
    let refused = connect(&full.address).await.execute(LARGE.to_owned(), None).await.unwrap_err();
    assert!(refused.to_string().contains("1 tickets"), "{refused}");
    let small = full.ask("SELECT id FROM pg.many WHERE id = 7").await;
    assert_eq!(full.read(&small, 0).await.unwrap(), [7], "the tickets of what was refused are not kept");
    door.close().await;
    full.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_are_not_ours_read_several_endpoints() {
    let everywhere = everywhere().await;
    let door = Door::open(everywhere.engine.clone(), eager()).await;
    let (is_content, text) = python("endpoints_client.py", &[&door.address.to_string()], &[]).await;
    assert!(is_content && text.contains("every check passed"), "{text}");
    let target = format!("grpc://{}", door.address);
    let arguments = ["sql", "--connect", &target, "--format", "csv", LARGE];
    let (is_content, text) = crate::doors::run(&headwater_sql_tests::process::headwater(), &arguments, &[]).await;
    assert!(is_content && text.lines().filter(|line| line.parse::<i64>().is_ok()).count() == 100_007, "{text}");
    door.close().await;
}
