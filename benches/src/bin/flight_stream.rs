//! Streaming over Flight: Headwater's server beside a plain arrow-flight server that sends the same batches.
//!
//! `cargo run --release -p headwater-benches --bin flight_stream`
//!
//! Both serve one table in memory to the same arrow-flight client over loopback; Headwater plans a `SELECT *` for it, the peer
//! only encodes. What is measured is therefore what the engine and its Flight SQL service cost on top of the encoding.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightClient, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use datafusion::datasource::MemTable;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use headwater::Engine;
use headwater_benches::{Median, Moved, side_by_side};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

const BATCHES: usize = 256;
const BATCH_ROWS: usize = 8192;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let batches: Vec<RecordBatch> = (0..BATCHES).map(batch).collect();
    let ours = start_headwater(batches.clone()).await?;
    let peer = start_plain(batches).await?;
    let (our_median, peer_median) =
        side_by_side(async || read_sql(&ours).await, async || read_plain(&peer).await).await;
    println!("| server | rows | rows/s | MB/s (Arrow) | of the plain server |");
    println!("|---|---:|---:|---:|---:|");
    row("headwater", &our_median, &peer_median);
    row("plain arrow-flight", &peer_median, &peer_median);
    Ok(())
}

fn row(name: &str, median: &Median, peer: &Median) {
    println!(
        "| {name} | {} | {:.0} | {:.0} | {:.0} % |",
        median.moved.rows,
        median.rows_per_second(),
        median.megabytes_per_second(),
        100.0 * median.rows_per_second() / peer.rows_per_second()
    );
}

/// A batch of the types that a table of orders has: 8,192 rows, about 0.4 MB.
fn batch(number: usize) -> RecordBatch {
    let ids = (0..BATCH_ROWS).map(|row| (number * BATCH_ROWS + row) as i64);
    let keys: Int64Array = ids.clone().collect();
    let amounts: Float64Array = ids.clone().map(|id| id as f64 * 0.37).collect();
    let times = ids.clone().map(|id| 1_700_000_000_000_000 + id * 1_000_003);
    let times = TimestampMicrosecondArray::from_iter_values(times);
    let notes: StringArray = ids.map(|id| Some(format!("order {id} of customer {}", id % 997))).collect();
    RecordBatch::try_from_iter([
        ("id", Arc::new(keys) as _),
        ("amount", Arc::new(amounts) as _),
        ("placed_at", Arc::new(times) as _),
        ("note", Arc::new(notes) as _),
    ])
    .expect("columns of one length")
}

async fn start_headwater(batches: Vec<RecordBatch>) -> Result<Channel, Box<dyn Error>> {
    let engine = Engine::builder().build().await?;
    // One partition, as the peer has: the order of batches is then the same.
    let table = MemTable::try_new(batches[0].schema(), vec![batches])?;
    engine.register_table("bench", "orders", Arc::new(table))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(headwater_server::flight::serve(engine, listener, std::future::pending::<()>()));
    Ok(Channel::from_shared(format!("http://{address}"))?.connect().await?)
}

async fn start_plain(batches: Vec<RecordBatch>) -> Result<Channel, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let service = FlightServiceServer::new(Plain { batches: Arc::new(batches) });
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
    Ok(Channel::from_shared(format!("http://{address}"))?.connect().await?)
}

async fn read_sql(channel: &Channel) -> Moved {
    let mut client = FlightSqlServiceClient::new(channel.clone());
    let info = client.execute("SELECT * FROM bench.orders".to_owned(), None).await.expect("the query is planned");
    let mut moved = Moved::default();
    for endpoint in info.endpoint {
        let ticket = endpoint.ticket.expect("an endpoint has a ticket");
        let batches = client.do_get(ticket).await.expect("the stream opens");
        add(&mut moved, batches).await;
    }
    moved
}

async fn read_plain(channel: &Channel) -> Moved {
    let mut moved = Moved::default();
    let batches = FlightClient::new(channel.clone()).do_get(Ticket::default()).await.expect("the stream opens");
    add(&mut moved, batches).await;
    moved
}

async fn add<E: std::fmt::Debug>(
    moved: &mut Moved,
    mut batches: impl futures::Stream<Item = Result<RecordBatch, E>> + Unpin,
) {
    while let Some(batch) = batches.next().await {
        let batch = batch.expect("a batch arrives");
        moved.rows += batch.num_rows() as u64;
        moved.bytes += batch.get_array_memory_size() as u64;
    }
}

/// A Flight server that answers every DoGet with the same batches, and nothing else.
struct Plain {
    batches: Arc<Vec<RecordBatch>>,
}

type Boxed<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl FlightService for Plain {
    type HandshakeStream = Boxed<HandshakeResponse>;
    type ListFlightsStream = Boxed<FlightInfo>;
    type DoGetStream = Boxed<FlightData>;
    type DoPutStream = Boxed<PutResult>;
    type DoActionStream = Boxed<arrow_flight::Result>;
    type ListActionsStream = Boxed<ActionType>;
    type DoExchangeStream = Boxed<FlightData>;

    async fn do_get(&self, _: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let schema = self.batches[0].schema();
        let batches: Vec<Result<RecordBatch, FlightError>> = self.batches.iter().cloned().map(Ok).collect();
        let encoded = FlightDataEncoderBuilder::new().with_schema(schema).build(stream::iter(batches));
        let encoded: Pin<Box<_>> = Box::pin(encoded.map_err(Status::from));
        Ok(Response::new(encoded))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(Status::unimplemented("handshake"))
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(Status::unimplemented("list_flights"))
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        Err(Status::unimplemented("get_flight_info"))
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented("poll_flight_info"))
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        Err(Status::unimplemented("get_schema"))
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        Err(Status::unimplemented("do_put"))
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        Err(Status::unimplemented("do_action"))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(Status::unimplemented("list_actions"))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(Status::unimplemented("do_exchange"))
    }
}
