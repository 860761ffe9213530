//! A server in this process, asked through Arrow's own client.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{Any, CommandGetTables, CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, FlightInfo, IpcMessage};
use datafusion::datasource::MemTable;
use futures::{StreamExt, TryStreamExt};
use headwater::Engine;
use headwater_server::flight::{Limits, ServeError, serve_with};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

type Client = FlightSqlServiceClient<Channel>;

/// How long anything here may take before the test fails.
const DEADLINE: Duration = Duration::from_secs(60);

struct Server {
    address: String,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let engine = Engine::builder().build().await.unwrap();
        engine.register_table("shop", "orders", Arc::new(orders())).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _sender_is_gone = stopped.await;
        };
        let task = tokio::spawn(serve_with(engine, listener, shutdown, limits));
        Self { address, stop: Some(stop), task }
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(self.address.clone()).unwrap().connect().await.unwrap()
    }

    async fn client(&self) -> Client {
        Client::new(self.channel().await)
    }

    async fn stop(&mut self) {
        drop(self.stop.take());
        tokio::time::timeout(DEADLINE, &mut self.task).await.unwrap().unwrap().unwrap();
    }
}

fn orders() -> MemTable {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(1..=1000));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((1..=1000).map(|id| format!("order {id}"))));
    let batch = RecordBatch::try_from_iter([("id", ids), ("name", names)]).unwrap();
    MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap()
}

async fn fetch(client: &mut Client, info: FlightInfo) -> Result<Vec<RecordBatch>, FlightError> {
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    client.do_get(ticket).await?.try_collect().await
}

async fn ask(client: &mut Client, text: &str) -> Result<Vec<RecordBatch>, FlightError> {
    let info = client.execute(text.to_owned(), None).await?;
    fetch(client, info).await
}

fn code<T>(result: Result<T, FlightError>) -> Code {
    match result.err() {
        Some(FlightError::Tonic(status)) => status.code(),
        Some(other) => panic!("a status was expected, not {other}"),
        None => Code::Ok,
    }
}

fn int(batches: &[RecordBatch]) -> i64 {
    batches.iter().find(|batch| batch.num_rows() > 0).unwrap().column(0).as_primitive::<Int64Type>().value(0)
}

#[tokio::test]
async fn statement_is_planned_then_fetched_once() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    let info = client.execute("SELECT id, name FROM shop.orders ORDER BY id".to_owned(), None).await.unwrap();
    let schema = info.clone().try_decode_schema().unwrap();
    assert_eq!(
        schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>(),
        [DataType::Int64, DataType::Utf8]
    );
    let batches = fetch(&mut client, info.clone()).await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1000);
    assert_eq!(*batches[0].schema(), schema);
    assert_eq!(code(fetch(&mut client, info).await), Code::NotFound);
}

#[tokio::test]
async fn parameters_are_bound_typed_and_per_row() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    let mut statement = client.prepare("SELECT name FROM shop.orders WHERE id = ?".to_owned(), None).await.unwrap();
    assert_eq!(statement.parameter_schema().unwrap().field(0).data_type(), &DataType::Int64);
    assert_eq!(code(statement.execute().await), Code::InvalidArgument);
    let values: ArrayRef = Arc::new(Int64Array::from(vec![7, 5000, 9]));
    statement.set_parameters(RecordBatch::try_from_iter([("id", values)]).unwrap()).unwrap();
    let info = statement.execute().await.unwrap();
    let batches = fetch(&mut client, info).await.unwrap();
    let names: Vec<_> = batches.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter().flatten()).collect();
    assert_eq!(names, ["order 7", "order 9"]);
    statement.close().await.unwrap();
}

#[tokio::test]
async fn tables_come_with_their_schemas() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    let command = CommandGetTables { include_schema: true, ..CommandGetTables::default() };
    let info = client.get_tables(command).await.unwrap();
    let batches = fetch(&mut client, info).await.unwrap();
    let schema = batches[0].column_by_name("table_schema").unwrap().as_binary::<i32>().value(0).to_vec();
    let schema = Schema::try_from(IpcMessage(schema.into())).unwrap();
    assert_eq!(schema.field(1), &Field::new("name", DataType::Utf8, false));
}

#[tokio::test]
async fn get_schema_plans_without_running() {
    let server = Server::start(Limits::default()).await;
    let mut client = FlightServiceClient::new(server.channel().await);
    let command = CommandStatementQuery { query: "SELECT id AS x FROM shop.orders".to_owned(), transaction_id: None };
    let command: Any = command.as_any();
    let answer = client.get_schema(FlightDescriptor::new_cmd(command.encode_to_vec())).await.unwrap().into_inner();
    let schema = Schema::try_from(&answer).unwrap();
    assert_eq!(schema.field(0).name(), "x");
}

#[tokio::test]
async fn set_holds_for_the_session_that_its_cookie_names() {
    let server = Server::start(Limits::default()).await;
    let (mut with_cookie, mut other, mut without) =
        (server.client().await, server.client().await, server.client().await);
    with_cookie.set_header("cookie", "arrow_flight_session_id=0f0e8b61-57a6-4d55-9b3c-3f9f3d2a7a10");
    other.set_header("cookie", "arrow_flight_session_id=1f0e8b61-57a6-4d55-9b3c-3f9f3d2a7a10");
    ask(&mut with_cookie, "SET search_path = shop").await.unwrap();
    assert_eq!(int(&ask(&mut with_cookie, "SELECT count(*) FROM orders").await.unwrap()), 1000);
    assert_eq!(code(ask(&mut other, "SELECT count(*) FROM orders").await), Code::NotFound);
    assert_eq!(code(ask(&mut without, "SET search_path = shop").await), Code::FailedPrecondition);
}

#[tokio::test]
async fn errors_carry_the_code_a_client_decides_by() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client().await;
    assert_eq!(code(ask(&mut client, "SELEC 1").await), Code::InvalidArgument);
    assert_eq!(code(ask(&mut client, "SELECT * FROM shop.nothing").await), Code::NotFound);
    assert_eq!(code(ask(&mut client, "DELETE FROM shop.orders").await), Code::PermissionDenied);
    assert_eq!(
        code(client.execute_update("INSERT INTO shop.orders VALUES (1)".to_owned(), None).await),
        Code::PermissionDenied
    );
    assert_eq!(code(client.begin_transaction().await), Code::Unimplemented);
}

#[tokio::test]
async fn stopping_server_cuts_an_endless_answer_off_with_an_error() {
    let mut server = Server::start(Limits { drain: Duration::from_millis(200), ..Limits::default() }).await;
    let mut client = server.client().await;
    let endless = "SELECT value FROM generate_series(1, 9000000000000)".to_owned();
    let info = client.execute(endless, None).await.unwrap();
    let mut stream = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    assert!(stream.next().await.unwrap().unwrap().num_rows() > 0);
    let started = Instant::now();
    server.stop().await;
    assert!(started.elapsed() < DEADLINE);
    let ended = tokio::time::timeout(DEADLINE, stream.try_for_each(|_| async { Ok(()) })).await.unwrap();
    assert!(ended.is_err(), "a cut-off answer must not look whole");
}

#[tokio::test]
async fn full_store_refuses_further_tickets() {
    let server = Server::start(Limits { tickets: 1, ..Limits::default() }).await;
    let mut client = server.client().await;
    let first = client.execute("SELECT 1".to_owned(), None).await.unwrap();
    assert_eq!(code(client.execute("SELECT 2".to_owned(), None).await), Code::ResourceExhausted);
    fetch(&mut client, first).await.unwrap();
    assert_eq!(int(&ask(&mut client, "SELECT 3").await.unwrap()), 3);
}
