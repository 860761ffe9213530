//! Cancelling, polling and the options of sessions over Flight SQL, and what the server says of itself beside what it does.

use std::time::Duration;

use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{ActionCancelQueryRequest, ActionCancelQueryResult, CommandStatementQuery, ProstMessageExt};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelStatus, FlightClient, FlightDescriptor, FlightInfo, PollInfo,
};
use futures::TryStreamExt;
use headwater_server::flight::{Limits, serve_with};
use headwater_sql_tests::everywhere::Everywhere;
use headwater_sql_tests::wait;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::arrow_client::{ask, connect};
use crate::{Server, everywhere};

const DEADLINE: Duration = Duration::from_secs(30);

/// A view that takes hours and has no row until then.
async fn with_endless() -> Everywhere {
    let everywhere = everywhere().await;
    let view = "CREATE VIEW endless AS SELECT a.id FROM many a, many b WHERE a.id + b.id < 0";
    everywhere.postgres.execute(view).await;
    everywhere
}

async fn flight(address: &std::net::SocketAddr) -> FlightClient {
    FlightClient::new(Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap())
}

fn described(query: &str) -> FlightDescriptor {
    let command = CommandStatementQuery { query: query.to_owned(), transaction_id: None };
    FlightDescriptor::new_cmd(command.as_any().encode_to_vec())
}

/// Starts reading a statement; the task ends with the code of its error.
async fn reading(
    mut client: FlightSqlServiceClient<Channel>,
    info: &FlightInfo,
) -> tokio::task::JoinHandle<Option<String>> {
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    tokio::spawn(async move {
        let read = async { client.do_get(ticket).await?.try_collect::<Vec<_>>().await };
        read.await.err().map(|error| error.to_string())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_that_runs_or_waits_is_cancelled_by_its_info() {
    let everywhere = with_endless().await;
    let server = Server::over(everywhere.engine.clone()).await;
    let mut client = connect(&server.address).await;
    let mut actions = flight(&server.address).await;
    let runs = async |is_there: bool| (everywhere.postgres.running("endless").await > 0) == is_there;
    for with in ["CancelFlightInfo", "CancelQuery"] {
        let info = client.execute("SELECT count(*) FROM pg.endless".to_owned(), None).await.unwrap();
        let running = reading(client.clone(), &info).await;
        wait::until("the statement runs", DEADLINE, async || runs(true).await).await;
        let cancelled = match with {
            "CancelFlightInfo" => {
                actions.cancel_flight_info(CancelFlightInfoRequest::new(info.clone())).await.unwrap().status
            }
            _ => {
                let request = ActionCancelQueryRequest { info: info.encode_to_vec().into() };
                let action = Action { r#type: with.to_owned(), body: request.as_any().encode_to_vec().into() };
                let results: Vec<_> = actions.do_action(action).await.unwrap().try_collect().await.unwrap();
                let any = arrow_flight::sql::Any::decode(&*results[0]).unwrap();
                any.unpack::<ActionCancelQueryResult>().unwrap().unwrap().result
            }
        };
        assert_eq!(cancelled, CancelStatus::Cancelled as i32, "{with}");
        let error = wait::within("the client hears", Duration::from_secs(1), running).await.unwrap().unwrap();
        assert!(error.contains("cancelled"), "{error}");
        wait::until("the source hears", Duration::from_secs(1), async || runs(false).await).await;
        let again = actions.cancel_flight_info(CancelFlightInfoRequest::new(info)).await.unwrap();
        assert_eq!(again.status, CancelStatus::NotCancellable as i32, "what has ended can't be cancelled");
    }
    let info = client.execute("SELECT count(*) FROM pg.many".to_owned(), None).await.unwrap();
    let waiting = actions.cancel_flight_info(CancelFlightInfoRequest::new(info.clone())).await.unwrap();
    assert_eq!(waiting.status, CancelStatus::Cancelled as i32);
    let error = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.err().unwrap().to_string();
    assert!(error.contains("no such ticket"), "{error}");
    server.stop().await;
}

/// Polls to the end, and fetches every endpoint; the column of numbers and how many polls and endpoints there were.
async fn polled(address: &std::net::SocketAddr, query: &str) -> (Vec<i64>, usize, usize) {
    let mut client = flight(address).await;
    let (mut descriptor, mut polls, mut fetched, mut numbers) = (described(query), 0, 0, Vec::new());
    loop {
        let PollInfo { info, flight_descriptor, progress, expiration_time } =
            wait::within("a poll ends", DEADLINE, client.poll_flight_info(descriptor)).await.unwrap();
        let info = info.unwrap();
        polls += 1;
        assert!(info.ordered, "the order is kept");
        for endpoint in &info.endpoint[fetched..] {
            let batches: Vec<_> =
                client.do_get(endpoint.ticket.clone().unwrap()).await.unwrap().try_collect().await.unwrap();
            for batch in batches {
                use arrow::array::AsArray;
                numbers.extend(batch.column(0).as_primitive::<arrow::datatypes::Int64Type>().values());
            }
        }
        fetched = info.endpoint.len();
        match flight_descriptor {
            Some(next) => {
                assert!(expiration_time.is_some() && progress.is_none());
                descriptor = next;
            }
            None => {
                assert_eq!(progress, Some(1.0));
                return (numbers, polls, fetched);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn polled_statement_comes_as_several_endpoints_in_order() {
    let everywhere = everywhere().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    // Less is held than there is, so that the statement waits for its client.
    let limits = Limits { endpoint_rows: 10_000, polled_bytes: 200_000, ..Limits::default() };
    let stopped = async {
        stopped.await.ok();
    };
    let serving = tokio::spawn(serve_with(everywhere.engine.clone(), listener, stopped, limits));
    let (numbers, polls, endpoints) = polled(&address, "SELECT id FROM pg.many ORDER BY id").await;
    assert_eq!(numbers, (1..=100_000).collect::<Vec<i64>>());
    assert!(polls > 1 && endpoints == 10, "{polls} polls, {endpoints} endpoints");
    let (numbers, _, endpoints) = polled(&address, "SELECT id FROM pg.many WHERE id < 0").await;
    assert_eq!((numbers.len(), endpoints), (0, 1));
    drop(stop);
    wait::within("the server stops", DEADLINE, serving).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn polled_statement_is_cancelled_and_its_error_is_told() {
    let everywhere = with_endless().await;
    let server = Server::over(everywhere.engine.clone()).await;
    let mut client = flight(&server.address).await;
    let poll = client.poll_flight_info(described("SELECT count(*) FROM pg.endless")).await.unwrap();
    let next = poll.flight_descriptor.expect("it takes hours");
    assert!(everywhere.postgres.running("endless").await > 0);
    let request = CancelFlightInfoRequest::new(poll.info.unwrap());
    assert_eq!(client.cancel_flight_info(request).await.unwrap().status, CancelStatus::Cancelled as i32);
    wait::until("the source hears", Duration::from_secs(1), async || everywhere.postgres.running("endless").await == 0)
        .await;
    let error = client.poll_flight_info(next).await.unwrap_err().to_string();
    assert!(error.contains("no such statement"), "{error}");
    let error = client.poll_flight_info(described("SELECT 1 / (id - id) FROM my.t")).await.unwrap_err().to_string();
    assert!(error.contains("ivide by zero"), "{error}");
    let error = client.poll_flight_info(described("SELECT nothing FROM my.t")).await.unwrap_err().to_string();
    assert!(error.contains("nothing"), "{error}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_is_told_without_running_anything() {
    let everywhere = with_endless().await;
    let server = Server::over(everywhere.engine.clone()).await;
    let mut client = flight(&server.address).await;
    let schema = client.get_schema(described("SELECT id AS n, 'x' AS s FROM pg.endless")).await.unwrap();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["n", "s"]);
    assert_eq!(everywhere.postgres.running("endless").await, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_refused_in_a_sentence() {
    let everywhere = everywhere().await;
    let server = Server::over(everywhere.engine.clone()).await;
    let mut client = connect(&server.address).await;
    let error = client.begin_transaction().await.unwrap_err().to_string();
    assert!(error.contains("transactions are not supported; each statement stands alone"), "{error}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_says_of_itself_is_what_it_does() {
    let everywhere = everywhere().await;
    let server = Server::over(everywhere.engine.clone()).await;
    let mut client = connect(&server.address).await;
    let info = client.get_sql_info(vec![]).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let told: Vec<_> = client.do_get(ticket).await.unwrap().try_collect().await.unwrap();
    let codes: usize = told.iter().map(|batch: &arrow::array::RecordBatch| batch.num_rows()).sum();
    assert_eq!(codes, 91, "FlightSql.proto has so many codes");
    // What it claims of SQL, as statements.
    for query in [
        "SELECT 1 AS x",
        "SELECT id FROM pg.t ORDER BY id + 1",
        "SELECT id FROM pg.t ORDER BY s",
        "SELECT count(*) FROM pg.t GROUP BY s",
        "SELECT a.id FROM pg.t a FULL OUTER JOIN lite.t b ON a.id = b.id",
        "SELECT id FROM pg.t a WHERE EXISTS (SELECT 1 FROM lite.t b WHERE b.id = a.id)",
        "SELECT id FROM pg.t WHERE id IN (SELECT id FROM lite.t) AND id = (SELECT max(id) FROM lite.t)",
        "SELECT 1 UNION SELECT 2 UNION ALL SELECT 3",
        "SELECT NULL + NULL",
        "SELECT s FROM pg.t WHERE s LIKE 'a!%' ESCAPE '!'",
    ] {
        ask(&mut client, query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    }
    // SqlSupportsConvert: each of these into each.
    let types = ["BIGINT", "DECIMAL(10,2)", "FLOAT", "INT", "NUMERIC(10,2)", "REAL", "SMALLINT", "TINYINT", "VARCHAR"];
    for from in types {
        let casts: Vec<String> =
            types.iter().map(|to| format!("CAST(CAST(CAST(1 AS {from}) AS {to}) AS VARCHAR) AS \"{to}\"")).collect();
        let query = format!("SELECT {}", casts.join(", "));
        ask(&mut client, &query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    }
    // NULL is the highest value.
    let found = ask(&mut client, "SELECT CAST(s IS NULL AS VARCHAR) AS n FROM pg.t ORDER BY s").await.unwrap();
    assert!(format!("{:?}", found.column()).ends_with("\"true\"]"), "{:?}", found.column());
    for query in [
        "INSERT INTO pg.t VALUES (1, 'x')",
        "CREATE TABLE pg.x (id INT)",
        "SELECT * FROM pg.t FOR UPDATE",
        "WITH locked AS (SELECT * FROM pg.t FOR SHARE) SELECT * FROM locked",
        "CREATE MATERIALIZED VIEW v.locked AS SELECT id FROM (SELECT id FROM pg.t FOR UPDATE) AS t",
    ] {
        assert!(ask(&mut client, query).await.is_err(), "{query}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn query_is_refused_at_once_where_so_many_wait() {
    let everywhere = with_endless().await;
    let limits = headwater::Limits { queries_max: 1, queries_waiting_max: 1, ..headwater::Limits::default() };
    let engine = headwater::Engine::builder()
        .services_dir(everywhere.services.manifests())
        .connectors(headwater_connectors::all())
        .limits(limits)
        .build()
        .await
        .unwrap();
    let doors = crate::doors::Doors::open(engine.clone(), headwater_server::Security::default()).await;
    let mut client = connect(&doors.flight).await;
    let info = client.execute("SELECT count(*) FROM pg.endless".to_owned(), None).await.unwrap();
    let running = reading(client.clone(), &info).await;
    wait::until("the statement runs", DEADLINE, async || everywhere.postgres.running("endless").await > 0).await;
    let info = client.execute("SELECT count(*) FROM pg.many".to_owned(), None).await.unwrap();
    let waiting = reading(client.clone(), &info).await;
    wait::until("the next one waits", DEADLINE, async || engine.metrics().await.queries_waiting == 1).await;
    let mut actions = flight(&doors.flight).await;
    let info = client.execute("SELECT count(*) FROM pg.many".to_owned(), None).await.unwrap();
    let refused = actions.do_get(info.endpoint[0].ticket.clone().unwrap()).await;
    let error = match refused {
        Ok(stream) => stream.try_collect::<Vec<_>>().await.err().unwrap(),
        Err(error) => error,
    };
    let arrow_flight::error::FlightError::Tonic(status) = error else { panic!("{error}") };
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("queries_waiting_max"), "{status}");
    let config = format!("host=127.0.0.1 port={} user=test dbname=headwater", doors.postgres.port());
    let (postgres, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let error =
        wait::within("an answer", DEADLINE, postgres.simple_query("SELECT count(*) FROM pg.many")).await.unwrap_err();
    assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::TOO_MANY_CONNECTIONS), "{error:?}");
    running.abort();
    let waited = wait::within("the waiting one has its turn", DEADLINE, waiting).await.unwrap();
    assert_eq!(waited, None);
    doors.close().await;
}
